package api

import (
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"triggerd/internal/store"
	"triggerd/internal/store/storetest"
)

// withoutDatabase is what each route of the original contract answers while its
// database is down. A route without one here fails the test.
var withoutDatabase = map[string]struct {
	body   string
	status int
}{
	"GET /health":                {"", 200},
	"GET /stats/cache":           {"", 200},
	"GET /livez":                 {"", 200},
	"GET /readyz":                {"", 503},
	"GET /metrics":               {"", 200},
	"GET /debug/pprof/{profile}": {"", 401}, // without a token
	"GET /api/inbox":             {"", 503},
	"POST /api/events":           {`{"type":"t","payload":1,"dedup_id":"down"}`, 503},
	"POST /api/keys/generate":    {`{"organization_name":"O"}`, 503},
	"POST /api/webhook/register": {`{"url":"https://example.com/"}`, 503},
}

// checkDown asks every route while the database is down.
func (s *server) checkDown(t *testing.T, key string) {
	t.Helper()
	stop := s.hurry(t)
	defer stop()
	var rotates route // forgets the keys that are cached
	for _, rt := range s.api.newRoutes() {
		if rt.path == "/v1/keys/{key_id}/rotate" {
			rotates = rt
			continue
		}
		s.checkNewDown(t, rt, key)
		s.do(t, "GET", "/v1/me", key, "").wants(t, "me, after "+rt.method+" "+rt.path+": the key is cached", 200, "")
	}
	for _, rt := range s.api.oldRoutes() {
		name := rt.method + " " + rt.path
		want, known := withoutDatabase[name]
		if !known {
			t.Errorf("%s: add to withoutDatabase what it answers while the database is down", name)
		}
		keys := []string{key} // cached
		if rt.needsKey() {
			keys = append(keys, newWrongKey()) // nobody can know that it is one
		}
		for _, key := range keys {
			r := s.do(t, rt.method, rt.path, key, want.body)
			if r.status != want.status || want.status == 503 && r.header.Get("Retry-After") == "" {
				t.Errorf("%s: %d %s, want %d", name, r.status, r.body, want.status)
			}
			if rt.path != "/readyz" && want.status == 503 && r.body != `{"error":"Service unavailable"}` {
				t.Errorf("%s: %s", name, r.body)
			}
		}
	}
	s.checkNewDown(t, rotates, key)
	s.clock.Advance(minute) // the key is no longer cached
	s.do(t, "GET", "/api/inbox", key, "").isExactly(t, "inbox", 503, `{"error":"Service unavailable"}`)
	s.post(t, key, `{"type":"t","payload":1}`).isExactly(t, "events", 503, `{"error":"Service unavailable"}`)
	s.post(t, key, `{`).isExactly(t, "even what is wrong", 503, `{"error":"Service unavailable"}`)
	s.post(t, "", `{`).wants(t, "that needs no database", 401, "")
	s.do(t, "GET", "/v1/me", key, "").wants(t, "a key that is not cached", 503, `"code":"unavailable"`)
	s.do(t, "GET", "/v1/me", "", "").isExactly(t, "no key", 401, unauthorized)
}

// checkNewDown asks a route of /v1: it says 503, or what it says without a
// database, too.
func (s *server) checkNewDown(t *testing.T, rt route, key string) {
	t.Helper()
	name := rt.method + " " + rt.path
	body := description().operations[name].example()
	wants := func(key string, status int, part string, headers ...string) {
		t.Helper()
		s.do(t, rt.method, filled(rt.path), key, body, headers...).wants(t, name, status, part)
	}
	switch {
	case rt.method == "OPTIONS":
		wants("", 204, "")
	case rt.scope == scopePublic:
		wants("", 200, "")
	case rt.scope == scopeAdmin:
		wants("", 401, `"code":"unauthorized"`)
		wants("", 503, `"code":"unavailable"`, adminToken) // nobody can know whether it is right
	case name == "GET /v1/me": // all of it is cached
		wants(key, 200, `"organization":`)
		wants(newWrongKey(), 503, `"code":"unavailable"`)
	default:
		wants(key, 503, `"code":"unavailable"`)
		wants(newWrongKey(), 503, `"code":"unavailable"`) // nobody can know that it is one
	}
}

// hurry lets the time of the store run ahead, so that its patience with the
// database is over at once.
func (s *server) hurry(t *testing.T) (stop func()) {
	t.Helper()
	done := make(chan struct{})
	var running sync.WaitGroup
	running.Go(func() {
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				s.db.Clock.Advance(time.Second)
			}
		}
	})
	return func() { close(done); running.Wait() }
}

// SQLite's file is this process's own: what can be down is the store.
func TestStoreClosed(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		st, err := store.Open(t.Context(), db.Options)
		if err != nil {
			t.Fatal(err)
		}
		s := serveStore(t, db, st)
		key := s.newKey(t, "free")
		s.accept(t, key, `{"type":"t","payload":1}`)
		if err := st.Close(); err != nil {
			t.Fatal(err)
		}
		s.checkDown(t, key)
		if strings.Contains(s.log.String(), "panic") {
			t.Error(s.log.String())
		}
	})
}

// PostgreSQL goes away, with all connections, and comes back.
func TestPostgresDown(t *testing.T) {
	t.Parallel()
	storetest.OnPostgres(t, func(t *testing.T, db *storetest.DB) {
		s := newServer(t, db)
		key := s.newKey(t, "free")
		first := s.accept(t, key, `{"type":"t","payload":1,"dedup_id":"first"}`)
		allow, name := admin(t), databaseName(t, db)
		allow("ALTER DATABASE " + name + " ALLOW_CONNECTIONS false")
		allow("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '" + name + "'")
		s.checkDown(t, key)
		allow("ALTER DATABASE " + name + " ALLOW_CONNECTIONS true")
		s.post(t, key, `{"type":"t","payload":1,"dedup_id":"first"}`).wants(t, "back again", 200, first)
		id := s.accept(t, key, `{"type":"t","payload":1,"dedup_id":"down"}`) // the failed one was not remembered
		if page := s.inbox(t, key, ""); page.Count != 2 || page.Events[0].ID != id {
			t.Errorf("%+v", page)
		}
		// Connections that die while nobody looks are nobody's error for long.
		allow("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '" + name + "'")
		eventually(t, "all connections are replaced", func() bool {
			r := s.post(t, key, `{"type":"t","payload":1}`)
			page := s.do(t, "GET", "/api/inbox", key, "")
			for _, status := range []int{r.status, page.status} {
				if status != 200 && status != 503 {
					t.Errorf("%d %s; %d %s", r.status, r.body, page.status, page.body)
				}
			}
			return r.status == 200 && page.status == 200
		})
	})
}

// admin gives a function that runs statements in the test's cluster.
func admin(t *testing.T) func(statement string) {
	t.Helper()
	return func(statement string) {
		t.Helper()
		conn, err := pgx.Connect(t.Context(), os.Getenv("TEST_DATABASE_URL"))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close(t.Context())
		if _, err := conn.Exec(t.Context(), statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
}

func databaseName(t *testing.T, db *storetest.DB) string {
	t.Helper()
	u, err := url.Parse(db.Options.PostgresURL)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimPrefix(u.Path, "/")
}

// eventually waits for a condition, and gives up late.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	late := time.NewTimer(patience)
	defer late.Stop()
	for !condition() {
		select {
		case <-tick.C:
		case <-late.C:
			t.Fatalf("not in %v: %s", patience, what)
		}
	}
}
