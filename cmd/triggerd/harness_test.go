package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"triggerd/internal/store/storetest"
	"triggerd/internal/trigger"
)

// patience is for how long a test waits for what must come. It measures nothing,
// so it suits a machine with much other work.
const patience = 3 * time.Minute

// testServer is a whole server in this process, on a port of its own.
type testServer struct {
	URL    string
	client *http.Client
	server *server
	stop   func() // drains, and fails the test if that does not end well
}

// startServer runs a server on the test's database until the end of the test,
// with the default settings, loopback targets allowed and no rate limit; change
// may make them other. Two on one database are two nodes, or one after another.
func startServer(t *testing.T, db *storetest.DB, change func(*settings)) *testServer {
	t.Helper()
	set, err := defaultSettings()
	if err != nil {
		t.Fatal(err)
	}
	set.Listen, set.Dev, set.RateLimitRPM, set.LogLevel = "127.0.0.1:0", true, 0, "warn"
	set.DatabaseURL, set.DataDir = db.Options.PostgresURL, db.Options.DataDir
	if change != nil {
		change(&set)
	}
	srv, err := newServer(t.Context(), set, newLog(t.Output(), set), db.Clock.Now)
	if err != nil {
		t.Fatalf("make the server: %v", err)
	}
	s := &testServer{
		URL: "http://" + srv.listener.Addr().String(), server: srv,
		client: &http.Client{
			Transport:     &http.Transport{MaxConnsPerHost: 64, MaxIdleConnsPerHost: 64},
			Timeout:       patience,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- srv.run(ctx) }()
	s.stop = sync.OnceFunc(func() {
		s.client.CloseIdleConnections()
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("the server ended: %v", err)
			}
		case <-time.After(patience):
			t.Error("the server does not stop")
		}
	})
	t.Cleanup(s.stop)
	return s
}

// operatorToken returns the token that the server's operator has. On PostgreSQL
// it is made now, unless it was.
func (s *testServer) operatorToken(t *testing.T) string {
	t.Helper()
	if token := cmp.Or(s.server.settings.AdminToken, s.server.api.MadeToken); token != "" {
		return token
	}
	token := trigger.NewOperatorToken([32]byte{7})
	if err := s.server.store.SetOperatorToken(t.Context(), trigger.HashOperatorToken(token)); err != nil {
		t.Fatal(err)
	}
	return token
}

// statusOf sends a request, and returns the status of the answer alone.
func statusOf(t *testing.T, do func(*http.Request) (*http.Response, error), req *http.Request) int {
	t.Helper()
	res, err := do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	_, _ = io.Copy(io.Discard, res.Body)
	return res.StatusCode
}

// reply is an answer of the server.
type reply struct {
	status int
	header http.Header
	body   string
}

// get asks for a path, with a key unless it is "".
func (s *testServer) get(t *testing.T, key, path string) reply {
	t.Helper()
	return s.do(t, http.MethodGet, key, path, nil)
}

// post sends a body of JSON, with a key unless it is "".
func (s *testServer) post(t *testing.T, key, path, body string) reply {
	t.Helper()
	return s.do(t, http.MethodPost, key, path, []byte(body))
}

// do fails the test from any goroutine, and then returns the zero reply.
func (s *testServer) do(t *testing.T, method, key, path string, body []byte) (r reply) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, s.URL+path, bytes.NewReader(body))
	if err != nil {
		t.Error(err)
		return r
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if key != "" {
		req.Header.Set("X-Api-Key", key)
	}
	resp, err := s.client.Do(req)
	if err != nil {
		t.Error(err)
		return r
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Errorf("%s %s: %v", method, path, err)
		return r
	}
	return reply{resp.StatusCode, resp.Header, string(got)}
}

// into decodes an answer that has to be a 200. It fails the test from any
// goroutine, and then leaves to as it is.
func (r reply) into(t *testing.T, to any) {
	t.Helper()
	if r.status != http.StatusOK {
		t.Errorf("status %d, want 200: %s", r.status, r.body)
		return
	}
	if err := json.Unmarshal([]byte(r.body), to); err != nil {
		t.Errorf("answer %s: %v", r.body, err)
	}
}

// newKey makes an organization of a tier and returns its key.
func (s *testServer) newKey(t *testing.T, tier string) string {
	t.Helper()
	var answer struct {
		Key string `json:"api-key"`
	}
	s.post(t, "", "/api/keys/generate", fmt.Sprintf(`{"organization_name":"Test","tier":%q}`, tier)).into(t, &answer)
	return answer.Key
}

// register makes a webhook and returns its id and secret.
func (s *testServer) register(t *testing.T, key, url, filter string) (id int64, secret string) {
	t.Helper()
	var answer struct {
		ID     int64 `json:"webhook-id"`
		Secret string
	}
	s.post(t, key, "/api/webhook/register", fmt.Sprintf(`{"url":%q,"event_type_filter":%q}`, url, filter)).into(t, &answer)
	return answer.ID, answer.Secret
}

// eventAnswer is what a posted event gets.
type eventAnswer struct {
	Status  string
	EventID string `json:"event-id"`
	Message string
}

// postEvent posts an event, its payload as it is; no dedup id if that is "".
func (s *testServer) postEvent(t *testing.T, key, eventType, dedupID, payload string) (answer eventAnswer) {
	t.Helper()
	dedup := ""
	if dedupID != "" {
		dedup = fmt.Sprintf(`"dedup_id":%q,`, dedupID)
	}
	s.post(t, key, "/api/events", fmt.Sprintf(`{"type":%q,%s"payload":%s}`, eventType, dedup, payload)).into(t, &answer)
	return answer
}

// received is one request to a recorder.
type received struct {
	path   string
	header http.Header
	body   []byte
}

// recorder is a webhook's endpoint that keeps what comes.
type recorder struct {
	*httptest.Server
	mu   sync.Mutex
	got  []received
	more chan struct{} // closed, and made anew, at each request
}

// newRecorder answers the n-th request, from 0, with status(n, it); nil means
// 200 for all. Close it after the servers that deliver to it have stopped:
// make it before them.
func newRecorder(t *testing.T, status func(n int, r received) int) *recorder {
	t.Helper()
	rec := &recorder{more: make(chan struct{})}
	rec.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return // cut by the sender
		}
		it := received{r.URL.Path, r.Header, body}
		rec.mu.Lock()
		n := len(rec.got)
		rec.got = append(rec.got, it)
		close(rec.more)
		rec.more = make(chan struct{})
		rec.mu.Unlock()
		if status != nil {
			w.WriteHeader(status(n, it))
		}
	}))
	t.Cleanup(rec.Close)
	return rec
}

// wait returns all requests when there are at least n.
func (r *recorder) wait(t *testing.T, n int) []received {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	for {
		r.mu.Lock()
		got, more := slices.Clone(r.got), r.more
		r.mu.Unlock()
		if len(got) >= n {
			return got
		}
		select {
		case <-more:
		case <-deadline.C:
			t.Fatalf("%d deliveries have come, want %d", len(got), n)
		}
	}
}
