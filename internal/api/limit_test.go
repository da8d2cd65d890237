package api

import (
	"crypto/rand"
	"fmt"
	"strconv"
	"testing"
	"time"

	"triggerd/internal/store/storetest"
	"triggerd/internal/trigger"
)

func TestRateLimitPerTier(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := newServer(t, db, func(a *API) {
			a.Limits = map[trigger.Tier]int{trigger.Free: 3, trigger.Professional: 7, trigger.Enterprise: 0}
		})
		for _, tier := range []string{"free", "professional", "enterprise"} {
			key, limit := s.newKey(t, tier), s.api.Limits[trigger.Tier(tier)]
			for i := range max(limit, 20) {
				r := s.post(t, key, `{"type":"t","payload":1,"dedup_id":"`+strconv.Itoa(i)+`"}`)
				if i < limit || limit == 0 {
					r.wants(t, tier, 200, "accepted")
					continue
				}
				r.isExactly(t, tier, 429, fmt.Sprintf(`{"error":"Rate limit exceeded","limit":%d,"window":"60 seconds"}`, limit))
			}
			stored := limit
			if limit == 0 {
				stored = 20
			}
			if page := s.inbox(t, key, "?limit=100"); page.Count != stored {
				t.Errorf("%s: %d events are stored, want %d", tier, page.Count, stored)
			}
		}
	})
}

// Everything that is posted as an event counts, whatever it is answered; what
// is refused counts nothing and stores nothing, and nothing else counts.
func TestWhatTheRateLimitCounts(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := newServer(t, db, func(a *API) { a.Limits[trigger.Free], a.MaxBody = 5, 200 })
		key, other := s.newKey(t, "free"), s.newKey(t, "free")
		good := `{"type":"t","payload":1,"dedup_id":"d"}`
		free := func() {
			t.Helper()
			s.do(t, "GET", "/health", key, "").wants(t, "health", 200, "")
			s.do(t, "GET", "/stats/cache", key, "").wants(t, "stats", 200, "")
			s.do(t, "GET", "/api/inbox", key, "").wants(t, "inbox", 200, "")
			s.do(t, "GET", "/api/inbox?limit=0", key, "").wants(t, "inbox", 400, "")
			s.do(t, "GET", "/api/events", key, "").wants(t, "method", 405, "")
			s.do(t, "POST", "/api/webhook/register", key, `{"url":"https://example.com/"}`).wants(t, "register", 200, "")
			s.do(t, "POST", "/api/keys/generate", key, `{"organization_name":"O"}`).wants(t, "keys", 200, "")
			s.post(t, "", good).wants(t, "no key", 401, "")
		}
		free()
		s.post(t, key, good).wants(t, "accepted", 200, "accepted")
		s.post(t, key, good).wants(t, "duplicate", 200, "duplicate")
		s.post(t, key, `{`).wants(t, "invalid", 400, "")
		s.do(t, "POST", "/api/events", key, good, "Content-Type: text/plain").wants(t, "no JSON", 415, "")
		s.post(t, key, fmt.Sprintf("%300s", good)).wants(t, "large", 413, "")
		free()
		s.clock.Advance(20 * time.Second)
		for range 10 {
			r := s.post(t, key, `{"type":"refused","payload":1,"dedup_id":"refused"}`)
			r.isExactly(t, "refused", 429, `{"error":"Rate limit exceeded","limit":5,"window":"60 seconds"}`)
			if r.header.Get("Retry-After") != "41" { // a step of a second counts whole
				t.Errorf("Retry-After %s", r.header.Get("Retry-After"))
			}
		}
		free()
		s.accept(t, other, good) // another organization has its own
		s.clock.Advance(41 * time.Second)
		s.accept(t, key, `{"type":"refused","payload":1,"dedup_id":"refused"}`)
		if page := s.inbox(t, key, ""); page.Count != 2 {
			t.Errorf("%d events are stored", page.Count)
		}
	})
}

func TestRateLimitAtOnce(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := newServer(t, db, func(a *API) { a.Limits[trigger.Free] = 60 })
		rateLimitOverAll(t, []*server{s, s})
	})
}

// unauthorized is what /v1 answers to a request without a right key, whatever is
// wrong with it.
const unauthorized = `{"type":"/docs/problems#unauthorized","title":"Unauthorized","status":401,"code":"unauthorized",` +
	`"detail":"The request needs a valid API key, or the admin token on a route of the operator"}`

func TestMissingAndInvalidKeys(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := newServer(t, db)
		key := s.newKey(t, "free")
		for _, rt := range s.api.routes() {
			if !rt.needsKey() {
				continue
			}
			missing, invalid := `{"error":"Missing API key"}`, `{"error":"Invalid API key"}`
			if rt.isNew() {
				missing, invalid = unauthorized, unauthorized
			}
			s.do(t, rt.method, rt.path, "", "").isExactly(t, rt.path, 401, missing)
			s.do(t, rt.method, rt.path, "", "", "x-api-key: ").isExactly(t, rt.path, 401, missing)
			for _, wrong := range []string{
				"sk_wrong", newWrongKey(), key[:len(key)-1], key + "a", "SK" + key[2:], key[:10] + "'; DROP TABLE api_keys; --", "Bearer " + key,
			} {
				s.do(t, rt.method, rt.path, wrong, "").isExactly(t, rt.path+" "+wrong, 401, invalid)
			}
			s.clock.Advance(minute)
			if !rt.isNew() {
				s.do(t, rt.method, rt.path, "", "", "Authorization: Bearer "+key).isExactly(t, rt.path, 401, missing)
				continue
			}
			for _, wrong := range []string{"sk_wrong", key[:len(key)-1], ""} {
				s.do(t, rt.method, rt.path, "", "", "Authorization: Bearer "+wrong).isExactly(t, rt.path, 401, unauthorized)
				s.do(t, rt.method, rt.path, "sk_wrong", "", "Authorization: Bearer "+wrong).isExactly(t, rt.path, 401, unauthorized)
			}
			s.do(t, rt.method, rt.path, key, "", "Authorization: Bearer "+newWrongKey()).isExactly(t, "two keys", 401, unauthorized)
			s.do(t, rt.method, rt.path, "", "", "Authorization: Basic "+key).isExactly(t, "not a Bearer", 401, unauthorized)
			s.clock.Advance(minute)
		}
	})
}

// newWrongKey looks like a key, and is nobody's.
func newWrongKey() string {
	var random [32]byte
	_, _ = rand.Read(random[:])
	return trigger.NewAPIKey(random)
}

func TestManyWrongKeys(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := newServer(t, db)
		key := s.newKey(t, "free")
		for range 30 {
			s.do(t, "GET", "/api/inbox", "", "").isExactly(t, "missing keys do not count", 401, `{"error":"Missing API key"}`)
		}
		for i := range 20 {
			wrong := []string{newWrongKey(), "sk_malformed"}[i%2]
			s.do(t, "GET", "/api/inbox", wrong, "").isExactly(t, i, 401, `{"error":"Invalid API key"}`)
		}
		s.clock.Advance(10 * time.Second)
		for _, wrong := range []string{newWrongKey(), "sk_malformed"} {
			r := s.post(t, wrong, `{`)
			r.isExactly(t, "one more", 429, `{"error":"Rate limit exceeded","limit":20,"window":"60 seconds"}`)
			if r.header.Get("Retry-After") != "51" {
				t.Errorf("Retry-After %s", r.header.Get("Retry-After"))
			}
			s.accept(t, key, `{"type":"t","payload":1}`) // a right key passes always
			s.do(t, "GET", "/api/inbox", "", "").isExactly(t, "missing", 401, `{"error":"Missing API key"}`)
		}
		s.serveFrom(t, "192.0.2.1:1000", "/api/inbox", newWrongKey()).isExactly(t, "another address", 401, `{"error":"Invalid API key"}`)
		s.serveFrom(t, "127.0.0.1:1", "/api/inbox", newWrongKey()).wants(t, "another port", 429, "")
		s.serveFrom(t, "[::ffff:127.0.0.1]:1", "/api/inbox", newWrongKey()).wants(t, "the same address", 429, "")
		s.serveFrom(t, "127.0.0.1:1", "/api/inbox", key).wants(t, "a right key", 200, "")
		s.clock.Advance(51 * time.Second)
		s.do(t, "GET", "/api/inbox", newWrongKey(), "").isExactly(t, "later", 401, `{"error":"Invalid API key"}`)
	})
}
