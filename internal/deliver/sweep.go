package deliver

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"triggerd/internal/telemetry"
)

// Sweeper ends and removes what is too old, and keeps room for the days to
// come. Any number of nodes may sweep at the same time.
type Sweeper struct {
	Store          SweptStore
	Retention      time.Duration // of events; open deliveries end as failed before them
	DedupRetention time.Duration // of dedup ids; 0: for ever
	Metrics        *telemetry.Metrics
	Log            *slog.Logger

	dedupSwept time.Time
	ended      time.Time // of a sweep after which nothing older than the retention was open
}

const (
	// sweepEvery is the pause between two sweeps.
	sweepEvery = 10 * time.Minute
	// dedupSweepEvery is the pause between two walks over all dedup ids.
	dedupSweepEvery = 6 * time.Hour
	// visible is for how long at least an expired delivery can be seen as
	// failed before its event goes.
	visible = time.Hour
)

// Run sweeps every ten minutes until ctx ends.
func (s *Sweeper) Run(ctx context.Context) error {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		if err := s.Sweep(ctx); err != nil && ctx.Err() == nil {
			s.Log.Error("sweep failed; will retry", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// Sweep makes the days ahead, forgets permits of minutes past and requests
// of yesterday, erases organizations that were deleted, deletes webhooks that
// have been gone for the retention, ends open deliveries of events older than
// the retention as expired, and an hour later removes the events with all that
// belongs to them; dedup ids go by a retention of their own. A step that fails
// holds up no other, except that no events go unless all that is open and too
// old has expired.
func (s *Sweeper) Sweep(ctx context.Context) error {
	var failed []error
	for _, step := range []func(ctx context.Context) error{
		s.Store.MakeDays,
		s.Store.DropPermits,
		s.Store.DropRequests,
		s.Store.Erase,
		func(ctx context.Context) error { return s.Store.DropGone(ctx, s.Store.Now().Add(-s.Retention)) },
		s.dropEvents,
		s.dropDedup,
	} {
		if err := step(ctx); err != nil {
			failed = append(failed, err)
		}
		if ctx.Err() != nil {
			break
		}
	}
	return errors.Join(failed...)
}

// dropEvents ends the deliveries that are too old, and if that has succeeded,
// removes what ended long enough ago.
func (s *Sweeper) dropEvents(ctx context.Context) error {
	now := s.Store.Now()
	expired, err := s.Store.Expire(ctx, now.Add(-s.Retention))
	if expired > 0 {
		s.Metrics.Ended.WithLabelValues("expired").Add(float64(expired))
		s.Log.Warn("open deliveries expired", "deliveries", expired)
	}
	if err != nil {
		return err
	}
	return s.drop(ctx, now)
}

// dropDedup removes old dedup ids, if it is time for another walk.
func (s *Sweeper) dropDedup(ctx context.Context) error {
	now := s.Store.Now()
	since := now.Sub(s.dedupSwept)
	if s.DedupRetention == 0 || since >= 0 && since < dedupSweepEvery { // below 0 the clock went back
		return nil
	}
	if err := s.Store.DropDedup(ctx, now.Add(-s.DedupRetention)); err != nil {
		return err // the next sweep tries again
	}
	s.dedupSwept = now
	return nil
}

// drop removes what a sweep of this process left ended an hour ago. Nothing
// else may go: nobody, or another node a moment ago, may have ended it before,
// and it has to be seen. The sweep at now has left nothing open.
func (s *Sweeper) drop(ctx context.Context, now time.Time) error {
	if s.ended.IsZero() || now.Before(s.ended) { // the clock went back
		s.ended = now
	}
	if now.Sub(s.ended) < visible {
		return nil
	}
	if err := s.Store.DropBefore(ctx, s.ended.Add(-s.Retention)); err != nil {
		return err
	}
	s.ended = now
	return nil
}
