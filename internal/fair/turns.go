// Package fair divides what all organizations share, so that none of them takes
// it from the others.
package fair

import (
	"context"
	"math"
	"runtime"
	"slices"
	"sync"
)

// Turns lets a few goroutines work at a time, on behalf of many organizations. If
// more want to work, the next turn goes to the organization that has worked least:
// each one has a virtual time, which advances with its work and which starts,
// after a rest, where the others are. So an organization that works little hardly
// waits, however much the others want. The turns of one organization come in the
// order in which it asked for them. [NewTurns] makes one; it may be used from many
// goroutines.
type Turns struct {
	each int // turns at a time of one organization, at most

	mu    sync.Mutex
	free  int
	busy  int                // organizations that work or wait
	clock int64              // the virtual time of whoever has worked least, of the busy ones
	of    map[int64]*account // by organization
}

// Millisecond is the work of about a millisecond, in the unit of the turns that
// [ForProcessors] returns: a step of some 100 ns.
const Millisecond = 10_000

// ForProcessors returns turns for work that needs nothing but a processor, of which
// it leaves half to everything else.
func ForProcessors() *Turns {
	processors := runtime.GOMAXPROCS(0)
	return NewTurns(max(1, processors/2), processors)
}

// account is an organization's.
type account struct {
	time    int64 // virtual
	working int
	waiting []chan struct{} // closed when the turn begins
}

func (a *account) isIdle() bool { return a.working == 0 && len(a.waiting) == 0 }

// NewTurns returns turns of which at most so many run at a time in all, and at most
// each of one organization.
func NewTurns(most, each int) *Turns {
	return &Turns{free: most, each: each, of: map[int64]*account{}}
}

// Take waits for a turn, which [Turns.Done] ends. It returns the error of ctx if
// that ends first.
func (t *Turns) Take(ctx context.Context, organizationID int64) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	t.mu.Lock()
	a := t.of[organizationID]
	if a == nil || a.isIdle() {
		a = t.arrive(organizationID)
	}
	ready := make(chan struct{})
	a.waiting = append(a.waiting, ready)
	t.handOut()
	t.mu.Unlock()
	select {
	case <-ready:
		return nil
	default:
	}
	select {
	case <-ready:
		return nil
	case <-ctx.Done():
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if i := slices.Index(a.waiting, ready); i >= 0 {
		a.waiting = slices.Delete(a.waiting, i, i+1)
	} else { // it began just now
		a.working--
		t.free++
	}
	t.rest(a)
	return ctx.Err()
}

// Done ends a turn in which this much work was done, in any unit that all of the
// callers share.
func (t *Turns) Done(organizationID int64, work int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	a := t.of[organizationID]
	a.time += int64(work)
	a.working--
	t.free++
	t.rest(a)
}

// MustYield counts work of a turn that goes on, and reports whether an organization
// that has worked less is waiting: then the turn should end.
func (t *Turns) MustYield(organizationID int64, work int) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	a := t.of[organizationID]
	a.time += int64(work)
	next := t.next()
	return next != nil && next.time < a.time
}

// IsIdle reports whether no turn is under way and none is waited for.
func (t *Turns) IsIdle() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.busy == 0
}

// arrive makes an account a busy one, just ahead of all others unless it has
// worked more of late.
func (t *Turns) arrive(organizationID int64) *account {
	t.advance()
	a := t.of[organizationID]
	if a == nil {
		a = &account{}
		t.of[organizationID] = a
	}
	a.time = max(a.time, t.clock-1)
	t.busy++
	return a
}

// rest follows an account of which a turn has ended.
func (t *Turns) rest(a *account) {
	if a.isIdle() {
		t.advanceTo(a.time)
		t.busy--
	}
	if t.handOut(); t.busy == 0 { // nobody is behind or ahead of anybody
		clear(t.of)
		t.clock = 0
	}
}

// advance sets the clock, and forgets who is idle and not ahead of it.
func (t *Turns) advance() { t.advanceTo(math.MaxInt64) }

// advanceTo is advance where somebody else is busy, with the given time.
func (t *Turns) advanceTo(least int64) {
	for id, a := range t.of {
		if !a.isIdle() {
			least = min(least, a.time)
		} else if a.time < t.clock {
			delete(t.of, id)
		}
	}
	if least < math.MaxInt64 {
		t.clock = max(t.clock, least)
	}
}

// handOut begins the turns that there is room for.
func (t *Turns) handOut() {
	for t.free > 0 {
		a := t.next()
		if a == nil {
			return
		}
		close(a.waiting[0])
		a.waiting = a.waiting[1:]
		a.working++
		t.free--
	}
}

// next is the account whose turn it is; nil if none waits that may have one.
func (t *Turns) next() (next *account) {
	least := int64(math.MaxInt64)
	for _, a := range t.of {
		if len(a.waiting) > 0 && a.working < t.each && a.time < least {
			next, least = a, a.time
		}
	}
	return next
}
