// Package fair shares resources among organizations, so that none takes them
// from the others.
package fair

import (
	"context"
	"runtime"
	"slices"
	"sync"
)

// Turns lets a few goroutines work at a time, on behalf of many organizations.
// The next turn goes to the organization that has worked least: each has a
// virtual time, which advances with its work and which starts, after a rest,
// where the others are. So an organization that works little hardly waits,
// however much the others want. Turns of one organization come in the order of
// the calls of Take. Use [NewTurns] to create one. It is safe for concurrent
// use.
type Turns struct {
	each int // maximum number of turns of one organization at a time

	mu    sync.Mutex
	free  int
	clock int64              // the virtual time of the busy account that has worked least
	of    map[int64]*account // by organization
	busy  order              // accounts that work or wait
	ready order              // accounts whose turn may begin
	idle  order              // the other accounts, if their time is ahead of the clock
}

// Millisecond is the work of about a millisecond, in the unit of the turns of
// [ForProcessors]: steps of about 100 ns.
const Millisecond = 10_000

// ForProcessors returns turns for work that only needs a processor. It leaves
// half of the processors to other work.
func ForProcessors() *Turns {
	processors := runtime.GOMAXPROCS(0)
	return NewTurns(max(1, processors/2), processors)
}

// NewTurns returns turns. At most the given number run at a time, and at most
// each of one organization.
func NewTurns(most, each int) *Turns {
	return &Turns{
		free: most, each: each, of: map[int64]*account{},
		busy: order{kind: inBusy}, ready: order{kind: inReady}, idle: order{kind: inIdle},
	}
}

// Take waits for a turn, which [Turns.Done] ends. If ctx ends first, it returns
// the error of ctx.
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

// Done ends a turn and adds the work done in it, in any unit that all callers
// share.
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

// MustYield adds work of a turn that goes on. It reports whether an organization
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

// IsIdle reports whether no turn is in progress or waited for.
func (t *Turns) IsIdle() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.busy.Len() == 0
}

// account returns the account of an organization that wants a turn. If it was
// idle, it is just ahead of all others, unless it has worked more lately.
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

// place updates the position of a changed account, sets the clock, and forgets
// idle accounts that are not ahead of it.
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

// handOut begins turns while there is room.
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
