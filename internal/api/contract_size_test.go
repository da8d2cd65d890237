package api

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"triggerd/internal/store/storetest"
	"triggerd/internal/trigger"
)

// A body of exactly the limit passes and one byte more does not, whether the
// length is said before or not.
func TestBodyLimit(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := newServer(t, db)
		key := s.newKey(t, "free")
		for path, body := range map[string]string{
			"/api/events":           `{"type":"t","payload":"%s"}`,
			"/api/keys/generate":    `{"organization_name":"O","x":"%s"}`,
			"/api/webhook/register": `{"url":"https://example.com/","x":"%s"}`,
		} {
			fill := func(n int) string { return fmt.Sprintf(body, strings.Repeat("x", n-len(body)+2)) }
			for _, chunked := range []bool{false, true} {
				for n, status := range map[int]int{s.api.MaxBody - 1: 200, s.api.MaxBody: 200, s.api.MaxBody + 1: 413} {
					s.upload(t, path, key, fill(n), chunked).wants(t, fmt.Sprint(path, n, chunked), status, "")
				}
			}
		}
		if page := s.inbox(t, key, "?limit=1"); len(page.Events[0].Payload) < s.api.MaxBody-len(`{"type":"t","payload":}`)-1 {
			t.Errorf("a payload of %d bytes", len(page.Events[0].Payload))
		}
		if left := s.api.used.used.Load(); left != 0 {
			t.Errorf("%d bytes of bodies are still counted", left)
		}
	})
}

func (s *server) upload(t *testing.T, path, key, body string, chunked bool) reply {
	t.Helper()
	var in io.Reader = strings.NewReader(body)
	if chunked {
		in = io.MultiReader(in) // of unknown length
	}
	req, err := http.NewRequestWithContext(t.Context(), "POST", s.URL+path, in)
	if err != nil {
		t.Fatal(err)
	}
	return s.send(t, req, key)
}

// What is too large is refused before the rest of it is read: here it never
// comes, and the client does not say that it will not.
func TestTooLargeIsSaidEarly(t *testing.T) {
	t.Parallel()
	s := newServer(t, storetest.SQLite(t), func(a *API) { a.MaxBody = 5000 })
	key := s.newKey(t, "free")
	for path := range map[string]string{"/api/events": "", "/api/keys/generate": "", "/api/webhook/register": ""} {
		head := "POST " + path + " HTTP/1.1\r\nHost: x\r\nX-Api-Key: " + key + "\r\n"
		for name, rest := range map[string]string{
			"no body":         "Content-Length: 5001\r\n\r\n",
			"huge, no body":   "Content-Length: 9000000000000000000\r\n\r\n",
			"some of it":      "Content-Length: 1000000\r\n\r\n" + strings.Repeat("x", 4000),
			"waits":           "Content-Length: 5001\r\nExpect: 100-continue\r\n\r\n",
			"a chunk":         "Transfer-Encoding: chunked\r\n\r\n1389\r\n" + strings.Repeat("x", 5001),
			"part of a chunk": "Transfer-Encoding: chunked\r\n\r\nffffff\r\n" + strings.Repeat("x", 5001),
			"many chunks":     "Transfer-Encoding: chunked\r\n\r\n" + strings.Repeat("1\r\nx\r\n", 5001),
		} {
			r := s.raw(t, path+" "+name, head+rest, false)
			r.judge(t, path+" "+name)
			r.wants(t, path+" "+name, 413, "5000 bytes")
			if r.header.Get("Connection") != "close" {
				t.Errorf("%s %s: the connection goes on", path, name)
			}
		}
	}
}

// Bodies that are on their way are bounded in bytes, all together.
func TestBudget(t *testing.T) {
	t.Parallel()
	b := budget{max: 100}
	for _, n := range []int{60, 40} {
		if err := b.take(n); err != nil {
			t.Fatal(err)
		}
	}
	err := b.take(1)
	if trigger.KindOf(err) != trigger.Unavailable {
		t.Errorf("over the budget: %v", err)
	}
	b.give(40)
	if err := b.take(40); err != nil || b.used.Load() != 100 {
		t.Errorf("%v with %d in use", err, b.used.Load())
	}
}

func TestNoMemoryForBodies(t *testing.T) {
	t.Parallel()
	for _, length := range []int64{1000, -1} {
		a := API{MaxBody: 10_000}
		a.used.max = 700
		req, err := http.NewRequestWithContext(t.Context(), "POST", "/", strings.NewReader(strings.Repeat("x", 1000)))
		if err != nil {
			t.Fatal(err)
		}
		req.ContentLength = length
		_, _, err = a.readJSON(nil, &request{Request: req})
		if trigger.KindOf(err) != trigger.Unavailable || a.used.used.Load() != 0 {
			t.Errorf("length %d: %v, %d bytes in use", length, err, a.used.used.Load())
		}
	}
}
