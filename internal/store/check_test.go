package store_test

import (
	"bytes"
	"os"
	"path/filepath"
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

// SQLite's own judgement of its files is a part of Check.
func TestCheckFindsDamage(t *testing.T) {
	t.Parallel()
	db := storetest.SQLite(t)
	s := db.Open(t)
	org := storetest.NewOrganization(t, s)
	for range 500 {
		add(t, s, []*trigger.Event{event(s, org, "")}, trigger.InboxID)
	}
	if err := s.Close(); err != nil { // which writes all into the file
		t.Fatal(err)
	}
	file, err := os.OpenFile(filepath.Join(db.Options.DataDir, "triggerd.db"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		t.Fatal(err)
	}
	for page := info.Size() / 4096 / 2; page < info.Size()/4096; page++ { // beyond the tables of the schema
		if _, err := file.WriteAt(bytes.Repeat([]byte{0xa5}, 100), page*4096); err != nil {
			t.Fatal(err)
		}
	}
	damaged, err := store.Open(t.Context(), db.Options)
	if err != nil {
		return // refused at the start: seen as well
	}
	defer damaged.Close()
	if c, err := damaged.Check(t.Context(), false); err == nil && c.Damaged == 0 {
		t.Errorf("damaged pages are not found: %+v", c)
	}
}
