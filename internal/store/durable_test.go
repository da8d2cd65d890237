package store_test

import (
	"bytes"
	"cmp"
	"context"
	"database/sql"
	"errors"
	"log/slog"
	"net/url"
	"strings"
	"testing"
	"time"

	"triggerd/internal/store"
	"triggerd/internal/store/storetest"
	"triggerd/internal/trigger"
)

// standbyAway makes a server wait for a synchronous standby that is not there,
// and cancels each wait as soon as it has begun, as statement_timeout does
// later. It returns a function that ends both.
func standbyAway(t *testing.T, raw *sql.DB) (back func()) {
	t.Helper()
	setStandbys(t, raw, "nobody")
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			_, _ = raw.ExecContext(ctx, `SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'`)
		}
	}()
	return func() {
		stop()
		<-done
		setStandbys(t, raw, "")
	}
}

// setStandbys sets which synchronous standbys a server waits for.
func setStandbys(t *testing.T, raw *sql.DB, names string) {
	t.Helper()
	execAll(t, raw, "ALTER SYSTEM SET synchronous_standby_names = '"+names+"'", "SELECT pg_reload_conf()")
	for now := "?"; now != names; {
		if err := raw.QueryRowContext(t.Context(), "SHOW synchronous_standby_names").Scan(&now); err != nil {
			t.Fatal(err)
		}
	}
}

// An answer that acknowledges a write and rests on rows that are there already
// is as durable as the write: while the synchronous standby is away, there is
// none. Reads go on.
func TestAnswersWaitForStandby(t *testing.T) {
	t.Parallel()
	storetest.OnPostgres(t, func(t *testing.T, _ *storetest.DB) {
		db := storetest.Cluster(t)
		s := db.Open(t)
		org := storetest.NewOrganization(t, s)
		first := event(s, org, "a")
		add(t, s, []*trigger.Event{first}, trigger.InboxID)
		claim := s.NewClaim()
		if list, _, err := s.ClaimInbox(t.Context(), org, store.InboxPage{Limit: 1, Bytes: 1 << 20}, claim, time.Minute); err != nil || len(list) != 1 {
			t.Fatalf("claimed %v, %v", list, err)
		}
		once := store.Once{Key: "k"}
		hook := func() (int64, error) {
			return s.AddWebhook(t.Context(), org, trigger.Webhook{
				State: trigger.Active, URL: "http://127.0.0.1:9", Secrets: trigger.OneSecret(trigger.NewSecret([32]byte{})),
			}, once)
		}
		answers := map[string]func() error{
			"duplicate": func() error {
				e := event(s, org, "a")
				got, err := s.AddEvents(t.Context(), &store.Batch{Events: []*trigger.Event{e}, Deliveries: [][]trigger.Delivery{nil}}, false)
				if err == nil && got[0] != first.ID {
					t.Errorf("the duplicate is %v, want %v", got[0], first.ID)
				}
				return err
			},
			"unknown batch again": func() error {
				_, err := s.AddEvents(t.Context(), &store.Batch{Events: []*trigger.Event{first}, Deliveries: [][]trigger.Delivery{nil}}, true)
				return err
			},
			"acknowledged again": func() error {
				done, err := s.AckInbox(t.Context(), org, claim, []trigger.ID{first.ID})
				if err == nil && !done[first.ID] {
					t.Error("the acknowledgement is gone")
				}
				return err
			},
			"event deleted again":        func() error { return notFound(s.DeleteEvent(t.Context(), org, s.NewClaim())) },
			"key revoked again":          func() error { return notFound(s.RevokeAPIKey(t.Context(), org, 1<<40)) },
			"webhook deleted again":      func() error { return notFound(s.SetWebhookState(t.Context(), org, 1<<40, trigger.Gone)) },
			"organization deleted again": func() error { return notFound(s.DeleteOrganization(t.Context(), 1<<40)) },
			"type deleted again":         func() error { return notFound(s.DeleteEventType(t.Context(), org, "none")) },
			"webhook changed":            func() error { return notFound(changeNothing(t.Context(), s, org)) },
			"Idempotency-Key": func() error {
				_, err := hook()
				if _, repeated := errors.AsType[*store.RepeatedError](err); repeated {
					return nil
				}
				return err
			},
		}
		if _, err := hook(); err != nil {
			t.Fatal(err)
		}
		for name, answer := range answers {
			if err := answer(); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
		raw := db.SQL(t)
		back := standbyAway(t, raw)
		for name, answer := range answers {
			if err := answer(); err == nil {
				t.Errorf("%s: answered without the standby", name)
			}
		}
		if _, _, err := s.Event(t.Context(), org, first.ID); err != nil {
			t.Errorf("a read waits for the standby: %v", err)
		}
		if list, _, err := s.ClaimInbox(t.Context(), org, store.InboxPage{Limit: 1, Bytes: 1 << 20}, s.NewClaim(), time.Minute); err != nil || len(list) != 0 {
			t.Errorf("a claim that finds nothing waits for the standby: %v", err)
		}
		back()
		for name, answer := range answers {
			if err := answer(); err != nil {
				t.Errorf("%s: %v with the standby back", name, err)
			}
		}
	})
}

// notFound returns nil for a NotFound, and an error for anything else.
func notFound(err error) error {
	if trigger.KindOf(err) == trigger.NotFound {
		return nil
	}
	return cmp.Or(err, errors.New("it was found"))
}

// changeNothing changes a webhook that is not there.
func changeNothing(ctx context.Context, s *store.Store, org int64) error {
	_, err := s.SetWebhook(ctx, org, 1<<40, func(*trigger.Webhook) error { return nil })
	return err
}

// Without a standby, an answer that rests on existing rows writes nothing.
func TestAnswersWithoutStandbyWriteNothing(t *testing.T) {
	t.Parallel()
	storetest.OnPostgres(t, func(t *testing.T, _ *storetest.DB) {
		db := storetest.Cluster(t)
		s := db.Open(t)
		org := storetest.NewOrganization(t, s)
		add(t, s, []*trigger.Event{event(s, org, "a")}, trigger.InboxID)
		raw := db.SQL(t)
		transactions := func() (next string) {
			if err := raw.QueryRowContext(t.Context(), "SELECT pg_snapshot_xmax(pg_current_snapshot())").Scan(&next); err != nil {
				t.Fatal(err)
			}
			return next
		}
		again := func() {
			if _, err := s.AddEvents(t.Context(), &store.Batch{
				Events: []*trigger.Event{event(s, org, "a")}, Deliveries: [][]trigger.Delivery{nil},
			}, false); err != nil {
				t.Fatal(err)
			}
		}
		again() // INSERT ... ON CONFLICT takes a number in any case
		before := transactions()
		if _, err := s.AckInbox(t.Context(), org, s.NewClaim(), []trigger.ID{s.NewClaim()}); err != nil {
			t.Fatal(err)
		}
		if after := transactions(); after != before {
			t.Errorf("transaction %s began, after %s: an answer was written", after, before)
		}
	})
}

// A role without any rights but those on its own database can tell servers
// apart; where it is not permitted to, it goes on, and caches last no longer
// than connections.
func TestServerOfOrdinaryRole(t *testing.T) {
	t.Parallel()
	storetest.OnPostgres(t, func(t *testing.T, _ *storetest.DB) {
		db := storetest.Cluster(t)
		raw := db.SQL(t)
		for _, text := range []string{"CREATE ROLE ordinary LOGIN PASSWORD 'secret'", "GRANT CREATE ON DATABASE postgres TO ordinary"} {
			if _, err := raw.ExecContext(t.Context(), text); err != nil {
				t.Fatal(err)
			}
		}
		u, err := url.Parse(db.Options.PostgresURL)
		if err != nil {
			t.Fatal(err)
		}
		u.User = url.UserPassword("ordinary", "secret")
		db.Options.PostgresURL = u.String()
		var log bytes.Buffer
		db.Options.Log = slog.New(slog.NewTextHandler(&log, nil))
		s := db.Open(t)
		if err := s.Ping(t.Context()); err != nil || log.Len() > 0 {
			t.Errorf("ping: %v, log: %s", err, &log)
		}
		if _, err := raw.ExecContext(t.Context(), "REVOKE EXECUTE ON FUNCTION pg_control_system FROM PUBLIC"); err != nil {
			t.Fatal(err)
		}
		before := s.Epoch()
		if db.Open(t).Epoch() == 0 || s.Epoch() != before {
			t.Error("connections that do not tell their server leave caches as they are")
		}
		if n := strings.Count(log.String(), "does not say"); n != 1 {
			t.Errorf("told %d times: %s", n, &log)
		}
	})
}
