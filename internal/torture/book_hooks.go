package torture

import (
	"math/rand/v2"
	"slices"
	"time"
)

// change is one of a webhook: it is in force at some time from when it was
// asked for, and on all nodes a while after its answer.
type change struct {
	asked    time.Time
	answered time.Time // zero: not yet, or never
	to       string
}

// followed is how long after the answer a change is in force on all nodes; the
// promise is 2 s.
const followed = 3 * time.Second

// inForce lists what of some changes may have held at a time.
func inForce(changes []change, at time.Time) []string {
	held := []string{""}
	for _, c := range changes {
		switch {
		case c.asked.After(at):
		case !c.answered.IsZero() && c.answered.Add(followed).Before(at):
			held = []string{c.to}
		default:
			held = append(held, c.to)
		}
	}
	return held
}

// changing enters that a change is about to be asked for; the function enters
// its answer.
func (b *book) changing(of *[]change, h *hook, to string) (answered func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	*of = append(*of, change{asked: b.now(), to: to})
	i := len(*of) - 1
	b.write(entry{What: "changing", Hook: h.n, Note: to})
	return func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		(*of)[i].answered = b.now()
		b.write(entry{What: "changed", Hook: h.n, Note: to})
	}
}

// someHook chooses a webhook that nobody changes; it is the caller's until
// done. It is nil if there is none.
func (b *book) someHook(random *rand.Rand) (h *hook, done func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var free []*hook
	for _, t := range b.tenants {
		for _, h := range t.hooks {
			if !h.busy {
				free = append(free, h)
			}
		}
	}
	if len(free) == 0 {
		return nil, nil
	}
	h = free[max(random.IntN(len(free)), random.IntN(len(free)))] // rather a new one: it has more to do
	h.busy = true
	return h, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		h.busy = false
	}
}

// resend is a delivery that was asked for once more.
type resend struct {
	asked  time.Time
	replay int64 // 0: it was open, or is not known
}

// someDelivered chooses an event that a webhook has answered with a 2xx, and
// enters that it is about to be sent there again; "" if there is none.
func (b *book) someDelivered(h *hook, random *rand.Rand) (e *event, id string, i int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var had []*event
	for _, e := range h.tenant.events {
		if !e.leaving && b.answeredSince(e, h, time.Time{}) {
			had = append(had, e)
		}
	}
	if len(had) == 0 {
		return nil, "", 0
	}
	e = had[random.IntN(len(had))]
	e.resent[h.n] = append(e.resent[h.n], resend{asked: b.now()})
	b.counts.Resends++
	b.write(entry{What: "resending", N: e.n, Hook: h.n})
	return e, e.came[h.n][0].id, len(e.resent[h.n]) - 1
}

// resent enters which replay was made of it.
func (b *book) resent(e *event, h *hook, i int, replay int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	e.resent[h.n][i].replay = replay
}

// answeredSince reports whether a webhook has answered an event with a 2xx
// after a time. The caller holds mu.
func (b *book) answeredSince(e *event, h *hook, since time.Time) bool {
	return slices.ContainsFunc(e.came[h.n], func(a arrival) bool { return a.answered && a.at.After(since) })
}

// missing counts the deliveries of acknowledged events that were owed, or asked
// for again, and that no endpoint has answered with a 2xx since. It also returns
// their tenants.
func (b *book) missing() (n int, of []*tenant) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, t := range b.tenants {
		before := n
		for _, e := range t.events {
			first, again := b.missingOf(e)
			n += len(first) + len(again)
		}
		if n > before {
			of = append(of, t)
		}
	}
	return n, of
}

// missingOf returns the webhooks that did not get an event, and those that did
// not get it again. The caller holds mu.
func (b *book) missingOf(e *event) (first, again []*hook) {
	if !e.acknowledged() || e.leaving || e.poison {
		return nil, nil
	}
	for _, h := range e.owedTo() {
		if !b.answeredSince(e, h, time.Time{}) {
			first = append(first, h)
		}
		for _, r := range e.resent[h.n] {
			if r.replay != 0 && !b.answeredSince(e, h, r.asked) {
				again = append(again, h)
			}
		}
	}
	return first, again
}

// deleting enters that an event is about to be deleted, and returns its id; ""
// if no answer has named it.
func (b *book) deleting(e *event) (id string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(e.ids) == 0 {
		return ""
	}
	e.leaving = true
	b.write(entry{What: "deleting", N: e.n, EventID: e.ids[0]})
	return e.ids[0]
}

// deleted enters the answer to that.
func (b *book) deleted(e *event, at time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	e.deletedAt = at
	b.counts.Deleted++
	b.write(entry{What: "deleted", N: e.n, EventID: e.ids[0]})
}
