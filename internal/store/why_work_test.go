package store_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"pgregory.net/rapid"

	"triggerd/internal/store"
	"triggerd/internal/trigger"
)

// What the engine and owners do, in the state machine of why_test.go.

// claim takes due deliveries of some webhooks.
func (m *whyMachine) claim(t *rapid.T) {
	var wants []store.Want
	for _, h := range m.hooks {
		if rapid.Bool().Draw(t, "claimed") {
			wants = append(wants, store.Want{Bucket: trigger.Bucket(h.org), WebhookID: h.id, Room: rapid.IntRange(1, 6).Draw(t, "room")})
		}
	}
	m.take(t, wants)
}

// claimReplays takes due deliveries of replays.
func (m *whyMachine) claimReplays(t *rapid.T) {
	var wants []store.Want
	for _, r := range m.replays {
		wants = append(wants, store.Want{Bucket: trigger.Bucket(r.OrganizationID), WebhookID: r.WebhookID, Job: r.ID, Room: 10})
	}
	m.take(t, wants)
}

func (m *whyMachine) take(t *rapid.T, wants []store.Want) {
	slices.SortFunc(wants, func(a, b store.Want) int { return int(a.Bucket) - int(b.Bucket) })
	now, claim := m.store.Now(), m.store.NewClaim()
	until := now.Add(lease(t))
	taken, err := m.store.Claim(m.ctx, wants, claim, now, until)
	m.must(t, err)
	for _, d := range taken {
		row := m.rows[d.DeliveryKey]
		switch {
		case d.Job != 0: // what a replay sends is judged elsewhere
			m.rows[d.DeliveryKey] = &whyRow{attempts: d.Attempts, claim: claim, due: dueAt(until)}
		case row == nil || row.failed:
			t.Fatalf("took %+v, of which is known %+v", d, row)
		default:
			row.claim, row.due = claim, dueAt(until)
		}
	}
	m.claims = append(m.claims, taken...)
}

// finish makes attempts of claims, present ones and lost ones, and does what
// the receivers have asked for. One claim makes one attempt.
func (m *whyMachine) finish(t *rapid.T) {
	if len(m.claims) == 0 {
		return
	}
	var results []store.Result
	for _, d := range rapid.SliceOfNDistinct(rapid.SampledFrom(m.claims), 1, 4, rapid.ID).Draw(t, "claims") {
		results = append(results, m.try(t, d))
		m.claims = slices.DeleteFunc(m.claims, func(c trigger.Delivery) bool { return c == d })
	}
	m.record(t, results)
	m.results = append(m.results, results...)
	for _, r := range results {
		h := m.hook(r.Attempt.WebhookID)
		switch {
		case r.Attempt.Outcome == trigger.ReceiverGone && rapid.Bool().Draw(t, "stopped"): // else the process dies before
			m.stop(t, h, trigger.Gone)
			m.find(t)
		case r.Attempt.Directive == trigger.Disable:
			m.stop(t, h, trigger.Paused)
			m.find(t)
		}
	}
}

// deliver does what the engine does in a moment: it claims, and tries.
func (m *whyMachine) deliver(t *rapid.T) {
	m.claim(t)
	for range rapid.IntRange(1, 3).Draw(t, "groups") {
		m.finish(t)
	}
}

// refinish records results again, as after a lost answer.
func (m *whyMachine) refinish(t *rapid.T) {
	if len(m.results) > 0 {
		m.record(t, rapid.SliceOfN(rapid.SampledFrom(m.results), 1, 4).Draw(t, "results"))
	}
}

// record records results, no two at once of the same event and webhook: their
// order would not be known.
func (m *whyMachine) record(t *rapid.T, results []store.Result) {
	same := func(a, b store.Result) bool {
		return a.Attempt.EventID == b.Attempt.EventID && a.Attempt.WebhookID == b.Attempt.WebhookID
	}
	for len(results) > 0 {
		n := 1
		for n < len(results) && !slices.ContainsFunc(results[:n], func(r store.Result) bool { return same(r, results[n]) }) {
			n++
		}
		m.must(t, m.store.Finish(m.ctx, slices.Clone(results[:n])))
		for i := range results[:n] {
			m.note(&results[i])
		}
		if slices.ContainsFunc(results[:n], func(r store.Result) bool { return r.Notice != nil }) {
			m.find(t)
		}
		results = results[n:]
	}
}

// try makes the result of an attempt, as the engine does.
func (m *whyMachine) try(t *rapid.T, d trigger.Delivery) store.Result {
	outcomes := []trigger.Outcome{
		trigger.Success, trigger.Success, trigger.Success, trigger.Transient, trigger.Transient, trigger.Transient,
		trigger.Permanent, trigger.ReceiverGone,
	}
	a := trigger.Attempt{
		DeliveryKey: d.DeliveryKey, Claim: d.Claim, Number: d.Attempts + 1, At: m.store.Now(),
		Took: time.Duration(d.Attempts) * time.Microsecond, Outcome: rapid.SampledFrom(outcomes).Draw(t, "outcome"), Response: []byte{},
	}
	if a.Outcome == trigger.Permanent {
		a.Error = rapid.SampledFrom([]string{trigger.ReasonAborted, trigger.ReasonNoEvent}).Draw(t, "error")
	}
	disable := a.Outcome == trigger.Transient && rapid.IntRange(0, 3).Draw(t, "disable") == 0
	if disable {
		a.Directive = trigger.Disable
	}
	next := d.After(a, trigger.Schedule{time.Minute}, a.At, 0)
	r := store.Result{Attempt: a, Next: next}
	if next.State == trigger.DeliveryFailed && a.Outcome != trigger.ReceiverGone && !m.event(d.EventID).notice {
		r.Notice = &trigger.Notice{
			Type: trigger.DeliveryExhausted, About: d.WebhookID, Once: d.EventID.String() + "/" + d.Claim.String(),
			EventID: d.EventID, Attempts: next.Attempts, Reason: next.Reason,
		}
	}
	return r
}

func (m *whyMachine) hook(id int64) *whyHook {
	return m.hooks[slices.IndexFunc(m.hooks, func(h *whyHook) bool { return h.id == id })]
}

func (m *whyMachine) event(id trigger.ID) *whyEvent {
	return m.events[slices.IndexFunc(m.events, func(e *whyEvent) bool { return e.ID == id })]
}

// note follows a result.
func (m *whyMachine) note(r *store.Result) {
	a := r.Attempt
	row := m.rows[a.DeliveryKey]
	ended := r.Next.State == trigger.DeliveryEnded
	if row == nil || row.failed || !ended && row.claim != a.Claim {
		return
	}
	a.Directive = "" // it is done, and not kept
	m.attempts = append(m.attempts, a)
	row.attempts, row.claim, row.due = r.Next.Attempts, trigger.ID{}, dueAt(r.Next.DueAt)
	row.failed, row.reason = r.Next.State == trigger.DeliveryFailed, r.Next.Reason
	if ended {
		delete(m.rows, a.DeliveryKey)
	}
	for key, failed := range m.rows { // a replay's success ends what had failed
		if ended && a.Job != 0 && key.EventID == a.EventID && key.WebhookID == a.WebhookID && failed.failed {
			delete(m.rows, key)
		}
	}
	if r.Notice != nil {
		m.post(a.OrganizationID, a.WebhookID, r.Notice.Type)
	}
}

// post notes that a notice is posted, if anybody wants it.
func (m *whyMachine) post(org, about int64, noticeType string) {
	n := &whyEvent{step: m.step, notice: true, about: about, Event: &trigger.Event{
		OrganizationID: org, Type: noticeType, Payload: []byte(`{}`),
	}}
	if about != 0 {
		n.Payload = fmt.Appendf(nil, `{"webhook_id": %d}`, about)
	}
	for _, h := range m.hooksOf(org) {
		if n.miss(h) == "" {
			m.notices = append(m.notices, n)
			return
		}
	}
}

// find finds the notices that were posted: those, and no others.
func (m *whyMachine) find(t *rapid.T) {
	for _, org := range m.orgs {
		list, err := m.store.ListEvents(m.ctx, org, "", 1000)
		m.must(t, err)
		var ids []trigger.ID
		for _, e := range list {
			if !slices.ContainsFunc(m.events, func(known *whyEvent) bool { return known.ID == e.ID }) {
				ids = append(ids, e.ID)
			}
		}
		found, err := m.store.Events(m.ctx, org, ids)
		m.must(t, err)
		for _, id := range ids {
			m.learn(t, found[id])
		}
	}
	if len(m.notices) > 0 {
		t.Fatalf("a notice was not posted: %+v", m.notices[0])
	}
}

func (m *whyMachine) learn(t *rapid.T, e *trigger.Event) {
	var body struct {
		WebhookID int64 `json:"webhook_id"`
	}
	m.must(t, json.Unmarshal(e.Payload, &body))
	i := slices.IndexFunc(m.notices, func(n *whyEvent) bool {
		return n.OrganizationID == e.OrganizationID && n.Type == e.Type && n.about == body.WebhookID
	})
	if i < 0 || !strings.HasPrefix(e.DedupID, fmt.Sprintf("triggerd/%s/%d/", e.Type, body.WebhookID)) {
		t.Fatalf("an event that nobody has sent: %+v", e)
	}
	n := m.notices[i]
	m.notices = slices.Delete(m.notices, i, i+1)
	n.Event = e
	m.events = append(m.events, n)
	for _, h := range m.hooksOf(e.OrganizationID) {
		if n.miss(h) == "" {
			m.rows[trigger.DeliveryKey{OrganizationID: e.OrganizationID, EventID: e.ID, WebhookID: h.id}] = &whyRow{due: dueAt(e.ID.Time())}
		}
	}
}

// resend sends an event once more to a webhook, whether it was owed to it or
// not.
func (m *whyMachine) resend(t *rapid.T) {
	if len(m.events) == 0 {
		return
	}
	e := rapid.SampledFrom(m.events).Draw(t, "event")
	h := rapid.SampledFrom(m.hooksOf(e.OrganizationID)).Draw(t, "webhook")
	before := m.store.Now()
	job, err := m.store.Resend(m.ctx, h.org, e.ID, h.id, store.Once{})
	if !m.receives(t, h, err) {
		return
	}
	row, now := m.rows[trigger.DeliveryKey{OrganizationID: h.org, EventID: e.ID, WebhookID: h.id}], [2]time.Time{before, m.store.Now()}
	apart := row == nil || !row.failed && !row.claim.IsZero() // it was delivered, or is being sent
	switch {
	case apart != (job != 0):
		t.Fatalf("resent as job %d, though %+v is left", job, row)
	case apart:
		m.replays = append(m.replays, trigger.Replay{ID: job, OrganizationID: h.org, WebhookID: h.id})
	case row.failed:
		*row = whyRow{due: now}
	default:
		row.due = now
	}
}

// replay begins to send events of the past again.
func (m *whyMachine) replay(t *rapid.T) {
	h := m.drawHook(t)
	m.db.Clock.Advance(time.Minute) // a replay stays behind
	r := trigger.Replay{
		WebhookID: h.id, Since: m.store.Now().Add(-100 * time.Hour),
		Status: rapid.SampledFrom([]trigger.Status{"", trigger.Failed, trigger.Failed, trigger.Delivered}).Draw(t, "status"),
	}
	id, err := m.store.AddReplay(m.ctx, h.org, r, store.Once{})
	if !m.receives(t, h, err) {
		return
	}
	r, err = m.store.Replay(m.ctx, h.org, id)
	m.must(t, err)
	for before := (trigger.ID{}); r.Cursor != before; {
		before = r.Cursor
		_, err = m.store.FeedReplay(m.ctx, r)
		m.must(t, err)
		r, err = m.store.Replay(m.ctx, h.org, id)
		m.must(t, err)
	}
	m.replays = append(m.replays, r)
	m.claimReplays(t)
}

// expire ends what is owed of events before one of them: rarely, since that
// looks at the organizations of all checks.
func (m *whyMachine) expire(t *rapid.T) {
	if rapid.IntRange(0, 3).Draw(t, "rarely") > 0 || len(m.events) == 0 {
		return
	}
	before := rapid.SampledFrom(m.events).Draw(t, "before").ID.Time().Add(time.Microsecond)
	_, err := m.store.Expire(m.ctx, before)
	m.must(t, err)
	low := trigger.MinID(before)
	told := map[int64]bool{} // organizations
	for key, row := range m.rows {
		switch {
		case row.failed || bytes.Compare(key.EventID[:], low[:]) >= 0:
		case key.Job != 0:
			delete(m.rows, key)
		default:
			row.failed, row.reason, row.claim = true, trigger.ReasonExpired, trigger.ID{}
			if !told[key.OrganizationID] && !m.event(key.EventID).notice {
				told[key.OrganizationID] = true
				m.post(key.OrganizationID, 0, trigger.DeliveryExpired)
			}
		}
	}
	m.find(t)
}

// crash opens the database anew: what was not committed never was, and nobody
// knows of the claims.
func (m *whyMachine) crash(t *rapid.T) {
	if rapid.IntRange(0, 5).Draw(t, "rarely") > 0 {
		return
	}
	m.must(t, m.store.Close())
	before := m.db.Clock.Now()
	m.store = m.db.Open(m.t)
	m.pending, m.claims = nil, nil
	for _, row := range m.rows {
		if !m.db.IsPostgres() && !row.failed && !row.claim.IsZero() { // the only process: nobody else is at it
			row.claim, row.due = trigger.ID{}, [2]time.Time{before.Add(-time.Millisecond), m.store.Now()}
		}
	}
}

func (m *whyMachine) advance(t *rapid.T) {
	m.db.Clock.Advance(time.Duration(rapid.IntRange(1, 90).Draw(t, "minutes")) * time.Minute)
}
