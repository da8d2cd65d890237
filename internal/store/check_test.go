package store_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"triggerd/internal/store"
	"triggerd/internal/store/storetest"
	"triggerd/internal/trigger"
)

// Check finds each contradiction that is put into a database, over the ends of
// pages and organizations, and none in a sound one.
func TestCheck(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := db.Open(t)
		const events = 1100 // more than a page
		var last *trigger.Event
		for range 2 {
			org := storetest.NewOrganization(t, s)
			batch := make([]*trigger.Event, events)
			for i := range batch {
				batch[i] = event(s, org, "")
			}
			last = event(s, org, "dedup")
			batch[0] = last
			add(t, s, batch, trigger.InboxID)
		}
		check := func(forgets bool) store.Contradictions {
			t.Helper()
			c, err := s.Check(t.Context(), forgets)
			if err != nil {
				t.Fatal(err)
			}
			c.Example = ""
			return c
		}
		if diff := cmp.Diff(store.Contradictions{Examined: 2 * events}, check(false)); diff != "" {
			t.Errorf("a sound database: %s", diff)
		}
		raw := db.SQL(t)
		for _, change := range []struct {
			what, sql string
			want      store.Contradictions
		}{
			{"a dedup id of another event", `UPDATE dedup SET event_id = $1 WHERE event_id <> $1`, store.Contradictions{Doubles: 1}},
			{"no event", `DELETE FROM events WHERE id = $1`, store.Contradictions{Doubles: 1, Orphans: 1, Examined: -1}},
			{"no delivery", `DELETE FROM deliveries WHERE event_id <> $1`, store.Contradictions{Silent: 2*events - 1, Doubles: 1, Orphans: 1, Examined: -1}},
		} {
			if _, err := raw.ExecContext(t.Context(), change.sql, rawID(db, last.ID)); err != nil {
				t.Fatal(err)
			}
			change.want.Examined += 2 * events
			got := check(false)
			if diff := cmp.Diff(change.want, got); diff != "" {
				t.Errorf("%s: %s", change.what, diff)
			}
			if forgets := check(true); forgets.Doubles != 0 || got.Sum() == 0 {
				t.Errorf("%s: %+v with a retention of dedup ids, without one a sum of %d", change.what, forgets, got.Sum())
			}
		}
	})
}

// rawID is how an id is written beside the store.
func rawID(db *storetest.DB, id trigger.ID) any {
	if db.IsPostgres() {
		return id.String()
	}
	return id[:]
}
