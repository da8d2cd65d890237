package api

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"triggerd/internal/store/storetest"
	"triggerd/internal/trigger"
)

// protects holds an answer of a route to what each answer must have.
func (r reply) protects(t *testing.T, what string, rt route) {
	t.Helper()
	if got := r.header.Values("X-Content-Type-Options"); !slices.Equal(got, []string{"nosniff"}) {
		t.Errorf("%s: %d with X-Content-Type-Options %q", what, r.status, got)
	}
	cache, tag := r.header.Values("Cache-Control"), r.header.Get("ETag")
	if rt.scope == scopePublic && (r.status == 200 || r.status == 304) && slices.Contains(assetPaths(), rt.path) {
		if !slices.Equal(cache, []string{"public, max-age=300"}) || len(tag) < 20 {
			t.Errorf("%s: %d with Cache-Control %q, ETag %s", what, r.status, cache, tag)
		}
	} else if !slices.Equal(cache, []string{"no-store"}) || tag != "" {
		t.Errorf("%s: %d with Cache-Control %q, ETag %s", what, r.status, cache, tag)
	}
	vary := strings.Split(r.header.Get("Vary"), ", ")
	key, token := slices.Contains(vary, "X-Api-Key"), slices.Contains(vary, "Authorization")
	if key != rt.needsKey() || token != (rt.needsKey() && rt.isNew() || rt.scope == scopeAdmin || rt.scope == scopeSignup || rt.scope == scopeMetrics) {
		t.Errorf("%s: %d with Vary %q", what, r.status, vary)
	}
}

// assetPaths are the routes that may be in a shared cache. No other one may.
func assetPaths() []string {
	return []string{"/openapi.yaml", "/docs", "/docs/problems", "/docs/assets/{file}"}
}

// No answer of any route is kept by a cache or read as another type, whoever
// asks and whatever comes of it, but for what everyone gets alike.
func TestEveryAnswerIsProtected(t *testing.T) {
	t.Parallel()
	s := newServer(t, storetest.SQLite(t), withOperator)
	_, key := s.found(t)
	limited := s.addKey(t, key, trigger.ScopeIngest)
	for _, rt := range s.api.routes() {
		name := rt.method + " " + rt.path
		body := ""
		if op := description().operations[name]; op != nil {
			body = op.example()
		}
		for _, token := range []string{"", key, limited, newWrongKey(), operator} {
			s.clock.Advance(minute) // wrong keys are not to hide each other
			headers := []string{"Content-Type: application/json"}
			if token == operator {
				token, headers = "", append(headers, "Authorization: Bearer "+operator)
			}
			methods := []string{rt.method}
			if rt.method == "GET" {
				methods = append(methods, "HEAD")
			}
			for _, method := range methods {
				target := s.harmless(rt)
				s.do(t, method, target, token, body, headers...).protects(t, method+" "+target, rt)
				s.do(t, method, target, token, "{", "Content-Type: text/plain").protects(t, method+" "+target+" with what is wrong", rt)
			}
		}
		refused := route{path: rt.path, scope: scopePublic}
		s.do(t, "PROPFIND", filled(rt.path), key, "").protects(t, "PROPFIND "+rt.path, refused)
	}
	for _, path := range []string{"/", "/v1", "/v1/", "/v1/nothing", "/nothing", "/docs/nothing", "/docs/assets/nothing", "/v1//me", "/api/../v1/me"} {
		s.do(t, "GET", path, key, "").protects(t, path, route{path: path})
	}
	s.do(t, "GET", "/v1/inbox?"+strings.Repeat("a", maxURL), key, "").
		protects(t, "a long URL", route{path: "/v1/inbox", scope: scopeRead})
}

// What goes wrong within the server, and a stream, are protected as well.
func TestPanicsAndStreamsAreProtected(t *testing.T) {
	t.Parallel()
	s := newServer(t, storetest.SQLite(t), ticking, func(a *API) { a.MadeToken = madeToken() })
	key := s.newKey(t, "free")
	for _, rt := range s.api.routes() {
		rt.handle = func(http.ResponseWriter, *request) error { panic("on purpose") }
		req := httptest.NewRequestWithContext(t.Context(), rt.method, "/", nil)
		req.Header.Set("X-Api-Key", key)
		if !rt.needsKey() {
			req.Header.Set("Authorization", "Bearer "+madeToken())
		}
		out := httptest.NewRecorder()
		s.api.serve(rt).ServeHTTP(out, req)
		if out.Code != http.StatusInternalServerError {
			t.Errorf("%s %s: %d", rt.method, rt.path, out.Code)
		}
		reply{out.Code, out.Header(), out.Body.String()}.protects(t, rt.method+" "+rt.path, rt)
	}
	_, header, leave := s.follow(t, key, "")
	defer leave()
	reply{200, header, ""}.protects(t, "stream", route{path: "/v1/inbox/stream", scope: scopeRead})
}

// An asset is not sent again to who has it, and its tag is of its content.
func TestAssetsAreCached(t *testing.T) {
	t.Parallel()
	s := newServer(t, storetest.SQLite(t))
	tags := map[string]string{}
	for _, rt := range s.api.routes() {
		if !slices.Contains(assetPaths(), rt.path) {
			continue
		}
		path := filled(rt.path)
		r := s.do(t, "GET", path, "", "")
		tag := r.header.Get("ETag")
		if other := tags[tag]; other != "" || tag != etagOf([]byte(r.body)) {
			t.Errorf("%s has the tag %s, as %q", path, tag, other)
		}
		tags[tag] = path
		for given, status := range map[string]int{
			tag: 304, "W/" + tag: 304, `"a", ` + tag: 304, "*": 304, `"a"`: 200, "": 200, strings.Trim(tag, `"`): 200,
		} {
			for _, method := range []string{"GET", "HEAD"} {
				again := s.do(t, method, path, "", "", "If-None-Match: "+given)
				again.protects(t, path, rt)
				if again.status != status || again.header.Get("ETag") != tag || status == 304 && (again.body != "" || again.header.Get("Content-Type") != "") {
					t.Errorf("%s %s with %s: %d %v", method, path, given, again.status, again.header)
				}
			}
		}
	}
	if len(tags) != len(assetPaths()) {
		t.Errorf("the tags are %v", tags)
	}
}

// What is written without a status is protected, too.
func TestProtectionComesWithTheFirstByte(t *testing.T) {
	t.Parallel()
	s := newServer(t, storetest.SQLite(t))
	rt := route{method: "GET", path: "/v1/x", scope: scopePublic, handle: func(w http.ResponseWriter, _ *request) error {
		w.Header().Set("Cache-Control", "public") // a handler does not decide it
		_, err := w.Write([]byte("x"))
		return err
	}}
	out := httptest.NewRecorder()
	s.api.serve(rt).ServeHTTP(out, httptest.NewRequestWithContext(t.Context(), "GET", "/v1/x", nil))
	reply{out.Code, out.Header(), ""}.protects(t, "a first byte", rt)
}
