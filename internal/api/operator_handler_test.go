package api

import (
	"net/http/httptest"
	"strings"
	"testing"

	"triggerd/internal/store/storetest"
)

// The operator's handler has the operator's routes, without a token and
// whatever is set, and none but those and /readyz.
func TestOperatorHandler(t *testing.T) {
	t.Parallel()
	s := newServer(t, storetest.SQLite(t), withOperator, func(a *API) {
		a.Admits = func(address string) bool { return address != "@" }
	})
	handler := s.api.OperatorHandler()
	for _, rt := range s.api.routes() {
		req := httptest.NewRequestWithContext(t.Context(), rt.method, filled(rt.path), strings.NewReader(`{"name":"O"}`))
		req.RemoteAddr = "@"
		out := httptest.NewRecorder()
		handler.ServeHTTP(out, req)
		served := rt.scope == scopeAdmin || rt.scope == scopeMetrics || rt.path == "/readyz"
		unknown := out.Code == 404 && strings.Contains(out.Body.String(), `"Not found"`)
		switch {
		case served && (out.Code == 401 || out.Code >= 500):
			t.Errorf("%s %s: %d %s", rt.method, rt.path, out.Code, out.Body)
		case !served && !unknown && out.Code != 405:
			t.Errorf("%s %s is served: %d %s", rt.method, rt.path, out.Code, out.Body)
		}
	}
}
