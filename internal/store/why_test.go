package store_test

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"triggerd/internal/store"
	"triggerd/internal/store/storetest"
	"triggerd/internal/trigger"
)

// Whatever happens to webhooks, events and deliveries, in any order: of each
// event and each webhook there is one verdict, which a slow model shares.
func TestWhyAgreesWithModel(t *testing.T) {
	t.Parallel()
	const checks = 30
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		m := &whyMachine{t: t, ctx: t.Context(), db: db, store: db.Open(t), kinds: map[string]int{}}
		done, failing := 0, false
		rapid.Check(t, func(rt *rapid.T) {
			if done++; done > checks && !failing { // a failure is looked for again
				return
			}
			passed := false
			defer func() { failing = failing || !passed }()
			m.begin(rt)
			rt.Repeat(map[string]func(*rapid.T){
				"":             m.askOne,
				"add webhook":  m.addWebhook,
				"filter":       m.setFilter,
				"state":        m.setState,
				"end":          m.endGone,
				"hold":         m.hold,
				"match":        m.match,
				"commit":       m.commit,
				"accept":       m.accept,
				"accept more":  m.accept,
				"repeat":       m.repeat,
				"claim":        m.claim,
				"claim more":   m.claim,
				"finish":       m.finish,
				"finish more":  m.finish,
				"resend":       m.resend,
				"replay":       m.replay,
				"claim replay": m.claimReplays,
				"expire":       m.expire,
				"crash":        m.crash,
				"advance":      m.advance,
			})
			m.askAll(rt)
			passed = true
		})
		t.Log(m.kinds)
	})
}

// whyMachine is the store under test, and what a model knows of it.
type whyMachine struct {
	t     *testing.T
	ctx   context.Context
	db    *storetest.DB
	store *store.Store
	kinds map[string]int // of verdicts, over all checks
	whyState
}

// whyState is what belongs to one check.
type whyState struct {
	step     int // counts changes of webhooks
	orgs     []int64
	hooks    []*whyHook // in the order of their ids
	events   []*whyEvent
	lost     []*whyEvent // that were not accepted
	first    map[string]*whyEvent
	pending  []*whyBatch // matched, and not committed
	stored   []*whyBatch
	rows     map[trigger.DeliveryKey]*whyRow
	claims   []trigger.Delivery
	attempts []trigger.Attempt // in the order in which they began
	replays  []trigger.Replay
	notices  []*whyEvent // posted, and not found yet: they have no ids
}

type whyBatch struct {
	store.Batch
	events []*whyEvent
}

func (m *whyMachine) begin(t *rapid.T) {
	m.whyState = whyState{first: map[string]*whyEvent{}, rows: map[trigger.DeliveryKey]*whyRow{}}
	for range 2 {
		m.orgs = append(m.orgs, storetest.NewOrganization(m.t, m.store))
		m.addWebhookTo(t, m.orgs[len(m.orgs)-1])
	}
}

// must ends the check at an error.
func (m *whyMachine) must(t *rapid.T, err error) {
	if err != nil {
		t.Fatal(err)
	}
}

func (m *whyMachine) addWebhook(t *rapid.T) {
	m.addWebhookTo(t, rapid.SampledFrom(m.orgs).Draw(t, "organization"))
}

func (m *whyMachine) addWebhookTo(t *rapid.T, org int64) {
	h := &whyHook{org: org}
	v := whyVersion{state: rapid.SampledFrom([]trigger.WebhookState{"active", "active", "paused"}).Draw(t, "state"), filter: drawFilter(t)}
	id, err := m.store.AddWebhook(m.ctx, h.org, trigger.Webhook{
		State: v.state, URL: "http://127.0.0.1:9/hook", Filter: v.filter.parse(t), Secrets: trigger.OneSecret(trigger.NewSecret([32]byte{1})),
	})
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

// isThere holds that a change of a webhook that is gone is refused.
func (m *whyMachine) isThere(t *rapid.T, h *whyHook, err error) bool {
	if h.now().state != trigger.Gone {
		m.must(t, err)
		return true
	}
	if trigger.KindOf(err) != trigger.NotFound {
		t.Fatalf("a webhook that is gone: %v, want NotFound", err)
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
	states := []trigger.WebhookState{trigger.Active, trigger.Active, trigger.Active, trigger.Paused, trigger.Paused, trigger.Gone}
	state := rapid.SampledFrom(states).Draw(t, "state")
	if err := m.store.SetWebhookState(m.ctx, h.org, h.id, state); m.isThere(t, h, err) {
		m.change(h, whyVersion{state: state, filter: h.now().filter})
	}
}

// stop does what a receiver has asked for.
func (m *whyMachine) stop(t *rapid.T, h *whyHook, state trigger.WebhookState) {
	m.must(t, m.store.StopWebhook(m.ctx, h.org, h.id, state))
	if is := h.now().state; is != trigger.Gone && is != state {
		m.change(h, whyVersion{state: state, filter: h.now().filter})
		m.post(h, map[trigger.WebhookState]string{"gone": "webhook.gone", "paused": "webhook.paused"}[state])
	}
}

// endGone ends what a webhook that is gone is owed.
func (m *whyMachine) endGone(t *rapid.T) {
	h := m.drawHook(t)
	if h.now().state != trigger.Gone {
		return
	}
	for done := false; !done; {
		var err error
		_, done, err = m.store.FailWebhook(m.ctx, h.org, h.id, trigger.ReasonGone)
		m.must(t, err)
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
	m.must(t, m.store.Hold(m.ctx, h.org, h.id, time.Time{}, m.store.Now().Add(time.Hour)))
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
			Type:    rapid.SampledFrom([]string{"user.created", "user.created", "user.deleted", "order.paid", "x", "webhook.gone"}).Draw(t, "type"),
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
	m.must(t, store.Settle(m.ctx, time.Now, 5*time.Second, []*whyBatch{b}, func(_ []*whyBatch, repeated bool) (err error) {
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

func (m *whyMachine) hooksOf(org int64) (hooks []*whyHook) {
	for _, h := range m.hooks {
		if h.org == org {
			hooks = append(hooks, h)
		}
	}
	return hooks
}

// askOne asks about one event, askAll about each; and about what is none.
func (m *whyMachine) askOne(t *rapid.T) {
	if len(m.events) > 0 {
		m.ask(t, rapid.SampledFrom(m.events).Draw(t, "event"), m.held(t))
	}
}

func (m *whyMachine) askAll(t *rapid.T) {
	held, sum, want := m.held(t), map[string]int{}, 0
	for _, e := range m.events {
		for _, kind := range m.ask(t, e, held) {
			sum[kind]++
			m.kinds[kind]++
		}
		want += len(m.hooksOf(e.OrganizationID))
		m.askAttempts(t, e)
	}
	got := 0
	for n := range maps.Values(sum) {
		got += n
	}
	if got != want {
		t.Fatalf("%d verdicts on %d events, want %d: %v", got, len(m.events), want, sum)
	}
	nothing := append([]*whyEvent{{Event: eventAt(m.store.Now(), m.orgs[0], "")}}, m.lost...)
	for _, b := range m.pending {
		nothing = append(nothing, b.events...)
	}
	for _, e := range nothing {
		if v, err := m.store.Why(m.ctx, e.OrganizationID, e.ID); trigger.KindOf(err) != trigger.NotFound {
			t.Fatalf("%s is not there: %v, %v", e.ID, v, err)
		}
	}
}

// held is until when breakers are open.
func (m *whyMachine) held(t *rapid.T) map[int64]*trigger.Webhook {
	var ids []int64
	for _, h := range m.hooks {
		ids = append(ids, h.id)
	}
	found, err := m.store.WebhooksByID(m.ctx, ids)
	m.must(t, err)
	return found
}

func (m *whyMachine) ask(t *rapid.T, e *whyEvent, held map[int64]*trigger.Webhook) (kinds []string) {
	verdicts, err := m.store.Why(m.ctx, e.OrganizationID, e.ID)
	m.must(t, err)
	hooks := m.hooksOf(e.OrganizationID)
	if len(verdicts) != len(hooks) {
		t.Fatalf("%d verdicts for %d webhooks: %+v", len(verdicts), len(hooks), verdicts)
	}
	for i, h := range hooks {
		v := verdicts[i]
		got := strings.TrimSpace(fmt.Sprintf("%s %s%s", v.Kind, v.Clause, v.Reason))
		if want := m.explain(e, h); v.WebhookID != h.id || got != want {
			t.Fatalf("event %s %s at webhook %d: %q, want %q: %+v", e.Type, e.Payload, h.id, got, want, v)
		}
		m.askDetails(t, e, h, v, held[h.id].HeldUntil)
		kinds = append(kinds, strings.Join(strings.Fields(got)[:min(2, len(strings.Fields(got)))], " "))
	}
	return kinds
}

func (m *whyMachine) askDetails(t *rapid.T, e *whyEvent, h *whyHook, v trigger.Verdict, held time.Time) {
	key := trigger.DeliveryKey{OrganizationID: e.OrganizationID, EventID: e.ID, WebhookID: h.id}
	row, last := m.rows[key], m.lastOf(e, h)
	if diff := cmp.Diff(last, v.Last); diff != "" {
		t.Fatalf("%s: the last attempt differs:\n%s", v.Kind, diff)
	}
	if v.Kind != trigger.VerdictWaiting {
		if !v.NextAttempt.IsZero() {
			t.Fatalf("%s, and will be tried: %+v", v.Kind, v)
		}
	} else if low, high := later(row.due[0], held), later(row.due[1], held); v.NextAttempt.Before(low) || v.NextAttempt.After(high) {
		t.Fatalf("next attempt at %v, want %v to %v", v.NextAttempt, low, high)
	}
	if row != nil && v.Attempts != row.attempts {
		t.Fatalf("%d attempts, want %d: %+v", v.Attempts, row.attempts, v)
	}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// askAttempts compares all attempts at an event.
func (m *whyMachine) askAttempts(t *rapid.T, e *whyEvent) {
	var want []trigger.Attempt
	for _, a := range m.attempts {
		if a.EventID == e.ID {
			want = append(want, a)
		}
	}
	got, err := m.store.Attempts(m.ctx, e.OrganizationID, e.ID)
	m.must(t, err)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("attempts at %s differ:\n%s", e.ID, diff)
	}
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
	for key, row := range m.rows {
		if !row.failed && key.Job == 0 && bytes.Compare(key.EventID[:], low[:]) < 0 {
			row.failed, row.reason, row.claim = true, trigger.ReasonExpired, trigger.ID{}
		}
	}
}

// crash opens the database anew: what was not committed never was, and nobody
// knows of the claims.
func (m *whyMachine) crash(t *rapid.T) {
	if rapid.IntRange(0, 3).Draw(t, "rarely") > 0 {
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
