package api

import (
	"context"
	"math"
	"slices"
	"sync"
)

// turns lets a few work at a time, of many organizations. Where more want to, the
// next turn is of the organization that has worked least: each has a virtual
// time, which goes on with its work, and which begins, after a rest, where the
// others are. So whoever works little hardly waits, however much others want.
// All turns of one organization are in the order in which it asked for them.
type turns struct {
	each int // turns at a time of one organization, at most

	mu    sync.Mutex
	free  int
	busy  int                // organizations that work or wait
	clock int64              // the virtual time of whoever has worked least, of the busy ones
	of    map[int64]*account // by organization
}

// account is an organization's.
type account struct {
	time    int64 // virtual
	working int
	waiting []chan struct{} // closed when the turn begins
}

func (a *account) isIdle() bool { return a.working == 0 && len(a.waiting) == 0 }

// newTurns makes turns for so many at a time, and so many of one organization.
func newTurns(most, each int) *turns {
	return &turns{free: most, each: each, of: map[int64]*account{}}
}

// take waits for a turn, which done ends. The error is that of ctx.
func (t *turns) take(ctx context.Context, organizationID int64) error {
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

// done ends a turn in which so much work was done.
func (t *turns) done(organizationID int64, work int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	a := t.of[organizationID]
	a.time += int64(work)
	a.working--
	t.free++
	t.rest(a)
}

// mustYield counts work of a turn that goes on, and reports whether somebody
// waits who has worked less: then the turn must end.
func (t *turns) mustYield(organizationID int64, work int) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	a := t.of[organizationID]
	a.time += int64(work)
	next := t.next()
	return next != nil && next.time < a.time
}

// arrive makes an account a busy one, just ahead of all others unless it has
// worked more of late.
func (t *turns) arrive(organizationID int64) *account {
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
func (t *turns) rest(a *account) {
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
func (t *turns) advance() { t.advanceTo(math.MaxInt64) }

// advanceTo is advance where somebody else is busy, with the given time.
func (t *turns) advanceTo(least int64) {
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
func (t *turns) handOut() {
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
func (t *turns) next() (next *account) {
	least := int64(math.MaxInt64)
	for _, a := range t.of {
		if len(a.waiting) > 0 && a.working < t.each && a.time < least {
			next, least = a, a.time
		}
	}
	return next
}
