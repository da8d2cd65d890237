package deliver

import (
	"context"
	"log/slog"
	"time"

	"triggerd/internal/telemetry"
	"triggerd/internal/trigger"
)

// ClockWatcher pulls back due times after the database's clock went back.
// Otherwise deliveries would be due that much later. Each node has one. Any
// number of them may pull back at the same time.
type ClockWatcher struct {
	Store    SteppedStore
	Schedule trigger.Schedule // of webhooks without their own
	Metrics  *telemetry.Metrics
	Log      *slog.Logger
}

const (
	// clockLook is how often it checks whether the clock went back.
	clockLook = time.Second
	// pullAfterStep is when it pulls back once more after a step. By then,
	// writes under way at the step, with the time before it, are stored.
	pullAfterStep = 30 * time.Second
	// pullAgain is the pause after an error.
	pullAgain = 10 * time.Second
)

// Run pulls back due times until ctx ends: when this node has confirmed that
// the clock went back, half a minute after that, and with each sweep. The
// sweeps repair due times stored by a node that died before it noticed the
// step.
func (c *ClockWatcher) Run(ctx context.Context) error {
	tick := time.NewTicker(clockLook)
	defer tick.Stop()
	known, left := 0, time.Duration(0) // left: until the next time
	for {
		steps, by := c.Store.StepsBack()
		if (steps != known || left <= 0) && c.Store.ClockTrusted() {
			if steps == known {
				by = 0
			}
			switch ok := c.pullBack(ctx, by); {
			case !ok:
				left = pullAgain
			case steps != known:
				left = pullAfterStep
			default:
				left = sweepEvery
			}
			known = steps
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			left -= clockLook
		}
	}
}

// pullBack pulls back due times and logs their number. by is how far the clock
// went back; 0 if this node saw no step.
func (c *ClockWatcher) pullBack(ctx context.Context, by time.Duration) (ok bool) {
	n, err := c.Store.PullBack(ctx, c.Schedule)
	c.Metrics.PulledBack.Add(float64(n))
	switch {
	case by > 0:
		c.Log.Warn("the database's clock went back", "by", by, "due_times_pulled_back", n)
	case n > 0:
		c.Log.Warn("due times lay further ahead than they can and were pulled back", "due_times_pulled_back", n)
	}
	if err != nil && ctx.Err() == nil {
		c.Log.Warn("cannot pull back due times; will retry", "error", err)
	}
	return err == nil
}
