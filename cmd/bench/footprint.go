package main

import (
	"context"
	"os"
	"syscall"
	"time"
)

const (
	starts    = 5
	idle      = 5 * time.Second // before its memory is read; or --seconds, if that is less
	askEvery  = 2 * time.Millisecond
	oldEvents = 1000 // in the database
)

// footprint measures the resources of an idle server.
func footprint(ctx context.Context, b *bench) (out outcome, err error) {
	program, err := os.Stat(b.Program)
	if err != nil {
		return out, err
	}
	err = b.with(ctx, nil, func(r *rig) error {
		hooks, err := r.organization(1)
		if err != nil {
			return err
		}
		inbox := []*hook{r.hook(hooks[0].key)}
		r.client.closedLoop(ctx, 8, 0, count(inbox, oldEvents))
		var took []time.Duration
		for range starts {
			r.client.close()
			if err := r.stop(syscall.SIGTERM); err != nil {
				return err
			}
			begun := time.Now()
			if err := r.startAsking(ctx, askEvery); err != nil {
				return err
			}
			took = append(took, time.Since(begun))
		}
		if err := pause(ctx, min(idle, b.seconds())); err != nil {
			return err
		}
		resident, err := memory(r.cmd.Process.Pid, "VmRSS:")
		if err != nil {
			return err
		}
		var quick *target
		if b.Database == "sqlite" {
			quick = atMost(150)
		}
		out.add("start to ready", "ms", ms(percentile(took, 50)), quick)
		out.add("memory, idle", "MB", resident, atMost(30))
		out.add("binary", "MB", float64(program.Size())/(1<<20), atMost(35))
		return nil
	})
	return out, err
}
