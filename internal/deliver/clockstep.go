package deliver

import (
	"context"
	"log/slog"
	"time"

	"triggerd/internal/telemetry"
	"triggerd/internal/trigger"
)

// ClockWatcher pulls back due times when the database's clock has gone back:
// else what was due in between is due that much later. Each node has one; any
// number of them may pull back at the same time.
type ClockWatcher struct {
	Store    SteppedStore
	Schedule trigger.Schedule // of webhooks that have none of their own
	Metrics  *telemetry.Metrics
	Log      *slog.Logger
}

const (
	// clockLook is how often it looks whether the clock has gone back.
	clockLook = time.Second
	// pullAfterStep is when it pulls back once more after a step: what was under
	// way then, with the time before the step, has been stored by now.
	pullAfterStep = 30 * time.Second
	// pullAgain is when it tries again after an error.
	pullAgain = 10 * time.Second
)

// Run pulls back due times until ctx ends: at once, when the node has confirmed
// that the clock went back, half a minute after that, and with each sweep, for
// what a node has stored that died before it knew of the step.
func (c *ClockWatcher) Run(ctx context.Context) error {
	tick := time.NewTicker(clockLook)
	defer tick.Stop()
	known, left := 0, time.Duration(0) // until the next time
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

// pullBack pulls back due times, and logs how many; by is how far the clock went
// back, 0 if this node has not seen it do so.
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
