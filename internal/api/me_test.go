package api

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"triggerd/client"
	"triggerd/internal/store/storetest"
)

func TestMe(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := newServer(t, db, withOperator)
		org, key := s.found(t)
		stored := s.keyOf(t, key)
		reader := s.make(t, key, client.KeyInput{Scopes: []string{"read"}}).Key
		got, err := s.as(key).Me(t.Context())
		want := client.Me{Organization: org, Key: client.Key{
			ID: stored.ID, Prefix: key[:9], Scopes: []string{"ingest", "read", "manage"}, Networks: []string{}, CreatedAt: stored.CreatedAt.Truncate(time.Millisecond),
		}, RateLimit: &client.RateLimit{Limit: 1000, WindowSeconds: 60}}
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("%v %s", err, diff)
		}
		patch := client.MePatch{Inbox: client.Set("everything"), Deduplication: client.Set("strict")}
		want.Organization.Inbox, want.Organization.Deduplication = "everything", "strict"
		got, err = s.as(key).UpdateMe(t.Context(), patch)
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("%v %s", err, diff)
		}
		if got, err = s.as(key).Me(t.Context()); err != nil || got.Organization.Inbox != "everything" {
			t.Errorf("it is not followed at once: %+v, %v", got, err)
		}
		r := s.ask(t, "PATCH", "/v1/me", key, `{"inbox":null}`)
		r.wants(t, "null", 200, `"inbox":"unmatched","deduplication":"strict"`)
		s.ask(t, "PATCH", "/v1/me", key, ``).wants(t, "nothing", 200, `"inbox":"unmatched","deduplication":"strict"`)
		if r.header.Get("RateLimit-Policy") != `"default";q=1000;w=60` || !strings.HasPrefix(r.header.Get("RateLimit"), `"default";r=1000;t=`) {
			t.Errorf("%v", r.header)
		}
		s.accept(t, key, `{"type":"t","payload":1}`)
		if r := s.ask(t, "GET", "/v1/me", reader, ""); r.status != 200 || !strings.HasPrefix(r.header.Get("RateLimit"), `"default";r=999;t=`) {
			t.Errorf("a reader, after an event: %d %v", r.status, r.header)
		}
		s.ask(t, "PATCH", "/v1/me", reader, `{}`).wantsProblem(t, "a reader", 403, "missing_scope", "")
		for body, at := range map[string]string{
			`{"inbox":"x"}`: "#/inbox", `{"deduplication":1}`: "#/deduplication", `{"tier":"enterprise"}`: "#/tier", `{"rate_limit":0}`: "#/rate_limit",
			`{"name":"x"}`: "#/name", `{"suspended":false}`: "#/suspended",
		} {
			s.ask(t, "PATCH", "/v1/me", key, body).wantsProblem(t, body, 422, "validation_failed", at)
		}
		s.ask(t, "PATCH", "/v1/me", key, `nothing`).wantsProblem(t, "no JSON", 400, "invalid_json", "")
		s.ask(t, "PATCH", "/v1/me", key, `{}`, "Content-Type: text/html").wantsProblem(t, "HTML", 415, "unsupported_media_type", "")
		s.ask(t, "GET", "/v1/me?x=1", key, ``).wantsProblem(t, "a parameter", 400, "invalid_parameter", "x")
		s.ask(t, "GET", "/v1/me?x=%zz", key, ``).wantsProblem(t, "no query", 400, "invalid_parameter", "")
	})
}

// When a key was last used is written down by and by, and shown to the minute.
func TestLastUse(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := newServer(t, db, withOperator)
		_, first := s.found(t)
		key := s.make(t, first, client.KeyInput{})
		before := s.store.Now().Truncate(time.Minute)
		if !s.knows(t, key.Key) {
			t.Fatal("the key is not good")
		}
		s.api.noteKeys(t.Context())
		got, err := s.as(first).KeyByID(t.Context(), key.ID)
		if at := got.LastUsedAt; err != nil || at.Second() != 0 || at.Nanosecond() != 0 || at.Before(before) || at.After(s.store.Now()) {
			t.Errorf("last used at %v: %v", at, err)
		}
	})
}

// A stop while the database is away ends well, though the use of a key cannot
// be noted.
func TestStopWithoutDatabase(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := newServer(t, db, withOperator)
		_, first := s.found(t)
		if !s.knows(t, first) {
			t.Fatal("the key is not good")
		}
		if err := s.store.Close(); err != nil {
			t.Fatal(err)
		}
		stopped, stop := context.WithCancel(t.Context())
		stop()
		if err := s.api.Run(stopped); err != nil {
			t.Errorf("Run: %v", err)
		}
		if !strings.Contains(s.log.String(), "cannot record when API keys were used") {
			t.Error("the log does not tell")
		}
	})
}

// While the database is away each route says so.
func TestAccountWithoutDatabase(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := newServer(t, db, withOperator)
		_, key := s.found(t)
		s.knows(t, key)
		if err := s.store.Close(); err != nil {
			t.Fatal(err)
		}
		for _, rt := range s.api.routes() {
			if !strings.HasPrefix(rt.path, "/v1/organizations") && !strings.HasPrefix(rt.path, "/v1/keys") && rt.path != "/v1/me" {
				continue
			}
			token, body := key, ``
			if rt.scope == scopeAdmin {
				token = operator
			}
			if rt.method == "POST" && rt.path == "/v1/organizations" {
				body = `{"name":"O"}`
			}
			target := strings.NewReplacer("{organization_id}", "1", "{key_id}", "1").Replace(rt.path)
			r := s.ask(t, rt.method, target, token, body)
			if rt.method == "GET" && rt.path == "/v1/me" {
				r.wants(t, "what is cached", 200, `"id":`)
				continue
			}
			r.wantsProblem(t, rt.method+" "+rt.path, 503, "unavailable", "")
			if r.header.Get("Retry-After") == "" {
				t.Errorf("%s %s: %v", rt.method, rt.path, r.header)
			}
		}
	})
}

// Wrong keys are counted by address, and then the right one is not asked for.
func TestWrongKeysAreLimited(t *testing.T) {
	t.Parallel()
	s := newServer(t, storetest.SQLite(t), withOperator)
	_, key := s.found(t)
	for range wrongKeys {
		s.ask(t, "GET", "/v1/me", newWrongKey(), "").wantsProblem(t, "wrong", 401, "unauthorized", "")
	}
	r := s.ask(t, "GET", "/v1/keys", newWrongKey(), "")
	r.wantsProblem(t, "too many", 429, "rate_limited", "")
	if r.header.Get("Retry-After") == "" || !strings.Contains(r.body, "quota-exceeded") {
		t.Errorf("%v %s", r.header, r.body)
	}
	if !s.knows(t, key) {
		t.Error("the right key is not good")
	}
}
