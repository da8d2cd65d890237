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
	clockStale   = 30 * time.Second // without one, the clock is not trusted
	clockMaxJump = time.Second      // a larger one is not trusted until confirmed
	clockMaxTrip = 500 * time.Millisecond
)

// clock gives the database's time: the process's monotonic clock and an offset
// that is measured every few seconds. So leases, due times and ids of all
// nodes are of one clock, and a step of a node's own clock changes nothing.
type clock struct {
	local   func() time.Time
	base    time.Time
	measure func(context.Context, func() time.Time) (reading, error)
	offset  atomic.Int64 // nanoseconds from local monotonic time to the database's

	mu       sync.Mutex
	measured time.Time // local, when the last measurement was taken
	jumped   bool      // the last measurement was far from the one before
	jumpedTo time.Duration
	// Steps back that were confirmed: how many, and the last one.
	stepsBack int
	lastBack  time.Duration
}

func newClock(now func() time.Time) *clock { return &clock{local: now, base: now()} }

// monotonic is the process's time, unmoved by steps of its wall clock.
func (c *clock) monotonic() time.Time { return c.base.Add(c.local().Sub(c.base)) }

// reading is one look at the database's clock.
type reading struct {
	theirs          time.Time // the database's
	asked, answered time.Time // the local monotonic ones around it
}

// own is the process's wall clock in place of the database's.
func (c *clock) own(local func() time.Time) (reading, error) {
	now := local()
	return reading{theirs: c.local().Round(0), asked: now, answered: now}, nil
}

// Now is the time of the database, in UTC, to the microsecond.
func (s *Store) Now() time.Time {
	t := s.clock.monotonic().Add(time.Duration(s.clock.offset.Load()))
	return t.Round(0).UTC().Truncate(time.Microsecond)
}

// SyncClock measures the offset to the database's clock. What took too long
// measures nothing; a jump is believed when the next measurement confirms it.
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
// this node has confirmed, and by how much it did so the last time. What was
// due before the step is due that much later: see [Store.PullBack].
func (s *Store) StepsBack() (n int, by time.Duration) {
	s.clock.mu.Lock()
	defer s.clock.mu.Unlock()
	return s.clock.stepsBack, s.clock.lastBack
}

// ClockTrusted reports whether the offset is known: measured in the last 30 s,
// and no jump of over 1 s since the measurement before. Without it a node
// must not claim.
func (s *Store) ClockTrusted() bool {
	s.clock.mu.Lock()
	defer s.clock.mu.Unlock()
	return !s.clock.jumped && s.clock.monotonic().Sub(s.clock.measured) < clockStale
}

// Run keeps the clock and shows that this node lives, until ctx ends. What
// fails is tried again: [Store.ClockTrusted] and [Store.Committing] tell of it.
// It returns an error if a newer program has changed the database so that this
// one must stop.
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

// IsAhead reports an id that the clock has not come to, because it went back
// since the id was made. What has been accepted after that event cannot be told
// by ids.
func (s *Store) IsAhead(id trigger.ID) bool {
	return id.Time().After(s.Now().Add(trigger.MaxClockSkew))
}

// settleTime is how old an event is when no other one with a lower id can be
// committed any more: over several nodes, the order of commits is not quite
// that of ids.
const settleTime = 30 * time.Second

// NewClaim makes a claim id: fresh, and never used again.
func (s *Store) NewClaim() trigger.ID { return newID(s.Now()) }
