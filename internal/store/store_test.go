package store_test

import (
	order "cmp"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"triggerd/internal/store"
	"triggerd/internal/store/storetest"
	"triggerd/internal/trigger"
)

func TestEventComesBackAsItWas(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := db.Open(t)
		org := storetest.NewOrganization(t, s)
		e := event(s, org, "d1")
		if got := add(t, s, []*trigger.Event{e}, trigger.InboxID); got[0] != e.ID {
			t.Fatalf("verdict %v, want accepted", got)
		}
		got, status, err := s.Event(t.Context(), org, e.ID)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(e, got); diff != "" || status != trigger.Pending {
			t.Errorf("status %s, event differs:\n%s", status, diff)
		}
		_, _, err = s.Event(t.Context(), storetest.NewOrganization(t, s), e.ID)
		if trigger.KindOf(err) != trigger.NotFound {
			t.Errorf("another organization got %v, want NotFound", err)
		}
	})
}

func TestDedup(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := db.Open(t)
		org, other := storetest.NewOrganization(t, s), storetest.NewOrganization(t, s)
		first := event(s, org, "d")
		add(t, s, []*trigger.Event{first})
		same, fresh, foreign := event(s, org, "d"), event(s, org, "e"), event(s, other, "d")
		got := add(t, s, []*trigger.Event{same, fresh, foreign, event(s, org, "")})
		if got[0] != first.ID || got[1] != fresh.ID || got[2] != foreign.ID || got[3].IsZero() {
			t.Errorf("verdicts %v", got)
		}
		if list := statuses(t, s, org, "", 100); len(list) != 3 {
			t.Errorf("%d events stored, want 3: %v", len(list), list)
		}
	})
}

// The answer of a commit may be lost: the identical batch finds itself.
func TestSameBatchAgainIsAccepted(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := db.Open(t)
		org := storetest.NewOrganization(t, s)
		hook := newWebhook(t, s, org, "")
		batch := &store.Batch{}
		for _, dedup := range []string{"a", "", "b", ""} {
			e := event(s, org, dedup)
			batch.Events = append(batch.Events, e)
			batch.Deliveries = append(batch.Deliveries, owed(e, hook))
		}
		for _, again := range []bool{false, true, true} {
			got, err := s.AddEvents(t.Context(), batch, again)
			if err != nil {
				t.Fatal(err)
			}
			for i, e := range batch.Events {
				if got[i] != e.ID {
					t.Errorf("again=%v: event %d got %v, want its own id", again, i, got[i])
				}
			}
		}
		if n := len(claimAll(t, s, org, hook, time.Minute)); n != 4 {
			t.Errorf("%d deliveries, want 4", n)
		}
	})
}

// Two writers with the same dedup ids in opposite order: nobody deadlocks and
// each id has one winner.
func TestDedupRace(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		nodes := []*store.Store{db.Open(t)}
		if db.IsPostgres() {
			nodes = append(nodes, db.Open(t))
		} else {
			nodes = append(nodes, nodes[0])
		}
		org := storetest.NewOrganization(t, nodes[0])
		for round := range 10 {
			var wg sync.WaitGroup
			got := make([][]trigger.ID, 4)
			batches := make([]*store.Batch, len(got))
			for w := range got {
				b := &store.Batch{}
				for i := range 50 {
					b.Events = append(b.Events, event(nodes[0], org, fmt.Sprintf("%d-%d", round, i)))
				}
				if w%2 == 1 {
					slices.Reverse(b.Events)
				}
				b.Deliveries = make([][]trigger.Delivery, 50)
				batches[w] = b
			}
			for w := range got {
				wg.Go(func() {
					var err error
					if got[w], err = nodes[w%2].AddEvents(t.Context(), batches[w], false); err != nil {
						t.Error(err)
					}
				})
			}
			wg.Wait()
			winners := map[string]trigger.ID{}
			accepted := 0
			for w, b := range batches {
				for i, e := range b.Events {
					if first, ok := winners[e.DedupID]; ok && first != got[w][i] {
						t.Errorf("%s has two events, %s and %s", e.DedupID, first, got[w][i])
					}
					winners[e.DedupID] = got[w][i]
					if got[w][i] == e.ID {
						accepted++
					}
				}
			}
			if accepted != 50 {
				t.Errorf("%d accepted, want 50", accepted)
			}
		}
	})
}

func TestStatusFollowsDeliveries(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := db.Open(t)
		org := storetest.NewOrganization(t, s)
		one, two := newWebhook(t, s, org, ""), newWebhook(t, s, org, "")
		e := event(s, org, "")
		add(t, s, []*trigger.Event{e}, one, two)
		want := func(status trigger.Status) {
			t.Helper()
			for _, ask := range []trigger.Status{"", trigger.Pending, trigger.Delivered, trigger.Failed} {
				list := statuses(t, s, org, ask, 10)
				if listed := ask == "" || ask == status; listed != (len(list) == 1) {
					t.Errorf("asked for %q, want %s: %v", ask, status, list)
				}
				if len(list) == 1 && list[0] != fmt.Sprintf("%s=%s", e.ID, status) {
					t.Errorf("asked for %q, want %s: %v", ask, status, list)
				}
			}
			if _, got, err := s.Event(t.Context(), org, e.ID); err != nil || got != status {
				t.Errorf("event is %s, %v; want %s", got, err, status)
			}
		}
		finish := func(hook int64, outcome trigger.Outcome) {
			t.Helper()
			ds := claimAll(t, s, org, hook, time.Minute)
			if len(ds) != 1 {
				t.Fatalf("claimed %d, want 1", len(ds))
			}
			if err := s.Finish(t.Context(), []store.Result{result(s, ds[0], outcome)}); err != nil {
				t.Fatal(err)
			}
		}
		want(trigger.Pending)
		finish(one, trigger.Permanent)
		want(trigger.Pending)
		finish(two, trigger.Success)
		want(trigger.Failed)
	})
}

func TestClaimIsFenced(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := db.Open(t)
		org := storetest.NewOrganization(t, s)
		hook := newWebhook(t, s, org, "")
		add(t, s, events(s, org, 2), hook)
		stale := claimAll(t, s, org, hook, 0) // its lease is over at once
		fresh := claimAll(t, s, org, hook, time.Minute)
		if len(stale) != 2 || len(fresh) != 2 {
			t.Fatalf("claimed %d and %d, want 2 and 2", len(stale), len(fresh))
		}
		if more := claimAll(t, s, org, hook, time.Minute); len(more) != 0 {
			t.Fatalf("claimed %d that are leased", len(more))
		}
		// A failure of the lost claim changes nothing, a success is a fact.
		if err := s.Finish(t.Context(), []store.Result{
			result(s, stale[0], trigger.ReceiverGone), result(s, stale[1], trigger.Success),
		}); err != nil {
			t.Fatal(err)
		}
		if got := statuses(t, s, org, trigger.Failed, 10); len(got) != 0 {
			t.Errorf("a lost claim failed %v", got)
		}
		if got := statuses(t, s, org, trigger.Delivered, 10); len(got) != 1 {
			t.Errorf("delivered %v, want one", got)
		}
		if err := s.Release(t.Context(), stale); err != nil {
			t.Fatal(err)
		}
		if more := claimAll(t, s, org, hook, time.Minute); len(more) != 0 {
			t.Error("a lost claim released another's lease")
		}
		if err := s.Release(t.Context(), fresh); err != nil {
			t.Fatal(err)
		}
		if more := claimAll(t, s, org, hook, time.Minute); len(more) != 1 {
			t.Errorf("claimed %d after release, want 1", len(more))
		}
	})
}

// A result that waits for somebody who is changing its delivery is recorded all
// the same: the delivery is another row by then. A success ends it; anything
// else has lost its claim.
func TestFinishBesideChange(t *testing.T) {
	t.Parallel()
	storetest.OnPostgres(t, func(t *testing.T, db *storetest.DB) {
		s, raw := db.Open(t), db.SQL(t)
		org := storetest.NewOrganization(t, s)
		hook := newWebhook(t, s, org, "")
		add(t, s, events(s, org, 2), hook)
		taken := claimAll(t, s, org, hook, time.Minute)
		if len(taken) != 2 {
			t.Fatalf("claimed %d, want 2", len(taken))
		}
		tx, err := raw.BeginTx(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = tx.Rollback() }()
		if _, err := tx.ExecContext(t.Context(), `UPDATE deliveries SET claim = $1`, s.NewClaim().String()); err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() {
			done <- store.RunBatch(t.Context(), time.Now, time.Minute,
				[]store.Result{result(s, taken[0], trigger.Success), result(s, taken[1], trigger.ReceiverGone)},
				func(part []store.Result, _ bool) error { return s.Finish(t.Context(), part) },
				func(_ store.Result, err error) { t.Error(err) })
		}()
		for waiting := false; !waiting; {
			if err := raw.QueryRowContext(t.Context(), `SELECT EXISTS (SELECT FROM pg_stat_activity
				WHERE datname = current_database() AND wait_event_type = 'Lock')`).Scan(&waiting); err != nil {
				t.Fatal(err)
			}
		}
		if err := tx.Commit(); err != nil {
			t.Fatal(err)
		}
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if got := statuses(t, s, org, trigger.Delivered, 10); len(got) != 1 {
			t.Errorf("delivered %v, want one", got)
		}
		if got := statuses(t, s, org, trigger.Failed, 10); len(got) != 0 {
			t.Errorf("a lost claim failed %v", got)
		}
		for i, want := range []int{1, 0} {
			var attempts int
			if err := raw.QueryRowContext(t.Context(), `SELECT count(*) FROM attempts WHERE event_id = $1`,
				taken[i].EventID.String()).Scan(&attempts); err != nil || attempts != want {
				t.Errorf("delivery %d has %d attempts, want %d: %v", i, attempts, want, err)
			}
		}
	})
}

func TestFinishTwiceInOneCall(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := db.Open(t)
		org := storetest.NewOrganization(t, s)
		hook := newWebhook(t, s, org, "")
		add(t, s, events(s, org, 1), hook)
		stale := claimAll(t, s, org, hook, 0)
		fresh := claimAll(t, s, org, hook, time.Minute)
		results := []store.Result{result(s, stale[0], trigger.Success), result(s, fresh[0], trigger.Transient)}
		for range 2 {
			if err := s.Finish(t.Context(), results); err != nil {
				t.Fatal(err)
			}
		}
		if got := statuses(t, s, org, trigger.Delivered, 10); len(got) != 1 {
			t.Errorf("delivered %v, want one", got)
		}
	})
}

func TestLanes(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := db.Open(t)
		want := map[int64]bool{}
		for range 20 {
			org := storetest.NewOrganization(t, s)
			for range 3 {
				hook := newWebhook(t, s, org, "")
				want[hook] = true
				add(t, s, events(s, org, 3), hook)
			}
			add(t, s, events(s, org, 2), trigger.InboxID)
		}
		got := map[int64]bool{}
		var last store.Lane
		for {
			lanes, err := s.Lanes(t.Context(), last, 7)
			if err != nil {
				t.Fatal(err)
			}
			for _, l := range lanes {
				if got[l.WebhookID] || l.DueAt.After(s.Now()) {
					t.Errorf("lane %+v listed twice, or late", l)
				}
				got[l.WebhookID] = true
				last = l
			}
			if len(lanes) == 0 {
				break
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("lanes differ:\n%s", diff)
		}
		checkDueLanes(t, s)
		b, err := s.Backlog(t.Context())
		if err != nil || b.Open != 180 {
			t.Errorf("backlog %+v, %v; want 180 open", b, err)
		}
	})
}

// checkDueLanes holds that of the webhooks that are asked for those are listed
// that have something due in the time, and since when.
func checkDueLanes(t *testing.T, s *store.Store) {
	t.Helper()
	all, err := s.Lanes(t.Context(), store.Lane{}, 1000)
	if err != nil {
		t.Fatal(err)
	}
	asked, other := all[:40], all[40]
	other.Bucket++
	for _, c := range []struct {
		what        string
		from, until time.Time
		want        []store.Lane
	}{
		{"all the time", time.Time{}, s.Now(), asked},
		{"from the last on", asked[39].DueAt, asked[39].DueAt, nil},
		{"before all", time.Time{}, s.Now().Add(-time.Hour), nil},
		{"after all", s.Now().Add(time.Hour), s.Now().Add(2 * time.Hour), nil},
	} {
		want := c.want
		if want == nil {
			for _, l := range asked {
				if !l.DueAt.Before(c.from) && !l.DueAt.After(c.until) {
					want = append(want, l)
				}
			}
		}
		got, err := s.DueLanes(t.Context(), append([]store.Lane{other}, asked...), c.from, c.until)
		if err != nil {
			t.Fatal(err)
		}
		slices.SortFunc(got, func(a, b store.Lane) int {
			return order.Or(order.Compare(a.Bucket, b.Bucket), order.Compare(a.WebhookID, b.WebhookID))
		})
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: due lanes differ:\n%s", c.what, diff)
		}
	}
}
