package api

import (
	"slices"
	"strings"
	"testing"

	"triggerd/internal/store/storetest"
)

// The endpoints of the original contract, and what is allowed at each.
var contractRoutes = map[string]string{
	"/health":               "GET, HEAD",
	"/api/keys/generate":    "POST",
	"/api/events":           "POST",
	"/api/inbox":            "GET, HEAD",
	"/api/webhook/register": "POST",
	"/stats/cache":          "GET, HEAD",
}

func TestHealth(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := newServer(t, db)
		const want = `{"status":"ok","timestamp":"2025-11-11T17:25:41.962560Z"}` // UTC, and no zero is cut
		s.do(t, "GET", "/health", "", "").isExactly(t, "health", 200, want)
		s.do(t, "GET", "/health?verbose=1", "wrong", "").isExactly(t, "health", 200, want)
		if r := s.do(t, "HEAD", "/health", "", ""); r.status != 200 || r.body != "" {
			t.Errorf("HEAD: %d %q", r.status, r.body)
		}
	})
}

func TestWrongMethods(t *testing.T) {
	t.Parallel()
	s := newServer(t, storetest.SQLite(t))
	for path, allow := range contractRoutes {
		methods := strings.Split(allow, ", ")
		for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "QUERY", "get"} {
			if slices.Contains(methods, method) {
				continue
			}
			r := s.do(t, method, path, "", "{}", "Content-Type: text/plain")
			if r.status != 405 || r.header.Get("Allow") != allow || method != "HEAD" && r.body != `{"error":"Method not allowed"}` {
				t.Errorf("%s %s: %d, Allow %q, %s", method, path, r.status, r.header.Get("Allow"), r.body)
			}
		}
	}
}

func TestUnknownPaths(t *testing.T) {
	t.Parallel()
	s := newServer(t, storetest.SQLite(t))
	for _, path := range []string{
		"", "/", "/api", "/api/", "/stats", "/favicon.ico", "/v1", "/healt", "/healthz", "/HEALTH", "/Health", "/health.json",
		"/health/", "/api/events/", "/api/inbox/1", "/api/Events", "/api/webhooks/register", "/api/key/generate",
		"//health", "/./health", "/../health", "/x/../health", "/api//events", "/api/./events", "/api/../health", "/health/.",
		"/api/inbox/..", "//", "/..", "/%2e%2e/health", "/api%2fevents", "/api/%2e%2e/health", "/health%2f", "/health%00",
		"/health%0d%0aX-A:%20b", "/health;a=b", "/api/inbox%3Flimit=1", "///example.com/health", "/health%20", "/%5Chealth", "/\\health", "/health%ff",
	} {
		for _, method := range []string{"GET", "POST", "HEAD", "DELETE"} {
			r := s.do(t, method, path, "", "")
			if r.status != 404 || method != "HEAD" && r.body != `{"error":"Not found"}` {
				t.Errorf("%s %s: %d %s, Location %q", method, path, r.status, r.body, r.header.Get("Location"))
			}
		}
	}
}

func TestContentTypes(t *testing.T) {
	t.Parallel()
	types := map[string]bool{
		"": true, "application/json": true, "APPLICATION/JSON": true, "application/json; charset=utf-8": true,
		"application/json;charset=\"UTF-8\"; v=1": true, "application/problem+json": true, "application/cloudevents+json; charset=utf-8": true,
		"text/vnd.x+json": true,
		"text/plain":      false, "text/json": false, "application/xml": false, "application/x-www-form-urlencoded": false,
		"multipart/form-data; boundary=x": false, "application/jsonp": false, "application/json-seq": false, "application/x-ndjson": false,
		"application/octet-stream": false, "json": false, "*/*": false, "application/json, text/plain": false, "text/plain; a=application/json": false,
		"application/": false, ";": false, "application/json+xml": false, "\"application/json\"": false,
	}
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := newServer(t, db)
		key := s.newKey(t, "enterprise")
		for path, body := range map[string]string{
			"/api/events":           `{"type":"t","payload":1}`,
			"/api/keys/generate":    `{"organization_name":"O"}`,
			"/api/webhook/register": `{"url":"https://example.com/"}`,
		} {
			for contentType, ok := range types {
				var headers []string
				if contentType != "" {
					headers = []string{"Content-Type: " + contentType}
				}
				status := 200
				if !ok {
					status = 415
				}
				s.do(t, "POST", path, key, body, headers...).wants(t, path+" "+contentType, status, "")
			}
			s.do(t, "POST", path, key, body, "Content-Encoding: gzip").wants(t, "gzip", 415, "")
			s.do(t, "POST", path, key, body, "Content-Encoding: identity").wants(t, "identity", 200, "")
		}
	})
}

// A request that is wrong in several ways gets the answer of the first:
// 404/405, 401, 429, 415, 413, 400. Each step mends one wrong.
func TestOrderOfJudgement(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := newServer(t, db, func(a *API) {
			a.MaxBody, a.Limits["free"], a.AdminToken = 64, 1, "token"
		})
		admin := "Authorization: Bearer token"
		newKey := func() string {
			return s.do(t, "POST", "/api/keys/generate", "", `{"organization_name":"O"}`, admin).member(t, "api-key")
		}
		fresh, exhausted := newKey(), newKey()
		s.accept(t, exhausted, `{"type":"t","payload":1}`)
		large, bad := strings.Repeat("{", 65), strings.Repeat("{", 64)
		text, isJSON := "Content-Type: text/plain", "Content-Type: application/json"
		for _, tt := range []struct {
			method, path, key, body string
			headers                 []string
			status                  int
		}{
			{"POST", "/api/event", "", large, []string{text}, 404},
			{"POST", "/api/events/", exhausted, large, []string{text}, 404},
			{"PUT", "/api/events", "", large, []string{text}, 405},
			{"PUT", "/api/events", exhausted, large, []string{text}, 405},
			{"POST", "/api/events", "", large, []string{text}, 401},
			{"POST", "/api/events", "sk_wrong", large, []string{text}, 401},
			{"POST", "/api/events", exhausted, large, []string{text}, 429},
			{"POST", "/api/events", exhausted, bad, []string{isJSON}, 429},
			{"POST", "/api/events", fresh, large, []string{text}, 415}, // costs its one permit
			{"POST", "/api/events", newKey(), large, []string{isJSON}, 413},
			{"POST", "/api/events", newKey(), bad, []string{isJSON}, 400},

			{"GET", "/api/webhook/register", "", large, []string{text}, 405},
			{"POST", "/api/webhook/register", "", large, []string{text}, 401},
			{"POST", "/api/webhook/register", exhausted, large, []string{text}, 415},
			{"POST", "/api/webhook/register", exhausted, large, []string{isJSON}, 413},
			{"POST", "/api/webhook/register", exhausted, bad, []string{isJSON}, 400},

			{"DELETE", "/api/keys/generate", "", large, []string{text}, 405},
			{"POST", "/api/keys/generate", exhausted, large, []string{text}, 401},
			{"POST", "/api/keys/generate", "", large, []string{text, admin}, 415},
			{"POST", "/api/keys/generate", "", large, []string{isJSON, admin}, 413},
			{"POST", "/api/keys/generate", "", bad, []string{isJSON, admin}, 400},

			{"POST", "/api/inbox?limit=0", "", "", nil, 405},
			{"GET", "/api/inbox?limit=0", "", "", nil, 401},
			{"GET", "/api/inbox?limit=0", exhausted, "", nil, 400},
		} {
			s.do(t, tt.method, tt.path, tt.key, tt.body, tt.headers...).wants(t, tt, tt.status, "")
		}
	})
}

func TestCacheStats(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := newServer(t, db)
		key := s.newKey(t, "free")
		stats := func(want string) {
			t.Helper()
			s.do(t, "GET", "/stats/cache", "", "").isExactly(t, "stats", 200, want)
		}
		stats(`{"size":0,"max-size":8,"hit-rate":0}`)
		s.accept(t, key, `{"type":"t","payload":1}`) // without a dedup id: nothing to look up
		stats(`{"size":0,"max-size":8,"hit-rate":0}`)
		s.accept(t, key, `{"type":"t","payload":1,"dedup_id":"a"}`)
		stats(`{"size":1,"max-size":8,"hit-rate":0}`)
		for range 3 {
			s.post(t, key, `{"type":"t","payload":1,"dedup_id":"a"}`).wants(t, "again", 200, "duplicate")
		}
		stats(`{"size":1,"max-size":8,"hit-rate":0.75}`)
		s.post(t, key, `{"type":"","payload":1,"dedup_id":"b"}`).wants(t, "invalid", 400, "type") // is not looked up
		stats(`{"size":1,"max-size":8,"hit-rate":0.75}`)
		for _, id := range strings.Split("bcdefghijklm", "") { // 12 misses, and the oldest go one by one
			s.accept(t, key, `{"type":"t","payload":1,"dedup_id":"`+id+`"}`)
		}
		stats(`{"size":8,"max-size":8,"hit-rate":0.1875}`)
	})
}
