package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"triggerd/internal/telemetry"
	"triggerd/internal/trigger"
)

// bare is an API without a store, for handlers of the test's own.
func bare() (*API, *logBuffer) {
	log := &logBuffer{}
	return &API{Metrics: telemetry.New(), Log: slog.New(slog.NewJSONHandler(log, nil)), Now: newClock().Now}, log
}

func TestWhatErrorsShow(t *testing.T) {
	t.Parallel()
	hidden := errors.New("pgx: secret at store.go:7")
	for name, tt := range map[string]struct {
		err    error
		status int
		body   string
		after  string
	}{
		"any error":          {hidden, 500, `{"error":"Internal error"}`, ""},
		"internal":           {&trigger.Error{Kind: trigger.Internal, Message: "inner text", Cause: hidden}, 500, `{"error":"Internal error"}`, ""},
		"wrapped":            {fmt.Errorf("doing: %w", trigger.Errorf(trigger.Invalid, "bad")), 400, `{"error":"bad"}`, ""},
		"with a cause":       {&trigger.Error{Kind: trigger.Invalid, Message: "bad", Cause: hidden}, 400, `{"error":"bad"}`, ""},
		"not found":          {&trigger.Error{Kind: trigger.NotFound, Message: "Not found", Cause: hidden}, 404, `{"error":"Not found"}`, ""},
		"unavailable":        {trigger.NewUnavailable(hidden, time.Second), 503, `{"error":"Service unavailable"}`, "1"},
		"rounded up":         {trigger.NewUnavailable(hidden, 1001*time.Millisecond), 503, `{"error":"Service unavailable"}`, "2"},
		"rate limited":       {rateLimited(7, time.Minute), 429, `{"error":"Rate limit exceeded","limit":7,"window":"60 seconds"}`, "60"},
		"unknown kind":       {trigger.Errorf(trigger.Kind(99), "inner text"), 500, ``, ""},
		"unauthorized":       {trigger.Errorf(trigger.Unauthorized, "no"), 401, `{"error":"no"}`, ""},
		"too large":          {trigger.Errorf(trigger.TooLarge, "large"), 413, `{"error":"large"}`, ""},
		"too long":           {trigger.Errorf(trigger.URITooLong, "long"), 414, `{"error":"long"}`, ""},
		"unsupported media":  {trigger.Errorf(trigger.UnsupportedMedia, "text"), 415, `{"error":"text"}`, ""},
		"a message to quote": {trigger.Errorf(trigger.Invalid, "a \"b\"\r\n"), 400, `{"error":"a \"b\"\r\n"}`, ""},
	} {
		a, log := bare()
		out := httptest.NewRecorder()
		a.serve(route{path: "/x", scope: scopePublic, handle: func(http.ResponseWriter, *request) error { return tt.err }}).
			ServeHTTP(out, httptest.NewRequestWithContext(t.Context(), "GET", "/x", nil))
		if tt.body == "" {
			tt.body = out.Body.String()
		}
		if out.Code != tt.status || out.Body.String() != tt.body || out.Header().Get("Retry-After") != tt.after {
			t.Errorf("%s: %d %s, Retry-After %q", name, out.Code, out.Body, out.Header().Get("Retry-After"))
		}
		if errors.Is(tt.err, hidden) && !strings.Contains(log.String(), "store.go:7") {
			t.Errorf("%s: the log does not tell the cause: %s", name, log)
		}
	}
}

func TestPanicsAreInternalErrors(t *testing.T) {
	t.Parallel()
	a, log := bare()
	out := httptest.NewRecorder()
	a.serve(route{path: "/x", scope: scopePublic, handle: func(http.ResponseWriter, *request) error { panic("secret") }}).
		ServeHTTP(out, httptest.NewRequestWithContext(t.Context(), "GET", "/x", nil))
	if out.Code != 500 || out.Body.String() != `{"error":"Internal error"}` {
		t.Errorf("%d %s", out.Code, out.Body)
	}
	if !strings.Contains(log.String(), "panic: secret") || !strings.Contains(log.String(), "errors_test.go") {
		t.Errorf("the log does not tell where: %s", log)
	}
}

// An answer that fails halfway must not look whole.
func TestHalfAnAnswerIsCut(t *testing.T) {
	t.Parallel()
	a, log := bare()
	defer func() {
		if p := recover(); p != http.ErrAbortHandler {
			t.Errorf("recovered %v", p)
		}
		if !strings.Contains(log.String(), "halfway") {
			t.Errorf("log: %s", log)
		}
	}()
	a.serve(route{path: "/x", scope: scopePublic, handle: func(w http.ResponseWriter, _ *request) error {
		_, err := w.Write([]byte(`{"events":[`))
		return errors.Join(err, errors.New("halfway"))
	}}).ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(t.Context(), "GET", "/x", nil))
}

func TestRoutesNeedAScope(t *testing.T) {
	t.Parallel()
	a, _ := bare()
	for _, rt := range a.routes() {
		if rt.scope == 0 || rt.handle == nil || rt.method == "" || !strings.HasPrefix(rt.path, "/") {
			t.Errorf("route %+v", rt)
		}
	}
}

// checkLog holds that the log is one line of JSON for each request, without
// any of the secrets, and at its level without errors.
func checkLog(t *testing.T, log string, requests int, secrets ...string) {
	t.Helper()
	lines := strings.Split(strings.TrimSuffix(log, "\n"), "\n")
	n := 0
	for _, line := range lines {
		var entry struct {
			Level, Msg, Method, Route string
			Status                    int
		}
		if err := json.Unmarshal([]byte(line), &entry); err != nil || entry.Level != "INFO" {
			t.Errorf("log: %.500s: %v", line, err)
		}
		if entry.Msg == "request" && entry.Route != "" && entry.Status >= 200 && entry.Method != "" {
			n++
		}
	}
	if n != len(lines) || requests >= 0 && n != requests {
		t.Errorf("%d lines in the log, %d of requests, want %d", len(lines), n, requests)
	}
	for _, secret := range secrets {
		if strings.Contains(log, secret) {
			t.Errorf("the log holds %s", secret)
		}
	}
}
