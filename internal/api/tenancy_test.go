package api

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"

	"triggerd/internal/store/storetest"
	"triggerd/internal/trigger"
)

// asked is a request to a route: its path, if it is not the route's own, with a
// query, and its body. Names in braces stand for what the asked organization
// has, those with "own_" for what the asking one has.
type asked struct {
	target, body string
	status       int // of the answer; 0 is 404
}

// byPath asks by the path alone.
var byPath = []asked{{}}

// tenancy is how each route of /v1 that needs a key could be asked for what is
// another organization's: by ids in its path, its query and its body. None
// where there are no ids. A route without an entry fails the test.
var tenancy = map[string][]asked{
	"GET /v1/me":                                   nil,
	"PATCH /v1/me":                                 nil,
	"GET /v1/keys":                                 nil,
	"POST /v1/keys":                                nil,
	"GET /v1/keys/{key_id}":                        byPath,
	"DELETE /v1/keys/{key_id}":                     byPath,
	"POST /v1/keys/{key_id}/rotate":                byPath,
	"POST /v1/events":                              nil, // see checkNames
	"GET /v1/events":                               {{"/v1/events?webhook_id={webhook_id}", "", 200}, {"/v1/events?dedup_id={dedup_id}", "", 200}, {"/v1/events?type={name}", "", 200}},
	"GET /v1/events/{event_id}":                    byPath,
	"DELETE /v1/events/{event_id}":                 byPath,
	"GET /v1/events/{event_id}/why":                byPath,
	"GET /v1/events/{event_id}/attempts":           byPath,
	"POST /v1/events/{event_id}/resend":            {{"", `{"webhook_id":{webhook_id}}`, 0}, {"", `{"webhook_id":{own_webhook_id}}`, 0}, {"/v1/events/{own_event_id}/resend", `{"webhook_id":{webhook_id}}`, 0}},
	"GET /v1/samples":                              {{"/v1/samples?type={name}", "", 200}},
	"GET /v1/event-types":                          nil,
	"GET /v1/event-types/{name}":                   byPath,
	"PUT /v1/event-types/{name}":                   nil, // see checkNames
	"DELETE /v1/event-types/{name}":                byPath,
	"GET /v1/inbox":                                nil,
	"GET /v1/inbox/stream":                         nil, // see checkStream
	"POST /v1/inbox/claim":                         nil,
	"POST /v1/inbox/ack":                           {{"", `{"claim":"{claim}","ids":["{claimed_id}"]}`, 200}, {"", `{"claim":"{own_claim}","ids":["{claimed_id}"]}`, 200}, {"", `{"claim":"{claim}","ids":["{own_claimed_id}"]}`, 200}},
	"POST /v1/inbox/release":                       {{"", `{"claim":"{claim}","ids":["{claimed_id}"]}`, 200}, {"", `{"claim":"{own_claim}","ids":["{claimed_id}"]}`, 200}, {"", `{"claim":"{claim}","ids":["{own_claimed_id}"]}`, 200}},
	"POST /v1/inbox/extend":                        {{"", `{"claim":"{claim}","ids":["{claimed_id}"]}`, 200}, {"", `{"claim":"{own_claim}","ids":["{claimed_id}"]}`, 200}, {"", `{"claim":"{claim}","ids":["{own_claimed_id}"]}`, 200}},
	"POST /v1/webhooks":                            nil,
	"GET /v1/webhooks":                             nil,
	"POST /v1/webhooks/dry-run":                    {{"", `{"webhook_id":{webhook_id}}`, 0}},
	"GET /v1/webhooks/{webhook_id}":                byPath,
	"PATCH /v1/webhooks/{webhook_id}":              {{"", `{"description":"ours now"}`, 0}},
	"DELETE /v1/webhooks/{webhook_id}":             byPath,
	"POST /v1/webhooks/{webhook_id}/pause":         byPath,
	"POST /v1/webhooks/{webhook_id}/resume":        byPath,
	"POST /v1/webhooks/{webhook_id}/rotate-secret": byPath,
	"POST /v1/webhooks/{webhook_id}/test":          byPath,
	"GET /v1/deliveries":                           {{"/v1/deliveries?webhook_id={webhook_id}", "", 200}, {"/v1/deliveries?webhook_id=0", "", 200}},
	"GET /v1/attempts":                             {{"/v1/attempts?webhook_id={webhook_id}", "", 200}, {"/v1/attempts?replay_id={replay_id}", "", 200}},
	"POST /v1/replays":                             {{"", `{"webhook_id":{webhook_id}}`, 0}},
	"GET /v1/replays":                              nil,
	"POST /v1/replays/preview":                     {{"", `{"webhook_id":{webhook_id}}`, 0}},
	"GET /v1/replays/{replay_id}":                  byPath,
	"POST /v1/replays/{replay_id}/pause":           byPath,
	"POST /v1/replays/{replay_id}/resume":          byPath,
	"POST /v1/replays/{replay_id}/cancel":          byPath,
}

// things are what an organization has, by what the parameters are called.
type things map[string]string

// nobodys has what nobody has.
var nobodys = things{
	"event_id": someEvent, "webhook_id": "999999999", "key_id": "999999999", "replay_id": "999999999", "name": "no.such", "dedup_id": "no.such",
	"claim": someEvent, "claimed_id": someEvent, "organization_id": "999999999",
}

// fill puts things in their places.
func (th things) fill(s string, own things) string {
	for name, value := range own {
		s = strings.ReplaceAll(s, "{own_"+name+"}", value)
	}
	for name, value := range th {
		s = strings.ReplaceAll(s, "{"+name+"}", value)
	}
	return s
}

const adminToken = "Authorization: Bearer token"

// furnish makes an organization that has two of everything. All that is its own
// says whose it is.
func (s *server) furnish(t *testing.T, whose string) (key string, has things) {
	t.Helper()
	r := s.do(t, "POST", "/v1/organizations", "", `{"name":"`+whose+`","tier":"enterprise","inbox":"everything"}`, adminToken)
	r.wants(t, "organization", 201, whose)
	var made struct {
		Organization, Key struct {
			ID  int64
			Key string
		}
	}
	if err := json.Unmarshal([]byte(r.body), &made); err != nil {
		t.Fatal(err)
	}
	key = made.Key.Key
	has = things{"organization_id": fmt.Sprint(made.Organization.ID), "name": "user." + whose, "dedup_id": whose + "-1"}
	post := func(method, target, body string, status int) (answer struct {
		ID    json.RawMessage
		Claim string
		Data  []struct{ ID string }
	},
	) {
		t.Helper()
		r := s.do(t, method, target, key, body)
		r.wants(t, method+" "+target, status, "")
		if r.status == status && r.body != "" {
			if err := json.Unmarshal([]byte(r.body), &answer); err != nil {
				t.Fatal(err)
			}
		}
		return answer
	}
	id := func(method, target, body string, status int) string {
		return strings.Trim(string(post(method, target, body, status).ID), `"`)
	}
	for i := range 2 {
		n := fmt.Sprint(2 - i) // the first is what is asked for
		has["key_id"] = id("POST", "/v1/keys", `{"name":"`+whose+n+`"}`, 201)
		id("PUT", "/v1/event-types/user."+whose+strings.Repeat("2", 1-i), `{"description":"`+whose+`","schema":{"examples":["`+whose+`"]}}`, 201)
		has["webhook_id"] = id("POST", "/v1/webhooks", `{"url":"https://example.com/`+whose+n+`","description":"`+whose+`"}`, 201)
	}
	for i := range 3 {
		n := fmt.Sprint(3 - i)
		has["event_id"] = id("POST", "/v1/events", `{"type":"user.`+whose+`","payload":"`+whose+`","dedup_id":"`+whose+`-`+n+`"}`, 201)
	}
	for i := range 2 {
		s.settle(t, key, s.number(t, has["webhook_id"]), []trigger.Outcome{trigger.Transient, trigger.Transient}[i])
		s.db.Clock.Advance(trigger.DefaultSchedule()[0] * 2)
	}
	for range 2 {
		has["replay_id"] = id("POST", "/v1/replays", `{"webhook_id":`+has["webhook_id"]+`}`, 201)
	}
	claim := post("POST", "/v1/inbox/claim", `{"limit":1,"lease_seconds":43200}`, 200)
	if len(claim.Data) != 1 {
		t.Fatalf("nothing is in the inbox of %s", whose)
	}
	has["claim"], has["claimed_id"] = claim.Claim, claim.Data[0].ID
	return key, has
}

func (s *server) number(t *testing.T, text string) (n int64) {
	t.Helper()
	if _, err := fmt.Sscan(text, &n); err != nil {
		t.Fatalf("%q is no number: %v", text, err)
	}
	return n
}

// times differ from answer to answer.
var (
	times    = regexp.MustCompile(`"20\d\d-[0-9T:.-]+Z"`)
	lastUsed = regexp.MustCompile(`"last_used_at":("[^"]*"|null)`)
)

// whole is all that an organization sees of itself.
func (s *server) whole(t *testing.T, key string, has things) map[string]string {
	t.Helper()
	seen := map[string]string{}
	for _, rt := range s.api.newRoutes() {
		if rt.method != "GET" || !rt.needsKey() || rt.path == "/v1/inbox/stream" {
			continue
		}
		r := s.do(t, "GET", has.fill(rt.path, nil), key, "")
		r.wants(t, rt.path, 200, "")
		seen[rt.path] = lastUsed.ReplaceAllString(r.body, "")
	}
	return seen
}

// Each route, asked for what is another organization's, answers as if there
// were no such thing, byte for byte; and nothing of the other changes.
func TestTenancy(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := newServer(t, db, func(a *API) { a.AdminToken, a.Now = "token", db.Clock.Now }) // streams have real deadlines
		theirs, has := s.furnish(t, "theirs")
		ours, own := s.furnish(t, "ours")
		before := s.whole(t, theirs, has)
		listed := 0
		for _, rt := range s.api.newRoutes() {
			name := rt.method + " " + rt.path
			if rt.scope == scopeAdmin {
				s.isOperators(t, rt, ours, has)
				continue
			}
			if !rt.needsKey() {
				continue
			}
			asks, known := tenancy[name]
			if !known || len(asks) == 0 && strings.Contains(rt.path, "{") && rt.method != "PUT" {
				t.Errorf("%s: add to tenancy how it could be asked for what is another organization's", name)
			}
			for _, ask := range asks {
				s.isStrange(t, rt, ask, ours, has, own)
			}
			if cursors := s.checkCursors(t, rt, theirs, ours); cursors {
				listed++
			}
		}
		if listed < 8 {
			t.Errorf("only %d lists have cursors", listed)
		}
		s.checkNames(t, ours, has)
		s.checkStream(t, ours, has)
		for path, seen := range s.whole(t, ours, own) {
			if strings.Contains(seen, "theirs") || strings.Contains(seen, has["event_id"]) {
				t.Errorf("GET %s shows what is another organization's: %.500s", path, seen)
			}
		}
		for path, seen := range s.whole(t, theirs, has) {
			if seen != before[path] {
				t.Errorf("GET %s has changed from\n%s to\n%s", path, before[path], seen)
			}
		}
	})
}

// isStrange asks a route for what another organization has, and for what
// nobody has.
func (s *server) isStrange(t *testing.T, rt route, ask asked, key string, has, own things) {
	t.Helper()
	if ask.target == "" {
		ask.target = rt.path
	}
	if ask.status == 0 {
		ask.status = 404
	}
	get := func(of things) string {
		target, body := of.fill(ask.target, own), of.fill(ask.body, own)
		r := s.do(t, rt.method, target, key, body)
		r.wants(t, rt.method+" "+target+" "+body, ask.status, "")
		if strings.Contains(r.body, "theirs") || strings.Contains(r.body, `"data":[{`) && !strings.Contains(r.body, `"lost"`) && !strings.HasSuffix(target, "=0") {
			t.Errorf("%s %s %s: %.500s", rt.method, target, body, r.body)
		}
		answer := times.ReplaceAllString(r.body, `""`)
		for _, value := range of {
			if len(value) > 5 { // else it is a number, which may be anything
				answer = strings.ReplaceAll(answer, value, "…")
			}
		}
		return answer
	}
	if got, want := get(has), get(nobodys); got != want {
		t.Errorf("%s %s: %s is not %s", rt.method, ask.target, got, want)
	}
}

// isOperators asks a route of the operator with a key.
func (s *server) isOperators(t *testing.T, rt route, key string, has things) {
	t.Helper()
	for _, of := range []things{has, nobodys} {
		target := of.fill(rt.path, nil)
		s.do(t, rt.method, target, key, `{"name":"ours now"}`).isExactly(t, target, 401, unauthorized)
		s.do(t, rt.method, target, "", `{"name":"ours now"}`, "Authorization: Bearer "+key).isExactly(t, target, 401, unauthorized)
	}
}

// checkCursors gives cursors to whom and to what they do not belong. false if
// the route has none.
func (s *server) checkCursors(t *testing.T, rt route, theirs, ours string) bool {
	t.Helper()
	o := description().operations[rt.method+" "+rt.path]
	if !slices.ContainsFunc(o.withQuery(), func(p parameter) bool { return p.name == "cursor" }) {
		return false
	}
	var page struct {
		Next string `json:"next_cursor"`
	}
	r := s.do(t, "GET", rt.path+"?limit=1", theirs, "")
	if err := json.Unmarshal([]byte(r.body), &page); err != nil || page.Next == "" {
		t.Errorf("GET %s has no second page: %.300s", rt.path, r.body)
		return true
	}
	s.do(t, "GET", rt.path+"?limit=1&cursor="+page.Next, theirs, "").wants(t, rt.path, 200, `"data":[{`)
	want := s.do(t, "GET", rt.path+"?cursor=AAAA", ours, "")
	want.wants(t, rt.path, 400, `"code":"invalid_cursor"`)
	s.do(t, "GET", rt.path+"?limit=1&cursor="+page.Next, ours, "").isExactly(t, rt.path, 400, want.body)
	other := "/v1/webhooks"
	if rt.path == other {
		other = "/v1/keys"
	}
	s.do(t, "GET", other+"?cursor="+page.Next, theirs, "").isExactly(t, other, 400, want.body)
	return true
}

// checkNames uses names that another organization uses: each has its own.
func (s *server) checkNames(t *testing.T, key string, has things) {
	t.Helper()
	r := s.do(t, "POST", "/v1/events", key, `{"type":"user.ours","payload":"theirs?","dedup_id":"`+has["dedup_id"]+`"}`)
	r.wants(t, "the dedup id of another organization", 201, `"accepted"`)
	s.do(t, "DELETE", "/v1/events/"+r.member(t, "id"), key, "").wants(t, "delete", 204, "")
	s.do(t, "PUT", "/v1/event-types/"+has["name"], key, `{"mode":"reject","schema":false}`).wants(t, "no schema", 422, "#/schema")
	s.do(t, "PUT", "/v1/event-types/"+has["name"], key, `{"mode":"reject","schema":{"type":"null"}}`).wants(t, "the type of another organization", 201, "")
	s.do(t, "DELETE", "/v1/event-types/"+has["name"], key, "").wants(t, "delete", 204, "")
}

// checkStream goes on behind what is another organization's: it begins with
// the own events all the same.
func (s *server) checkStream(t *testing.T, key string, has things) {
	t.Helper()
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	for _, query := range []string{"", "?last_event_id=" + has["event_id"], "?last_event_id=" + someEvent} {
		req, err := http.NewRequestWithContext(ctx, "GET", s.URL+"/v1/inbox/stream"+query, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("x-api-key", key)
		res, err := s.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		for lines := bufio.NewScanner(res.Body); lines.Scan(); {
			if line := lines.Text(); strings.HasPrefix(line, "data: ") {
				if strings.Contains(line, "theirs") || !strings.Contains(line, "ours") {
					t.Errorf("the stream%s shows %s", query, line)
				}
				break
			}
		}
		res.Body.Close()
	}
}

// Each scope opens its routes and no other.
func TestMissingScope(t *testing.T) {
	t.Parallel()
	s := newServer(t, storetest.SQLite(t))
	key := s.newKey(t, "free")
	for lacking, scope := range map[scope]trigger.Scopes{scopeIngest: trigger.ScopeIngest, scopeRead: trigger.ScopeRead, scopeManage: trigger.ScopeManage} {
		limited, only := s.addKey(t, key, trigger.AllScopes&^scope), s.addKey(t, key, scope)
		for _, rt := range s.api.routes() {
			if !rt.needsKey() {
				continue
			}
			name := rt.method + " " + rt.path + " without " + scope.String()
			code := `"code":"missing_scope"`
			if !rt.isNew() {
				code = `{"error":"The key lacks the scope ` + scope.String() + `"}`
			}
			r := s.do(t, rt.method, s.harmless(rt), limited, "")
			if (r.status == 403) != (rt.scope == lacking) || r.status == 401 || r.status >= 500 {
				t.Errorf("%s: %d %s", name, r.status, r.body)
			}
			if r.status == 403 {
				r.wants(t, name, 403, code)
			}
			r = s.do(t, rt.method, s.harmless(rt), only, "")
			if (r.status != 403) != (rt.scope == lacking || rt.scope == scopeKey) || r.status == 401 || r.status >= 500 {
				t.Errorf("%s %s with %s alone: %d %s", rt.method, rt.path, scope, r.status, r.body)
			}
		}
	}
}

// harmless is the target of a request that, without a body, does nothing, and
// is answered at once.
func (s *server) harmless(rt route) string {
	if rt.path == "/v1/inbox/stream" {
		return rt.path + "?last_event_id=0"
	}
	return filled(rt.path)
}

// Whoever has a right key, and is stopped all the same, is told why; and who
// has none any more is told as everyone is.
func TestStoppedKeys(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := newServer(t, db, func(a *API) { a.AdminToken = "token" })
		r := s.do(t, "POST", "/v1/organizations", "", `{"name":"O"}`, adminToken)
		var made struct{ Organization, Key struct{ ID, Key any } }
		if err := json.Unmarshal([]byte(r.body), &made); err != nil {
			t.Fatal(err)
		}
		key, target := fmt.Sprint(made.Key.Key), "/v1/organizations/"+fmt.Sprint(made.Organization.ID)
		elsewhere := s.do(t, "POST", "/v1/keys", key, `{"networks":["192.0.2.0/24"]}`).member(t, "key")
		all := func(key string, status int, code string) {
			t.Helper()
			for _, rt := range s.api.newRoutes() {
				if !rt.needsKey() || rt.scope == scopeKey && status == 403 && code != "address_not_allowed" {
					continue
				}
				s.clock.Advance(minute) // wrong keys are not to hide each other
				s.do(t, rt.method, s.harmless(rt), key, "{}").wants(t, rt.method+" "+rt.path, status, `"code":"`+code+`"`)
			}
		}
		all(elsewhere, 403, "address_not_allowed")
		s.do(t, "PATCH", target, "", `{"suspended":true}`, adminToken).wants(t, "suspend", 200, `"suspended":true`)
		all(key, 403, "organization_suspended")
		s.do(t, "GET", "/v1/me", key, "").wants(t, "me", 200, `"suspended":true`)
		s.post(t, key, `{"type":"t","payload":1}`).isExactly(t, "the original's", 403, `{"error":"The organization is suspended"}`)
		s.do(t, "PATCH", target, "", `{"suspended":null}`, adminToken).wants(t, "go on", 200, `"suspended":false`)
		s.do(t, "GET", "/v1/keys", key, "").wants(t, "again", 200, "")
		s.do(t, "DELETE", target, "", "", adminToken).wants(t, "delete", 204, "")
		all(key, 401, "unauthorized")
		s.do(t, "GET", "/v1/me", key, "").isExactly(t, "of a deleted organization", 401, unauthorized)
		s.do(t, "GET", target, "", "", adminToken).wants(t, "deleted", 404, "")
	})
}

// The operator asks for organizations that are not there.
func TestUnknownOrganizations(t *testing.T) {
	t.Parallel()
	s := newServer(t, storetest.SQLite(t), func(a *API) { a.AdminToken = "token" })
	for _, rt := range s.api.newRoutes() {
		if rt.scope != scopeAdmin || !strings.Contains(rt.path, "{") {
			continue
		}
		for _, id := range []string{"1", "0", "-1", "01", "+1", "1.0", "999999999", "9223372036854775808", "x", "%20"} {
			r := s.do(t, rt.method, strings.Replace(rt.path, "{organization_id}", id, 1), "", `{"name":"O"}`, adminToken)
			r.wants(t, rt.method+" "+rt.path+" "+id, 404, `"code":"not_found"`)
		}
	}
}

// The table has no routes that are gone.
func TestTenancyTable(t *testing.T) {
	t.Parallel()
	for name := range maps.Keys(tenancy) {
		if description().operations[name] == nil {
			t.Errorf("%s is gone", name)
		}
	}
}
