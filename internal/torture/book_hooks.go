package torture

import (
	"math/rand/v2"
	"slices"
	"time"
)

// change is a change of a webhook. It takes effect at some time after the
// request, and on all nodes a while after its answer.
type change struct {
	asked    time.Time
	answered time.Time // zero: not yet, or never
	to       string
}

// followed is how long after its answer a change may take effect on all nodes;
// the promise is 2 s.
const followed = 3 * time.Second

// inForce returns the values that may be in effect at a time, by some changes.
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

// changing records that a change is about to be requested. The returned
// function records its answer.
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

// someHook returns a webhook without a change under way; only the caller may
// change it until done. It returns nil without one.
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
	h = free[max(random.IntN(len(free)), random.IntN(len(free)))] // prefer a new one, because it has more work
	h.busy = true
	return h, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		h.busy = false
	}
}

// resend is a repeated delivery, by request.
type resend struct {
	asked  time.Time
	replay int64 // 0: it was open, or the answer is missing
}

// someDelivered returns an event that a webhook has answered with a 2xx, and
// records that it is about to be resent to it; id is "" without such an event.
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

// resent records the replay of a resend.
func (b *book) resent(e *event, h *hook, i int, replay int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	e.resent[h.n][i].replay = replay
}

// answeredSince reports whether a webhook has answered an event with a 2xx
// after a time. The caller must hold mu.
func (b *book) answeredSince(e *event, h *hook, since time.Time) bool {
	return slices.ContainsFunc(e.came[h.n], func(a arrival) bool { return a.answered && a.at.After(since) })
}

// missing counts the expected deliveries and resends of acknowledged events
// that no endpoint has answered with a 2xx since. It also returns their
// tenants.
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

// missingOf returns the webhooks that did not get an event, and the webhooks
// that did not get its resend. The caller must hold mu.
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

// deleting records that an event is about to be deleted, and returns its id; ""
// if no answer had one.
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

// deleted records the answer to the deletion.
func (b *book) deleted(e *event, at time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	e.deletedAt = at
	b.counts.Deleted++
	b.write(entry{What: "deleted", N: e.n, EventID: e.ids[0]})
}
