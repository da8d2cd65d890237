package store

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"triggerd/internal/trigger"
)

const (
	clockEvery   = 5 * time.Second  // between two measurements
	clockStale   = 30 * time.Second // after that time without a measurement, the clock is not trusted
	clockMaxJump = time.Second      // a larger jump is not trusted until confirmed
	clockMaxTrip = 500 * time.Millisecond
)

// clock returns the database's time: the process's monotonic clock plus an
// offset that is measured every few seconds. So leases, due times and ids of
// all nodes use one clock, and a step of a node's own clock changes nothing.
type clock struct {
	local   func() time.Time
	base    time.Time
	measure func(context.Context, func() time.Time) (reading, error)
	offset  atomic.Int64 // nanoseconds from local monotonic time to the database's

	mu       sync.Mutex
	measured time.Time // local time of the last measurement
	jumped   bool      // the last measurement was far from the previous one
	jumpedTo time.Duration
	// Confirmed steps back: their number, and the length of the last one.
	stepsBack int
	lastBack  time.Duration
}

func newClock(now func() time.Time) *clock { return &clock{local: now, base: now()} }

// monotonic returns the process's time, which steps of its wall clock do not
// change.
func (c *clock) monotonic() time.Time { return c.base.Add(c.local().Sub(c.base)) }

// reading is one measurement of the database's clock.
type reading struct {
	theirs          time.Time // the database's
	asked, answered time.Time // the local monotonic times around it
}

// own reads the process's wall clock instead of the database's.
func (c *clock) own(local func() time.Time) (reading, error) {
	now := local()
	return reading{theirs: c.local().Round(0), asked: now, answered: now}, nil
}

// Now returns the time of the database, in UTC, truncated to the microsecond.
func (s *Store) Now() time.Time {
	t := s.clock.monotonic().Add(time.Duration(s.clock.offset.Load()))
	return t.Round(0).UTC().Truncate(time.Microsecond)
}

// SyncClock measures the offset to the database's clock. It ignores a
// measurement that took too long, and accepts a jump only if the next
// measurement confirms it.
func (s *Store) SyncClock(ctx context.Context) error {
	c := s.clock
	r, err := c.measure(ctx, c.monotonic)
	took := r.answered.Sub(r.asked)
	if err == nil && took > clockMaxTrip {
		err = fmt.Errorf("the query took %v", took)
	}
	if err != nil {
		return wrap("read the database's clock", err)
	}
	offset := r.theirs.Sub(r.asked.Add(took / 2).Round(0))
	c.mu.Lock()
	defer c.mu.Unlock()
	known := time.Duration(c.offset.Load())
	if c.jumped {
		known = c.jumpedTo
	}
	first := c.measured.IsZero()
	c.jumped = !first && (offset-known).Abs() > clockMaxJump
	c.jumpedTo, c.measured = offset, r.answered
	if c.jumped {
		return nil
	}
	if back := time.Duration(c.offset.Swap(int64(offset))) - offset; !first && back > clockMaxJump {
		c.stepsBack, c.lastBack = c.stepsBack+1, back
	}
	return nil
}

// StepsBack returns how often the database's clock went back by over 1 s, as
// confirmed by this node, and the length of the last step. Deliveries that were
// due before the step are due that much later: see [Store.PullBack].
func (s *Store) StepsBack() (n int, by time.Duration) {
	s.clock.mu.Lock()
	defer s.clock.mu.Unlock()
	return s.clock.stepsBack, s.clock.lastBack
}

// ClockTrusted reports whether the offset is known: it was measured in the last
// 30 s, without a jump of over 1 s from the previous measurement. Without it a
// node must not claim.
func (s *Store) ClockTrusted() bool {
	s.clock.mu.Lock()
	defer s.clock.mu.Unlock()
	return !s.clock.jumped && s.clock.monotonic().Sub(s.clock.measured) < clockStale
}

// Run measures the clock and writes this node's beats until ctx ends. It
// retries what fails; [Store.ClockTrusted] and [Store.Committing] report
// failures. It returns an error if a newer program has changed the database so
// that this one must stop.
func (s *Store) Run(ctx context.Context) error {
	group, working := errgroup.WithContext(ctx)
	group.Go(func() error { return s.keepBeating(working) })
	group.Go(func() error {
		tick := time.NewTicker(clockEvery)
		defer tick.Stop()
		for {
			select {
			case <-working.Done():
				return nil
			case <-tick.C:
				_ = s.SyncClock(working)
			}
		}
	})
	return group.Wait()
}

// IsAhead reports whether the time of an id is still to come, because the clock
// went back since the id was made. Then ids do not tell which events were
// accepted after that event.
func (s *Store) IsAhead(id trigger.ID) bool {
	return id.Time().After(s.Now().Add(trigger.MaxClockSkew))
}

// settleTime is the age of an event after which no event with a lower id can
// still be committed. With several nodes, the order of commits is not quite the
// order of ids.
const settleTime = 30 * time.Second

// NewClaim returns a new claim id, which is never used again.
func (s *Store) NewClaim() trigger.ID { return newID(s.Now()) }
