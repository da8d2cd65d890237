package api

import (
	"bytes"
	"compress/gzip"
	"io"
	"strings"
	"testing"

	"triggerd/internal/store/storetest"
)

// Profiles are for whoever has the admin token, and for nobody where there is
// none.
func TestProfiles(t *testing.T) {
	t.Parallel()
	db := storetest.SQLite(t)
	open := newServer(t, db)
	open.do(t, "GET", "/debug/pprof/heap", "", "").isExactly(t, "without a token", 404, `{"error":"Profiles need an ADMIN_TOKEN, and none is set"}`)
	s := newServer(t, storetest.SQLite(t), func(a *API) { a.AdminToken = "token" })
	const token = "Authorization: Bearer token"
	s.do(t, "GET", "/debug/pprof/heap", "", "").isExactly(t, "anyone", 401, `{"error":"Missing or wrong admin token"}`)
	s.do(t, "GET", "/debug/pprof/heap", newWrongKey(), "").wants(t, "a key is no token", 401, "")
	s.do(t, "GET", "/debug/pprof/goroutine?debug=1", "", "", token).wants(t, "goroutines", 200, "goroutine profile: total")
	s.do(t, "GET", "/debug/pprof/what", "", "", token).wants(t, "an unknown one", 404, "There is no such profile")
	for _, path := range []string{"/debug/pprof/heap", "/debug/pprof/profile?seconds=1"} {
		r := s.do(t, "GET", path, "", "", token)
		r.wants(t, path, 200, "")
		zipped, err := gzip.NewReader(strings.NewReader(r.body))
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		if text, err := io.ReadAll(zipped); err != nil || !bytes.Contains(text, []byte("runtime.")) {
			t.Errorf("%s: %d bytes, %v", path, len(text), err)
		}
	}
	s.do(t, "GET", "/debug/pprof/trace?seconds=0.1", "", "", token).wants(t, "trace", 200, "go 1.")
}
