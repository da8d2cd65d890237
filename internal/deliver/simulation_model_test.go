package deliver_test

import (
	"bytes"
	"cmp"
	"slices"
	"time"

	"triggerd/internal/store"
	"triggerd/internal/trigger"
)

// model is the database of a simulation: what [store.Store] promises to the
// engine and the sweeper, in memory. It never fails; a [server] does that on
// the way to it. The world's mutex guards all of it.
type model struct {
	hooks  []*hook // in the order of Lanes
	byID   map[int64]*hook
	events map[trigger.ID]*trigger.Event
	debts  map[trigger.DeliveryKey]*debt // all that were ever owed, unless forgetful
	// forgetful drops what has ended, for simulations of much traffic.
	forgetful bool
	ended     int                 // debts that were dropped so
	dropped   map[trigger.ID]bool // events that the sweeper has removed
}

// hook is a webhook, its open deliveries, and the receiver behind it.
type hook struct {
	trigger.Webhook
	bucket int16
	open   []*debt
	next   time.Time // when the first of them is due, unless stale
	stale  bool
	plan   plan
	gone   bool      // the receiver has answered 410
	left   time.Time // when a server had this answer
	leftTo *server   // the first that had it

	changed  time.Time // when its owner changed its state
	troubled bool      // its owner has paused or deleted it
}

// debt is one delivery: its row, and all that is known about it.
type debt struct {
	trigger.DeliveryKey
	hook    *hook
	number  uint64 // by which the dice know it
	created time.Time

	state    trigger.DeliveryState // Ended: the row is gone
	attempts int
	due      time.Time
	claim    trigger.ID
	reason   string
	endedAt  time.Time
	place    int // in hook.open

	claims  []*claim
	sends   []*sending
	records []record
}

// claim is one lease on a delivery.
type claim struct {
	id       trigger.ID
	server   *server
	at       time.Time
	lease    time.Time
	attempts int  // of the delivery before
	lost     bool // its server was told of a failure, and does not know of it
	sent     *sending
	result   *store.Result // that its server wants recorded
	settled  bool          // the database has taken the result, or refused it for good
	unread   bool          // its event could not be read
	released bool          // its server wants it given back
}

// record is one attempt as it was recorded.
type record struct {
	at       time.Time // when it was committed
	claim    trigger.ID
	outcome  trigger.Outcome
	earliest time.Time // when the next may begin
}

func newModel() model {
	return model{
		byID: map[int64]*hook{}, events: map[trigger.ID]*trigger.Event{},
		debts: map[trigger.DeliveryKey]*debt{}, dropped: map[trigger.ID]bool{},
	}
}

// openDebts is how many deliveries are open.
func (m *model) openDebts() (n int) {
	for _, h := range m.hooks {
		n += len(h.open)
	}
	return n
}

// addHook adds a webhook of an organization.
func (m *model) addHook(h *hook) {
	h.bucket = trigger.Bucket(h.OrganizationID)
	m.byID[h.ID] = h
	place, _ := slices.BinarySearchFunc(m.hooks, h, func(a, b *hook) int {
		return cmp.Or(cmp.Compare(a.bucket, b.bucket), cmp.Compare(a.ID, b.ID))
	})
	m.hooks = slices.Insert(m.hooks, place, h)
}

// first is when the first open delivery of a webhook is due.
func (h *hook) first() (due time.Time, any bool) {
	if h.stale {
		h.stale = false
		h.next = time.Time{}
		for _, d := range h.open {
			if h.next.IsZero() || d.due.Before(h.next) {
				h.next = d.due
			}
		}
	}
	return h.next, len(h.open) > 0
}

// owe adds an open delivery.
func (m *model) owe(d *debt) {
	d.place = len(d.hook.open)
	d.hook.open = append(d.hook.open, d)
	d.hook.stale = true
	m.debts[d.DeliveryKey] = d
}

// end takes a delivery from the open ones.
func (m *model) end(d *debt, state trigger.DeliveryState, reason string, now time.Time) {
	open := d.hook.open
	last := len(open) - 1
	open[d.place] = open[last]
	open[d.place].place = d.place
	open[last] = nil
	d.hook.open, d.hook.stale = open[:last], true
	d.state, d.reason, d.endedAt, d.claim = state, reason, now, trigger.ID{}
	if m.forgetful {
		delete(m.debts, d.DeliveryKey)
		delete(m.events, d.EventID)
		m.ended++
	}
}

// lanes is Store.Lanes.
func (m *model) lanes(after store.Lane, limit int) (lanes []store.Lane) {
	for _, h := range m.hooks {
		if len(lanes) == limit {
			break
		}
		if cmp.Or(cmp.Compare(h.bucket, after.Bucket), cmp.Compare(h.ID, after.WebhookID)) <= 0 {
			continue
		}
		if due, any := h.first(); any {
			lanes = append(lanes, store.Lane{Bucket: h.bucket, WebhookID: h.ID, DueAt: due})
		}
	}
	return lanes
}

// take is Store.Claim for one webhook; passed says what others are at.
func (m *model) take(want store.Want, by *claim, now time.Time, passed func(*debt) bool) (taken []trigger.Delivery) {
	h := m.byID[want.WebhookID]
	var due []*debt
	for _, d := range h.open {
		if !d.due.After(now) && !passed(d) {
			due = append(due, d)
		}
	}
	slices.SortFunc(due, func(a, b *debt) int { return cmp.Or(a.due.Compare(b.due), cmp.Compare(a.number, b.number)) })
	for _, d := range due[:min(len(due), want.Room)] {
		c := *by
		c.attempts = d.attempts
		d.claims = append(d.claims, &c)
		d.claim, d.due, h.stale = c.id, c.lease, true
		taken = append(taken, trigger.Delivery{DeliveryKey: d.DeliveryKey, Attempts: d.attempts, DueAt: c.lease, Claim: c.id})
	}
	return taken
}

// byEvent is the order in which claims hand out what they took.
func byEvent(a, b trigger.Delivery) int {
	return cmp.Or(cmp.Compare(a.OrganizationID, b.OrganizationID), bytes.Compare(a.EventID[:], b.EventID[:]))
}

// finish is Store.Finish for one result: a success ends an open delivery
// whoever has claimed it, everything else needs the claim.
func (m *model) finish(r store.Result, now time.Time) (moved bool) {
	d := m.debts[r.Attempt.DeliveryKey]
	switch {
	case d == nil || d.state != trigger.DeliveryOpen:
		return false
	case r.Next.State != trigger.DeliveryEnded && d.claim != r.Attempt.Claim:
		return false
	}
	d.attempts = r.Next.Attempts
	if r.Next.State != trigger.DeliveryOpen {
		m.end(d, r.Next.State, r.Next.Reason, now)
		return true
	}
	d.due, d.claim, d.hook.stale = r.Next.DueAt, trigger.ID{}, true
	return true
}

// release is Store.Release for one delivery.
func (m *model) release(released trigger.Delivery, now time.Time) {
	d := m.debts[released.DeliveryKey]
	if d != nil && d.state == trigger.DeliveryOpen && d.claim == released.Claim {
		d.due, d.claim, d.hook.stale = now, trigger.ID{}, true
	}
}

// slice is how many deliveries FailWebhook ends at once.
const slice = 500

// fail is Store.FailWebhook.
func (m *model) fail(h *hook, reason string, now time.Time, passed func(*debt) bool) (n int) {
	for _, d := range slices.Clone(h.open) {
		if n < slice && !passed(d) {
			m.end(d, trigger.DeliveryFailed, reason, now)
			n++
		}
	}
	return n
}

// expire is Store.Expire.
func (m *model) expire(before time.Time, now time.Time) (n int) {
	for _, h := range m.hooks {
		for _, d := range slices.Clone(h.open) {
			if d.EventID.Time().Before(before) {
				m.end(d, trigger.DeliveryFailed, trigger.ReasonExpired, now)
				n++
			}
		}
	}
	return n
}

// find is the claim of a delivery by its id.
func (d *debt) find(id trigger.ID) *claim {
	for _, c := range slices.Backward(d.claims) {
		if c.id == id {
			return c
		}
	}
	return nil
}
