package api

import (
	"fmt"
	"io"
	"net"
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
		if left := s.api.used.inUse(); left != 0 {
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
		head := "POST " + path + " HTTP/1.1\r\nHost: localhost\r\nX-Api-Key: " + key + "\r\n"
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
		r := s.raw(t, path, strings.Replace(head, path, path+"?"+strings.Repeat("a", maxURL), 1)+"Content-Length: 1000\r\n\r\n", false)
		r.judge(t, path)
		r.wants(t, path, 414, "8192 bytes")
	}
}

// inUse is how many bytes are counted.
func (b *budget) inUse() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.used
}

func (b *budget) setMax(n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.max = n
}

// Bodies that are on their way are bounded in bytes, all together and those of
// one organization.
func TestBudget(t *testing.T) {
	t.Parallel()
	b := newBudget(100)
	take := func(orgID int64, n int, want bool) {
		t.Helper()
		if err := b.take(orgID, n); (err == nil) != want || err != nil && trigger.KindOf(err) != trigger.Unavailable {
			t.Errorf("take %d for %d: %v", n, orgID, err)
		}
	}
	take(1, 51, false) // over half of it
	take(1, 30, true)
	take(1, 21, false)
	take(1, 20, true)
	take(1, 1, false)
	take(2, 40, true) // of the other half
	take(3, 11, false)
	take(3, 10, true)
	take(2, 1, false) // over all of it
	b.give(1, 50)
	take(2, 11, false)
	take(3, 40, true)
	b.give(2, 40)
	b.give(3, 50)
	if b.inUse() != 0 || len(b.of) != 0 {
		t.Errorf("%d in use, by %v", b.inUse(), b.of)
	}
}

func TestNoMemoryForBodies(t *testing.T) {
	t.Parallel()
	for _, length := range []int64{1000, -1} {
		a := API{MaxBody: 10_000, used: newBudget(1400)}
		req, err := http.NewRequestWithContext(t.Context(), "POST", "/", strings.NewReader(strings.Repeat("x", 1000)))
		if err != nil {
			t.Fatal(err)
		}
		req.ContentLength = length
		_, _, err = a.readJSON(nil, &request{Request: req})
		if trigger.KindOf(err) != trigger.Unavailable || a.used.inUse() != 0 {
			t.Errorf("length %d: %v, %d bytes in use", length, err, a.used.inUse())
		}
	}
}

// An organization whose bodies do not come gets no more memory at last, and
// the others still do.
func TestSlowBodiesOfOneOrganization(t *testing.T) {
	t.Parallel()
	s := newServer(t, storetest.SQLite(t))
	slow, honest := s.newKey(t, "free"), s.newKey(t, "free")
	s.api.used.setMax(10 * firstRead)
	for range 5 {
		conn, err := net.Dial("tcp", s.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := io.WriteString(conn, rawRequest("POST", "/api/events", slow, strings.Repeat(" ", firstRead))[:200]); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "half of the memory is taken", func() bool { return s.api.used.inUse() == 5*firstRead })
	s.post(t, slow, `{"type":"t","payload":1}`).wants(t, "the slow organization", 503, "")
	s.accept(t, honest, `{"type":"t","payload":"`+strings.Repeat("x", firstRead)+`"}`)
}
