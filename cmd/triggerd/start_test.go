package main

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pressly/goose/v3/lock"

	"triggerd/internal/store/storetest"
)

// freeAddress is an address at which nobody listens now.
func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	return listener.Addr().String()
}

// A server that starts before its database listens, says that it lives and is
// not ready, and begins when the database is there. It stops in order, too.
func TestStartBeforeDatabase(t *testing.T) {
	t.Parallel()
	storetest.OnPostgres(t, func(t *testing.T, db *storetest.DB) {
		u, err := url.Parse(db.Options.PostgresURL)
		if err != nil {
			t.Fatal(err)
		}
		server, listen := u.Host, freeAddress(t)
		u.Host = freeAddress(t)
		env := map[string]string{"DATABASE_URL": u.String(), "LISTEN": listen, "LOG_LEVEL": "info"}
		start := func() (stop func() error) {
			ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
			ended := make(chan error, 1)
			go func() {
				_, err := runProgram(ctx, env, "serve")
				ended <- err
			}()
			return func() error {
				cancel()
				return <-ended
			}
		}
		stop := start()
		untilAnswer(t, "http://"+listen+"/livez", http.StatusOK, `"ok"`)
		untilAnswer(t, "http://"+listen+"/health", http.StatusOK, `"timestamp"`)
		untilAnswer(t, "http://"+listen+"/readyz", http.StatusServiceUnavailable, "is not open yet")
		untilAnswer(t, "http://"+listen+"/api/inbox", http.StatusServiceUnavailable, `{"error":"Service unavailable"}`)
		untilAnswer(t, "http://"+listen+"/v1/events", http.StatusServiceUnavailable, `"status":503`)
		if err := stop(); err != nil {
			t.Errorf("stopped while it waited: %v", err)
		}
		stop = start()
		untilAnswer(t, "http://"+listen+"/readyz", http.StatusServiceUnavailable, "is not open yet")
		storetest.Relay(t, u.Host, server, nil)
		untilAnswer(t, "http://"+listen+"/readyz", http.StatusOK, `"ok"`)
		untilAnswer(t, "http://"+listen+"/v1/events", http.StatusUnauthorized, "")
		if err := stop(); err != nil {
			t.Errorf("stopped: %v", err)
		}
		u.Path = "/nowhere"
		env["DATABASE_URL"] = u.String()
		_, err = runProgram(t.Context(), env, "serve")
		if err == nil || !strings.Contains(err.Error(), "PostgreSQL cannot be reached") || !strings.Contains(err.Error(), "nowhere") {
			t.Errorf("a database that does not exist: %v", err)
		}
	})
}

// While another node migrates, a server answers that it lives, and says what it
// waits for.
func TestStartBehindMigration(t *testing.T) {
	t.Parallel()
	storetest.OnPostgres(t, func(t *testing.T, db *storetest.DB) {
		raw := db.SQL(t)
		if _, err := raw.ExecContext(t.Context(), "DROP SCHEMA triggerd CASCADE"); err != nil {
			t.Fatal(err)
		}
		other, err := raw.Conn(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer other.Close()
		if _, err := other.ExecContext(t.Context(), "SELECT pg_advisory_lock($1)", lock.DefaultLockID); err != nil {
			t.Fatal(err)
		}
		listen := freeAddress(t)
		env := map[string]string{"DATABASE_URL": db.Options.PostgresURL, "LISTEN": listen}
		ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
		said := make(chan string, 1)
		go func() {
			out, err := runProgram(ctx, env, "serve")
			if err != nil {
				t.Errorf("it ends with %v", err)
			}
			said <- out
		}()
		stop := sync.OnceValue(func() string {
			cancel()
			return <-said
		})
		defer stop()
		untilAnswer(t, "http://"+listen+"/livez", http.StatusOK, `"ok"`)
		untilAnswer(t, "http://"+listen+"/readyz", http.StatusServiceUnavailable, "is not open yet")
		if _, err := other.ExecContext(t.Context(), "SELECT pg_advisory_unlock($1)", lock.DefaultLockID); err != nil {
			t.Fatal(err)
		}
		untilAnswer(t, "http://"+listen+"/readyz", http.StatusOK, `"ok"`)
		if out := stop(); !strings.Contains(out, `"waits_for":"the migration lock, which another node holds`) {
			t.Errorf("the log does not say what it waited for:\n%s", out)
		}
	})
}

// A server that cannot read the operator's token goes on waiting, and begins when
// it can.
func TestStartWithoutOperatorToken(t *testing.T) {
	t.Parallel()
	storetest.OnPostgres(t, func(t *testing.T, db *storetest.DB) {
		raw := db.SQL(t)
		other, err := raw.BeginTx(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer other.Rollback() // again, if the test failed before
		if _, err := other.ExecContext(t.Context(), "LOCK TABLE operator_token IN ACCESS EXCLUSIVE MODE"); err != nil {
			t.Fatal(err)
		}
		listen := freeAddress(t)
		env := map[string]string{"DATABASE_URL": db.Options.PostgresURL, "LISTEN": listen}
		ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
		ended := make(chan error, 1)
		go func() {
			_, err := runProgram(ctx, env, "serve")
			ended <- err
		}()
		deadline := time.Now().Add(patience)
		for _, want := range []int{1, 0} { // it waits for the lock, and gives up
			for waiting := -1; waiting != want; {
				if err := raw.QueryRowContext(t.Context(), `SELECT count(*) FROM pg_locks
					WHERE NOT granted AND relation = 'operator_token'::regclass`).Scan(&waiting); err != nil {
					t.Fatal(err)
				}
				if time.Now().After(deadline) {
					t.Fatalf("%d statements wait for the token, want %d", waiting, want)
				}
			}
		}
		untilAnswer(t, "http://"+listen+"/readyz", http.StatusServiceUnavailable, "is not open yet")
		if err := other.Rollback(); err != nil {
			t.Fatal(err)
		}
		untilAnswer(t, "http://"+listen+"/readyz", http.StatusOK, `"ok"`)
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("stopped: %v", err)
		}
	})
}

// untilAnswer asks until the answer has a status and a part of a text.
func untilAnswer(t *testing.T, url string, status int, part string) {
	t.Helper()
	client := http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
	deadline := time.Now().Add(patience)
	for {
		got := ""
		resp, err := client.Get(url)
		if err == nil {
			body, _ := io.ReadAll(resp.Body)
			resp.Body.Close()
			if got = string(body); resp.StatusCode == status && strings.Contains(got, part) {
				if status == http.StatusServiceUnavailable && resp.Header.Get("Retry-After") == "" {
					t.Errorf("%s: 503 without Retry-After", url)
				}
				if h := resp.Header; h.Get("Cache-Control") != "no-store" || h.Get("X-Content-Type-Options") != "nosniff" {
					t.Errorf("%s: a cache may keep the answer, or a browser guess its type: %v", url, h)
				}
				return
			}
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: %v %q, want %d with %q", url, err, got, status, part)
		}
	}
}

// A test of a webhook whose receiver does not answer is answered itself when the
// server stops.
func TestWebhookTestDuringStop(t *testing.T) {
	t.Parallel()
	db := storetest.SQLite(t)
	s := startServer(t, db, nil)
	asked, end := make(chan struct{}), make(chan struct{})
	defer close(end)
	receiver := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		close(asked)
		select {
		case <-end:
		case <-r.Context().Done():
		}
	}))
	defer receiver.Close()
	key := s.newKey(t, "free")
	id, _ := s.register(t, key, receiver.URL, "")
	answered := make(chan reply, 1)
	go func() { answered <- s.post(t, key, "/v1/webhooks/"+strconv.FormatInt(id, 10)+"/test", "{}") }()
	<-asked
	go s.stop()
	if got := <-answered; got.status != http.StatusServiceUnavailable || got.header.Get("Retry-After") == "" {
		t.Errorf("%d %s, want 503 with Retry-After", got.status, got.body)
	}
	s.stop()
}
