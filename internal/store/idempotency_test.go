package store_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"triggerd/internal/store"
	"triggerd/internal/store/storetest"
	"triggerd/internal/trigger"
)

// maker makes something once.
type maker func(ctx context.Context, s *store.Store, o store.Once) (int64, error)

// makers are all that make things once, with what they make counted by.
func makers(t *testing.T, s *store.Store, orgID int64) map[string]maker {
	t.Helper()
	hook, rotated := newWebhook(t, s, orgID, ""), addKey(t, s, orgID, newKey())
	again := event(s, orgID, "")
	add(t, s, []*trigger.Event{again})
	return map[string]maker{
		"organizations": func(ctx context.Context, s *store.Store, o store.Once) (int64, error) {
			return s.AddOrganization(ctx, trigger.Organization{Name: "O", Tier: trigger.Free}, newKey(), o)
		},
		"api_keys": func(ctx context.Context, s *store.Store, o store.Once) (int64, error) {
			return s.AddAPIKey(ctx, orgID, newKey(), o)
		},
		"api_keys, in place": func(ctx context.Context, s *store.Store, o store.Once) (int64, error) {
			return s.RotateAPIKey(ctx, store.Rotation{OrganizationID: orgID, KeyID: rotated.ID, Next: newKey(), Overlap: 0}, o)
		},
		"webhooks": func(ctx context.Context, s *store.Store, o store.Once) (int64, error) {
			return s.AddWebhook(ctx, orgID, trigger.Webhook{
				State: trigger.Active, URL: "http://127.0.0.1:9/", Secrets: trigger.OneSecret(trigger.NewSecret([32]byte{1})),
			}, o)
		},
		"replays": func(ctx context.Context, s *store.Store, o store.Once) (int64, error) {
			return s.AddReplay(ctx, orgID, trigger.Replay{WebhookID: hook}, o)
		},
		"replays, of one": func(ctx context.Context, s *store.Store, o store.Once) (int64, error) {
			return s.Resend(ctx, orgID, again.ID, hook, o)
		},
	}
}

// rowsOf counts the rows of a table.
func rowsOf(t *testing.T, db *storetest.DB, table string) (n int) {
	t.Helper()
	table, _, _ = strings.Cut(table, ",")
	if err := db.SQL(t).QueryRowContext(t.Context(), `SELECT count(*) FROM `+table).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

func isRepeated(t *testing.T, what string, err error, made int64) {
	t.Helper()
	if e, ok := errors.AsType[*store.RepeatedError](err); !ok || e.Made != made {
		t.Errorf("%s: %v, want that it has made %d", what, err, made)
	}
}

func TestOnce(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := db.Open(t)
		for what, makeIt := range makers(t, s, storetest.NewOrganization(t, s)) {
			o := store.Once{Key: "key of " + what, Fingerprint: [32]byte{1}}
			made, err := makeIt(t.Context(), s, o)
			if err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			before := rowsOf(t, db, what)
			for range 2 {
				_, err = makeIt(t.Context(), s, o)
				isRepeated(t, what, err, made)
			}
			_, err = makeIt(t.Context(), s, store.Once{Key: o.Key, Fingerprint: [32]byte{2}})
			isKind(t, what+" for another request", err, trigger.Invalid)
			if e, ok := errors.AsType[*trigger.Error](err); !ok || e.Code != "idempotency_conflict" {
				t.Errorf("%s for another request: %v", what, err)
			}
			if n := rowsOf(t, db, what); n != before {
				t.Errorf("%s: %d more were made", what, n-before)
			}
			if what == "api_keys, in place" {
				continue // of a key that has ended
			}
			if other, err := makeIt(t.Context(), s, store.Once{Key: o.Key + " "}); err != nil || other == made {
				t.Errorf("%s, another key: %d after %d, %v", what, other, made, err)
			}
			if other, err := makeIt(t.Context(), s, store.Once{}); err != nil || other == made {
				t.Errorf("%s, without a key: %d after %d, %v", what, other, made, err)
			}
		}
	})
}

// What fails is not remembered; each organization has keys of its own.
func TestOnceIsOfWhatWasMade(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := db.Open(t)
		org, other := storetest.NewOrganization(t, s), storetest.NewOrganization(t, s)
		o := store.Once{Key: "k"}
		_, err := s.RotateAPIKey(t.Context(), store.Rotation{OrganizationID: org, KeyID: 99, Next: newKey(), Overlap: 0}, o)
		isKind(t, "rotate nothing", err, trigger.NotFound)
		_, err = s.AddReplay(t.Context(), org, trigger.Replay{WebhookID: 99}, o)
		isKind(t, "replay to nothing", err, trigger.NotFound)
		if n := rowsOf(t, db, "idempotency"); n != 0 {
			t.Errorf("%d failures are remembered", n)
		}
		first, err := s.AddAPIKey(t.Context(), org, newKey(), o)
		if err != nil {
			t.Fatal(err)
		}
		if id, err := s.AddAPIKey(t.Context(), other, newKey(), o); err != nil || id == first {
			t.Errorf("another organization's: %d after %d, %v", id, first, err)
		}
		if _, err := s.AddOrganization(t.Context(), trigger.Organization{Name: "O", Tier: trigger.Free}, newKey(), o); err != nil {
			t.Errorf("the operator's: %v", err)
		}
		_, err = s.AddAPIKey(t.Context(), org, newKey(), o)
		isRepeated(t, "its own", err, first)
	})
}

// A request is remembered for a day, and may then be made anew.
func TestOnceForADay(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := db.Open(t)
		org := storetest.NewOrganization(t, s)
		o := store.Once{Key: "k"}
		first, err := s.AddAPIKey(t.Context(), org, newKey(), o)
		if err != nil {
			t.Fatal(err)
		}
		db.Clock.Advance(24*time.Hour - time.Minute)
		if err := s.DropRequests(t.Context()); err != nil {
			t.Fatal(err)
		}
		_, err = s.AddAPIKey(t.Context(), org, newKey(), o)
		isRepeated(t, "on the same day", err, first)
		db.Clock.Advance(2 * time.Minute)
		second, err := s.AddAPIKey(t.Context(), org, newKey(), store.Once{Key: "k", Fingerprint: [32]byte{9}})
		if err != nil || second == first {
			t.Errorf("a day later, another request: %d after %d, %v", second, first, err)
		}
		if err := s.DropRequests(t.Context()); err != nil || rowsOf(t, db, "idempotency") != 1 {
			t.Errorf("%d requests are remembered: %v", rowsOf(t, db, "idempotency"), err)
		}
		db.Clock.Advance(25 * time.Hour)
		if err := s.DropRequests(t.Context()); err != nil || rowsOf(t, db, "idempotency") != 0 {
			t.Errorf("%d requests are remembered: %v", rowsOf(t, db, "idempotency"), err)
		}
	})
}

// Of twenty that race, on two nodes, one makes it, and the others are told so.
func TestOnceRaced(t *testing.T) {
	t.Parallel()
	const racers = 20
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		nodes := []*store.Store{db.Open(t)}
		if db.IsPostgres() {
			nodes = append(nodes, db.Open(t))
		}
		for what, makeIt := range makers(t, nodes[0], storetest.NewOrganization(t, nodes[0])) {
			before := rowsOf(t, db, what)
			var wg sync.WaitGroup
			ids, errs := make([]int64, racers), make([]error, racers)
			for i := range racers {
				wg.Go(func() {
					ids[i], errs[i] = makeIt(t.Context(), nodes[i%len(nodes)], store.Once{Key: "race for " + what})
				})
			}
			wg.Wait()
			made, winners := int64(0), 0
			for i, err := range errs {
				if err == nil {
					made = ids[i]
					winners++
				}
			}
			if n := rowsOf(t, db, what) - before; winners != 1 || n != 1 {
				t.Errorf("%s: %d have made it, %d were made: %v", what, winners, n, errs)
				continue
			}
			for _, err := range errs {
				if err != nil {
					isRepeated(t, what, err, made)
				}
			}
		}
	})
}
