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

// run checks the database that serve would use, and fails if its contents are
// inconsistent.
func (c *checkCommand) run(ctx context.Context, out io.Writer) (err error) {
	if err := c.check(); err != nil {
		return err
	}
	if c.postgresURL() == "" && !store.HasDatabase(c.DataDir) {
		return fmt.Errorf("the folder %s has no triggerd.db to check: set DATA_DIR to the folder of the server or of a backup", c.DataDir)
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
	for _, row := range []struct {
		what string
		n    int
	}{
		{"events examined", found.Examined},
		{"neither open nor delivered", found.Silent},
		{"open deliveries without their event", found.Orphans},
		{"with the dedup id of another event", found.Doubles},
		{"damaged files", found.Damaged},
	} {
		fmt.Fprintf(out, "%8d  %s\n", row.n, row.what)
	}
	if found.Sum() > 0 {
		return fmt.Errorf("the database contradicts itself: %s", found.Example)
	}
	return nil
}
