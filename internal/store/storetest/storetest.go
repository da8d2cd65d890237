// Package storetest provides each test with its own database. The same test
// runs on SQLite in a temporary folder and on PostgreSQL, on a clone of a
// migrated template in the cluster of TEST_DATABASE_URL (set by
// scripts/with-postgres).
package storetest

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"triggerd/internal/store"
	"triggerd/internal/trigger"
)

// DB is an empty database.
type DB struct {
	Clock   *Clock
	Options store.Options
}

// Each runs the test on a fresh database of each kind. Without PostgreSQL it
// logs that and tests only SQLite; with CI set that is a failure.
func Each(t *testing.T, test func(t *testing.T, db *DB)) {
	t.Helper()
	t.Run("sqlite", func(t *testing.T) { test(t, SQLite(t)) })
	OnPostgres(t, test)
}

// OnPostgres is Each for features that SQLite does not have.
func OnPostgres(t *testing.T, test func(t *testing.T, db *DB)) {
	t.Helper()
	if os.Getenv("TEST_DATABASE_URL") == "" {
		message := "NOT TESTED on PostgreSQL: TEST_DATABASE_URL is not set, run make test or scripts/with-postgres go test ./..."
		if os.Getenv("CI") != "" {
			t.Error(message)
		}
		t.Log(message)
		return
	}
	t.Run("postgres", func(t *testing.T) { test(t, Postgres(t)) })
}

// EachBench is Each for benchmarks; without PostgreSQL it measures only SQLite.
func EachBench(b *testing.B, bench func(b *testing.B, db *DB)) {
	b.Helper()
	b.Run("sqlite", func(b *testing.B) { bench(b, SQLite(b)) })
	if os.Getenv("TEST_DATABASE_URL") != "" {
		b.Run("postgres", func(b *testing.B) { bench(b, Postgres(b)) })
	}
}

// SQLite returns a database in an empty data folder.
func SQLite(t testing.TB) *DB {
	t.Helper()
	return newDB(store.Options{DataDir: t.TempDir()})
}

// Postgres returns an empty database in the test's cluster.
func Postgres(t testing.TB) *DB {
	t.Helper()
	ctx := t.Context()
	admin, err := pgx.Connect(ctx, os.Getenv("TEST_DATABASE_URL"))
	if err != nil {
		t.Fatalf("connect to TEST_DATABASE_URL: %v", err)
	}
	defer admin.Close(ctx)
	template, err := ensureTemplate(ctx, admin)
	if err != nil {
		t.Fatalf("make the template database: %v", err)
	}
	name := fmt.Sprintf("t_%d_%d", os.Getpid(), time.Now().UnixNano())
	if _, err := admin.Exec(ctx, fmt.Sprintf("CREATE DATABASE %s TEMPLATE %s", name, template)); err != nil {
		t.Fatalf("clone the template database: %v", err)
	}
	t.Cleanup(func() { drop(t, name) })
	return newDB(store.Options{PostgresURL: databaseURL(name), PoolSize: 10})
}

func newDB(o store.Options) *DB {
	clock := &Clock{}
	o.Now, o.OwnClock = clock.Now, true
	return &DB{Clock: clock, Options: o}
}

// IsPostgres reports whether the database is on PostgreSQL.
func (db *DB) IsPostgres() bool { return db.Options.PostgresURL != "" }

// Open opens the database and closes it at the end of the test. On PostgreSQL
// each further Open adds a node.
func (db *DB) Open(t *testing.T) *store.Store {
	t.Helper()
	s, err := store.Open(t.Context(), db.Options)
	if err != nil {
		t.Fatalf("open the store: %v", err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close the store: %v", err)
		}
	})
	return s
}

// SQL opens the database beside the store, to read or change rows as another
// program would.
func (db *DB) SQL(t testing.TB) *sql.DB {
	t.Helper()
	driver, source := "sqlite", "file:"+filepath.Join(db.Options.DataDir, "triggerd.db")+"?_pragma=busy_timeout(5000)"
	if db.IsPostgres() {
		u, err := url.Parse(db.Options.PostgresURL)
		if err != nil {
			t.Fatal(err)
		}
		query := u.Query()
		query.Set("search_path", "triggerd")
		u.RawQuery = query.Encode()
		driver, source = "pgx", u.String()
	}
	raw, err := sql.Open(driver, source)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { raw.Close() })
	return raw
}

// NewOrganization stores an organization and returns its id.
func NewOrganization(t testing.TB, s *store.Store) int64 {
	t.Helper()
	var key trigger.APIKey
	for i := range key.Hash {
		key.Hash[i] = byte(rand.Uint32())
	}
	id, err := s.AddOrganization(t.Context(), trigger.Organization{Name: "Org", Tier: trigger.Free}, key, store.Once{})
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// CountEvents counts the events of an organization by status.
func CountEvents(t testing.TB, s *store.Store, orgID int64) map[trigger.Status]int {
	t.Helper()
	page, err := s.ListEvents(t.Context(), orgID, "", 100_000)
	if err != nil {
		t.Fatal(err)
	}
	n := map[trigger.Status]int{}
	for _, e := range page {
		n[e.Status]++
	}
	return n
}

// Clock is a clock that a test can move ahead.
type Clock struct{ ahead atomic.Int64 }

// Now returns the moved time, with its monotonic reading.
func (c *Clock) Now() time.Time { return time.Now().Add(time.Duration(c.ahead.Load())) }

// Advance moves the clock ahead.
func (c *Clock) Advance(d time.Duration) { c.ahead.Add(int64(d)) }

// ensureTemplate migrates a database once for all test binaries of a run.
func ensureTemplate(ctx context.Context, admin *pgx.Conn) (name string, err error) {
	name = "triggerd_template"
	const lock = 7425309
	if _, err := admin.Exec(ctx, "SELECT pg_advisory_lock($1)", lock); err != nil {
		return "", err
	}
	defer admin.Exec(ctx, "SELECT pg_advisory_unlock($1)", lock)
	var exists bool
	err = admin.QueryRow(ctx, "SELECT EXISTS (SELECT 1 FROM pg_database WHERE datname = $1)", name).Scan(&exists)
	if err != nil || exists {
		return name, err
	}
	if _, err := admin.Exec(ctx, "CREATE DATABASE building TEMPLATE template0 ENCODING 'UTF8'"); err != nil {
		return "", err
	}
	s, err := store.Open(ctx, store.Options{PostgresURL: databaseURL("building"), PoolSize: 4, Now: time.Now})
	if err != nil {
		return "", err
	}
	if err := errors.Join(s.Leave(ctx), s.Close()); err != nil {
		return "", err
	}
	_, err = admin.Exec(ctx, "ALTER DATABASE building RENAME TO "+name)
	return name, err
}

func databaseURL(name string) string {
	u, err := url.Parse(os.Getenv("TEST_DATABASE_URL"))
	if err != nil {
		return ""
	}
	u.Path = "/" + name
	return u.String()
}

func drop(t testing.TB, name string) {
	ctx := context.WithoutCancel(t.Context())
	admin, err := pgx.Connect(ctx, os.Getenv("TEST_DATABASE_URL"))
	if err != nil {
		t.Errorf("connect to drop a database: %v", err)
		return
	}
	defer admin.Close(ctx)
	if _, err := admin.Exec(ctx, fmt.Sprintf("DROP DATABASE IF EXISTS %s WITH (FORCE)", name)); err != nil {
		t.Errorf("drop a database: %v", err)
	}
}
