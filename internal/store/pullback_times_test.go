package store_test

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"triggerd/internal/store"
	"triggerd/internal/store/storetest"
	"triggerd/internal/trigger"
)

// pullBack pulls back, and returns how many times it has moved.
func pullBack(t *testing.T, s *store.Store) int {
	t.Helper()
	n, err := s.PullBack(t.Context(), trigger.DefaultSchedule())
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// A breaker that opened while the clock was ahead is open for as long as it
// would be, and its webhook has been failing for as long.
func TestPullBackHealth(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		f := newFailing(t, db)
		s := f.nodes[0]
		read := func() *trigger.Webhook {
			t.Helper()
			hooks, err := s.WebhooksByID(t.Context(), []int64{f.hook})
			if err != nil {
				t.Fatal(err)
			}
			return hooks[f.hook]
		}
		failAndHold := func(hold time.Duration) {
			t.Helper()
			f.attempt(trigger.Transient)
			if err := s.SetBreaker(t.Context(), store.BreakerChange{
				OrganizationID: f.org, WebhookID: f.hook, Seen: read().HeldUntil, Until: s.Now().Add(hold),
			}); err != nil {
				t.Fatal(err)
			}
		}
		failAndHold(time.Hour + time.Minute)
		if n := pullBack(t, s); n != 0 {
			t.Errorf("%d times were pulled back while the clock was right", n)
		}
		db.Clock.Advance(24 * time.Hour)
		failAndHold(time.Hour)
		db.Clock.Advance(-24 * time.Hour)
		before := s.Now()
		if n := pullBack(t, s); n != 3 { // with two deliveries, one that has failed and one that is claimed
			t.Errorf("%d times were pulled back, want 3", n)
		}
		open := read().HeldUntil.Sub(before)
		if open < time.Hour-time.Minute || open > time.Hour+time.Minute {
			t.Errorf("the breaker is open for %v, want an hour", open)
		}
		w, err := s.Webhook(t.Context(), f.org, f.hook)
		if err != nil || w.Failing == nil || w.Failing.LastAt.After(s.Now()) || w.Failing.Failures != 2 {
			t.Errorf("it is failing: %+v, %v", w.Failing, err)
		}
	})
}

// What was used of a rate limit while the clock was ahead is free again a
// minute after the step back, and not sooner.
func TestPullBackPermits(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := db.Open(t)
		const limit = 100
		take := func(orgID int64, n int) bool {
			t.Helper()
			ok, _, err := s.TakePermits(t.Context(), orgID, limit, n)
			if err != nil {
				t.Fatal(err)
			}
			return ok
		}
		db.Clock.Advance(time.Hour)
		for range 3 { // of three minutes, the last of which counts
			if !take(7, limit-1) {
				t.Fatal("refused ahead")
			}
			db.Clock.Advance(2 * time.Minute)
		}
		if !take(7, limit-1) {
			t.Fatal("refused ahead")
		}
		db.Clock.Advance(-time.Hour - 6*time.Minute)
		if take(7, limit) {
			t.Error("taken over the limit")
		}
		if n := pullBack(t, s); n != 4 {
			t.Errorf("%d times were pulled back, want 4", n)
		}
		if !take(7, 1) || take(7, 1) {
			t.Error("a limit is not kept over the step: one more was free")
		}
		if !take(8, limit) {
			t.Error("another organization is refused")
		}
		db.Clock.Advance(62 * time.Second)
		if !take(7, limit) {
			t.Error("refused a minute after the step")
		}
	})
}

// A node that died ahead of the clock is not counted for the length of the
// step, a request is remembered for a day, and a deleted organization goes.
func TestPullBackPlainTimes(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := db.Open(t)
		org, doomed := storetest.NewOrganization(t, s), storetest.NewOrganization(t, s)
		once := store.Once{Key: "k"}
		db.Clock.Advance(48 * time.Hour)
		if _, err := s.AddAPIKey(t.Context(), org, newKey(), once); err != nil {
			t.Fatal(err)
		}
		if err := s.DeleteOrganization(t.Context(), doomed); err != nil {
			t.Fatal(err)
		}
		dead := trigger.NewID(s.Now(), 0, 1)
		if _, err := db.SQL(t).ExecContext(t.Context(), `INSERT INTO nodes (id, seen_at) VALUES ($1, $2)`,
			rawID(db, dead), s.Now().UnixMicro()); err != nil {
			t.Fatal(err)
		}
		db.Clock.Advance(-48 * time.Hour)
		if n := pullBack(t, s); n != 3 {
			t.Errorf("%d times were pulled back, want 3", n)
		}
		db.Clock.Advance(2 * time.Minute)
		if err := errors.Join(s.TouchNode(t.Context()), s.Erase(t.Context())); err != nil {
			t.Fatal(err)
		}
		if s.Nodes() != 1 {
			t.Errorf("%d nodes are alive, want 1", s.Nodes())
		}
		if _, err := s.Organization(t.Context(), doomed); trigger.KindOf(err) != trigger.NotFound || rowsOf(t, db, "organizations") != 1 {
			t.Errorf("a deleted organization is there: %v", err)
		}
		var repeated *store.RepeatedError
		if _, err := s.AddAPIKey(t.Context(), org, newKey(), once); !errors.As(err, &repeated) {
			t.Errorf("a request is done twice within two minutes: %v", err)
		}
		db.Clock.Advance(24 * time.Hour)
		if _, err := s.AddAPIKey(t.Context(), org, newKey(), once); err != nil {
			t.Errorf("a request is remembered for longer than a day: %v", err)
		}
	})
}

// A list by cursor, the oldest first, that has seen events from ahead of the
// clock sees what is accepted after the step back, and a replay of that time
// comes to its end.
func TestCursorAheadOfTheClock(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := db.Open(t)
		org := storetest.NewOrganization(t, s)
		hook := newWebhook(t, s, org, "")
		db.Clock.Advance(24 * time.Hour)
		ahead := event(s, org, "")
		add(t, s, []*trigger.Event{ahead})
		db.Clock.Advance(time.Minute)
		job, err := s.AddReplay(t.Context(), org, trigger.Replay{WebhookID: hook}, store.Once{})
		if err != nil {
			t.Fatal(err)
		}
		db.Clock.Advance(-24*time.Hour - time.Minute)
		later := event(s, org, "")
		add(t, s, []*trigger.Event{later})
		db.Clock.Advance(time.Minute)

		page, _, err := s.FindEvents(t.Context(), org, store.EventQuery{Oldest: true, After: ahead.ID, Limit: 10})
		if want := []store.EventStatus{{ID: later.ID, Status: trigger.Delivered}}; err != nil || !cmp.Equal(page, want) {
			t.Errorf("%+v after the cursor, %v; want %+v", page, err, want)
		}
		running, err := s.RunningReplays(t.Context(), 0)
		if err != nil || len(running) != 1 {
			t.Fatalf("%+v, %v", running, err)
		}
		if _, err := s.FeedReplay(t.Context(), running[0]); err != nil {
			t.Fatal(err)
		}
		r, err := s.Replay(t.Context(), org, job)
		if err != nil || r.Queued != 2 || r.Cursor.Time().Before(ahead.ID.Time()) {
			t.Errorf("%+v, %v; want both events queued, and the end found", r, err)
		}
	})
}
