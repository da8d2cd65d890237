package torture

import (
	"slices"
	"time"
)

// span is a time in which a consumer has an event: from an answer to the end of
// the lease in it.
type span struct{ from, to time.Time }

// handed is an event in the answer to a claim, and its fate.
type handed struct {
	event  *event
	id     string
	claim  string
	asked  time.Time // when the claim was requested
	leases []span    // the last one is current
	over   time.Time // since when it may have ended, because an ack or a release was requested
	given  time.Time // when a release was answered
	acked  span      // the answered ack: from its first request to the answer
	unsure bool      // an ack had no answer
}

// got returns when the claim was answered.
func (h *handed) got() time.Time { return h.leases[0].from }

// handOut records the events of a claim.
func (b *book) handOut(list []*handed) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.counts.Claims++
	b.counts.HandedOut += len(list)
	for _, h := range list {
		h.event.handed = append(h.event.handed, h)
		b.write(entry{What: "handed out", N: h.event.n, EventID: h.id, Note: h.claim})
	}
}

// ending records that an ack or a release is about to be requested.
func (b *book) ending(list []*handed) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.now()
	for _, h := range list {
		if h.over.IsZero() {
			h.over = now
		}
	}
}

// fate records the answer about an event of a claim; status is "" without an
// answer.
func (b *book) fate(h *handed, deed, status string, asked, answered time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.write(entry{What: deed + " " + status, N: h.event.n, EventID: h.id, Note: h.claim})
	switch {
	case deed == deedAck && status == "":
		h.unsure = true
	case status == "acknowledged":
		if h.acked.to.IsZero() {
			h.acked = span{asked, answered}
			b.counts.Acknowledged++
		}
	case status == "released":
		h.given = answered
		b.counts.Released++
	case status == "lost":
		b.counts.Lost++
	}
}

// extended records a new lease that ends at to; zero: the lease may have
// changed.
func (b *book) extended(h *handed, asked, answered, to time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	last := &h.leases[len(h.leases)-1]
	if last.to.After(asked) {
		last.to = asked // the new lease may end earlier
	}
	if !to.IsZero() {
		h.leases = append(h.leases, span{answered, to})
	}
}

// someInbox returns a tenant whose inbox has consumers, most often the last
// one; nil without one.
func (b *book) someInbox(x int) *tenant {
	b.mu.Lock()
	defer b.mu.Unlock()
	if x%3 == 0 && len(b.tenants) > 0 {
		if t := b.tenants[x/3%len(b.tenants)]; t.consumed {
			return t
		}
	}
	for _, t := range slices.Backward(b.tenants) {
		if t.consumed {
			return t
		}
	}
	return nil
}

// of returns an event of a tenant by its number.
func (b *book) of(t *tenant, n int) *event {
	b.mu.Lock()
	defer b.mu.Unlock()
	if n < 0 || n >= len(b.events) || b.events[n].tenant != t {
		return nil
	}
	return b.events[n]
}

// unread counts the acknowledged events that the inbox of a tenant must get and
// that no consumer has acknowledged.
func (b *book) unread(t *tenant) (n int, one *event) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, e := range t.events {
		if e.acknowledged() && !e.leaving && e.owedToInbox() &&
			!slices.ContainsFunc(e.handed, func(h *handed) bool { return !h.acked.to.IsZero() || h.unsure }) {
			n, one = n+1, e
		}
	}
	return n, one
}
