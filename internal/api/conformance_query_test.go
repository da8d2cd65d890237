package api

import (
	"encoding/base64"
	"fmt"
	"maps"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"triggerd/internal/store/storetest"
	"triggerd/internal/trigger"
)

// wrongValues are values that a parameter of the query does not take.
func wrongValues(p parameter) []string {
	list := []string{"x\x00y", "\xff"}
	if !p.empty {
		list = append(list, "")
	}
	if len(asList(p.node["enum"])) > 0 {
		list = append(list, "x", strings.ToUpper(asText(asList(p.node["enum"])[0])))
	}
	switch {
	case slices.Contains(p.schema.Types.ToStrings(), "integer"):
		list = append(list, "x", "-1", "1.5", "1e1", "+1", " 1", "0x1", "9223372036854775808")
	case asText(p.node["format"]) != "":
		list = append(list, "x", "2026-01-01", "2026-13-01T00:00:00Z", "2026-01-01T00:00:00", someEvent+"0")
	case p.name == "cursor":
		list = append(list, "x", "AAAA", strings.Repeat("A", 600), "=", "%")
	}
	if n, ok := number(p.node["maximum"]); ok {
		list = append(list, fmt.Sprint(n+1))
	}
	if n, ok := number(p.node["minimum"]); ok {
		list = append(list, fmt.Sprint(n-1))
	}
	if n, ok := number(p.node["maxLength"]); ok {
		list = append(list, strings.Repeat("x", n+1))
	}
	return list
}

// rightValues are values at the limits of a parameter.
func rightValues(p parameter) (list []string) {
	for _, name := range []string{"minimum", "maximum"} {
		if n, ok := number(p.node[name]); ok {
			list = append(list, fmt.Sprint(n))
		}
	}
	if n, ok := number(p.node["maxLength"]); ok && p.name != "cursor" {
		list = append(list, strings.Repeat("x", n))
	}
	for _, word := range asList(p.node["enum"]) {
		list = append(list, asText(word))
	}
	return list
}

// Each route refuses parameters that it does not know, or twice, or of wrong
// values, whatever else is right about the request, and nothing comes of it.
func TestNewQueries(t *testing.T) {
	t.Parallel()
	storetest.Each(t, testNewQueries)
}

func testNewQueries(t *testing.T, db *storetest.DB) {
	t.Helper()
	a := newAbused(t, db)
	before := a.counts(t)
	for _, rt := range a.api.newRoutes() {
		if rt.scope == scopePublic {
			continue
		}
		o := a.d.operations[rt.method+" "+rt.path]
		body := ""
		if len(o.requests) > 0 {
			body = with(a.good(t, o), "", "")
		}
		refused := func(query, parameter string) {
			t.Helper()
			r := a.ask(t, rt, "?"+query, body)
			if r.status != 400 || !strings.Contains(r.body, `"code":"invalid_parameter"`) && !strings.Contains(r.body, `"code":"invalid_cursor"`) ||
				parameter != "" && !strings.Contains(r.body, `"parameter":"`+parameter+`"`) {
				t.Errorf("%s?%.100s: %d %.300s", o.name, query, r.status, r.body)
			}
		}
		refused("no_such=1", "no_such")
		refused("%zz", "")
		refused("limit=1;cursor=x", "")
		for _, p := range o.withQuery() {
			refused(p.name+"=1&"+p.name+"=1", p.name)
			refused(strings.ToUpper(p.name)+"=1", strings.ToUpper(p.name))
			for _, value := range wrongValues(p) {
				refused(url.Values{p.name: {value}}.Encode(), p.name)
			}
			if rt.path == "/v1/inbox/stream" {
				continue
			}
			for _, value := range rightValues(p) {
				a.ask(t, rt, "?"+url.Values{p.name: {value}}.Encode(), body).wants(t, o.name+" "+p.name+"="+value, 200, "")
			}
		}
	}
	if after := a.counts(t); !maps.Equal(before, after) {
		t.Errorf("%v before, %v after", before, after)
	}
}

// An id in a path that is none is as one that nobody has. HEAD answers as GET.
func TestNewPaths(t *testing.T) {
	t.Parallel()
	a := newAbused(t, storetest.SQLite(t))
	const missing = `{"type":"/docs/problems#not_found","title":"Not found","status":404,"code":"not_found","detail":"Not found"}`
	for _, rt := range a.api.newRoutes() {
		if rt.method == "GET" && rt.scope != scopePublic {
			if r := a.ask(t, route{"HEAD", rt.path, rt.scope, nil}, "", ""); r.status != 200 || r.body != "" {
				t.Errorf("HEAD %s: %d %q", rt.path, r.status, r.body)
			}
		}
		before, _, hasID := strings.Cut(rt.path, "_id}")
		if !hasID || rt.scope == scopePublic {
			continue
		}
		before = before[:strings.LastIndex(before, "{")]
		_, after, _ := strings.Cut(rt.path, "}")
		body := ""
		if o := a.d.operations[rt.method+" "+rt.path]; len(o.requests) > 0 {
			body = with(a.good(t, o), "", "")
		}
		for _, id := range []string{
			"0", "-1", "01", "+1", "1.0", "1e1", "0x1", "9223372036854775808", "x", "%20", "1%00", "%ff", "%2e", "*", "null", "'", "1;2",
			"{" + a.has["event_id"] + "}", strings.ReplaceAll(a.has["event_id"], "-", ""), a.has["event_id"] + "0", "00000000-0000-0000-0000-000000000000",
		} {
			a.ask(t, route{rt.method, before + id + after, rt.scope, nil}, "", body).isExactly(t, rt.method+" "+before+id+after, 404, missing)
		}
	}
}

// FuzzDecode reads bodies into what routes take: nothing panics, and what is
// refused is the client's fault, with a place in the body if it is JSON.
func FuzzDecode(f *testing.F) {
	for _, body := range []string{
		"", "{}", "[]", "null", `{"limit":1,"lease_seconds":0.5,"wait_seconds":null}`, `{"claim":"x","ids":["a",null,1]}`, `{"claim":1,"ids":{}}`,
		`{"name":"a","scopes":["read"],"expires_at":null,"networks":["::/0"]}`, `{"name":"a","tier":"free","rate_limit":1e400,"suspended":"x"}`,
		`{"rate_limit":1.5}`, `{"limit":1,"limit":1}`, `{"l\u0069mit":1}`, `{"Limit":1}`, `{"name":"\ud800"}`, `{"~/%":1}`, "{\"a\":\"\xff\"}", `{"ids":[[[]]]}`,
		nested(64, `{"a":`, "") + "1" + nested(64, "", "}"), nested(65, "[", "]"), `{"webhook_id":9223372036854775808}`, `{"limit":-0}`, `{"rate_limit":1e3}`,
	} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, into := range []any{new(keyInput), new(orgChange), new(claimed), &struct {
			Limit opt[int]     `json:"limit"`
			Lease opt[float64] `json:"lease_seconds"`
		}{}} {
			for _, at := range []string{"#", "#/auth"} {
				err := decode(body, into, at)
				if err == nil {
					continue
				}
				p, e := problemOf(err)
				if !isRefusal(err) || internal.MatchString(strings.ReplaceAll(p.Detail, string(body), "")) && len(body) < 5 {
					t.Fatalf("%q into %T: %v", body, into, err)
				}
				if (e.Kind == trigger.Invalid) != (len(e.Fields) == 1 && strings.HasPrefix(e.Fields[0].Pointer, at)) {
					t.Fatalf("%q into %T: %v points to %v", body, into, err, e.Fields)
				}
			}
		}
	})
}

// FuzzParameters reads queries: nothing panics, what is refused is the
// client's fault, and a cursor is taken only where it was given out.
func FuzzParameters(f *testing.F) {
	for _, raw := range []string{
		"", "limit=1", "limit=101", "limit=1&limit=1", "cursor=AAAA", "since=2026-01-02T03:04:05Z", "since=2026-01-02T03:04:05+02:00", "type=a.*", "webhook_id=0",
		"order=oldest", "x=1", "%zz", "a;b", "limit=%31", "since=0000-00-00T00:00:00Z", "type=********************", "cursor=" + strings.Repeat("A", 600),
	} {
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		r := &request{Request: httptest.NewRequest("GET", "/v1/events", nil)}
		r.URL.RawQuery, r.key.Organization.ID = raw, 1
		q, err := parameters(r, "limit", "cursor", "status", "type", "since", "until", "dedup_id", "webhook_id", "order")
		if err == nil {
			_, err = eventQuery(&q)
		}
		if err != nil {
			p, e := problemOf(err)
			if e.Kind != trigger.Malformed || p.Status != 400 || len(e.Fields) > 1 {
				t.Fatalf("%q: %v", raw, err)
			}
			return
		}
		if q.values.Has("cursor") {
			t.Fatalf("%q: the cursor is taken", raw) // it has 64 bits that nobody guesses
		}
		id := trigger.MinID(time.Unix(1_700_000_000, 0))
		q.values.Set("cursor", *q.next(id[:]))
		if place, err := q.placeID(); err != nil || place != id {
			t.Fatalf("%q: its own cursor gives %v, %v", raw, place, err)
		}
		other := *r
		other.key.Organization.ID = 2
		if _, err := (&query{&other, q.values}).placeID(); err == nil {
			t.Fatalf("%q: the cursor of another organization is taken", raw)
		}
		q.values.Set("dedup_id", q.values.Get("dedup_id")+"x")
		if _, err := q.placeID(); err == nil {
			t.Fatalf("%q: the cursor of another query is taken", raw)
		}
		if _, err := base64.RawURLEncoding.DecodeString(q.values.Get("cursor")); err != nil {
			t.Fatal(err)
		}
	})
}
