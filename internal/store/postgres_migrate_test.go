package store_test

import (
	"context"
	"database/sql"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"testing"

	"github.com/pressly/goose/v3"

	"triggerd/internal/store"
	"triggerd/internal/store/storetest"
)

// beforeTombstones makes an empty PostgreSQL database with the schema before
// the migration that changes webhooks.
func beforeTombstones(t *testing.T, db *storetest.DB) *sql.DB {
	t.Helper()
	raw := db.SQL(t)
	if _, err := raw.ExecContext(t.Context(), `DROP SCHEMA triggerd CASCADE`); err != nil {
		t.Fatal(err)
	}
	if _, err := raw.ExecContext(t.Context(), `CREATE SCHEMA triggerd`); err != nil {
		t.Fatal(err)
	}
	files, err := fs.Sub(os.DirFS("migrations"), "postgres")
	if err != nil {
		t.Fatal(err)
	}
	provider, err := goose.NewProvider(goose.DialectPostgres, raw, files, goose.WithDisableGlobalRegistry(true))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := provider.UpTo(t.Context(), 6); err != nil {
		t.Fatal(err)
	}
	return raw
}

// A migration waits for a reader of a table that it changes, and says so. It
// holds up nobody else meanwhile.
func TestMigrationBesideReader(t *testing.T) {
	t.Parallel()
	storetest.OnPostgres(t, func(t *testing.T, db *storetest.DB) {
		raw := beforeTombstones(t, db)
		reader, err := raw.BeginTx(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer reader.Rollback() // again, if the test failed before
		var pid int
		if err := reader.QueryRowContext(t.Context(), `SELECT pg_backend_pid(), set_config('application_name', 'pg_dump', false), count(*) FROM webhooks`).
			Scan(&pid, new(string), new(int)); err != nil {
			t.Fatal(err)
		}
		told, ended := make(chan string, 1), make(chan error, 1)
		options := db.Options
		options.Doing = func(what string) {
			if strings.HasPrefix(what, "the locks of ") {
				select {
				case told <- what:
				default: // it is told again where others hold locks, too
				}
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		go func() {
			s, err := store.Open(ctx, options)
			if err == nil {
				err = s.Close()
			}
			ended <- err
		}()
		select {
		case what := <-told:
			if part := fmt.Sprintf("pid %d (pg_dump)", pid); !strings.Contains(what, part) {
				t.Errorf("the migration waits for %q, want %q in it", what, part)
			}
		case err := <-ended:
			t.Fatalf("the opening ended with %v beside the reader", err)
		}
		for range 3 {
			for waiting := 0; waiting == 0; { // until the next try; the query fails when ctx ends
				if err := raw.QueryRowContext(ctx, `SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'webhooks'::regclass`).
					Scan(&waiting); err != nil {
					t.Fatal(err)
				}
			}
			useWebhooks(ctx, t, raw)
		}
		if err := reader.Rollback(); err != nil {
			t.Fatal(err)
		}
		if err := <-ended; err != nil {
			t.Errorf("the opening ended with %v after the reader", err)
		}
		exec(t, db, `SELECT secrets_until FROM webhooks`)
	})
}

// useWebhooks uses webhooks as another node does, with its bound for locks.
func useWebhooks(ctx context.Context, t *testing.T, raw *sql.DB) {
	t.Helper()
	conn, err := raw.Conn(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for _, text := range []string{
		`SET lock_timeout = '2s'`,
		`SELECT count(*) FROM webhooks`,
		`INSERT INTO webhooks (organization_id, state, url, filter, secret, created_at)
			SELECT id, 'active', '', '', '', 0 FROM organizations`,
	} {
		if _, err := conn.ExecContext(ctx, text); err != nil {
			t.Fatalf("beside the migration: %v", err)
		}
	}
}
