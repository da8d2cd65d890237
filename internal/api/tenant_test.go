package api

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"triggerd/internal/store"
	"triggerd/internal/store/storetest"
	"triggerd/internal/trigger"
)

// tenants are two organizations: one with an event and a webhook, and another.
type tenants struct {
	*server
	key, other    string
	event         string
	webhook       int64
	dedup, secret string
}

// tenantChecks are what another organization must not get from each route of
// the original contract that has an owner. A route without one here fails the
// test.
var tenantChecks = map[string]func(*testing.T, *tenants){
	"POST /api/events": func(t *testing.T, s *tenants) {
		r := s.post(t, s.other, `{"type":"a.x","payload":2,"dedup_id":"`+s.dedup+`"}`)
		r.wants(t, "the same dedup id", 200, "accepted")
		if id := r.member(t, "event-id"); id == s.event {
			t.Errorf("the answer is the event of another organization")
		}
		s.post(t, s.key, `{"type":"a.x","payload":2,"dedup_id":"`+s.dedup+`"}`).wants(t, "its own", 200, s.event)
		if n := s.claimable(t, s.webhook, s.other); n != 0 {
			t.Errorf("%d events are owed to a webhook of another organization", n)
		}
	},
	"GET /api/inbox": func(t *testing.T, s *tenants) {
		for _, query := range []string{
			"?limit=100", "?status=pending", "?status=failed", "?status=delivered", "?organization_id=1", "?org=1&id=" + s.event, "?key=" + s.key,
		} {
			for _, e := range s.inbox(t, s.other, query).Events {
				if e.ID == s.event || strings.Contains(string(e.Payload), s.secret) {
					t.Errorf("inbox%s shows %+v", query, e)
				}
			}
		}
		s.do(t, "GET", "/api/inbox", s.other, "", "x-api-key: "+s.key).wants(t, "two keys: none counts", 401, "Invalid API key")
	},
	"POST /api/webhook/register": func(t *testing.T, s *tenants) {
		id := s.newWebhook(t, s.other, `{"url":"https://example.com/other","event_type_filter":"*","webhook-id":`+
			strconv.FormatInt(s.webhook, 10)+`,"id":`+strconv.FormatInt(s.webhook, 10)+`,"organization_id":1}`)
		if id == s.webhook {
			t.Fatal("the webhook of another organization was replaced")
		}
		s.accept(t, s.key, `{"type":"a.late","payload":1}`)
		if n := s.claimable(t, id, s.key); n != 0 {
			t.Errorf("%d events of another organization are owed to it", n)
		}
	},
}

// claimable counts what a webhook is owed of an organization's events.
func (s *tenants) claimable(t *testing.T, webhookID int64, key string) int {
	t.Helper()
	now, org := s.store.Now(), s.keyOf(t, key).Organization.ID
	taken, err := s.store.Claim(t.Context(), []store.Want{{Bucket: trigger.Bucket(org), WebhookID: webhookID, Room: 100}},
		s.store.NewClaim(), now, now.Add(time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, d := range taken {
		if d.OrganizationID == org {
			n++
		}
	}
	return n
}

func TestOtherOrganizationsSeeNothing(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := &tenants{server: newServer(t, db), dedup: "order-1", secret: "only mine"}
		s.key, s.other = s.newKey(t, "free"), s.newKey(t, "free")
		s.webhook = s.newWebhook(t, s.key, `{"url":"https://example.com/","event_type_filter":"a.*"}`)
		s.event = s.accept(t, s.key, `{"type":"a.x","payload":"`+s.secret+`","dedup_id":"`+s.dedup+`"}`)
		for _, rt := range s.api.oldRoutes() {
			if !rt.needsKey() {
				continue
			}
			name := rt.method + " " + rt.path
			check := tenantChecks[name]
			if check == nil {
				t.Errorf("%s: add to tenantChecks what another organization must not get from it", name)
				continue
			}
			check(t, s)
		}
		if own := s.inbox(t, s.key, "?limit=100").ids(); len(own) != 2 || own[1] != s.event {
			t.Errorf("its own inbox: %v", own)
		}
	})
}

// Each route says who may ask it, and holds to it.
func TestScopes(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := newServer(t, db, func(a *API) { a.AdminToken = "token" })
		known := map[string]bool{}
		for _, rt := range s.api.routes() {
			known[rt.path] = true
			r := s.do(t, rt.method, rt.path, "", "")
			if public := rt.scope == scopePublic; public != (r.status != 401) {
				t.Errorf("%s %s: %d for anyone", rt.method, rt.path, r.status)
			}
			if rt.scope == scopeSignup || rt.scope == scopeAdmin || rt.scope == scopeMetrics {
				r := s.do(t, rt.method, rt.path, "", "", "Authorization: Bearer token")
				if r.status == 401 {
					t.Errorf("%s %s: 401 for the operator", rt.method, rt.path)
				}
			}
		}
		for path := range contractRoutes {
			if !known[path] {
				t.Errorf("%s is gone", path)
			}
		}
	})
}

// A revoked key is good for 5 s at most, and others of its kind go on.
func TestRevokedKey(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := newServer(t, db)
		key, other := s.newKey(t, "free"), s.newKey(t, "free")
		s.inbox(t, key, "") // now it is cached
		stored := s.keyOf(t, key)
		s.addKey(t, key, trigger.AllScopes) // the last one cannot be revoked
		if err := s.store.RevokeAPIKey(t.Context(), stored.Organization.ID, stored.ID); err != nil {
			t.Fatal(err)
		}
		s.clock.Advance(5 * time.Second)
		for range 2 {
			s.do(t, "GET", "/api/inbox", key, "").isExactly(t, "revoked", 401, `{"error":"Invalid API key"}`)
			s.post(t, key, `{"type":"t","payload":1}`).isExactly(t, "revoked", 401, `{"error":"Invalid API key"}`)
			s.inbox(t, other, "")
		}
	})
}

// addKey makes one more key of the organization of another.
func (s *server) addKey(t *testing.T, of string, scopes trigger.Scopes) string {
	t.Helper()
	shown, key := drawKey()
	key.Scopes = scopes
	if _, err := s.store.AddAPIKey(t.Context(), s.keyOf(t, of).Organization.ID, key, store.Once{}); err != nil {
		t.Fatal(err)
	}
	return shown
}

// A key works from the moment that it is made, also where it was asked for
// before: that there was none is not remembered.
func TestMissesAreNotCached(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := newServer(t, db)
		key := newWrongKey()
		for range 3 {
			s.do(t, "GET", "/api/inbox", key, "").isExactly(t, "not yet", 401, `{"error":"Invalid API key"}`)
		}
		hash, _ := trigger.HashAPIKey(key)
		_, err := s.store.AddOrganization(t.Context(), trigger.Organization{Name: "O", Tier: trigger.Free}, trigger.APIKey{Hash: hash}, store.Once{})
		if err != nil {
			t.Fatal(err)
		}
		s.inbox(t, key, "")
	})
}
