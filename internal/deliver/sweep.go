package deliver

import (
	"context"
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
	swept      time.Time // when all older than the retention had ended
	keepUntil  time.Time // nothing goes before: what expired late has to be seen
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
			s.Log.Error("the sweep is incomplete and will be tried again", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// Sweep makes the days ahead, forgets permits of minutes past, ends open deliveries of events older than the
// retention as expired, and an hour later removes the events with all that
// belongs to them; dedup ids go by a retention of their own.
func (s *Sweeper) Sweep(ctx context.Context) error {
	if err := s.Store.MakeDays(ctx); err != nil {
		return err
	}
	if err := s.Store.DropPermits(ctx); err != nil {
		return err
	}
	now := s.Store.Now()
	if err := s.expire(ctx, now); err != nil {
		return err
	}
	if now.Before(s.keepUntil) {
		return nil
	}
	if err := s.Store.DropBefore(ctx, now.Add(-s.Retention-visible)); err != nil {
		return err
	}
	if s.DedupRetention == 0 || now.Sub(s.dedupSwept) < dedupSweepEvery {
		return nil
	}
	s.dedupSwept = now
	return s.Store.DropDedup(ctx, now.Add(-s.DedupRetention))
}

// expire ends what is older than the retention. Where this process has not
// swept for an hour, perhaps nobody has: what would go at once, though it only
// ends now, stays for an hour more.
func (s *Sweeper) expire(ctx context.Context, now time.Time) error {
	late := 0
	if now.Sub(s.swept) >= visible {
		var err error
		late, err = s.Store.Expire(ctx, now.Add(-s.Retention-visible))
		if late > 0 {
			s.keepUntil = now.Add(visible)
		}
		if err != nil {
			return err
		}
	}
	expired, err := s.Store.Expire(ctx, now.Add(-s.Retention))
	if expired += late; expired > 0 {
		s.Metrics.Ended.WithLabelValues("expired").Add(float64(expired))
		s.Log.Warn("open deliveries ended as expired", "deliveries", expired)
	}
	if err == nil {
		s.swept = now
	}
	return err
}
