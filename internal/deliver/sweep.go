package deliver

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"triggerd/internal/telemetry"
)

// Sweeper ends and removes old events and makes room for the days ahead. Any
// number of nodes may sweep at the same time.
type Sweeper struct {
	Store          SweptStore
	Retention      time.Duration // of events; their open deliveries expire before them
	DedupRetention time.Duration // of dedup ids; 0: forever
	Metrics        *telemetry.Metrics
	Log            *slog.Logger

	dedupSwept time.Time
	ended      time.Time // time of a sweep that left nothing older than the retention open
}

const (
	// sweepEvery is the pause between two sweeps.
	sweepEvery = 10 * time.Minute
	// dedupSweepEvery is the pause between two walks over all dedup ids.
	dedupSweepEvery = 6 * time.Hour
	// visible is how long an expired delivery is visible as failed, at least,
	// before its event is removed.
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

// Sweep makes the days ahead, drops permits of past minutes and requests of
// yesterday, erases deleted organizations, and deletes webhooks that have been
// gone for the retention. It expires open deliveries of events older than the
// retention, and an hour later removes the events with all that belongs to
// them. Dedup ids have a retention of their own. A step that fails does not
// stop the others, except that no events are removed unless all old open
// deliveries have expired.
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

// dropEvents expires old deliveries and, if that succeeds, removes events that
// ended long enough ago.
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

// dropDedup removes old dedup ids, if dedupSweepEvery has passed.
func (s *Sweeper) dropDedup(ctx context.Context) error {
	now := s.Store.Now()
	since := now.Sub(s.dedupSwept)
	if s.DedupRetention == 0 || since >= 0 && since < dedupSweepEvery { // negative: the clock went back
		return nil
	}
	if err := s.Store.DropDedup(ctx, now.Add(-s.DedupRetention)); err != nil {
		return err // the next sweep retries
	}
	s.dedupSwept = now
	return nil
}

// drop removes events without open deliveries since a sweep of this process at
// least an hour ago. Others must stay: another node may have expired them only a
// moment ago, and that must be visible. The sweep at now has left nothing open.
func (s *Sweeper) drop(ctx context.Context, now time.Time) error {
	if s.ended.IsZero() || now.Before(s.ended) { // or the clock went back
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
