package api

import (
	"net/http/httptest"
	"strings"
	"testing"

	"triggerd/internal/store/storetest"
)

// The operator's handler has the operator's routes, without a token and
// whatever is set, those of an organization that a header names, /readyz, and
// no others.
func TestOperatorHandler(t *testing.T) {
	t.Parallel()
	s := newServer(t, storetest.SQLite(t), withOperator, func(a *API) {
		a.Admits = func(address string) bool { return address != "@" }
	})
	handler := s.api.OperatorHandler()
	org, key := s.found(t)
	ask := func(rt route, headers ...string) reply {
		req := httptest.NewRequestWithContext(t.Context(), rt.method, s.harmless(rt), strings.NewReader(`{}`))
		req.RemoteAddr = "@"
		for _, line := range headers {
			name, value, _ := strings.Cut(line, ": ")
			req.Header.Add(name, value)
		}
		out := httptest.NewRecorder()
		handler.ServeHTTP(out, req)
		return reply{out.Code, out.Header(), out.Body.String()}
	}
	for _, rt := range s.api.routes() {
		r, name := ask(rt), rt.method+" "+rt.path
		switch {
		case rt.isNew() && rt.needsKey():
			r.wants(t, name, 400, "must be given exactly once")
			ask(rt, "X-Api-Key: "+key).wants(t, name+" with a key", 400, "requires the operator's token")
			if r := ask(rt, inOrganization(org.ID)); r.status == 401 || r.status >= 500 || strings.Contains(r.body, organizationHeader) {
				t.Errorf("%s in an organization: %d %s", name, r.status, r.body)
			}
		case rt.scope == scopeAdmin || rt.scope == scopeMetrics || rt.path == "/readyz":
			if r.status == 401 || r.status >= 500 {
				t.Errorf("%s: %d %s", name, r.status, r.body)
			}
		case r.status != 405 && !(r.status == 404 && strings.Contains(r.body, `"Not found"`)):
			t.Errorf("%s is served: %d %s", name, r.status, r.body)
		}
	}
}
