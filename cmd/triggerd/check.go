package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"triggerd/internal/store"
)

type checkCommand struct {
	settings
}

// run looks through the database that serve would use, and fails if anything
// in it contradicts itself.
func (c *checkCommand) run(ctx context.Context, out io.Writer) (err error) {
	if err := c.check(); err != nil {
		return err
	}
	s, err := store.Open(ctx, c.store(time.Now))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Leave(ctx), s.Close()) }()
	found, err := s.Check(ctx, c.DedupRetention.Duration > 0)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%8d  events examined\n%8d  neither owed nor delivered\n%8d  open deliveries without their event\n%8d  with the dedup id of another event\n",
		found.Examined, found.Silent, found.Orphans, found.Doubles)
	if found.Sum() > 0 {
		return fmt.Errorf("the database contradicts itself: %s", found.Example)
	}
	return nil
}
