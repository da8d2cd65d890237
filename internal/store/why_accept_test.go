package store_test

import (
	"math/rand/v2"
	"slices"
	"time"

	"pgregory.net/rapid"

	"triggerd/internal/store"
	"triggerd/internal/trigger"
)

// How events and webhooks come to be, in the state machine of why_test.go.

func (m *whyMachine) addWebhook(t *rapid.T) {
	if rapid.Bool().Draw(t, "rarely") {
		m.addWebhookTo(t, rapid.SampledFrom(m.orgs).Draw(t, "organization"))
	}
}

func (m *whyMachine) addWebhookTo(t *rapid.T, org int64) {
	h := &whyHook{org: org}
	v := whyVersion{state: rapid.SampledFrom([]trigger.WebhookState{"active", "active", "paused"}).Draw(t, "state"), filter: drawFilter(t)}
	id, err := m.store.AddWebhook(m.ctx, h.org, trigger.Webhook{
		State: v.state, URL: "http://127.0.0.1:9/hook", Filter: v.filter.parse(t), Secrets: trigger.OneSecret(trigger.NewSecret([32]byte{1})),
	}, store.Once{})
	m.must(t, err)
	h.id = id
	m.hooks = append(m.hooks, h)
	m.change(h, v)
}

// change notes what a webhook is from now on.
func (m *whyMachine) change(h *whyHook, v whyVersion) {
	m.step++
	v.step = m.step
	h.history = append(h.history, v)
}

func (m *whyMachine) drawHook(t *rapid.T) *whyHook {
	return rapid.SampledFrom(m.hooks).Draw(t, "webhook")
}

// isThere holds that a change of a webhook that was deleted is refused.
func (m *whyMachine) isThere(t *rapid.T, h *whyHook, err error) bool {
	if h.now().state != trigger.Deleted {
		m.must(t, err)
		return true
	}
	if trigger.KindOf(err) != trigger.NotFound {
		t.Fatalf("a webhook that was deleted: %v, want NotFound", err)
	}
	return false
}

// receives holds that what a gone webhook cannot do is refused, too.
func (m *whyMachine) receives(t *rapid.T, h *whyHook, err error) bool {
	if h.now().state != trigger.Gone {
		return m.isThere(t, h, err)
	}
	if err == nil || trigger.KindOf(err) != trigger.Conflict {
		t.Fatalf("a webhook that is gone: %v, want Conflict", err)
	}
	return false
}

func (m *whyMachine) setFilter(t *rapid.T) {
	h, f := m.drawHook(t), drawFilter(t)
	_, err := m.store.SetWebhook(m.ctx, h.org, h.id, func(w *trigger.Webhook) error {
		w.Filter = f.parse(t)
		return nil
	})
	if m.isThere(t, h, err) {
		m.change(h, whyVersion{state: h.now().state, filter: f})
	}
}

func (m *whyMachine) setState(t *rapid.T) {
	h := m.drawHook(t)
	state := rapid.SampledFrom([]trigger.WebhookState{"active", "active", "active", "active", "paused", "paused", trigger.Deleted}).Draw(t, "state")
	allowed := m.isThere
	if state == trigger.Paused {
		allowed = m.receives
	}
	if err := m.store.SetWebhookState(m.ctx, h.org, h.id, state); allowed(t, h, err) {
		m.change(h, whyVersion{state: state, filter: h.now().filter})
	}
}

// stop does what a receiver has asked for.
func (m *whyMachine) stop(t *rapid.T, h *whyHook, state trigger.WebhookState) {
	_, err := m.store.StopWebhook(m.ctx, store.Stop{OrganizationID: h.org, WebhookID: h.id, State: state})
	m.must(t, err)
	if is := h.now().state; is.Receives() && is != state {
		m.change(h, whyVersion{state: state, filter: h.now().filter})
		m.post(h.org, h.id, map[trigger.WebhookState]string{trigger.Gone: "webhook.gone", "paused": "webhook.paused"}[state])
	}
}

// endGone ends what a webhook that is gone or deleted is owed.
func (m *whyMachine) endGone(t *rapid.T) {
	h := m.drawHook(t)
	for done := false; !done; {
		var err error
		_, done, err = m.store.FailWebhook(m.ctx, h.org, h.id, trigger.ReasonGone)
		m.must(t, err)
	}
	if h.now().state.Receives() { // then nothing is ended
		return
	}
	for key, row := range m.rows {
		switch {
		case key.WebhookID != h.id || row.failed:
		case key.Job != 0:
			delete(m.rows, key)
		default:
			row.failed, row.reason, row.claim = true, trigger.ReasonGone, trigger.ID{}
		}
	}
}

// hold opens a breaker, which says when a delivery is tried, and nothing else.
func (m *whyMachine) hold(t *rapid.T) {
	h := m.drawHook(t)
	m.must(t, m.store.SetBreaker(m.ctx, store.BreakerChange{OrganizationID: h.org, WebhookID: h.id, Until: m.store.Now().Add(time.Hour)}))
}

// match decides what new events are owed, as ingest does.
func (m *whyMachine) match(t *rapid.T) {
	subs, err := m.store.Subscribers(m.ctx, m.orgs)
	m.must(t, err)
	b, used := &whyBatch{}, map[string]bool{}
	now, claim := m.store.Now(), m.store.NewClaim()
	for i := range rapid.IntRange(1, 4).Draw(t, "events") {
		e := &trigger.Event{
			OrganizationID: rapid.SampledFrom(m.orgs).Draw(t, "organization"), ID: trigger.NewID(now, uint16(i), rand.Uint64()),
			Type:    rapid.SampledFrom([]string{"user.created", "user.created", "user.deleted", "order.paid", "order.paid.late", "webhook.gone"}).Draw(t, "type"),
			Payload: drawWhyPayload(t), DedupID: rapid.SampledFrom([]string{"", "", "a", "b", "c"}).Draw(t, "dedup"),
		}
		if used[dedupOf(e)] && e.DedupID != "" {
			continue // ingest unites these
		}
		used[dedupOf(e)] = true
		s := subs[e.OrganizationID]
		e.Version = s.Version
		ds := []trigger.Delivery{}
		for _, w := range s.Match(nil, e.Type, e.Payload) {
			d := owed(e, w.ID)[0]
			if w.State == trigger.Active && rapid.Bool().Draw(t, "claimed") {
				d.Claim, d.DueAt = claim, now.Add(lease(t))
			}
			ds = append(ds, d)
		}
		if len(ds) == 0 {
			ds = owed(e, trigger.InboxID)
		}
		b.Events, b.Deliveries = append(b.Events, e), append(b.Deliveries, ds)
		b.events = append(b.events, &whyEvent{Event: e, step: m.step})
	}
	m.pending = append(m.pending, b)
}

// commit adds a batch that was matched before, while webhooks changed.
func (m *whyMachine) commit(t *rapid.T) {
	if len(m.pending) == 0 {
		return
	}
	i := rapid.IntRange(0, len(m.pending)-1).Draw(t, "batch")
	b := m.pending[i]
	m.pending = slices.Delete(m.pending, i, i+1)
	m.stored = append(m.stored, b)
	m.add(t, b, rapid.Bool().Draw(t, "again"))
}

func (m *whyMachine) accept(t *rapid.T) {
	m.match(t)
	b := m.pending[len(m.pending)-1]
	m.pending = m.pending[:len(m.pending)-1]
	m.stored = append(m.stored, b)
	m.add(t, b, false)
}

// repeat adds a batch again, as after a lost answer.
func (m *whyMachine) repeat(t *rapid.T) {
	if len(m.stored) > 0 {
		m.add(t, rapid.SampledFrom(m.stored).Draw(t, "batch"), true)
	}
}

func (m *whyMachine) add(t *rapid.T, b *whyBatch, again bool) {
	var got []trigger.ID
	m.must(t, store.RunBatch(m.ctx, time.Now, 5*time.Second, []*whyBatch{b}, func(_ []*whyBatch, repeated bool) (err error) {
		got, err = m.store.AddEvents(m.ctx, &b.Batch, again || repeated)
		return err
	}, func(_ *whyBatch, err error) { t.Fatalf("refused: %v", err) }))
	for i, e := range b.events {
		known := slices.Contains(m.events, e)
		if first := m.first[dedupOf(e.Event)]; first != nil && first != e {
			if got[i] != first.ID {
				t.Fatalf("%s with dedup id %q is %s, want %s", e.ID, e.DedupID, got[i], first.ID)
			}
			m.lost = append(m.lost, e)
			continue
		}
		if got[i] != e.ID {
			t.Fatalf("%s is not accepted, but %s", e.ID, got[i])
		}
		if known {
			continue
		}
		if e.DedupID != "" {
			m.first[dedupOf(e.Event)] = e
		}
		m.events = append(m.events, e)
		m.owe(t, e, b.Deliveries[i])
	}
}

// owe notes what an event is owed to, which must be what was matched.
func (m *whyMachine) owe(t *rapid.T, e *whyEvent, matched []trigger.Delivery) {
	byID := map[int64]trigger.Delivery{}
	for _, d := range matched {
		byID[d.WebhookID] = d
	}
	if d, ok := byID[trigger.InboxID]; ok && len(byID) == 1 { // where no webhook is owed it, which is judged below
		m.rows[d.DeliveryKey] = &whyRow{due: dueAt(d.DueAt)}
	}
	delete(byID, trigger.InboxID)
	for _, h := range m.hooksOf(e.OrganizationID) {
		d, ok := byID[h.id]
		if missed := e.miss(h); ok != (missed == "") {
			t.Fatalf("event %s %s matches webhook %d: %v, want %q", e.Type, e.Payload, h.id, ok, missed)
		}
		if !ok {
			continue
		}
		m.rows[d.DeliveryKey] = &whyRow{claim: d.Claim, due: dueAt(d.DueAt)}
		if !d.Claim.IsZero() {
			m.claims = append(m.claims, d)
		}
		delete(byID, h.id)
	}
	if len(byID) > 0 {
		t.Fatalf("event %s matches others: %v", e.ID, byID)
	}
}
