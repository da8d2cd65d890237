package main

import (
	"context"
	"io"
)

type demoCommand struct{}

func (c *demoCommand) run(ctx context.Context, out, errOut io.Writer) error { return nil }
