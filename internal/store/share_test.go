package store_test

import (
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"triggerd/internal/store"
	"triggerd/internal/store/storetest"
	"triggerd/internal/trigger"
)

// An organization whose requests make no progress takes a part of the connections
// only: others read and write meanwhile, and so does the server itself.
func TestConnectionsAreShared(t *testing.T) {
	t.Parallel()
	storetest.OnPostgres(t, func(t *testing.T, db *storetest.DB) {
		s := db.Open(t)
		stuck, other := storetest.NewOrganization(t, s), storetest.NewOrganization(t, s)
		hook := newWebhook(t, s, other, "a")
		theirs := newWebhook(t, s, stuck, "a")
		conn, err := pgx.Connect(t.Context(), db.Options.PostgresURL)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close(t.Context())
		if _, err := conn.Exec(t.Context(), "BEGIN"); err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Exec(t.Context(), "SELECT id FROM triggerd.organizations WHERE id = $1 FOR UPDATE", stuck); err != nil {
			t.Fatal(err)
		}
		var stuckOnes sync.WaitGroup
		for range 50 {
			stuckOnes.Go(func() {
				ctx := store.WithOrganization(t.Context(), stuck)
				_ = s.SetWebhookState(ctx, stuck, theirs, trigger.Paused) // waits for the lock
			})
		}
		watching := db.SQL(t)
		for waiting := 0; waiting < 3; { // of 10 connections 3 are for events, 1 is the server's own, and they get half of 6
			const text = `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`
			if err := watching.QueryRowContext(t.Context(), text).Scan(&waiting); err != nil {
				t.Fatal(err)
			}
		}
		ctx := store.WithOrganization(t.Context(), other)
		for range 20 {
			if _, err := s.Webhook(ctx, other, hook); err != nil {
				t.Fatalf("another organization reads: %v", err)
			}
			if err := s.SetWebhookState(ctx, other, hook, trigger.Active); err != nil {
				t.Fatalf("another organization writes: %v", err)
			}
			if _, err := s.Webhook(t.Context(), other, hook); err != nil {
				t.Fatalf("the server reads: %v", err)
			}
		}
		if _, err := conn.Exec(t.Context(), "ROLLBACK"); err != nil {
			t.Fatal(err)
		}
		stuckOnes.Wait()
	})
}
