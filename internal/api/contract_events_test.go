package api

import (
	"regexp"
	"strconv"
	"strings"
	"testing"

	"triggerd/internal/store/storetest"
)

func TestEventIsAcceptedOrDuplicate(t *testing.T) {
	t.Parallel()
	const uuid = `[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}`
	accepted := regexp.MustCompile(`^\{"status":"accepted","event-id":"` + uuid + `"\}$`)
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := newServer(t, db)
		key := s.newKey(t, "free")
		seen := map[string]bool{}
		post := func(body string) string {
			t.Helper()
			r := s.post(t, key, body)
			if r.status != 200 || !accepted.MatchString(r.body) {
				t.Fatalf("%s: %d %s", body, r.status, r.body)
			}
			id := r.member(t, "event-id")
			if seen[id] {
				t.Errorf("%s: the id %s is not new", body, id)
			}
			seen[id] = true
			return id
		}
		post(`{"type":"user.created","payload":{"user_id":1}}`)
		post(`{"type":"user.created","payload":{"user_id":1}}`)
		post(`{"type":"user.created","payload":{"user_id":1},"dedup_id":null}`)
		post(`{"id":"mine","organization_id":1,"status":"delivered","created-at":"2000-01-01T00:00:00Z","type":"t","payload":1}`)
		first := post(`{"type":"user.created","payload":{"user_id":1},"dedup_id":"order-1"}`)
		duplicate := `{"status":"duplicate","event-id":"` + first + `","message":"Event already exists"}`
		for _, body := range []string{
			`{"type":"user.created","payload":{"user_id":1},"dedup_id":"order-1"}`,
			`{"type":"another","payload":null,"dedup_id":"order-1"}`,
			`{"type":"another","payload":2,"dedup_id":"\u006frder-1"}`,
		} {
			s.post(t, key, body).isExactly(t, body, 200, duplicate)
		}
		for i := range 2 * cacheSize { // until the cache has forgotten it
			post(`{"type":"t","payload":1,"dedup_id":"` + strconv.Itoa(i) + `"}`)
		}
		s.post(t, key, `{"type":"t","payload":1,"dedup_id":"order-1"}`).isExactly(t, "from the store", 200, duplicate)
		if page := s.inbox(t, key, "?limit=100"); page.Count != len(seen) {
			t.Errorf("%d events in the inbox, want %d", page.Count, len(seen))
		}
	})
}

func TestEnvelopesOverHTTP(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := newServer(t, db)
		key := s.newKey(t, "enterprise")
		for body, message := range badEnvelopes() {
			s.post(t, key, body).wants(t, body, 400, message)
		}
		if page := s.inbox(t, key, ""); page.Count != 0 {
			t.Errorf("invalid events were stored: %+v", page)
		}
		for body := range goodEnvelopes() {
			s.post(t, key, body).wants(t, body, 200, `"event-id":"`)
		}
	})
}

// Dedup ids are compared byte by byte: these are all different.
func TestDedupIDs(t *testing.T) {
	t.Parallel()
	ids := []string{
		"a", "A", " a", "a ", "é", "e\u0301", "É", "ﬀ", "ff", "😀", "\\n", "\\t", "\\u007f", "\\u0001", "\\ufeff", "\\ufffd", "\\uffff",
		"'", "''", "%", "_", "'; DROP TABLE events; --", "\\\"", "\\\\", "\\\\x00", "\\\\0", "\\r\\nx-api-key: a", "$1", "{}", "null", "0",
		"../..", "<script>", "\\u202e", "\\u2028", strings.Repeat("d", 254), strings.Repeat("d", 255), strings.Repeat("é", 127) + "d",
	}
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := newServer(t, db)
		key, other := s.newKey(t, "free"), s.newKey(t, "free")
		body := func(id string) string { return `{"type":"t","payload":1,"dedup_id":"` + id + `"}` }
		made := map[string]string{}
		for _, id := range ids {
			made[id] = s.accept(t, key, body(id))
		}
		for _, id := range ids {
			s.post(t, key, body(id)).wants(t, id, 200, `{"status":"duplicate","event-id":"`+made[id]+`"`)
			if s.accept(t, other, body(id)) == made[id] { // the scope is the organization
				t.Errorf("%s: the id of another organization", id)
			}
		}
		s.post(t, key, body(strings.Repeat("d", 256))).wants(t, "256 bytes", 400, "dedup_id")
		s.post(t, key, body(strings.Repeat("é", 128))).wants(t, "256 bytes", 400, "dedup_id")
	})
}

// An event that failed can be sent again.
func TestDedupIDsOfFailedEventsAreFree(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := newServer(t, db, func(a *API) { a.Limits["free"] = 3 })
		key := s.newKey(t, "free")
		s.post(t, key, `{"type":"","payload":1,"dedup_id":"d"}`).wants(t, "no type", 400, "type")
		s.post(t, key, `{"type":"t","dedup_id":"d"}`).wants(t, "no payload", 400, "payload")
		s.accept(t, key, `{"type":"t","payload":1,"dedup_id":"d"}`)
		s.post(t, key, `{"type":"t","payload":1,"dedup_id":"e"}`).wants(t, "over the limit", 429, "")
		s.clock.Advance(minute)
		s.accept(t, key, `{"type":"t","payload":1,"dedup_id":"e"}`)
	})
}

func TestSameDedupIDAtOnce(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := newServer(t, db)
		sameDedupIDOnAll(t, []*server{s, s})
	})
}
