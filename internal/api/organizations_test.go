package api

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"triggerd/client"
	"triggerd/internal/store"
	"triggerd/internal/store/storetest"
)

func noOnce() store.Once { return store.Once{} }

func TestOrganizationsAreMade(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := newServer(t, db, withOperator)
		for body, settings := range map[string]string{
			`{"name":"É & co"}`: `"tier":"free","rate_limit":null,"inbox":"unmatched","deduplication":"lenient"`,
			`{"name":"É & co","tier":null,"rate_limit":null,"inbox":null,"deduplication":null}`:                                       `"tier":"free","rate_limit":null,"inbox":"unmatched","deduplication":"lenient"`,
			`{"name":"É & co","tier":"enterprise","rate_limit":0,"inbox":"everything","deduplication":"strict"}`:                      `"tier":"enterprise","rate_limit":0,"inbox":"everything","deduplication":"strict"`,
			`{"deduplication":"lenient","inbox":"unmatched","rate_limit":1000000000,"tier":"professional","name":"\u00c9 \u0026 co"}`: `"tier":"professional","rate_limit":1000000000,"inbox":"unmatched","deduplication":"lenient"`,
		} {
			r := s.ask(t, "POST", "/v1/organizations", operator, body)
			shape := regexp.MustCompile(`^\{"organization":(\{"id":(\d+),"name":"É (?:&|\\u0026) co",` + settings + `,"suspended":false,"created_at":` + anyTime +
				`\}),"key":\{"id":\d+,"name":"","prefix":"sk_\w{6}","scopes":\["ingest","read","manage"\],"networks":\[\],"created_at":` + anyTime +
				`,"expires_at":null,"last_used_at":null,"key":"(sk_\w{49})"\}\}$`)
			parts := shape.FindStringSubmatch(r.body)
			if r.status != 201 || parts == nil {
				t.Errorf("%s: %d %s", body, r.status, r.body)
				continue
			}
			s.ask(t, "GET", "/v1/organizations/"+parts[2], operator, "").isExactly(t, "shown", 200, parts[1])
			me := s.ask(t, "GET", "/v1/me", parts[3], "")
			if me.status != 200 || !strings.HasPrefix(me.body, `{"organization":`+parts[1]+`,"key":{"id":`) {
				t.Errorf("%d %s", me.status, me.body)
			}
		}
	})
}

func TestOrganizationsAreRefused(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := newServer(t, db, withOperator, func(a *API) { a.MaxBody = 1000 })
		org, _ := s.found(t)
		path := fmt.Sprintf("/v1/organizations/%d", org.ID)
		for body, at := range map[string]string{ // of the members after a name
			`"x":1`: "#/x", `"id":7`: "#/id", `"tier":"gold"`: "#/tier", `"tier":""`: "#/tier", `"tier":1`: "#/tier", `"tier":"free","tier":"free"`: "#/tier",
			`"rate_limit":-1`: "#/rate_limit", `"rate_limit":1000000001`: "#/rate_limit", `"rate_limit":1.5`: "#/rate_limit",
			`"rate_limit":"1"`: "#/rate_limit", `"rate_limit":1e99`: "#/rate_limit", `"inbox":"all"`: "#/inbox", `"inbox":""`: "#/inbox",
			`"deduplication":"on"`: "#/deduplication", `"deduplication":true`: "#/deduplication", `"a/b~c":1`: "#/a~1b~0c",
		} {
			body = `{"name":"O",` + body + `}`
			s.ask(t, "POST", "/v1/organizations", operator, body).wantsProblem(t, body, 422, "validation_failed", at)
			s.ask(t, "PATCH", path, operator, body).wantsProblem(t, body, 422, "validation_failed", at)
		}
		for _, name := range []string{`null`, `""`, `7`, `"a\u0007"`, `"` + strings.Repeat("n", 256) + `"`, `["O"]`} {
			body := `{"name":` + name + `}`
			s.ask(t, "POST", "/v1/organizations", operator, body).wantsProblem(t, body, 422, "validation_failed", "#/name")
			r := s.ask(t, "PATCH", path, operator, body)
			r.wantsProblem(t, body, 422, "validation_failed", "#/name")
			if strings.Contains(r.body, "organization_name") {
				t.Errorf("%s: %s", body, r.body)
			}
		}
		s.ask(t, "POST", "/v1/organizations", operator, ``).wantsProblem(t, "nothing", 422, "validation_failed", "#/name")
		s.ask(t, "POST", "/v1/organizations", operator, `{"name":"O","suspended":true}`).wantsProblem(t, "born suspended", 422, "validation_failed", "#/suspended")
		s.ask(t, "PATCH", path, operator, `{"suspended":1}`).wantsProblem(t, "suspended", 422, "validation_failed", "#/suspended")
		for _, route := range []string{"POST /v1/organizations", "PATCH " + path} {
			method, target, _ := strings.Cut(route, " ")
			for _, body := range []string{`{`, `[]`, "{\"name\":\"\xff\"}"} {
				s.ask(t, method, target, operator, body).wantsProblem(t, body, 400, "invalid_json", "")
			}
			s.ask(t, method, target, operator, `{"name":"`+strings.Repeat("n", 1000)+`"}`).wantsProblem(t, route, 413, "body_too_large", "")
			s.ask(t, method, target, operator, `{}`, "Content-Encoding: gzip").wantsProblem(t, route, 415, "unsupported_media_type", "")
			s.ask(t, method, target+"?a=b", operator, `{"name":"O"}`).wantsProblem(t, route, 400, "invalid_parameter", "a")
		}
		got, err := s.as(operator).Organization(t.Context(), org.ID)
		if diff := cmp.Diff(org, got); err != nil || diff != "" || s.rows(t, "organizations") != 1 {
			t.Errorf("%v, %d organizations: %s", err, s.rows(t, "organizations"), diff)
		}
	})
}

func TestOrganizationsAreTheOperators(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := newServer(t, db, withOperator)
		org, key := s.found(t)
		for _, rt := range s.api.routes() {
			if !strings.HasPrefix(rt.path, "/v1/organizations") {
				continue
			}
			target := strings.Replace(rt.path, "{organization_id}", fmt.Sprint(org.ID), 1)
			s.clock.Advance(minute) // guesses are limited
			for _, token := range []string{"", key, operator + "x", operator[1:]} {
				r := s.ask(t, rt.method, target, token, `{"name":"O"}`)
				r.wantsProblem(t, rt.path, 401, "unauthorized", "")
				if r.header.Get("WWW-Authenticate") != `Bearer realm="triggerd"` {
					t.Errorf("%s: %v", rt.path, r.header)
				}
			}
			if strings.Contains(rt.path, "{") {
				for _, id := range []string{"0", "x", "999", "+1", fmt.Sprintf("%d%%00", org.ID)} {
					target := strings.Replace(rt.path, "{organization_id}", id, 1)
					s.ask(t, rt.method, target, operator, `{}`).wantsProblem(t, target, 404, "not_found", "")
				}
			}
		}
	})
}

func TestOrganizationsAreChanged(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := newServer(t, db, withOperator)
		org, key := s.found(t)
		s.found(t) // and another one, which stays
		op := s.as(operator)
		limit := 7
		want := client.Organization{
			ID: org.ID, Name: "New", Tier: "enterprise", RateLimit: &limit, Inbox: "everything", Deduplication: "strict", CreatedAt: org.CreatedAt,
		}
		got, err := op.UpdateOrganization(t.Context(), org.ID, client.OrganizationPatch{
			Name: client.Set("New"), Tier: client.Set("enterprise"), RateLimit: client.Set(7), Inbox: client.Set("everything"),
			Deduplication: client.Set("strict"), Suspended: client.Set(false),
		})
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("%v %s", err, diff)
		}
		r := s.ask(t, "GET", "/v1/me", key, "") // at once, though it was cached
		r.wants(t, "the limit", 200, `"rate_limit":{"limit":7,"window_seconds":60}`)
		if r.header.Get("RateLimit-Policy") != `"default";q=7;w=60` {
			t.Errorf("%v", r.header)
		}
		path := fmt.Sprintf("/v1/organizations/%d", org.ID)
		for _, body := range []string{`{}`, ``, `{"name":"New"}`} {
			s.ask(t, "PATCH", path, operator, body).wants(t, body, 200, `"name":"New","tier":"enterprise","rate_limit":7,"inbox":"everything","deduplication":"strict"`)
		}
		s.ask(t, "PATCH", path, operator, `{"rate_limit":0,"suspended":null}`).wants(t, "no limit", 200, `"rate_limit":0`)
		s.ask(t, "GET", "/v1/me", key, "").wants(t, "no limit", 200, `"rate_limit":null}`)
		s.ask(t, "PATCH", path, operator, `{"tier":null,"rate_limit":null,"inbox":null,"deduplication":null}`).
			wants(t, "the defaults", 200, `"name":"New","tier":"free","rate_limit":null,"inbox":"unmatched","deduplication":"lenient"`)
		s.ask(t, "GET", "/v1/me", key, "").wants(t, "the tier's", 200, `"rate_limit":{"limit":1000,"window_seconds":60}`)
		if s.engine.woken != 2 {
			t.Errorf("the engine was woken %d times, want once for each word of suspended", s.engine.woken)
		}
		for other, err := range op.Organizations(t.Context()) {
			if err != nil || other.ID != org.ID && other.Name != "Org" {
				t.Errorf("another one: %+v, %v", other, err)
			}
		}
	})
}

// Of a suspended organization all routes are closed, but for that which says so.
func TestSuspension(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := newServer(t, db, withOperator)
		other := serveStore(t, db, s.store, withOperator)
		org, key := s.found(t)
		_, free := s.found(t)
		suspend := func(yes bool) {
			t.Helper()
			got, err := s.as(operator).UpdateOrganization(t.Context(), org.ID, client.OrganizationPatch{Suspended: client.Set(yes)})
			if err != nil || got.Suspended != yes {
				t.Fatalf("%+v: %v", got, err)
			}
		}
		s.ask(t, "GET", "/v1/keys", key, "").wants(t, "before", 200, "")
		other.ask(t, "GET", "/v1/keys", key, "").wants(t, "before", 200, "")
		suspend(true)
		for _, rt := range s.api.routes() {
			if !rt.needsKey() || !rt.isNew() {
				continue
			}
			r := s.ask(t, rt.method, rt.path, key, `{}`)
			if rt.path == "/v1/me" && rt.method == "GET" {
				r.wants(t, "who it is", 200, `"suspended":true`)
			} else {
				r.wantsProblem(t, rt.method+" "+rt.path, 403, "organization_suspended", "")
			}
		}
		s.do(t, "GET", "/api/inbox", key, "").wants(t, "the original's routes", 403, "suspended")
		s.post(t, key, `{"type":"t","payload":1}`).wants(t, "the original's routes", 403, "suspended")
		s.ask(t, "GET", "/v1/keys", free, "").wants(t, "another one", 200, "")
		s.ask(t, "GET", fmt.Sprintf("/v1/organizations/%d", org.ID), operator, "").wants(t, "for the operator", 200, `"suspended":true`)
		other.clock.Advance(keyTTL)
		other.ask(t, "GET", "/v1/keys", key, "").wantsProblem(t, "on another node", 403, "organization_suspended", "")
		suspend(true) // again, which is no harm
		suspend(false)
		s.ask(t, "GET", "/v1/keys", key, "").wants(t, "after", 200, "")
		s.accept(t, key, `{"type":"t","payload":1}`)
		if s.engine.woken != 3 {
			t.Errorf("the engine was woken %d times", s.engine.woken)
		}
	})
}

func TestDeletedOrganization(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := newServer(t, db, withOperator)
		org, key := s.found(t)
		keep, kept := s.found(t)
		second := s.make(t, key, client.KeyInput{}).Key
		s.accept(t, key, `{"type":"t","payload":1,"dedup_id":"a"}`)
		s.accept(t, kept, `{"type":"t","payload":1,"dedup_id":"a"}`)
		s.newWebhook(t, key, `{"url":"https://example.com/"}`)
		op, path := s.as(operator), fmt.Sprintf("/v1/organizations/%d", org.ID)
		s.ask(t, "DELETE", path+"?now=1", operator, "").wantsProblem(t, "a parameter", 400, "invalid_parameter", "now")
		if err := op.DeleteOrganization(t.Context(), org.ID); err != nil {
			t.Fatal(err)
		}
		if s.knows(t, key) || s.knows(t, second) {
			t.Error("a key goes on")
		}
		for _, route := range []string{"GET ", "PATCH ", "DELETE "} {
			s.ask(t, strings.TrimSpace(route), path, operator, "").wantsProblem(t, route, 404, "not_found", "")
		}
		s.ask(t, "POST", path+"/keys", operator, "").wantsProblem(t, "a key", 404, "not_found", "")
		for other, err := range op.Organizations(t.Context()) {
			if err != nil || other.ID != keep.ID {
				t.Errorf("%+v is listed: %v", other, err)
			}
		}
		db.Clock.Advance(2 * time.Minute)
		if err := s.store.Erase(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n := s.rows(t, "events"); n != 1 || s.rows(t, "organizations") != 1 || s.inbox(t, kept, "").Count != 1 {
			t.Errorf("%d events and %d organizations are left", n, s.rows(t, "organizations"))
		}
	})
}

// A list goes on where its page ended, and a cursor is good for nothing else.
func TestListsOfTheAccount(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := newServer(t, db, withOperator)
		_, first := s.found(t)
		_, other := s.found(t)
		for range 24 {
			storetest.NewOrganization(t, s.store)
			s.make(t, first, client.KeyInput{Scopes: []string{"read"}})
		}
		for path, token := range map[string]string{"/v1/keys": first, "/v1/organizations": operator} {
			total := map[string]int{"/v1/keys": 25, "/v1/organizations": 26}[path]
			for query, size := range map[string]int{"": 20, "limit=1": 1, "limit=7": 7, "limit=100": 100, "limit=25": 25} {
				sizes, ids := s.pages(t, path, query, token)
				if len(ids) != total || !slices.IsSorted(ids) || len(slices.Compact(ids)) != total || slices.Max(sizes) != min(size, total) || slices.Min(sizes) == 0 {
					t.Errorf("%s?%s: pages of %v, ids %v", path, query, sizes, ids)
				}
			}
			for query, parameter := range map[string]string{
				"limit=0": "limit", "limit=101": "limit", "limit=-1": "limit", "limit=x": "limit", "limit=": "limit", "limit=%2B5": "limit", "limit=1&limit=1": "limit",
				"after=1": "after", "limit=1&Limit=1": "Limit", "cursor=&cursor=": "cursor",
			} {
				s.ask(t, "GET", path+"?"+query, token, "").wantsProblem(t, path+"?"+query, 400, "invalid_parameter", parameter)
			}
			for _, cursor := range []string{"", "x", "AAAA", "%00", strings.Repeat("A", 200)} {
				s.ask(t, "GET", path+"?cursor="+cursor, token, "").wantsProblem(t, cursor, 400, "invalid_cursor", "cursor")
			}
		}
		page, err := s.as(first).KeysPage(t.Context(), 5, "")
		if err != nil {
			t.Fatal(err)
		}
		_, err = s.as(other).KeysPage(t.Context(), 5, page.NextCursor)
		isError(t, "another organization's cursor", err, 400, "invalid_cursor")
		_, err = s.as(operator).OrganizationsPage(t.Context(), 5, page.NextCursor)
		isError(t, "another list's cursor", err, 400, "invalid_cursor")
		if _, err = s.as(first).KeysPage(t.Context(), 9, page.NextCursor); err != nil {
			t.Errorf("with another limit: %v", err)
		}
	})
}

// pages reads a list to its end.
func (s *server) pages(t *testing.T, path, query, token string) (sizes []int, ids []int64) {
	t.Helper()
	for cursor := ""; len(sizes) < 100; {
		r := s.ask(t, "GET", path+"?"+query+cursor, token, "")
		var page client.Page[struct {
			ID int64 `json:"id"`
		}]
		if err := json.Unmarshal([]byte(r.body), &page); err != nil || r.status != 200 {
			t.Fatalf("%v: %d %s", err, r.status, r.body)
		}
		sizes = append(sizes, len(page.Data))
		for _, item := range page.Data {
			ids = append(ids, item.ID)
		}
		if page.NextCursor == "" {
			break
		}
		if cursor = "&cursor=" + page.NextCursor; query == "" {
			cursor = cursor[1:]
		}
	}
	return sizes, ids
}
