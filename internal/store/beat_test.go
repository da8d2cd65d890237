package store_test

import (
	"context"
	"database/sql"
	"sync"
	"testing"
	"time"

	"triggerd/internal/store"
	"triggerd/internal/store/storetest"
	"triggerd/internal/trigger"
)

// A node that can commit nothing says so, whatever the cause, and takes it back
// when it can.
func TestCommitting(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		db.Options.OwnClock = false
		s := db.Open(t)
		raw := db.SQL(t)
		keepRunning(t, s)
		if err := s.Committing(); err != nil {
			t.Fatal(err)
		}
		spoil := map[string]func() (mend func()){
			"a schema that is not ours": func() func() {
				execAll(t, raw, `ALTER TABLE nodes RENAME TO other`)
				return func() { execAll(t, raw, `ALTER TABLE other RENAME TO nodes`) }
			},
			"somebody else writes and does not end": func() func() { return lockNodes(t, db, raw) },
		}
		if db.IsPostgres() {
			spoil["no event can be stored"] = func() func() { return lockOut(t, s, raw) }
			kill := `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()`
			var name string
			if err := raw.QueryRowContext(t.Context(), `SELECT current_database()`).Scan(&name); err != nil {
				t.Fatal(err)
			}
			spoil["read-only"] = func() func() {
				execAll(t, raw, `ALTER DATABASE "`+name+`" SET default_transaction_read_only = on`, kill)
				return func() {
					execAll(t, raw, `SET default_transaction_read_only = off`, `ALTER DATABASE "`+name+`" RESET default_transaction_read_only`, kill)
				}
			}
		}
		for what, spoil := range spoil {
			mend := spoil()
			untilCommitting(t, s, what, false)
			mend()
			untilCommitting(t, s, "after "+what, true)
		}
	})
}

// lockOut keeps events from being stored, while rows of other tables can be, and
// lets one commit fail by that.
func lockOut(t *testing.T, s *store.Store, raw *sql.DB) (mend func()) {
	t.Helper()
	org := storetest.NewOrganization(t, s)
	tx, err := raw.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.ExecContext(t.Context(), `LOCK TABLE deliveries IN SHARE MODE`); err != nil {
		t.Fatal(err)
	}
	e := event(s, org, "")
	if _, err := s.AddEvents(t.Context(), &store.Batch{Events: []*trigger.Event{e}, Deliveries: [][]trigger.Delivery{owed(e, trigger.InboxID)}}, false); err == nil {
		t.Error("an event was stored in a table that is locked")
	}
	return func() {
		if err := tx.Rollback(); err != nil {
			t.Error(err)
		}
	}
}

// A synchronous standby that is away keeps commits waiting.
func TestCommittingBesideStandby(t *testing.T) {
	t.Parallel()
	storetest.OnPostgres(t, func(t *testing.T, _ *storetest.DB) {
		db := storetest.Cluster(t)
		s := db.Open(t)
		raw := db.SQL(t)
		keepRunning(t, s)
		setStandbys(t, raw, "nobody")
		untilCommitting(t, s, "the standby is away", false)
		setStandbys(t, raw, "")
		untilCommitting(t, s, "there is none to wait for", true)
	})
}

// keepRunning runs a store until the end of the test.
func keepRunning(t *testing.T, s *store.Store) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var running sync.WaitGroup
	running.Go(func() {
		if err := s.Run(ctx); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(func() {
		cancel()
		running.Wait()
	})
}

// untilCommitting waits until a store can commit, or says that it cannot.
func untilCommitting(t *testing.T, s *store.Store, what string, want bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		err := s.Committing()
		if (err == nil) == want {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("%s: %v, want that it can commit: %v", what, err, want)
		case <-tick.C:
		}
		if err != nil && trigger.KindOf(err) != trigger.Unavailable {
			t.Fatalf("%s: %v, want Unavailable", what, err)
		}
	}
}

// lockNodes keeps the row of every node from being written.
func lockNodes(t *testing.T, db *storetest.DB, raw *sql.DB) (end func()) {
	t.Helper()
	conn, err := raw.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	texts := []string{"BEGIN IMMEDIATE"}
	if db.IsPostgres() {
		texts = []string{"BEGIN", "LOCK TABLE nodes IN EXCLUSIVE MODE"}
	}
	for _, text := range texts {
		if _, err := conn.ExecContext(t.Context(), text); err != nil {
			t.Fatal(err)
		}
	}
	return func() {
		if _, err := conn.ExecContext(t.Context(), "ROLLBACK"); err != nil {
			t.Error(err)
		}
		conn.Close()
	}
}

// Tables that were dropped and made again are a restore: caches forget what was
// there, though the server is the same.
func TestRestoreUnderRunningNode(t *testing.T) {
	t.Parallel()
	storetest.OnPostgres(t, func(t *testing.T, db *storetest.DB) {
		s := db.Open(t)
		raw := db.SQL(t)
		keepRunning(t, s)
		epoch := s.Epoch()
		tx, err := raw.BeginTx(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, text := range []string{
			`CREATE TABLE copy (LIKE triggerd.dedup INCLUDING ALL)`, `DROP TABLE triggerd.dedup`,
			`ALTER TABLE copy RENAME TO dedup`,
		} {
			if _, err := tx.ExecContext(t.Context(), text); err != nil {
				t.Fatal(err)
			}
		}
		if err := tx.Commit(); err != nil {
			t.Fatal(err)
		}
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for s.Epoch() == epoch { // else the test never ends
			<-tick.C
		}
		epoch = s.Epoch()
		if _, err := raw.ExecContext(t.Context(), `TRUNCATE triggerd.dedup`); err != nil {
			t.Fatal(err)
		}
		for s.Epoch() == epoch {
			<-tick.C
		}
		if _, err := raw.ExecContext(t.Context(), `ALTER TABLE triggerd.dedup RENAME TO elsewhere`); err != nil {
			t.Fatal(err)
		}
		untilCommitting(t, s, "the tables are missing", false)
	})
}
