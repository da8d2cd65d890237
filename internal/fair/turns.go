// Package fair divides what all organizations share, so that none of them takes
// it from the others.
package fair

import (
	"context"
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
	clock int64              // the virtual time of the busy account that has worked least
	of    map[int64]*account // by organization
	busy  order              // accounts that work or wait
	ready order              // of them, those whose turn may begin
	idle  order              // the others, as far as they have worked more than the clock says
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

// NewTurns returns turns of which at most so many run at a time in all, and at most
// each of one organization.
func NewTurns(most, each int) *Turns {
	return &Turns{
		free: most, each: each, of: map[int64]*account{},
		busy: order{kind: inBusy}, ready: order{kind: inReady}, idle: order{kind: inIdle},
	}
}

// Take waits for a turn, which [Turns.Done] ends. It returns the error of ctx if
// that ends first.
func (t *Turns) Take(ctx context.Context, organizationID int64) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	t.mu.Lock()
	a := t.account(organizationID)
	if t.free > 0 && a.working < t.each && len(a.waiting) == 0 && t.ready.Len() == 0 { // the usual case
		a.working++
		t.free--
		t.place(a)
		t.mu.Unlock()
		return nil
	}
	begins := make(chan struct{})
	a.waiting = append(a.waiting, begins)
	t.place(a)
	t.handOut()
	t.mu.Unlock()
	select {
	case <-begins:
		return nil
	default:
	}
	select {
	case <-begins:
		return nil
	case <-ctx.Done():
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if i := slices.Index(a.waiting, begins); i >= 0 {
		a.waiting = slices.Delete(a.waiting, i, i+1)
	} else { // it began just now
		a.working--
		t.free++
	}
	t.place(a)
	t.handOut()
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
	t.place(a)
	t.handOut()
}

// MustYield counts work of a turn that goes on, and reports whether an organization
// that has worked less is waiting: then the turn should end.
func (t *Turns) MustYield(organizationID int64, work int) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	a := t.of[organizationID]
	a.time += int64(work)
	t.place(a)
	next := t.ready.first()
	return next != nil && next.time < a.time
}

// IsIdle reports whether no turn is under way and none is waited for.
func (t *Turns) IsIdle() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.busy.Len() == 0
}

// account finds or makes the account of an organization that wants a turn. If it
// was idle, it is just ahead of all others, unless it has worked more of late.
func (t *Turns) account(organizationID int64) *account {
	a := t.of[organizationID]
	if a == nil {
		a = &account{id: organizationID, time: t.clock - 1, at: [orders]int{-1, -1, -1}}
		t.of[organizationID] = a
	}
	if a.isIdle() {
		a.time = max(a.time, t.clock-1)
	}
	return a
}

// place puts an account that has changed where it belongs, sets the clock, and
// forgets the accounts that are idle and not ahead of it.
func (t *Turns) place(a *account) {
	t.busy.set(a, !a.isIdle())
	t.ready.set(a, len(a.waiting) > 0 && a.working < t.each)
	t.idle.set(a, a.isIdle())
	if least := t.busy.first(); least != nil {
		t.clock = max(t.clock, least.time)
	} else { // no account is behind or ahead of another
		clear(t.of)
		t.idle.list, t.clock = nil, 0
		return
	}
	for first := t.idle.first(); first != nil && first.time < t.clock; first = t.idle.first() {
		t.idle.set(first, false)
		delete(t.of, first.id)
	}
}

// handOut begins the turns that there is room for.
func (t *Turns) handOut() {
	for t.free > 0 {
		a := t.ready.first()
		if a == nil {
			return
		}
		close(a.waiting[0])
		a.waiting = a.waiting[1:]
		a.working++
		t.free--
		t.place(a)
	}
}
