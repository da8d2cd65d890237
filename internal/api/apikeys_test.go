package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"triggerd/client"
	"triggerd/internal/store/storetest"
)

// operator is the admin token of these tests.
const operator = "the operator's token"

func withOperator(a *API) { a.AdminToken = operator }

// as is a client of the server that tries each call once.
func (s *server) as(token string) *client.Client {
	return &client.Client{BaseURL: s.URL, Key: token, HTTP: s.Client(), Retries: -1}
}

// found makes an organization, and gives it with its key.
func (s *server) found(t *testing.T) (org client.Organization, key string) {
	t.Helper()
	made, err := s.as(operator).CreateOrganization(t.Context(), client.OrganizationInput{Name: "Org"})
	if err != nil {
		t.Fatal(err)
	}
	return made.Organization, made.Key.Key
}

// make makes a key.
func (s *server) make(t *testing.T, by string, in client.KeyInput) client.Key {
	t.Helper()
	key, err := s.as(by).CreateKey(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// knows reports whether a key may ask who it is.
func (s *server) knows(t *testing.T, key string) bool {
	t.Helper()
	_, err := s.as(key).Me(t.Context())
	if err != nil && !client.IsCode(err, client.CodeUnauthorized) {
		t.Fatal(err)
	}
	return err == nil
}

// ask sends a request, as Bearer unless the token is empty, and holds what is
// true of each answer of /v1.
func (s *server) ask(t *testing.T, method, target, token, body string, headers ...string) reply {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, s.URL+target, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	for _, line := range headers {
		name, value, _ := strings.Cut(line, ": ")
		req.Header.Add(name, value)
	}
	res, err := s.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	r := reply{res.StatusCode, res.Header, string(text)}
	want := "application/json"
	switch {
	case r.status == http.StatusNoContent:
		want = ""
	case r.status >= 400:
		want = "application/problem+json"
	}
	if got := r.header.Get("Content-Type"); got != want || (want == "") != (r.body == "") {
		t.Errorf("%s %s: %d, Content-Type %q, %s", method, target, r.status, got, r.body)
	}
	if r.status >= 400 {
		r.isProblem(t, method+" "+target)
	}
	return r
}

// isProblem holds the shape of a problem.
func (r reply) isProblem(t *testing.T, what string) (p problem) {
	t.Helper()
	decoder := json.NewDecoder(strings.NewReader(r.body))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&p); err != nil {
		t.Fatalf("%s: %v: %s", what, err, r.body)
	}
	title, status := codes(p.Code)
	if p.Status != r.status || status != r.status || p.Title != title || p.Detail == "" || p.Type == "" || internal.MatchString(r.body) {
		t.Errorf("%s: %d %s", what, r.status, r.body)
	}
	return p
}

// wantsProblem reports an answer that is not this problem. pointer is where it
// says that it is: a pointer, or the name of a parameter.
func (r reply) wantsProblem(t *testing.T, what any, status int, code, pointer string) {
	t.Helper()
	if r.status < 400 {
		t.Errorf("%.200v: %d %.300s, want %d %s", what, r.status, r.body, status, code)
		return
	}
	p, at := r.isProblem(t, fmt.Sprint(what)), ""
	if len(p.Errors) > 0 {
		at = p.Errors[0].Pointer + p.Errors[0].Parameter
	}
	if r.status != status || p.Code != code || at != pointer {
		t.Errorf("%.200v: %d %.300s, want %d %s at %q", what, r.status, r.body, status, code, pointer)
	}
}

// isError reports an error that is not of this code.
func isError(t *testing.T, what string, err error, status int, code string) {
	t.Helper()
	e, ok := errors.AsType[*client.Error](err)
	if !ok || e.Status != status || e.Code != code {
		t.Errorf("%s: %v, want %d %s", what, err, status, code)
	}
}

const anyTime = `"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"`

func TestKeysAreMadeAndShown(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := newServer(t, db, withOperator)
		_, first := s.found(t)
		until := s.store.Now().Add(time.Hour).Truncate(time.Millisecond)
		body := `{"name":"collector","scopes":["read","ingest"],"networks":["10.1.2.3/8","::ffff:127.0.0.1","::1"],"expires_at":"` +
			until.In(time.FixedZone("", 7200)).Format(time.RFC3339Nano) + `"}`
		r := s.ask(t, "POST", "/v1/keys", first, body)
		shape := regexp.MustCompile(`^\{"id":\d+,"name":"collector","prefix":"(sk_\w{6})","scopes":\["ingest","read"\],` +
			`"networks":\["10.0.0.0/8","127.0.0.1/32","::1/128"\],"created_at":` + anyTime + `,"expires_at":"` +
			until.Format("2006-01-02T15:04:05.000Z") + `","last_used_at":null,"key":"(sk_\w{49})"\}$`)
		parts := shape.FindStringSubmatch(r.body)
		if r.status != 201 || parts == nil || !strings.HasPrefix(parts[2], parts[1]) {
			t.Fatalf("%d %s", r.status, r.body)
		}
		var made client.Key
		if err := json.Unmarshal([]byte(r.body), &made); err != nil {
			t.Fatal(err)
		}
		got, err := s.as(first).KeyByID(t.Context(), made.ID)
		want := made
		want.Key = ""
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("%v %s", err, diff)
		}
		shown := s.ask(t, "GET", "/v1/keys/"+strconv.FormatInt(made.ID, 10), first, "")
		if shown.status != 200 || shown.body+`,"key":"`+made.Key+`"}` != strings.Replace(r.body, `,"key":`, `},"key":`, 1) {
			t.Errorf("%d %s", shown.status, shown.body)
		}
		bare := s.make(t, first, client.KeyInput{})
		if bare.Name != "" || !slices.Equal(bare.Scopes, []string{"ingest", "read", "manage"}) || len(bare.Networks) > 0 || !bare.ExpiresAt.IsZero() {
			t.Errorf("made of nothing: %+v", bare)
		}
		for _, body := range []string{``, `{}`, `{"name":null,"scopes":null,"networks":null,"expires_at":null}`, ` {"name":"","networks":[]} `} {
			r := s.ask(t, "POST", "/v1/keys", first, body)
			r.wants(t, body, 201, `"name":"","prefix":"sk_`)
			r.wants(t, body, 201, `"scopes":["ingest","read","manage"],"networks":[]`)
			if !s.knows(t, r.member(t, "key")) {
				t.Errorf("%s: the key is not good", body)
			}
		}
		if strings.Contains(s.log.String(), made.Key) {
			t.Error("the log holds the key")
		}
	})
}

func TestKeysAreRefused(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := newServer(t, db, withOperator, func(a *API) { a.MaxBody = 2000 })
		org, key := s.found(t)
		past := s.store.Now().Add(-time.Second).Format(time.RFC3339Nano)
		for body, at := range map[string]string{
			`{"nam":"x"}`: "#/nam", `{"key":"sk_mine"}`: "#/key", `{"name":"a","name":"b"}`: "#/name", `{"name":7}`: "#/name",
			`{"name":"` + strings.Repeat("n", 256) + `"}`: "#/name", `{"name":"a\u0000b"}`: "#/name",
			`{"scopes":[]}`: "#/scopes", `{"scopes":["admin"]}`: "#/scopes/0", `{"scopes":["read","Read"]}`: "#/scopes/1", `{"scopes":[null]}`: "#/scopes/0",
			`{"scopes":"read"}`: "#/scopes", `{"scopes":[1]}`: "#/scopes",
			`{"networks":["10.0.0.0/8","10.0.0.0/33"]}`: "#/networks/1", `{"networks":["localhost"]}`: "#/networks/0", `{"networks":[""]}`: "#/networks/0",
			`{"networks":["fe80::1%eth0"]}`: "#/networks/0", `{"networks":["::ffff:10.0.0.0/104"]}`: "#/networks/0", `{"networks":{}}`: "#/networks",
			`{"networks":["::1"` + strings.Repeat(`,"::1"`, 50) + `]}`: "#/networks",
			`{"expires_at":"` + past + `"}`:                            "#/expires_at", `{"expires_at":"tomorrow"}`: "#/expires_at", `{"expires_at":4102444800}`: "#/expires_at",
			`{"expires_at":"2100-01-01"}`: "#/expires_at", `{"expires_at":"2100-01-01T00:00:00"}`: "#/expires_at", `{"expires_at":""}`: "#/expires_at",
			`{"expires_at":"9999-12-31T23:59:59-01:00"}`: "#/expires_at",
		} {
			for _, path := range []string{"/v1/keys", fmt.Sprintf("/v1/organizations/%d/keys", org.ID)} {
				token := map[bool]string{true: key, false: operator}[path == "/v1/keys"]
				s.ask(t, "POST", path, token, body).wantsProblem(t, body, 422, "validation_failed", at)
			}
		}
		for _, body := range []string{`{`, `[]`, `null`, `"x"`, "{\"name\":\"\xff\"}", `{"name":` + nested(65, "[", "]") + `}`, `{}{}`} {
			s.ask(t, "POST", "/v1/keys", key, body).wantsProblem(t, body, 400, "invalid_json", "")
		}
		s.ask(t, "POST", "/v1/keys", key, `{"name":"`+strings.Repeat("n", 2000)+`"}`).wantsProblem(t, "large", 413, "body_too_large", "")
		s.ask(t, "POST", "/v1/keys", key, `{}`, "Content-Type: text/plain").wantsProblem(t, "text", 415, "unsupported_media_type", "")
		s.ask(t, "POST", "/v1/keys?x="+strings.Repeat("y", maxURL), key, `{}`).wantsProblem(t, "long", 414, "uri_too_long", "")
		s.ask(t, "POST", "/v1/keys?a=1", key, `{}`).wantsProblem(t, "a parameter", 400, "invalid_parameter", "a")
		s.ask(t, "PUT", "/v1/keys", key, `{}`).wantsProblem(t, "PUT", 405, "method_not_allowed", "")
		s.ask(t, "POST", "/v1/organizations/99/keys", operator, `{}`).wantsProblem(t, "no such organization", 404, "not_found", "")
		if n := s.rows(t, "api_keys"); n != 1 {
			t.Errorf("there are %d keys", n)
		}
	})
}

// What belongs to another organization looks as what does not exist.
func TestKeysOfOthers(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := newServer(t, db, withOperator)
		_, mine := s.found(t)
		_, other := s.found(t)
		theirs := s.keyOf(t, other).ID
		ended := s.make(t, mine, client.KeyInput{})
		if err := s.as(mine).DeleteKey(t.Context(), ended.ID); err != nil {
			t.Fatal(err)
		}
		for _, route := range []string{"GET %s", "DELETE %s", "POST %s/rotate"} {
			method, path, _ := strings.Cut(route, " ")
			var bodies []string
			for _, id := range []string{fmt.Sprint(theirs), fmt.Sprint(ended.ID), "9999", "0", "-1", "x", "1e0", "01", "9223372036854775808", "%39%39%39%39"} {
				r := s.ask(t, method, fmt.Sprintf(strings.Replace(path, "%s", "/v1/keys/%s", 1), id), mine, "")
				r.wantsProblem(t, method+" "+id, 404, "not_found", "")
				bodies = append(bodies, r.body)
			}
			if len(slices.Compact(bodies)) > 1 {
				t.Errorf("%s: %q", route, slices.Compact(bodies))
			}
		}
		for key, err := range s.as(mine).Keys(t.Context()) {
			if err != nil || key.ID == theirs || key.ID == ended.ID {
				t.Errorf("%+v is listed: %v", key, err)
			}
		}
		if !s.knows(t, other) {
			t.Error("the other organization's key has ended")
		}
	})
}

// A key gives no scope that it lacks, whichever way it makes another one.
func TestKeysGiveNoMoreThanTheyHave(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := newServer(t, db, withOperator)
		org, first := s.found(t)
		manager := s.make(t, first, client.KeyInput{Scopes: []string{"manage"}})
		own := s.make(t, manager.Key, client.KeyInput{})
		if !slices.Equal(own.Scopes, []string{"manage"}) {
			t.Errorf("by default it gives %v", own.Scopes)
		}
		for _, scopes := range []string{`["read"]`, `["manage","ingest"]`, `["ingest","read","manage"]`} {
			s.ask(t, "POST", "/v1/keys", manager.Key, `{"scopes":`+scopes+`}`).wantsProblem(t, scopes, 403, "missing_scope", "")
		}
		path := fmt.Sprintf("/v1/keys/%d/rotate", s.keyOf(t, first).ID)
		s.ask(t, "POST", path, manager.Key, `{"overlap_seconds":0}`).wantsProblem(t, "rotate all scopes", 403, "missing_scope", "")
		s.ask(t, "POST", path, manager.Key, ``, "Idempotency-Key: a").wantsProblem(t, "rotate all scopes", 403, "missing_scope", "")
		if !s.knows(t, first) {
			t.Error("a refused rotation has ended the key")
		}
		if got, err := s.as(manager.Key).RotateKey(t.Context(), own.ID, nil); err != nil || !slices.Equal(got.Scopes, own.Scopes) {
			t.Errorf("rotated to %+v: %v", got, err)
		}
		for _, scope := range []string{"ingest", "read"} {
			key := s.make(t, first, client.KeyInput{Scopes: []string{scope}})
			for _, rt := range s.api.routes() {
				if rt.scope != scopeManage || !rt.isNew() {
					continue
				}
				s.ask(t, rt.method, rt.path, key.Key, `{}`).wantsProblem(t, scope+" at "+rt.path, 403, "missing_scope", "")
			}
		}
		all, err := s.as(operator).CreateOrganizationKey(t.Context(), org.ID, client.KeyInput{})
		if err != nil || len(all.Scopes) != 3 {
			t.Errorf("the operator makes %+v: %v", all, err)
		}
		if n := s.rows(t, "api_keys"); n != 7 {
			t.Errorf("there are %d keys", n)
		}
	})
}

// A key makes none that comes from elsewhere or outlasts it, whichever way it
// makes one. What is not asked for is as it is of the key that asks.
func TestKeysGiveNoLongerAndNoFurther(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := newServer(t, db, withOperator)
		_, first := s.found(t)
		now := s.store.Now().Truncate(time.Millisecond)
		ends := now.Add(time.Hour)
		near := s.make(t, first, client.KeyInput{Networks: []string{"127.0.0.0/8", "10.1.0.0/16"}, ExpiresAt: ends})
		for body, at := range map[string]string{
			`{"networks":[]}`: "#/networks", `{"networks":["0.0.0.0/0"]}`: "#/networks/0", `{"networks":["127.0.0.1","10.0.0.0/8"]}`: "#/networks/1",
			`{"networks":["::1"]}`: "#/networks/0", `{"expires_at":"` + ends.Add(time.Millisecond).Format(time.RFC3339Nano) + `"}`: "#/expires_at",
		} {
			r := s.ask(t, "POST", "/v1/keys", near.Key, body)
			r.wantsProblem(t, body, 422, "validation_failed", at)
			for _, part := range []string{strings.TrimPrefix(at[:min(len(at), len("#/networks"))], "#/"), "this key"} {
				r.wants(t, body, 422, part)
			}
		}
		for _, body := range []string{``, `{"networks":null,"expires_at":null}`} { // the same is the default
			var made client.Key
			r := s.ask(t, "POST", "/v1/keys", near.Key, body)
			if err := json.Unmarshal([]byte(r.body), &made); err != nil || !made.ExpiresAt.Equal(ends) || !slices.Equal(made.Networks, near.Networks) {
				t.Errorf("%q: %s: %v", body, r.body, err)
			}
		}
		inner := s.make(t, near.Key, client.KeyInput{Networks: []string{"127.1.0.0/16", "127.0.0.1", "10.1.0.0/16"}, ExpiresAt: now.Add(time.Minute)})
		if len(inner.Networks) != 3 || !inner.ExpiresAt.Equal(now.Add(time.Minute)) {
			t.Errorf("made %+v", inner)
		}
		endless := s.make(t, first, client.KeyInput{Networks: []string{"127.0.0.1"}})
		anywhere := s.make(t, first, client.KeyInput{ExpiresAt: now.Add(time.Minute)})
		for what, id := range map[string]int64{"the first": s.keyOf(t, first).ID, "an endless one": endless.ID, "one from anywhere": anywhere.ID} {
			s.ask(t, "POST", fmt.Sprintf("/v1/keys/%d/rotate", id), near.Key, `{"overlap_seconds":0}`).wantsProblem(t, "rotate "+what, 422, "validation_failed", "")
		}
		for _, key := range []string{first, endless.Key, anywhere.Key} {
			if !s.knows(t, key) {
				t.Error("a refused rotation has ended a key")
			}
		}
		again, err := s.as(near.Key).RotateKey(t.Context(), near.ID, nil)
		if err != nil || !again.ExpiresAt.Equal(ends) || !slices.Equal(again.Networks, near.Networks) {
			t.Errorf("it rotates itself to %+v: %v", again, err)
		}
		sure(s.as(near.Key).RotateKey(t.Context(), inner.ID, nil))(t)
		if err := s.as(first).DeleteKey(t.Context(), again.ID); err != nil { // children outlive it
			t.Fatal(err)
		}
		if !s.knows(t, inner.Key) {
			t.Error("a key has ended with the one that has made it")
		}
	})
}

func TestNetworks(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := newServer(t, db, withOperator, func(a *API) { a.Proxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")} })
		direct := serveStore(t, db, s.store) // believes nobody
		_, first := s.found(t)
		key := s.make(t, first, client.KeyInput{Networks: []string{" 10.0.0.0/8", "2001:db8::/32\t"}}).Key
		for forwarded, allowed := range map[string]bool{
			"10.1.2.3": true, "192.0.2.1, 10.1.2.3": true, "::ffff:10.1.2.3": true, "2001:db8::7": true, "2001:db8::7%eth0": true,
			"10.1.2.3, 127.0.0.5": true, // two proxies
			"10.1.2.3:567":        true, "[2001:db8::7]:80": true, "[2001:db8::7]": true, "[::ffff:10.1.2.3]:1": true, " 10.1.2.3\t": true,
			"10.1.2.3:567,127.0.0.5:80 ,": true, "10.1.2.3, ,": true, "11.0.0.1,10.1.2.3:1": true,
			"11.0.0.1:567": false, "10.1.2.3, 11.0.0.1:1": false, "[2001:db9::7]:80": false, `"[2001:db8::7]"`: false, "[10.1.2.3]": false,
			"[2001:db8::7": false, "10.1.2.3:": false, "10.1.2.3:70000": false, "2001:db8::7]": false, "10.1.2.3 10.1.2.3": false, ",": false,
			"11.0.0.1": false, "10.1.2.3, 11.0.0.1": false, "2001:db9::7": false, "": false, "nonsense": false, "10.1.2.3:80, x": false,
		} {
			header := "X-Forwarded-For: " + forwarded
			r := s.ask(t, "GET", "/v1/me", key, "", header)
			if allowed && r.status != 200 {
				t.Errorf("%q: %d %s", forwarded, r.status, r.body)
			} else if !allowed {
				r.wantsProblem(t, forwarded, 403, "address_not_allowed", "")
			}
			direct.ask(t, "GET", "/v1/me", key, "", header).wantsProblem(t, forwarded, 403, "address_not_allowed", "")
			direct.ask(t, "GET", "/v1/me", first, "", header).wants(t, forwarded, 200, `"networks":[]`)
		}
	})
}
