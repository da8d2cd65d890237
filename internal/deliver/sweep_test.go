package deliver_test

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"triggerd/internal/deliver"
	"triggerd/internal/store"
	"triggerd/internal/store/storetest"
	"triggerd/internal/telemetry"
	"triggerd/internal/trigger"
)

const dayLong = 24 * time.Hour

// advance moves a database's clock, and confirms the jump to its nodes.
func advance(t *testing.T, db *storetest.DB, d time.Duration, nodes ...*store.Store) {
	t.Helper()
	db.Clock.Advance(d)
	for range 2 {
		for _, s := range nodes {
			if err := s.SyncClock(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func newSweeper(s *store.Store, dedupRetention time.Duration) *deliver.Sweeper {
	return &deliver.Sweeper{
		Store: s, Retention: 30 * dayLong, DedupRetention: dedupRetention,
		Metrics: telemetry.New(), Log: slog.New(slog.DiscardHandler),
	}
}

// finishFirst claims one delivery of a webhook and gives it an outcome.
func finishFirst(t *testing.T, s *store.Store, w *trigger.Webhook, outcome trigger.Outcome) {
	t.Helper()
	now := s.Now()
	ds, err := s.Claim(t.Context(), []store.Want{{Bucket: trigger.Bucket(w.OrganizationID), WebhookID: w.ID, Room: 1}},
		s.NewClaim(), now, now.Add(time.Minute))
	if err != nil || len(ds) != 1 {
		t.Fatalf("claimed %d, %v", len(ds), err)
	}
	a := trigger.Attempt{DeliveryKey: ds[0].DeliveryKey, Claim: ds[0].Claim, At: now, Outcome: outcome, Error: "test"}
	next := ds[0].After(a, trigger.Schedule{}, now, 0)
	if err := s.Finish(t.Context(), []store.Result{{Attempt: a, Next: next}}); err != nil {
		t.Fatal(err)
	}
}

// Seven weeks pass, each day with a delivered, a failed and an open event and
// one for the inbox, while readers and writers go on: nothing stalls, what is
// too old ends visibly and goes, and nothing else does.
func TestWeeks(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := db.Open(t)
		sweeper := newSweeper(s, 0)
		org := storetest.NewOrganization(t, s)
		hook := newWebhook(t, s, org, "http://127.0.0.1:9")
		inbox := &trigger.Webhook{ID: trigger.InboxID, OrganizationID: org}
		stop := keepBusy(t, s)
		defer stop()
		const weeks = 7
		for range weeks * 7 {
			first := post(t, s, hook, 1)
			finishFirst(t, s, hook, trigger.Success)
			post(t, s, hook, 1)
			finishFirst(t, s, hook, trigger.Permanent)
			post(t, s, inbox, 1)
			advance(t, db, dayLong, s)
			if err := sweeper.Sweep(t.Context()); err != nil {
				t.Fatal(err)
			}
			if _, status, err := s.Event(t.Context(), org, first[0].ID); err != nil || status != trigger.Delivered {
				t.Fatalf("yesterday's event is %s, %v", status, err)
			}
		}
		got := storetest.CountEvents(t, s, org)
		// Of each of the last 30 days at least, and of at most two more, since days go whole.
		for _, status := range []trigger.Status{trigger.Delivered, trigger.Failed, trigger.Pending} {
			if n := got[status]; n < 29 || n > 34 {
				t.Errorf("%d events are %s after %d weeks of one a day", n, status, weeks)
			}
		}
	})
}

// keepBusy reads and writes as another organization until it is stopped.
func keepBusy(t *testing.T, s *store.Store) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	inbox := &trigger.Webhook{ID: trigger.InboxID, OrganizationID: storetest.NewOrganization(t, s)}
	var wg sync.WaitGroup
	wg.Go(func() {
		pace := time.NewTicker(2 * time.Millisecond)
		defer pace.Stop()
		for ctx.Err() == nil {
			post(t, s, inbox, 3)
			<-pace.C
		}
	})
	wg.Go(func() {
		for ctx.Err() == nil {
			if _, err := s.ListEvents(t.Context(), inbox.OrganizationID, trigger.Pending, 100); err != nil {
				t.Error(err)
				return
			}
		}
	})
	return func() { cancel(); wg.Wait() }
}

// An open delivery ends as expired, can be seen as failed, and then goes with
// its event; its dedup id stays, or goes by a retention of its own.
func TestExpiredIsVisible(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := db.Open(t)
		org := storetest.NewOrganization(t, s)
		add := func(dedupID string) trigger.ID {
			t.Helper()
			e := &trigger.Event{OrganizationID: org, ID: s.NewClaim(), Type: "a", Payload: []byte("1"), DedupID: dedupID}
			owed := []trigger.Delivery{{DeliveryKey: trigger.DeliveryKey{OrganizationID: org, EventID: e.ID}, DueAt: s.Now()}}
			got, err := s.AddEvents(t.Context(), &store.Batch{Events: []*trigger.Event{e}, Deliveries: [][]trigger.Delivery{owed}}, false)
			if err != nil {
				t.Fatal(err)
			}
			return got[0]
		}
		first := add("d")
		sweeper := newSweeper(s, 0)
		sweep := func(dedupRetention time.Duration) {
			t.Helper()
			sweeper.DedupRetention = dedupRetention
			if err := sweeper.Sweep(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		advance(t, db, 30*dayLong-time.Hour, s)
		sweep(0)
		if n := storetest.CountEvents(t, s, org); n[trigger.Pending] != 1 {
			t.Errorf("an hour early: %v", n)
		}
		advance(t, db, 90*time.Minute, s)
		sweep(0)
		if n := storetest.CountEvents(t, s, org); n[trigger.Failed] != 1 {
			t.Errorf("expired and not yet gone: %v", n)
		}
		advance(t, db, 2*dayLong, s)
		sweep(0)
		advance(t, db, time.Hour, s) // days go whole, an hour after their last event expired
		sweep(0)
		if n := storetest.CountEvents(t, s, org); len(n) != 0 {
			t.Errorf("two days later: %v", n)
		}
		if again := add("d"); again != first {
			t.Errorf("the dedup id was forgotten: %s, want %s", again, first)
		}
		sweep(31 * dayLong)
		if again := add("d"); again == first {
			t.Error("the dedup id outlived its retention")
		}
	})
}

// A transaction that stays open holds up the detaching of a day, and nothing
// else; the next sweep takes up where the last one stopped.
func TestSweepBesideLongReader(t *testing.T) {
	t.Parallel()
	storetest.OnPostgres(t, func(t *testing.T, db *storetest.DB) {
		s := db.Open(t)
		org := storetest.NewOrganization(t, s)
		inbox := &trigger.Webhook{ID: trigger.InboxID, OrganizationID: org}
		post(t, s, inbox, 1)
		advance(t, db, 40*dayLong, s)
		nodes := []*deliver.Sweeper{newSweeper(s, 0), newSweeper(s, 0)}
		for _, sweeper := range nodes {
			if err := sweeper.Sweep(t.Context()); err != nil { // now it has expired
				t.Fatal(err)
			}
		}
		advance(t, db, time.Hour, s)
		conn, err := pgx.Connect(t.Context(), db.Options.PostgresURL)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close(context.WithoutCancel(t.Context()))
		tx, err := conn.BeginTx(t.Context(), pgx.TxOptions{IsoLevel: pgx.RepeatableRead})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tx.Exec(t.Context(), "SELECT count(*) FROM triggerd.events"); err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		var swept error
		wg.Go(func() { swept = nodes[0].Sweep(t.Context()) })
		for range 50 {
			post(t, s, inbox, 1)
		}
		wg.Wait()
		if swept == nil {
			t.Error("the sweep did not notice the reader")
		}
		if err := tx.Rollback(t.Context()); err != nil {
			t.Fatal(err)
		}
		for _, sweeper := range nodes { // at the same time
			wg.Go(func() { _ = sweeper.Sweep(t.Context()) })
		}
		wg.Wait()
		if err := nodes[0].Sweep(t.Context()); err != nil {
			t.Error(err)
		}
		if n := storetest.CountEvents(t, s, org); n[trigger.Pending] != 50 || len(n) != 1 {
			t.Errorf("left: %v, want the 50 new ones", n)
		}
	})
}

// What expires when nobody has swept for days is seen for an hour, too.
func TestExpiredLateIsVisible(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := db.Open(t)
		w := newWebhook(t, s, storetest.NewOrganization(t, s), "http://127.0.0.1:9/")
		post(t, s, w, 3)
		advance(t, db, 40*dayLong, s)
		sweeper := newSweeper(s, 0)
		for _, step := range []struct {
			passed time.Duration
			want   int
		}{{0, 3}, {10 * time.Minute, 3}, {49 * time.Minute, 3}, {2 * time.Minute, 0}} {
			advance(t, db, step.passed, s)
			if err := sweeper.Sweep(t.Context()); err != nil {
				t.Fatal(err)
			}
			if n := storetest.CountEvents(t, s, w.OrganizationID); n[trigger.Failed] != step.want || n[trigger.Delivered] > 0 {
				t.Errorf("%v later: %v, want %d failed", step.passed, n, step.want)
			}
		}
	})
}

// A webhook whose receiver answered 410 is kept for the retention, and then
// deleted.
func TestGoneWebhooksAreSwept(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := db.Open(t)
		sweeper := newSweeper(s, 0)
		org := storetest.NewOrganization(t, s)
		hook := newWebhook(t, s, org, "http://127.0.0.1:9")
		if _, err := s.StopWebhook(t.Context(), store.Stop{OrganizationID: org, WebhookID: hook.ID, State: trigger.Gone}); err != nil {
			t.Fatal(err)
		}
		for _, want := range []trigger.WebhookState{trigger.Gone, trigger.Deleted} {
			advance(t, db, sweeper.Retention-dayLong/2, s)
			if err := sweeper.Sweep(t.Context()); err != nil {
				t.Fatal(err)
			}
			if w, err := s.Webhook(t.Context(), org, hook.ID); err != nil || w.State != want {
				t.Errorf("the webhook is %s, want %s: %v", w.State, want, err)
			}
		}
	})
}

// A sweep by a clock that was ahead puts off no other one when the clock has
// gone back.
func TestSweepAfterStepBack(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := db.Open(t)
		w := newWebhook(t, s, storetest.NewOrganization(t, s), "http://127.0.0.1:9/")
		post(t, s, w, 3)
		sweeper := newSweeper(s, 0)
		for _, step := range []struct {
			passed time.Duration
			want   int
		}{{50 * dayLong, 3}, {-10 * dayLong, 3}, {50 * time.Minute, 3}, {20 * time.Minute, 0}} {
			advance(t, db, step.passed, s)
			if err := sweeper.Sweep(t.Context()); err != nil {
				t.Fatal(err)
			}
			if n := storetest.CountEvents(t, s, w.OrganizationID); n[trigger.Failed] != step.want {
				t.Errorf("%v later: %v, want %d failed", step.passed, n, step.want)
			}
		}
	})
}
