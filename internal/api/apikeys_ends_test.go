package api

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"triggerd/client"
	"triggerd/internal/store/storetest"
	"triggerd/internal/trigger"
)

// A revoked key ends on its node at once, and elsewhere within keyTTL.
func TestRevocation(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := newServer(t, db, withOperator)
		other := serveStore(t, db, s.store, withOperator) // a cache of its own, as a node has
		_, first := s.found(t)
		key := s.make(t, first, client.KeyInput{Name: "short"})
		if !s.knows(t, key.Key) || !other.knows(t, key.Key) {
			t.Fatal("the key is not good")
		}
		if err := s.as(first).DeleteKey(t.Context(), key.ID); err != nil {
			t.Fatal(err)
		}
		r := s.ask(t, "GET", "/v1/me", key.Key, "")
		r.wantsProblem(t, "revoked", 401, "unauthorized", "")
		if r.header.Get("WWW-Authenticate") != `ApiKey realm="triggerd"` || r.header.Get("RateLimit") != "" {
			t.Errorf("revoked: %v", r.header)
		}
		other.clock.Advance(keyTTL)
		if other.knows(t, key.Key) {
			t.Error("the key is good after keyTTL")
		}
		if !s.knows(t, first) || !other.knows(t, first) {
			t.Error("another key is not good")
		}
		s.ask(t, "DELETE", fmt.Sprintf("/v1/keys/%d", key.ID), first, "").wantsProblem(t, "again", 404, "not_found", "")
	})
}

func TestLastKeyStays(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := newServer(t, db, withOperator)
		_, first := s.found(t)
		id := s.keyOf(t, first).ID
		s.make(t, first, client.KeyInput{Scopes: []string{"ingest", "read"}})
		s.make(t, first, client.KeyInput{ExpiresAt: s.store.Now().Add(time.Hour)})
		s.ask(t, "DELETE", fmt.Sprintf("/v1/keys/%d", id), first, "").wantsProblem(t, "the last one", 409, "conflict", "")
		next, err := s.as(first).RotateKey(t.Context(), id, nil) // now another one manages
		if err != nil {
			t.Fatal(err)
		}
		if err := s.as(first).DeleteKey(t.Context(), id); err != nil { // itself
			t.Error(err)
		}
		if s.knows(t, first) {
			t.Error("it is still good")
		}
		s.ask(t, "DELETE", fmt.Sprintf("/v1/keys/%d", next.ID), next.Key, "").wantsProblem(t, "the new last one", 409, "conflict", "")
	})
}

// An expired key is refused at once, also where it is cached.
func TestExpiry(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := newServer(t, db, withOperator)
		_, first := s.found(t)
		key := s.make(t, first, client.KeyInput{ExpiresAt: s.store.Now().Add(time.Hour)})
		db.Clock.Advance(59 * time.Minute)
		if !s.knows(t, key.Key) {
			t.Fatal("the key has ended early")
		}
		db.Clock.Advance(time.Minute)
		s.ask(t, "GET", "/v1/me", key.Key, "").wantsProblem(t, "expired", 401, "unauthorized", "")
		s.ask(t, "GET", fmt.Sprintf("/v1/keys/%d", key.ID), first, "").wantsProblem(t, "expired", 404, "not_found", "")
		if !s.knows(t, first) {
			t.Error("another key is not good")
		}
	})
}

func TestRotation(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := newServer(t, db, withOperator)
		_, first := s.found(t)
		ends := s.store.Now().Add(48 * time.Hour).Truncate(time.Millisecond)
		old := s.make(t, first, client.KeyInput{
			Name: "n", Scopes: []string{"read"}, Networks: []string{"127.0.0.0/8"}, ExpiresAt: ends,
		})
		day := s.store.Now().Add(24 * time.Hour)
		next, err := s.as(first).RotateKey(t.Context(), old.ID, nil)
		if err != nil || next.Key == old.Key || next.ID == old.ID {
			t.Fatalf("%+v: %v", next, err)
		}
		want := old
		want.ID, want.Key, want.Prefix, want.CreatedAt = next.ID, next.Key, next.Prefix, next.CreatedAt
		if diff := cmp.Diff(want, next); diff != "" {
			t.Error(diff)
		}
		if !s.knows(t, old.Key) || !s.knows(t, next.Key) {
			t.Error("they are not both good")
		}
		shown, err := s.as(first).KeyByID(t.Context(), old.ID)
		if late := shown.ExpiresAt.Sub(day); err != nil || late < -time.Second || late > time.Minute {
			t.Errorf("the old one ends at %v, want %v: %v", shown.ExpiresAt, day, err)
		}
		db.Clock.Advance(24 * time.Hour)
		if s.knows(t, old.Key) || !s.knows(t, next.Key) {
			t.Error("after the overlap the new one alone is to be good")
		}
		zero := 0.0
		last, err := s.as(first).RotateKey(t.Context(), next.ID, &zero)
		if err != nil || s.knows(t, next.Key) || !s.knows(t, last.Key) {
			t.Errorf("without an overlap: %v", err)
		}
		path := fmt.Sprintf("/v1/keys/%d/rotate", last.ID)
		for body, at := range map[string]string{
			`{"overlap_seconds":-1}`: "#/overlap_seconds", `{"overlap_seconds":2592001}`: "#/overlap_seconds", `{"overlap_seconds":"1"}`: "#/overlap_seconds",
			`{"overlap_seconds":1e300}`: "#/overlap_seconds", `{"name":"x"}`: "#/name",
		} {
			s.ask(t, "POST", path, first, body).wantsProblem(t, body, 422, "validation_failed", at)
		}
		s.ask(t, "POST", path, first, `[`).wantsProblem(t, "no JSON", 400, "invalid_json", "")
		s.ask(t, "POST", path, first, `{"overlap_seconds":null}`).wants(t, "null", 201, `"key":"sk_`)
		s.ask(t, "POST", path, first, `{"overlap_seconds":0.5}`).wants(t, "a fraction", 201, `"key":"sk_`)
	})
}

func TestHundredKeys(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := newServer(t, db, withOperator)
		org, first := s.found(t)
		for i := range trigger.MaxKeys - 1 {
			key := trigger.APIKey{Hash: [32]byte{byte(i), 1}, Prefix: "sk_", Scopes: trigger.AllScopes}
			if _, err := s.store.AddAPIKey(t.Context(), org.ID, key, noOnce()); err != nil {
				t.Fatal(err)
			}
		}
		id := s.keyOf(t, first).ID
		s.ask(t, "POST", "/v1/keys", first, ``).wantsProblem(t, "one more", 409, "conflict", "")
		s.ask(t, "POST", fmt.Sprintf("/v1/organizations/%d/keys", org.ID), operator, ``).wantsProblem(t, "one more", 409, "conflict", "")
		s.ask(t, "POST", fmt.Sprintf("/v1/keys/%d/rotate", id+1), first, ``).wantsProblem(t, "one more for a day", 409, "conflict", "")
		s.ask(t, "POST", fmt.Sprintf("/v1/keys/%d/rotate", id+1), first, `{"overlap_seconds":0}`).wants(t, "one for another", 201, "sk_")
		n := 0
		for key, err := range s.as(first).Keys(t.Context()) {
			if n++; err != nil || key.Key != "" {
				t.Errorf("%+v: %v", key, err)
			}
		}
		if n != trigger.MaxKeys {
			t.Errorf("%d are listed", n)
		}
	})
}
