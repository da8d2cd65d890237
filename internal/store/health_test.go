package store_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"triggerd/internal/store"
	"triggerd/internal/store/storetest"
	"triggerd/internal/trigger"
)

// failing is a webhook that fails, and one that listens to what the server
// says of it.
type failing struct {
	t         *testing.T
	db        *storetest.DB
	nodes     [2]*store.Store // two on PostgreSQL
	org       int64
	hook      int64
	listener  int64
	endurance trigger.Endurance
}

func newFailing(t *testing.T, db *storetest.DB) *failing {
	f := &failing{t: t, db: db, endurance: trigger.Endurance{Pause: 5 * time.Hour, Attempts: 3}}
	f.nodes[0] = db.Open(t)
	f.nodes[1] = f.nodes[0]
	if db.IsPostgres() {
		f.nodes[1] = db.Open(t)
	}
	f.org = storetest.NewOrganization(t, f.nodes[0])
	f.hook = newWebhook(t, f.nodes[0], f.org, "")
	f.listener = newWebhook(t, f.nodes[0], f.org, "webhook.*")
	return f
}

// attempt makes one event, and an attempt at it.
func (f *failing) attempt(outcome trigger.Outcome) {
	f.t.Helper()
	s := f.nodes[0]
	add(f.t, s, events(s, f.org, 1), f.hook)
	ds := claimAll(f.t, s, f.org, f.hook, time.Minute)
	if len(ds) == 0 {
		f.t.Fatal("nothing was claimed")
	}
	if err := s.Finish(f.t.Context(), []store.Result{result(s, ds[0], outcome)}); err != nil {
		f.t.Fatal(err)
	}
}

// advance has both nodes look at what is failing, at the same moment.
func (f *failing) advance() {
	f.t.Helper()
	for _, h := range f.due() {
		stage, notice, _ := h.Due(f.endurance)
		for _, s := range f.nodes {
			if err := s.Advance(f.t.Context(), h, stage, notice); err != nil {
				f.t.Error(err)
			}
		}
	}
}

func (f *failing) due() []trigger.Health {
	f.t.Helper()
	list, err := f.nodes[0].Failing(f.t.Context(), f.endurance)
	if err != nil {
		f.t.Fatal(err)
	}
	return list
}

// told lists the types of the notices that the listener is owed, the oldest
// first, and looks at what they say.
func (f *failing) told() (types []string) {
	f.t.Helper()
	s := f.nodes[0]
	page, err := s.ListEvents(f.t.Context(), f.org, "", 100)
	if err != nil {
		f.t.Fatal(err)
	}
	for i := len(page) - 1; i >= 0; i-- {
		e, _, err := s.Event(f.t.Context(), f.org, page[i].ID)
		if err != nil {
			f.t.Fatal(err)
		}
		if !e.IsNotice() {
			continue
		}
		types = append(types, e.Type)
		var body struct {
			WebhookID int64 `json:"webhook_id"`
		}
		if err := json.Unmarshal(e.Payload, &body); err != nil || body.WebhookID != f.hook {
			f.t.Errorf("%s says %s, %v", e.Type, e.Payload, err)
		}
		var owed int
		if err := f.db.SQL(f.t).QueryRowContext(f.t.Context(), `SELECT count(*) FROM deliveries
			WHERE event_id = $1 AND webhook_id = $2`, e.ID[:], f.listener).Scan(&owed); err != nil || owed != 1 {
			f.t.Errorf("%s is owed to the listener %d times, %v", e.Type, owed, err)
		}
	}
	return types
}

func (f *failing) want(types ...string) {
	f.t.Helper()
	if diff := cmp.Diff(types, f.told()); diff != "" {
		f.t.Errorf("told:\n%s", diff)
	}
}

func (f *failing) wantState(state trigger.WebhookState, by string) {
	f.t.Helper()
	w, err := f.nodes[1].Webhook(f.t.Context(), f.org, f.hook)
	if err != nil || w.State != state || w.PausedBy != by {
		f.t.Errorf("the webhook is %s by %q, want %s by %q: %v", w.State, w.PausedBy, state, by, err)
	}
}

// A webhook that does nothing but fail is told of after a fifth of the time,
// paused at the end of it, and its recovery is told: each once, though two
// nodes see it.
func TestFailingWebhook(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		f := newFailing(t, db)
		f.attempt(trigger.Transient)
		db.Clock.Advance(2 * time.Hour)
		f.advance()
		f.want() // one attempt is too few
		f.attempt(trigger.Transient)
		f.advance()
		f.advance()
		f.want(trigger.WebhookFailing)
		f.wantState(trigger.Active, "")
		db.Clock.Advance(4 * time.Hour)
		f.advance()
		f.wantState(trigger.Active, "") // nothing was tried since
		f.attempt(trigger.Transient)    // the third
		f.advance()
		f.advance()
		f.want(trigger.WebhookFailing, trigger.WebhookPaused)
		f.wantState(trigger.Paused, trigger.PausedByFailures)

		if err := f.nodes[0].SetWebhookState(t.Context(), f.org, f.hook, trigger.Active); err != nil {
			t.Fatal(err)
		}
		f.wantState(trigger.Active, "")
		f.attempt(trigger.Transient)
		f.attempt(trigger.Transient)
		f.attempt(trigger.Transient)
		f.advance()
		f.wantState(trigger.Active, "") // it begins anew
		f.attempt(trigger.Success)
		f.advance()
		f.advance()
		f.want(trigger.WebhookFailing, trigger.WebhookPaused, trigger.WebhookRecovered)
		if list := f.due(); len(list) != 0 {
			t.Errorf("still listed: %+v", list)
		}
	})
}

// A success in between begins everything anew, and nobody is told.
func TestASuccessEndsFailing(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		f := newFailing(t, db)
		for range 3 {
			f.attempt(trigger.Transient)
			f.attempt(trigger.Transient)
			f.attempt(trigger.Transient)
			db.Clock.Advance(4 * time.Hour)
			f.attempt(trigger.Success)
		}
		f.advance()
		f.want()
		f.wantState(trigger.Active, "")
	})
}

// The receiver's own wish stops a webhook, once, and is told once.
func TestStopWebhook(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		f := newFailing(t, db)
		for _, s := range []*store.Store{f.nodes[0], f.nodes[1], f.nodes[0]} {
			if _, err := s.StopWebhook(t.Context(), store.Stop{OrganizationID: f.org, WebhookID: f.hook, State: trigger.Paused}); err != nil {
				t.Fatal(err)
			}
		}
		f.want(trigger.WebhookPaused)
		f.wantState(trigger.Paused, trigger.PausedByReceiver)
		for _, s := range f.nodes {
			if _, err := s.StopWebhook(t.Context(), store.Stop{OrganizationID: f.org, WebhookID: f.hook, State: trigger.Gone}); err != nil {
				t.Fatal(err)
			}
		}
		f.want(trigger.WebhookPaused, trigger.WebhookGone)
		f.wantState(trigger.Gone, "")
	})
}

// Who did not name the types is told nothing, and nor is the inbox.
func TestNoticesAreAskedFor(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		f := newFailing(t, db)
		if err := f.nodes[0].SetWebhookState(t.Context(), f.org, f.listener, trigger.Deleted); err != nil {
			t.Fatal(err)
		}
		newWebhook(t, f.nodes[0], f.org, "*")
		newWebhook(t, f.nodes[0], f.org, "*.gone")
		if _, err := f.nodes[0].StopWebhook(t.Context(), store.Stop{OrganizationID: f.org, WebhookID: f.hook, State: trigger.Gone}); err != nil {
			t.Fatal(err)
		}
		f.want()
	})
}

// A delivery that is exhausted, and those that expire, are told of, but for
// those of notices: otherwise there would be no end of it.
func TestNoticesOfDeliveries(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := db.Open(t)
		org := storetest.NewOrganization(t, s)
		hook, listener := newWebhook(t, s, org, "user.*"), newWebhook(t, s, org, "delivery.*")
		posted := events(s, org, 3)
		add(t, s, posted, hook)
		ds := claimAll(t, s, org, hook, time.Minute)
		r := result(s, ds[0], trigger.Permanent)
		r.Notice = &trigger.Notice{Type: trigger.DeliveryExhausted, About: hook, Once: "x", EventID: posted[0].ID}
		for range 2 { // as after an unknown commit
			if err := s.Finish(t.Context(), []store.Result{r, result(s, ds[1], trigger.Transient)}); err != nil {
				t.Fatal(err)
			}
		}
		if got := len(claimAll(t, s, org, listener, time.Minute)); got != 1 {
			t.Errorf("%d notices of what was exhausted, want 1", got)
		}
		db.Clock.Advance(time.Hour)
		if _, err := s.Expire(t.Context(), s.Now().Add(-30*time.Minute)); err != nil {
			t.Fatal(err)
		}
		told := claimAll(t, s, org, listener, time.Minute)
		if len(told) != 1 {
			t.Fatalf("%d notices of what expired, want 1", len(told))
		}
		e, _, err := s.Event(t.Context(), org, told[0].EventID)
		var body struct{ Deliveries []map[string]any }
		if err != nil || json.Unmarshal(e.Payload, &body) != nil || e.Type != trigger.DeliveryExpired || len(body.Deliveries) != 2 {
			t.Errorf("told of two expired deliveries by %s %s, %v", e.Type, e.Payload, err)
		}
		db.Clock.Advance(time.Hour)
		if n, err := s.Expire(t.Context(), s.Now()); err != nil || n == 0 {
			t.Fatalf("%d notices expired, %v", n, err)
		}
		if more := claimAll(t, s, org, listener, time.Minute); len(more) != 0 {
			t.Errorf("%d notices of notices", len(more))
		}
	})
}

// Of all nodes one may probe, and nobody changes a breaker that is not what it
// has seen.
func TestBreaker(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		f := newFailing(t, db)
		a, b := f.nodes[0], f.nodes[1]
		held := func() (until time.Time, holds int) {
			t.Helper()
			found, err := b.WebhooksByID(t.Context(), []int64{f.hook})
			if err != nil {
				t.Fatal(err)
			}
			return found[f.hook].HeldUntil, found[f.hook].Holds
		}
		first, second := a.Now().Add(time.Second).Truncate(time.Microsecond), a.Now().Add(time.Hour).Truncate(time.Microsecond)
		hold := func(s *store.Store, seen, until time.Time) {
			t.Helper()
			if err := s.SetBreaker(t.Context(), store.BreakerChange{OrganizationID: f.org, WebhookID: f.hook, Seen: seen, Until: until}); err != nil {
				t.Fatal(err)
			}
		}
		hold(a, time.Time{}, first)
		hold(b, time.Time{}, second) // has not seen the first
		if until, holds := held(); !until.Equal(first) || holds != 1 {
			t.Errorf("held until %v, %d times, want %v, once", until, holds, first)
		}
		probe := first.Add(time.Minute)
		for i, s := range []*store.Store{a, b} {
			if ok, err := s.Probe(t.Context(), f.hook, first, probe); ok != (i == 0) || err != nil {
				t.Errorf("probe by node %d: %v, %v", i, ok, err)
			}
		}
		hold(b, first, time.Time{}) // as it was before the probe
		hold(a, probe, second)
		if until, holds := held(); !until.Equal(second) || holds != 2 {
			t.Errorf("held until %v, %d times, want %v, twice", until, holds, second)
		}
		hold(a, second, time.Time{})
		if until, holds := held(); !until.IsZero() || holds != 0 {
			t.Errorf("held until %v, %d times, after it was closed", until, holds)
		}
		hold(a, time.Time{}, first)
		f.attempt(trigger.Success)
		if until, _ := held(); !until.IsZero() {
			t.Errorf("held until %v after a success", until)
		}
	})
}

// What the receiver has asked for holds whatever a node has seen, and no
// success of an attempt that began before its end lifts it. The success is
// counted all the same: failures begin anew.
func TestBreakerThatWasAskedFor(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		f := newFailing(t, db)
		s := f.nodes[0]
		now := s.Now().Truncate(time.Microsecond)
		set := func(c store.BreakerChange) {
			t.Helper()
			c.OrganizationID, c.WebhookID = f.org, f.hook
			if err := s.SetBreaker(t.Context(), c); err != nil {
				t.Fatal(err)
			}
		}
		want := func(what string, until time.Time, failures int) {
			t.Helper()
			w, err := s.Webhook(t.Context(), f.org, f.hook)
			if err != nil {
				t.Fatal(err)
			}
			got := 0
			if w.Failing != nil {
				got = w.Failing.Failures
			}
			if !w.HeldUntil.Equal(until) || got != failures {
				t.Errorf("%s: open until %v with %d failures, want %v with %d", what, w.HeldUntil, got, until, failures)
			}
		}
		f.attempt(trigger.Transient)
		set(store.BreakerChange{Until: now.Add(time.Second), LiftAt: now})
		minute, hour := now.Add(time.Minute), now.Add(time.Hour)
		set(store.BreakerChange{Until: hour, LiftAt: hour, Asked: true})
		want("another node had opened it", hour, 1)
		set(store.BreakerChange{Until: minute, LiftAt: minute, Asked: true})
		want("a shorter one", hour, 1)
		f.attempt(trigger.Success)
		want("a success that began before", hour, 0)
		f.attempt(trigger.Transient)
		want("a failure after it", hour, 1)
		db.Clock.Advance(time.Hour + time.Second)
		if err := s.SyncClock(t.Context()); err != nil {
			t.Fatal(err)
		}
		f.attempt(trigger.Success)
		want("a success that began after", time.Time{}, 0)
		set(store.BreakerChange{Until: now.Add(2 * time.Hour)})
		lease := now.Add(3 * time.Hour)
		if ok, err := s.Probe(t.Context(), f.hook, now.Add(2*time.Hour), lease); !ok || err != nil {
			t.Fatal(ok, err)
		}
		asked := now.Add(2*time.Hour + time.Second)
		set(store.BreakerChange{Seen: lease, Until: asked, LiftAt: asked, Asked: true})
		want("an answer to the probe, before its lease ends", asked, 0)
		if ok, err := s.Probe(t.Context(), f.hook, asked, lease); !ok || err != nil {
			t.Fatal(ok, err)
		}
		later := asked.Add(time.Second)
		set(store.BreakerChange{Until: later, LiftAt: later, Asked: true})
		want("an answer of another node, while one probes", later, 0)
		f.attempt(trigger.Success)
		want("the success of that probe", later, 0)
	})
}

// What a receiver has answered says nothing of a webhook that its owner has
// changed since the receiver was asked: that has another URL, or was resumed.
func TestAnswersToFormerWebhook(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		f := newFailing(t, db)
		s := f.nodes[0]
		asOf := func() int64 {
			t.Helper()
			found, err := s.WebhooksByID(t.Context(), []int64{f.hook})
			if err != nil || found[f.hook].AsOf == 0 {
				t.Fatalf("%+v, %v", found[f.hook], err)
			}
			return found[f.hook].AsOf
		}
		hour := s.Now().Add(time.Hour).Truncate(time.Microsecond)
		answer := func(asOf int64, state trigger.WebhookState) (stopped bool) {
			t.Helper()
			stopped, err := s.StopWebhook(t.Context(), store.Stop{OrganizationID: f.org, WebhookID: f.hook, AsOf: asOf, State: state})
			if err != nil {
				t.Fatal(err)
			}
			return stopped
		}
		hold := func(asOf int64, want time.Time) {
			t.Helper()
			c := store.BreakerChange{OrganizationID: f.org, WebhookID: f.hook, AsOf: asOf, Until: hour, LiftAt: hour, Asked: true}
			if err := s.SetBreaker(t.Context(), c); err != nil {
				t.Fatal(err)
			}
			if got := holdsOf(t, s)[f.hook]; !got.Equal(want) {
				t.Errorf("held until %v, want %v", got, want)
			}
		}
		first := asOf()
		hold(first, hour)
		move := func(url string) {
			t.Helper()
			if _, err := s.SetWebhook(t.Context(), f.org, f.hook, func(w *trigger.Webhook) error { w.URL = url; return nil }); err != nil {
				t.Fatal(err)
			}
		}
		move("http://other.example/")
		if open := holdsOf(t, s); len(open) != 0 {
			t.Errorf("held until %v at another URL", open[f.hook])
		}
		newWebhook(t, s, f.org, "b") // another change of the organization
		for _, state := range []trigger.WebhookState{trigger.Gone, trigger.Paused} {
			if answer(first, state) {
				t.Errorf("the webhook is %s, as another URL has answered", state)
			}
		}
		hold(first, time.Time{})
		second := asOf()
		if !answer(second, trigger.Gone) || !answer(first, trigger.Gone) {
			t.Error("a webhook has not stopped, or not said so when it had")
		}
		if err := s.SetWebhookState(t.Context(), f.org, f.hook, trigger.Active); err != nil {
			t.Fatal(err)
		}
		if answer(second, trigger.Gone) {
			t.Error("a webhook that was resumed has stopped")
		}
		hold(second, time.Time{})
		hold(asOf(), hour)
		if !answer(asOf(), trigger.Paused) {
			t.Error("it has not stopped")
		}
	})
}

// holdsOf is until when breakers are open, by webhook.
func holdsOf(t *testing.T, s *store.Store) map[int64]time.Time {
	t.Helper()
	list, err := s.Holds(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	open := make(map[int64]time.Time, len(list))
	for _, h := range list {
		open[h.WebhookID] = h.Until
	}
	return open
}

// A webhook that was failing, and is given another URL, begins anew: it is
// paused no sooner than a new one, and its next success is told.
func TestHealthOfAnotherURL(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		f := newFailing(t, db)
		s := f.nodes[0]
		f.attempt(trigger.Transient)
		seen := trigger.Health{OrganizationID: f.org, WebhookID: f.hook, Stage: trigger.HealthNoted}
		if err := s.Advance(t.Context(), seen, trigger.HealthWarned, trigger.Notice{Type: trigger.WebhookFailing, About: f.hook}); err != nil {
			t.Fatal(err)
		}
		w, err := s.SetWebhook(t.Context(), f.org, f.hook, func(w *trigger.Webhook) error { w.URL = "http://other.example/"; return nil })
		if err != nil {
			t.Fatal(err)
		}
		if w, err = s.Webhook(t.Context(), f.org, w.ID); err != nil || w.Failing != nil && w.Failing.Failures > 0 {
			t.Errorf("it has failed %+v at another URL; %v", w.Failing, err)
		}
		f.attempt(trigger.Success)
		list, err := s.Failing(t.Context(), trigger.Endurance{Pause: time.Hour, Attempts: 20})
		if err != nil || len(list) != 1 || list[0].Stage != trigger.HealthRecovered {
			t.Errorf("after a success %+v, %v", list, err)
		}
	})
}

// Results that are recorded again, since nobody knew whether they had been, are
// counted once.
func TestFailuresAreCountedOnce(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		f := newFailing(t, db)
		s := f.nodes[0]
		add(t, s, events(s, f.org, 3), f.hook)
		var results []store.Result
		for i, d := range claimAll(t, s, f.org, f.hook, time.Minute) {
			results = append(results, result(s, d, []trigger.Outcome{trigger.Transient, trigger.Permanent, trigger.Transient}[i]))
		}
		for i, part := range [][]store.Result{results[:2], results} { // the last is new
			for j := range part {
				part[j].Again = i > 0
			}
			if err := s.Finish(t.Context(), part); err != nil {
				t.Fatal(err)
			}
		}
		if w, err := s.Webhook(t.Context(), f.org, f.hook); err != nil || w.Failing == nil || w.Failing.Failures != 3 {
			t.Errorf("failing %+v, %v; want 3 failures", w.Failing, err)
		}
	})
}

// A probe, and what is claimed after one, takes what has not failed yet, wherever
// it stands in the queue; what is claimed after one is the first of it.
func TestClaimsTakeWhatHasNotFailed(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := db.Open(t)
		for _, order := range []store.Order{store.ByFailures, store.ForProbe} {
			claimsWhatHasNotFailed(t, s, order)
		}
	})
}

func claimsWhatHasNotFailed(t *testing.T, s *store.Store, order store.Order) {
	t.Helper()
	org := storetest.NewOrganization(t, s)
	hook := newWebhook(t, s, org, "*")
	const n = 30
	var events []*trigger.Event
	for range n {
		events = append(events, event(s, org, ""))
	}
	b, begun := &store.Batch{Events: events}, s.Now().Add(-time.Minute)
	for i, e := range events {
		b.Deliveries = append(b.Deliveries, owed(e, hook))
		b.Deliveries[i][0].DueAt = begun.Add(time.Duration(i) * time.Millisecond)
	}
	if _, err := s.AddEvents(t.Context(), b, false); err != nil {
		t.Fatal(err)
	}
	claim := func(order store.Order, room int) []trigger.Delivery {
		t.Helper()
		now := s.Now()
		want := store.Want{Bucket: trigger.Bucket(org), WebhookID: hook, Room: room, Order: order}
		taken, err := s.Claim(t.Context(), []store.Want{want}, s.NewClaim(), now, now.Add(time.Minute))
		if err != nil {
			t.Fatal(err)
		}
		return taken
	}
	failed := map[trigger.ID]bool{}
	for _, d := range claim(store.ByDue, n-3) {
		failed[d.EventID] = true
		next := d
		next.Attempts, next.Claim, next.DueAt = 1, trigger.ID{}, s.Now().Add(-time.Hour) // and they stand first
		a := trigger.Attempt{DeliveryKey: d.DeliveryKey, Claim: d.Claim, Number: 1, At: s.Now(), Outcome: trigger.Transient}
		if err := s.Finish(t.Context(), []store.Result{{Attempt: a, Next: next}}); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 4 {
		taken := claim(order, 1)
		if i < 3 && order == store.ByFailures && len(taken) == 1 && taken[0].EventID != events[n-3+i].ID {
			t.Errorf("claim %d takes another than the first that has not failed", i)
		}
		if len(taken) != 1 || failed[taken[0].EventID] != (i == 3) {
			t.Errorf("probe %d takes %d deliveries, failed before: %v", i, len(taken), len(taken) == 1 && failed[taken[0].EventID])
		}
	}
	if taken := claim(order, 1); len(taken) != 1 {
		t.Errorf("%d deliveries where all have failed", len(taken))
	}
}
