package deliver_test

import (
	"context"
	"slices"
	"sync"
	"time"

	"triggerd/internal/deliver"
	"triggerd/internal/trigger"
)

var _ deliver.SteppedStore = (*server)(nil)

const (
	wentBack   = "the database's clock went back"
	pulledBack = "a due time was pulled back"
)

// aheadTime is a time in which the database's clock is ahead.
type aheadTime struct {
	from, to time.Time
	by       time.Duration
}

// newAheadTimes has the clock go ahead and back in half of the seeds in which
// things break, while there is traffic: by an hour, a day, or anything.
func newAheadTimes(w *world, span, traffic time.Duration) []aheadTime {
	dice := w.dice(7)
	if w.calm || w.retention > 0 || dice.IntN(2) == 0 {
		return nil
	}
	from := w.begun.Add(time.Duration(dice.Float64() * 0.7 * float64(traffic)))
	by := []time.Duration{time.Hour, 24 * time.Hour, time.Duration(dice.Float64() * float64(2*time.Hour))}[dice.IntN(3)]
	length := 20*time.Second + time.Duration(dice.Float64()*0.2*float64(span))
	return []aheadTime{{from, from.Add(length), by}}
}

// clockAhead is how far ahead the database's clock is at a time.
func (w *world) clockAhead(at time.Time) time.Duration {
	for _, a := range w.ahead {
		if !at.Before(a.from) && at.Before(a.to) {
			return a.by
		}
	}
	return 0
}

// Bounds of a step of the clock.
const (
	measureEvery = 5 * time.Second
	// noticed is when all servers know of a step.
	noticed = 2*measureEvery + time.Second
	// unsettled is for how long leases can be broken by a step: those of before,
	// and by a call that began before and was held up.
	unsettled = mostHeldUp + 2*time.Minute
)

// unsteady says that the clock made a step a while ago, so that servers have
// different times, and what is leased looks as if it were not.
func (w *world) unsteady(now time.Time) bool {
	return slices.ContainsFunc(w.ahead, func(a aheadTime) bool {
		return !now.Before(a.from) && now.Before(a.from.Add(unsettled)) || !now.Before(a.to) && now.Before(a.to.Add(unsettled))
	})
}

// claimedAhead says that a request was claimed by a clock that was ahead, for
// which more time has passed than for the receiver.
func (w *world) claimedAhead(snd *sending) bool {
	return snd.claim != nil && slices.ContainsFunc(w.ahead, func(a aheadTime) bool {
		return !snd.claim.at.Before(a.from) && snd.claim.at.Before(a.to.Add(noticed))
	})
}

// swapSent gives a claim the request that another one of its server has: after a
// step ahead a server can claim what it still has in memory, and which of the two
// it sends first cannot be seen.
func (d *debt) swapSent(c *claim) {
	for _, other := range d.claims {
		if c.sent == nil && other.server == c.server && other.sent != nil && other.result == nil {
			c.sent, other.sent = other.sent, nil
			c.sent.claim = c
		}
	}
}

// serverClock is what a server knows of the database's clock, by the rules of
// the store: measured every 5 s, and a step is believed when it is confirmed.
type serverClock struct {
	mu       sync.Mutex
	measured time.Time
	offset   time.Duration  // that is believed
	jump     *time.Duration // that is to be confirmed
	steps    int            // back
	lastBack time.Duration
}

// sync makes the measurements that are due.
func (s *server) sync() {
	if len(s.w.ahead) == 0 {
		return
	}
	c := &s.clock
	c.mu.Lock()
	defer c.mu.Unlock()
	for next := c.measured.Add(measureEvery); !next.After(time.Now()); next = next.Add(measureEvery) {
		c.measured = next
		offset, known := s.w.clockAhead(next), c.offset
		if c.jump != nil {
			known = *c.jump
		}
		if c.jump = nil; (offset - known).Abs() > time.Second {
			c.jump = &offset
			continue
		}
		if c.offset-offset > time.Second {
			c.steps, c.lastBack = c.steps+1, c.offset-offset
		}
		c.offset = offset
	}
}

func (c *serverClock) jumped() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.jump != nil
}

// ahead is how far ahead the database's clock is, as the server has it.
func (s *server) ahead() time.Duration {
	s.sync()
	s.clock.mu.Lock()
	defer s.clock.mu.Unlock()
	return s.clock.offset
}

// StepsBack is how often the clock went back.
func (s *server) StepsBack() (int, time.Duration) {
	s.sync()
	s.clock.mu.Lock()
	defer s.clock.mu.Unlock()
	return s.clock.steps, s.clock.lastBack
}

// PullBack pulls back what is due too far ahead, but for what others are at.
func (s *server) PullBack(ctx context.Context, usual trigger.Schedule) (n int, err error) {
	err = s.call(ctx, "PullBack", func(time.Time) {
		now, dice := s.Now(), s.w.dice(s.number, s.calls["PullBack"], 11)
		if steps, _ := s.StepsBack(); steps > 0 {
			s.w.met[wentBack]++
		}
		for _, d := range s.w.openOnes() {
			schedule := d.hook.Schedule
			if schedule == nil {
				schedule = usual
			}
			due := d.row().PulledBack(schedule, time.Time{}, d.tried, now)
			if due.Before(d.due) && !(s.w.stormy() && dice.IntN(20) == 0) {
				d.due, d.in.stale = due, true
				n++
			}
		}
		for _, h := range s.w.hooks {
			if h.health != nil {
				h.health.Health, h.HeldUntil = h.health.PulledBack(h.HeldUntil, now)
			}
		}
		if n > 0 && len(s.w.ahead) == 0 {
			s.w.wrong(nil, "%d due times were pulled back, and the clock never went back", n)
		}
		s.w.met[pulledBack] += n
	})
	return n, err
}

// openOnes are all open deliveries.
func (m *model) openOnes() (list []*debt) {
	for _, h := range m.hooks {
		list = append(list, h.open...)
	}
	for _, r := range m.replays {
		list = append(list, r.open...)
	}
	return list
}

// row is the delivery as it is stored.
func (d *debt) row() trigger.Delivery {
	return trigger.Delivery{DeliveryKey: d.DeliveryKey, Attempts: d.attempts, DueAt: d.due, Claim: d.claim}
}

// judgeDues judges that nothing is due later than it can be, once there has
// been time to pull it back, and nothing breaks any more.
func (w *world) judgeDues() {
	if len(w.ahead) == 0 {
		return
	}
	<-time.After(11 * time.Minute) // a sweep, for what a server has stored that died
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now().Add(w.clockAhead(time.Now()))
	for _, d := range w.openOnes() {
		most := trigger.MaxLease
		if schedule := w.scheduleOf(d.hook); d.attempts > 0 {
			most = max(time.Duration(1.2*float64(schedule[d.attempts-1])), trigger.MaxRetryAfter)
			if !d.claim.IsZero() {
				most += trigger.MaxLease // it may have been claimed before its pause was over
			}
		}
		if late := d.due.Sub(now) - most; late > slack {
			w.wrong(d, "due %v later than it can be, with %d attempts and the claim %s", late, d.attempts, d.claim)
		}
	}
	for _, h := range w.hooks {
		if open := h.HeldUntil.Sub(now); open > trigger.MaxBreakerOpen {
			w.wrong(nil, "the breaker of webhook %d is open for %v more", h.ID, open)
		}
	}
}
