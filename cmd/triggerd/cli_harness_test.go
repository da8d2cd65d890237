package main

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// cliNow is the clock of the commands that are tested against a fake API.
func cliNow() time.Time { return time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC) }

// said is what a command wrote, and its error.
type said struct {
	out, errOut string
	err         error
}

// fakeAPI answers as it is told, and keeps the requests, each as "POST /path
// body".
type fakeAPI struct {
	*httptest.Server
	mu     sync.Mutex
	got    []string
	header http.Header // of the last request
}

// newFakeAPI answers requests by answer, which gives a status and a body: that
// of an error is a problem.
func newFakeAPI(t *testing.T, answer func(request string) (int, string)) *fakeAPI {
	t.Helper()
	f := &fakeAPI{}
	f.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		request := strings.TrimSpace(r.Method + " " + r.URL.RequestURI() + " " + string(body))
		f.mu.Lock()
		f.got, f.header = append(f.got, request), r.Header
		f.mu.Unlock()
		status, text := answer(request)
		w.Header().Set("Content-Type", "application/json")
		if status >= 400 {
			w.Header().Set("Content-Type", "application/problem+json")
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, text)
	}))
	t.Cleanup(f.Close)
	return f
}

// always answers all requests alike.
func always(status int, body string) func(string) (int, string) {
	return func(string) (int, string) { return status, body }
}

func (f *fakeAPI) requests() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string(nil), f.got...)
}

// run gives a command with a key and a token for this API.
func (f *fakeAPI) run(t *testing.T, stdin string, args ...string) said {
	t.Helper()
	env := map[string]string{"TRIGGERD_URL": f.URL, "TRIGGERD_KEY": "sk_test", "ADMIN_TOKEN": "operator"}
	return runCLI(t.Context(), env, strings.NewReader(stdin), args...)
}

// runCLI runs the program at cliNow.
func runCLI(ctx context.Context, env map[string]string, stdin io.Reader, args ...string) said {
	var out, errOut bytes.Buffer
	s := &session{in: stdin, out: &out, errOut: &errOut, now: cliNow}
	err := runWith(ctx, args, func(name string) string { return env[name] }, s)
	return said{out.String(), errOut.String(), err}
}

// failsWith checks that there is an error of one line with all parts.
func (s said) failsWith(t *testing.T, parts ...string) {
	t.Helper()
	if s.err == nil {
		t.Errorf("no error, want one with %q; it wrote %s", parts, s.out)
		return
	}
	for _, part := range parts {
		if !strings.Contains(s.err.Error(), part) {
			t.Errorf("error %q, want one with %q", s.err, part)
		}
	}
	if strings.Contains(s.err.Error(), "\n") || strings.Contains(s.err.Error(), "triggerd: ") {
		t.Errorf("not one plain line: %q", s.err)
	}
}
