package client

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
)

// serve starts a server, and a client with a transport of its own for it.
func serve(t *testing.T, h http.HandlerFunc) *Client {
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	c := &Client{BaseURL: srv.URL, Key: "sk_test"}
	t.Cleanup(c.CloseIdleConnections)
	return c
}

// Answers that break off on real connections, and connections that do.
func TestCutConnections(t *testing.T) {
	t.Parallel()
	var n atomic.Int32
	c := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		switch n.Add(1) {
		case 1:
			panic(http.ErrAbortHandler)
		case 2:
			w.Header().Set("Content-Length", "1000")
			_, _ = io.WriteString(w, `{"organization":`)
		default:
			_, _ = io.WriteString(w, `{"organization":{"id":7}}`)
		}
	})
	me, err := c.Me(t.Context())
	diff(t, "error", err, nil)
	diff(t, "id", me.Organization.ID, 7)
	diff(t, "tries", n.Load(), 3)
}

// The key goes to nobody else.
func TestRedirectsAreNotFollowed(t *testing.T) {
	t.Parallel()
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		diff(t, "path", r.URL.Path, "/v1/me")
		http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
	})
	_, err := c.Me(t.Context())
	diff(t, "status", statusOf(err), http.StatusTemporaryRedirect)
}

// A refused connection was never made, whatever the system says of it.
func TestNobodyListens(t *testing.T) {
	t.Parallel()
	srv := httptest.NewServer(nil)
	c := &Client{BaseURL: srv.URL, Retries: -1}
	srv.Close()
	_, err := c.ClaimInbox(t.Context(), ClaimInput{})
	diff(t, "unsent", unsent(err), true)
}

func TestHandshake(t *testing.T) {
	t.Parallel()
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		diff(t, "request", r.Method+" "+r.URL.Path, "OPTIONS /v1/events")
		w.Header().Set("WebHook-Allowed-Origin", r.Header.Get("WebHook-Request-Origin"))
		w.Header().Set("WebHook-Allowed-Rate", "*")
		w.WriteHeader(http.StatusNoContent)
	})
	got, err := c.Handshake(t.Context(), "eventemitter.example.com")
	diff(t, "error", err, nil)
	diff(t, "permission", got, Permission{"eventemitter.example.com", "*"})
}

func TestOpenAPI(t *testing.T) {
	t.Parallel()
	c := serve(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "openapi: 3.1.0\n") })
	got, err := c.OpenAPI(t.Context())
	diff(t, "error", err, nil)
	diff(t, "text", string(got), "openapi: 3.1.0\n")
}

// A 204 has no body, which is no fault.
func TestDelete(t *testing.T) {
	t.Parallel()
	c := serve(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	diff(t, "error", c.DeleteWebhook(t.Context(), 1), nil)
}

// An answer is not read without an end, and not asked for again.
func TestHugeAnswers(t *testing.T) {
	t.Parallel()
	got, err := readUpTo(5, strings.NewReader("12345"))
	diff(t, "as large as may be", string(got), "12345")
	diff(t, "error", err, nil)
	_, err = readUpTo(5, repeated("1"))
	diff(t, "endless", err, errHuge)
	diff(t, "again", (&request{}).again(fmt.Errorf("around: %w", err)), false)
}
