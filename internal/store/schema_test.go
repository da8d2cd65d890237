package store_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"triggerd/internal/store"
	"triggerd/internal/store/storetest"
)

// Both databases have the same migrations, numbered without a gap.
func TestMigrationsAreTheSame(t *testing.T) {
	t.Parallel()
	names := map[string][]string{}
	for _, database := range []string{"postgres", "sqlite"} {
		entries, err := os.ReadDir("migrations/" + database)
		if err != nil {
			t.Fatal(err)
		}
		for i, entry := range entries {
			if !strings.HasPrefix(entry.Name(), fmt.Sprintf("%05d_", i+1)) {
				t.Errorf("migration %d of %s is %s", i+1, database, entry.Name())
			}
			names[database] = append(names[database], entry.Name())
		}
	}
	if diff := cmp.Diff(names["postgres"], names["sqlite"]); diff != "" {
		t.Errorf("the migrations differ:\n%s", diff)
	}
}

// newest is the schema that this program knows.
func newest(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("migrations/sqlite")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// exec changes the database as a newer program's migration would.
func exec(t *testing.T, db *storetest.DB, text string, args ...any) {
	t.Helper()
	if _, err := db.SQL(t).ExecContext(t.Context(), text, args...); err != nil {
		t.Fatal(err)
	}
}

func outdated(least, known int) string {
	return fmt.Sprintf("the database was migrated by a newer triggerd (it needs schema %d, this program knows %d): "+
		"install that version or a newer one", least, known)
}

// A database with migrations that this program does not know opens as long as
// they only expand it, and is refused when one has said that it contracts.
func TestNewerDatabase(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		first := db.Open(t)
		org := storetest.NewOrganization(t, first)
		add(t, first, events(first, org, 1))
		if err := first.Close(); err != nil {
			t.Fatal(err)
		}
		known := newest(t)
		exec(t, db, `INSERT INTO goose_db_version (version_id, is_applied) VALUES ($1, $2)`, known+3, true)
		exec(t, db, `CREATE TABLE of_tomorrow (id bigint)`)
		exec(t, db, `UPDATE compatibility SET least = $1`, known)
		again := db.Open(t)
		if list := statuses(t, again, org, "", 10); len(list) != 1 {
			t.Errorf("events in an expanded database: %v, want one", list)
		}
		if err := again.Close(); err != nil {
			t.Fatal(err)
		}
		exec(t, db, `UPDATE compatibility SET least = $1`, known+1)
		s, err := store.Open(t.Context(), db.Options)
		if err == nil {
			_ = s.Close()
		}
		want := outdated(known+1, known)
		if !db.IsPostgres() {
			want = "the database in " + db.Options.DataDir + " cannot be opened: " + want
		}
		if err == nil || err.Error() != want {
			t.Errorf("error %v, want %s", err, want)
		}
	})
}

// A node that runs while a newer program contracts the database sees it by
// itself, and ends with the same words.
func TestNewerDatabaseUnderANode(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := db.Open(t)
		known := newest(t)
		ended := make(chan error, 1)
		go func() { ended <- s.Run(t.Context()) }()
		exec(t, db, `UPDATE compatibility SET least = $1`, known+2)
		select {
		case err := <-ended:
			if want := outdated(known+2, known); err == nil || err.Error() != want {
				t.Errorf("error %v, want %s", err, want)
			}
		case <-time.After(patience):
			t.Error("the node goes on")
		}
	})
}

// Only a clear word ends a node, never a database that does not answer well.
func TestNodeOutlivesErrors(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := db.Open(t)
		exec(t, db, `DROP TABLE compatibility`)
		exec(t, db, `DELETE FROM nodes`)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- s.Run(ctx) }()
		raw, deadline := db.SQL(t), time.Now().Add(patience)
		for n := 0; n == 0; { // until it has shown that it lives, after it looked
			if err := raw.QueryRowContext(t.Context(), `SELECT count(*) FROM nodes`).Scan(&n); err != nil {
				t.Fatal(err)
			}
			if len(ended) > 0 || time.Now().After(deadline) {
				break
			}
		}
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the node ended: %v", err)
		}
	})
}
