package store_test

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"triggerd/internal/store"
	"triggerd/internal/store/storetest"
	"triggerd/internal/trigger"
)

// Whatever happens to webhooks, events and deliveries, in any order: of each
// event and each webhook there is one verdict, which a slow model shares.
func TestWhyAgreesWithModel(t *testing.T) {
	t.Parallel()
	const checks = 12
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
				"finish":       m.finish,
				"deliver":      m.deliver,
				"deliver more": m.deliver,
				"deliver yet":  m.deliver,
				"refinish":     m.refinish,
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
	results  []store.Result
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
		for range 2 {
			m.addWebhookTo(t, m.orgs[len(m.orgs)-1])
		}
	}
}

// must ends the check at an error.
func (m *whyMachine) must(t *rapid.T, err error) {
	if err != nil {
		t.Fatal(err)
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
		e := rapid.SampledFrom(m.events).Draw(t, "event")
		m.askAttempts(t, e)
		m.ask(t, e, m.held(t))
	}
}

func (m *whyMachine) askAll(t *rapid.T) {
	m.find(t)
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
	if diff := cmp.Diff(last, v.Last, cmpopts.EquateEmpty()); diff != "" {
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
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		t.Fatalf("attempts at %s differ:\n%s", e.ID, diff)
	}
}

// Whoever asks for what is not theirs, or no longer there, is told nothing;
// and a webhook that is gone has a verdict, too.
func TestWhyIsOfTheOrganization(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := db.Open(t)
		org, other := storetest.NewOrganization(t, s), storetest.NewOrganization(t, s)
		gone, active := newWebhook(t, s, org, ""), newWebhook(t, s, org, "")
		foreign := newWebhook(t, s, other, "")
		if err := s.SetWebhookState(t.Context(), org, gone, trigger.Deleted); err != nil {
			t.Fatal(err)
		}
		subs, err := s.Subscribers(t.Context(), []int64{org})
		if err != nil {
			t.Fatal(err)
		}
		e, theirs := event(s, org, ""), event(s, other, "")
		e.Version = subs[org].Version
		add(t, s, []*trigger.Event{e}, active)
		add(t, s, []*trigger.Event{theirs}, foreign)
		after := newWebhook(t, s, org, "")
		want := []trigger.Verdict{
			{WebhookID: gone, Kind: trigger.VerdictGone, Reason: "the webhook was deleted"},
			{WebhookID: active, Kind: trigger.VerdictWaiting, NextAttempt: e.ID.Time()},
			{WebhookID: after, Kind: trigger.VerdictCreatedLater},
		}
		got, err := s.Why(t.Context(), org, e.ID)
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("%v\n%s", err, diff)
		}
		if _, err := s.Expire(t.Context(), e.ID.Time().Add(time.Hour)); err != nil {
			t.Fatal(err)
		}
		want[1] = trigger.Verdict{WebhookID: active, Kind: trigger.VerdictExpired}
		got, err = s.Why(t.Context(), org, e.ID)
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("%v\n%s", err, diff)
		}
		db.Clock.Advance(10 * 24 * time.Hour)
		nowhere := func(orgID int64, id trigger.ID) {
			t.Helper()
			if got, err := s.Why(t.Context(), orgID, id); trigger.KindOf(err) != trigger.NotFound || got != nil {
				t.Errorf("%+v, %v, want NotFound", got, err)
			}
		}
		nowhere(other, e.ID)
		nowhere(org, theirs.ID)
		nowhere(org, event(s, org, "").ID)
		nowhere(org, trigger.ID{})
		nowhere(org+other, e.ID) // no organization at all
		if err := s.DropBefore(t.Context(), s.Now().Add(-2*24*time.Hour)); err != nil {
			t.Fatal(err)
		}
		nowhere(org, e.ID)
		if list, next, err := s.ListAttempts(t.Context(), org, store.AttemptFilter{}, trigger.ID{}, 10); err != nil || len(list) != 0 || !next.IsZero() {
			t.Errorf("%v, %v, %v are left", list, next, err)
		}
	})
}

// kindsOf are the verdicts on an event: of each webhook the kind, the number of
// attempts, and whether the last one is a replay's.
func kindsOf(t *testing.T, s *store.Store, e *trigger.Event) (list []string) {
	t.Helper()
	verdicts, err := s.Why(t.Context(), e.OrganizationID, e.ID)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range verdicts {
		list = append(list, fmt.Sprintf("%d %s %d %v", v.WebhookID, v.Kind, v.Attempts, v.Last != nil && v.Last.Job != 0))
	}
	return list
}

// What a replay delivers is delivered, though all that was owed had failed,
// and even if it was never tried; what was never owed stays as it was.
func TestWhyAfterReplays(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := db.Open(t)
		org := storetest.NewOrganization(t, s)
		hook, filtering := newWebhook(t, s, org, "user.*"), newWebhook(t, s, org, "order.*")
		subs, err := s.Subscribers(t.Context(), []int64{org})
		if err != nil {
			t.Fatal(err)
		}
		untried, failed := event(s, org, ""), event(s, org, "")
		later := newWebhook(t, s, org, "user.*")
		others := []string{fmt.Sprintf("%d filtered 0 false", filtering), fmt.Sprintf("%d created_later 0 false", later)}
		for _, e := range []*trigger.Event{untried, failed} {
			e.Version = subs[org].Version
			add(t, s, []*trigger.Event{e}, hook)
			if e == failed {
				tryOnce(t, db, s, wantOf(org, hook, 0), trigger.Permanent)
			} else if _, err := s.Expire(t.Context(), s.Now().Add(time.Second)); err != nil {
				t.Fatal(err)
			}
		}
		check := func(e *trigger.Event, first string) {
			t.Helper()
			if diff := cmp.Diff(append([]string{fmt.Sprintf("%d %s", hook, first)}, others...), kindsOf(t, s, e)); diff != "" {
				t.Error(diff)
			}
		}
		for _, id := range []int64{filtering, later} {
			for _, outcome := range []trigger.Outcome{trigger.Permanent, trigger.Success} { // of one job each
				job, err := s.Resend(t.Context(), org, failed.ID, id, store.Once{})
				if err != nil || len(tryOnce(t, db, s, wantOf(org, id, job), outcome)) != 1 {
					t.Fatalf("job %d to %d: %v", job, id, err)
				}
				if outcome == trigger.Permanent {
					check(failed, "failed 1 false")
				}
			}
		}
		check(untried, "expired 0 false")
		check(failed, "failed 1 false")
		db.Clock.Advance(time.Minute)
		job, err := s.AddReplay(t.Context(), org, trigger.Replay{WebhookID: hook, Since: s.Now().Add(-time.Hour), Status: trigger.Failed}, store.Once{})
		if err != nil {
			t.Fatal(err)
		}
		r, err := s.Replay(t.Context(), org, job)
		if err == nil {
			_, err = s.FeedReplay(t.Context(), r)
		}
		if err != nil {
			t.Fatal(err)
		}
		if made := tryOnce(t, db, s, wantOf(org, hook, job), trigger.Success); len(made) != 2 {
			t.Fatalf("replayed %v, want both", made)
		}
		check(untried, "delivered 0 true")
		check(failed, "delivered 1 true")
	})
}

// A success may be recorded after a failure that began later: of a claim that
// was lost.
func TestWhyOfALateSuccess(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := db.Open(t)
		org := storetest.NewOrganization(t, s)
		hook := newWebhook(t, s, org, "")
		es := events(s, org, 1)
		add(t, s, es, hook)
		lost := claimAll(t, s, org, hook, 0)
		late := result(s, lost[0], trigger.Success)
		db.Clock.Advance(time.Second)
		tryOnce(t, db, s, wantOf(org, hook, 0), trigger.Transient)
		if err := s.Finish(t.Context(), []store.Result{late}); err != nil {
			t.Fatal(err)
		}
		got, err := s.Why(t.Context(), org, es[0].ID)
		if err != nil || len(got) != 1 || got[0].Kind != trigger.VerdictDelivered || got[0].Last == nil || got[0].Last.Claim != lost[0].Claim {
			t.Errorf("%+v, %v, want delivered by the claim that was lost", got, err)
		}
	})
}
