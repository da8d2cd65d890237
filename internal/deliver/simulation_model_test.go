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
	replays   []*replay
}

// hook is a webhook, its open deliveries, and the receiver behind it. The
// state in it is that of the database.
type hook struct {
	trigger.Webhook
	queue
	bucket int16
	plan   plan
	left   map[*server]time.Time // when a server had an answer that wants no more
	wishes int                   // such answers, ever
	wished time.Time             // when the last request began that was answered so, at this URL

	asks   time.Duration // the longest that its receiver has asked for nothing, at this URL
	poison conduct       // of the receiver, towards what it always refuses

	changed  time.Time // when its state or its URL became another
	moved    time.Time // when its URL did
	deleted  bool      // and never comes back, as one that is gone may
	ended    bool      // it was gone or deleted, perhaps resumed since
	troubled bool      // its owner has paused, moved or deleted it, or its receiver has

	breaker
	health *health
	told   []string    // notices about it, in their order
	asked  []time.Time // when requests began, where it has a rate
}

// queue is what is open of a webhook, or of one replay to it.
type queue struct {
	open  []*debt
	next  time.Time // when the first of them is due, unless stale
	stale bool
}

// debt is one delivery: its row, and all that is known about it.
type debt struct {
	trigger.DeliveryKey
	hook    *hook
	in      *queue
	number  uint64 // by which the dice know it
	poison  bool   // its receiver always refuses it
	created time.Time

	state    trigger.DeliveryState // Ended: the row is gone
	attempts int
	due      time.Time
	claim    trigger.ID
	tried    time.Time // when the last attempt ended, by the database's clock
	reason   string
	endedAt  time.Time
	place    int // in the queue

	claims  []*claim
	sends   []*sending
	records []record
}

// claim is one lease on a delivery.
type claim struct {
	id       trigger.ID
	server   *server
	at       time.Time
	lease    time.Time // when it ends, by the database's clock
	until    time.Time // when it ends
	attempts int       // of the delivery before
	handed   bool      // at acceptance
	lost     bool      // its server was told of a failure, and does not know of it
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
	for _, r := range m.replays {
		n += len(r.open)
	}
	return n
}

// addHook adds a webhook of an organization.
func (m *model) addHook(h *hook) {
	h.bucket, h.left = trigger.Bucket(h.OrganizationID), map[*server]time.Time{}
	m.byID[h.ID] = h
	place, _ := slices.BinarySearchFunc(m.hooks, h, func(a, b *hook) int {
		return cmp.Or(cmp.Compare(a.bucket, b.bucket), cmp.Compare(a.ID, b.ID))
	})
	m.hooks = slices.Insert(m.hooks, place, h)
}

// first is when the first of the deliveries is due.
func (q *queue) first() (due time.Time, any bool) {
	if q.stale {
		q.stale = false
		q.next = time.Time{}
		for _, d := range q.open {
			if q.next.IsZero() || d.due.Before(q.next) {
				q.next = d.due
			}
		}
	}
	return q.next, len(q.open) > 0
}

// owe adds an open delivery.
func (m *model) owe(d *debt) {
	if d.in == nil {
		d.in = &d.hook.queue
	}
	d.place = len(d.in.open)
	d.in.open = append(d.in.open, d)
	d.in.stale = true
	m.debts[d.DeliveryKey] = d
}

// end takes a delivery from the open ones.
func (m *model) end(d *debt, state trigger.DeliveryState, reason string, now time.Time) {
	open := d.in.open
	last := len(open) - 1
	open[d.place] = open[last]
	open[d.place].place = d.place
	open[last] = nil
	d.in.open, d.in.stale = open[:last], true
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

// dueLanes is Store.DueLanes.
func (m *model) dueLanes(of []store.Lane, from, until time.Time) (lanes []store.Lane) {
	for _, l := range of {
		h := m.byID[l.WebhookID]
		if h == nil || h.bucket != l.Bucket {
			continue
		}
		l.DueAt = time.Time{}
		for _, d := range h.open {
			if !d.due.Before(from) && !d.due.After(until) && (l.DueAt.IsZero() || d.due.Before(l.DueAt)) {
				l.DueAt = d.due
			}
		}
		if !l.DueAt.IsZero() {
			lanes = append(lanes, l)
		}
	}
	return lanes
}

// take is Store.Claim for one webhook or replay; passed says what others are at.
func (m *model) take(want store.Want, by *claim, now time.Time, passed func(*debt) bool) (taken []trigger.Delivery) {
	q := m.queueOf(want)
	var due []*debt
	for _, d := range q.open {
		if !d.due.Before(want.From) && !d.due.After(now) && !passed(d) {
			due = append(due, d)
		}
	}
	slices.SortFunc(due, func(a, b *debt) int { return cmp.Or(a.due.Compare(b.due), cmp.Compare(a.number, b.number)) })
	switch want.Order {
	case store.ByFailures:
		slices.SortStableFunc(due, func(a, b *debt) int { return cmp.Compare(a.attempts, b.attempts) })
	case store.ForProbe:
		const odd = 0x9e3779b97f4a7c15
		slices.SortStableFunc(due, func(a, b *debt) int {
			return cmp.Or(cmp.Compare(a.attempts, b.attempts), cmp.Compare(a.number*odd, b.number*odd))
		})
	}
	for _, d := range due[:min(len(due), want.Room)] {
		c := *by
		c.attempts = d.attempts
		d.claims = append(d.claims, &c)
		d.claim, d.due, q.stale = c.id, c.lease, true
		taken = append(taken, trigger.Delivery{DeliveryKey: d.DeliveryKey, Attempts: d.attempts, DueAt: c.lease, Claim: c.id})
	}
	return taken
}

// byEvent is the order in which claims hand out what they took.
func byEvent(a, b trigger.Delivery) int {
	return cmp.Or(cmp.Compare(a.OrganizationID, b.OrganizationID), bytes.Compare(a.EventID[:], b.EventID[:]))
}

// queueOf is what is open of a webhook, or of a replay.
func (m *model) queueOf(want store.Want) *queue {
	if want.Job == 0 {
		return &m.byID[want.WebhookID].queue
	}
	return &m.replays[want.Job-1].queue
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
	d.due, d.claim, d.in.stale = r.Next.DueAt, trigger.ID{}, true
	d.tried = r.Attempt.At.Add(r.Attempt.Took)
	return true
}

// release is Store.Release for one delivery.
func (m *model) release(released trigger.Delivery, now time.Time) {
	d := m.debts[released.DeliveryKey]
	if d != nil && d.state == trigger.DeliveryOpen && d.claim == released.Claim {
		d.due, d.claim, d.in.stale = now, trigger.ID{}, true
	}
}

// slice is how many deliveries FailWebhook ends at once.
const slice = 500

// fail is Store.FailWebhook.
func (m *model) fail(h *hook, reason string, now time.Time, passed func(*debt) bool) (n int) {
	for _, r := range m.replays {
		if r.WebhookID == h.ID {
			m.drop(r, now, true)
		}
	}
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
