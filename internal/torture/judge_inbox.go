package torture

import (
	"context"
	"slices"
	"time"
)

// margin is the least difference of times that counts, because our clock is not
// the server's.
const margin = time.Second

// judgeInboxes checks what consumers got.
func (r *run) judgeInboxes() {
	for _, e := range r.book.events {
		slices.SortFunc(e.handed, func(a, b *handed) int { return a.asked.Compare(b.asked) })
		for i, a := range e.handed {
			if !e.owedToInbox() {
				r.report.breach(wrongInbox, "%s, by %s", e, a.claim)
			}
			if !a.given.IsZero() && a.acked.from.After(a.given) {
				r.report.breach(ackedUnheld, "%s: %s had released it", e, a.claim)
			}
			r.judgeTime(e, a.got(), "handed out")
			for _, b := range e.handed[i+1:] {
				r.judgeClaims(a, b)
			}
		}
	}
	for _, t := range r.book.tenants {
		if n, one := r.book.unread(t); n > 0 && t.consumed && (t.everything || !t.doubtful) {
			for range n {
				r.report.breach(neverAcked, "as %s of tenant %d, handed out %d times", one, t.n, len(one.handed))
			}
		}
	}
}

// judgeClaims compares two claims that got the same event; b was requested
// later.
func (r *run) judgeClaims(a, b *handed) {
	if !b.asked.After(a.got()) {
		return // their order is unknown
	}
	acked := !a.acked.to.IsZero()
	if acked && b.asked.After(a.acked.to) {
		r.report.breach(handedAgain, "%s: by %s, %v after %s", a.event, b.claim, b.asked.Sub(a.acked.to), a.claim)
	}
	if acked && b.got().Before(a.acked.from) {
		r.report.breach(ackedUnheld, "%s: by %s, %v after it was handed out to %s", a.event, a.claim, a.acked.from.Sub(b.got()), b.claim)
	}
	for _, lease := range a.leases {
		inIt := b.asked.After(lease.from) && b.got().Before(lease.to.Add(-margin))
		if inIt && r.report.Faults[faultStep] == 0 && (a.over.IsZero() || b.got().Before(a.over)) {
			r.report.breach(twoClaims, "%s: by %s, %v before the lease of %s ended", a.event, b.claim, lease.to.Sub(b.got()), a.claim)
		}
	}
}

// judgeTime checks that an event did not come before its time or after its
// deletion.
func (r *run) judgeTime(e *event, at time.Time, how string) {
	if e.deliverAt.IsZero() {
		return
	}
	if early := e.deliverAt.Sub(at); early > margin && r.report.Faults[faultClock]+r.report.Faults[faultStep] == 0 {
		r.report.breach(tooEarly, "%s: %s %v before its time", e, how, early)
	}
	if !e.deletedAt.IsZero() && e.deletedAt.Add(margin).Before(e.deliverAt) {
		r.report.breach(cameDeleted, "%s: %s, %v after it was deleted", e, how, at.Sub(e.deletedAt))
	}
}

// judgeOpen checks the events that an inbox still lists: none if it has
// consumers, else all that it must get.
func (r *run) judgeOpen(ctx context.Context, t *tenant, stored []*event) {
	open, err := r.listed(ctx, t, "/v1/inbox?limit=37")
	if err != nil {
		r.report.breach(lostEvents, "the open events of tenant %d cannot be read: %v", t.n, err)
		return
	}
	r.judgeOrder(t, open, "the inbox", true)
	there := map[*event]bool{}
	for i := range open {
		e := r.judgeShown(t, &open[i])
		if e == nil {
			continue
		}
		switch there[e] = true; {
		case !e.owedToInbox():
			r.report.breach(wrongInbox, "%s is listed", e)
		case t.consumed && !e.leaving:
			r.report.breach(neverAcked, "%s is still listed, after all was acknowledged", e)
		}
	}
	for _, e := range stored {
		if !there[e] && e.wanted() == pendingStatus && !e.leaving && (t.everything || !t.doubtful) {
			r.report.breach(misPaged, "%s is not in the inbox of tenant %d", e, t.n)
		}
	}
}
