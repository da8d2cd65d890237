package api

import (
	"strings"
	"testing"

	"triggerd/internal/store/storetest"
)

// Profiles are for the operator alone.
func TestProfiles(t *testing.T) {
	t.Parallel()
	s := newServer(t, storetest.SQLite(t), func(a *API) { a.AdminToken = "token" })
	const token, gzipped = "Authorization: Bearer token", "\x1f\x8b"
	s.do(t, "GET", "/debug/pprof/heap", "", "").isExactly(t, "anyone", 401, `{"error":"Missing or wrong admin token"}`)
	s.do(t, "GET", "/debug/pprof/heap", newWrongKey(), "").wants(t, "a key is no token", 401, "")
	s.do(t, "GET", "/debug/pprof/what", "", "", token).wants(t, "an unknown one", 404, "Unknown profile")
	for path, begins := range map[string]string{
		"/debug/pprof/goroutine?debug=1": "goroutine profile: total ", "/debug/pprof/trace?seconds=0.1": "go 1.",
		"/debug/pprof/heap": gzipped, "/debug/pprof/profile?seconds=1": gzipped,
	} {
		r := s.do(t, "GET", path, "", "", token)
		if r.status != 200 || !strings.HasPrefix(r.body, begins) {
			t.Errorf("%s: %d, %.80q", path, r.status, r.body)
		}
	}
}
