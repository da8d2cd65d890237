package api

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"triggerd/internal/store/storetest"
)

// slowly is what comes at once on a connection, and then one byte after the
// other, or nothing at all, while the client waits for the end.
type slowly struct {
	name, begin, drops string
	statuses           []int // of the answers before the connection is closed
}

// slowClients is the table of them.
func slowClients(key string) []slowly {
	sized := "POST /api/events HTTP/1.1\r\nHost: a\r\nX-Api-Key: " + key + "\r\nContent-Length: 1000\r\n\r\n"
	chunked := strings.Replace(sized, "Content-Length: 1000", "Transfer-Encoding: chunked", 1)
	keyless := strings.Replace(sized, key, "", 1)
	spaces, chunks := strings.Repeat(" ", 1000), strings.Repeat("1\r\n \r\n", 1000)
	return []slowly{
		{"nothing", "", "", nil},
		{"half a line", "POST /api/ev", "", []int{400}},
		{"half a header", "GET /health HTTP/1.1\r\nHost: a\r\nX-A", "", []int{400}},
		{"a line in drops", "GET /", strings.Repeat("a", 1000), []int{400}},
		{"a header in drops", "GET /health HTTP/1.1\r\nHost: a\r\nX-", strings.Repeat("a", 1000), []int{400}},
		{"no body", sized, "", []int{408}},
		{"half a body", sized + `{"type":`, "", []int{408}},
		{"a body in drops", sized, spaces, []int{408}},
		{"no chunk", chunked, "", []int{408}},
		{"chunks in drops", chunked, chunks, []int{408}},
		{"a chunk's size in drops", chunked, strings.Repeat("0", 1000), []int{408}},
		{"a chunk's extension in drops", chunked + "1;", strings.Repeat("a", 1000), []int{408}},
		{"no end of the chunks", chunked + strings.TrimSuffix(okChunk, "0\r\n"), "", []int{408}},
		{"trailers in drops", chunked + okChunk, strings.Repeat("X-A: a\r\n", 1000), []int{400}}, // net/http hides the deadline
		{"a body in drops, without a key", keyless, spaces, []int{401}},
		{"a body in drops, of another type", strings.Replace(sized, "\r\n\r\n", "\r\nContent-Type: text/plain\r\n\r\n", 1), spaces, []int{415}},
		{"a body in drops, to an unknown path", strings.Replace(sized, "/api/events", "/unknown", 1), spaces, []int{404}},
		{"a body in drops, where none belongs", "GET /health HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n", spaces, []int{200}},
		{"told to go on, and does not", strings.Replace(sized, "\r\n\r\n", "\r\nExpect: 100-continue\r\n\r\n", 1), "", []int{408}},
		{"nothing after an answer", okGet, "", []int{200}},
		{"half a header after an answer", okGet + "GET /health HTTP/1.1\r\nHo", "", []int{200, 400}},
		{"drops after an answer", okGet + "GET /", strings.Repeat("a", 1000), []int{200, 400}},
	}
}

// TestSlowAbuse holds that whoever is slow is cut off, at deadlines that are
// shorter here than those of the server command, which its own tests hold. No
// deadline begins anew because some more has come.
func TestSlowAbuse(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := newServer(t, db)
		key := s.newKey(t, "enterprise")
		before := s.rows(t, "events")
		quick := s.hurried(t)
		var clients sync.WaitGroup
		for _, tt := range slowClients(key) {
			clients.Go(func() { quick.suffer(t, tt) })
		}
		clients.Wait()
		if after := s.rows(t, "events"); after != before {
			t.Errorf("%d events are stored", after-before)
		}
		eventually(t, "no bodies are counted any more", func() bool { return s.api.used.inUse() == 0 })
		s.accept(t, key, okBody)
	})
}

// hurried serves the same API at another address, with short deadlines.
func (s *server) hurried(t *testing.T) *server {
	t.Helper()
	quick := *s
	quick.Server = httptest.NewUnstartedServer(s.Config.Handler)
	quick.Config.ReadHeaderTimeout, quick.Config.ReadTimeout = time.Second, 2*time.Second
	quick.Config.WriteTimeout, quick.Config.IdleTimeout = 4*time.Second, time.Second
	quick.Config.ErrorLog = s.Config.ErrorLog
	quick.Start()
	t.Cleanup(quick.Close)
	return &quick
}

// suffer is one slow client. It fails the test from any goroutine.
func (s *server) suffer(t *testing.T, tt slowly) {
	conn, err := net.Dial("tcp", s.Listener.Addr().String())
	if err != nil {
		t.Error(err)
		return
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(hang))
	var dropping sync.WaitGroup
	defer dropping.Wait()
	dropping.Go(func() {
		drop := time.NewTicker(20 * time.Millisecond)
		defer drop.Stop()
		_, err := io.WriteString(conn, tt.begin)
		for rest := tt.drops; rest != "" && err == nil; rest = rest[1:] {
			<-drop.C
			_, err = io.WriteString(conn, rest[:1])
		}
	})
	in, statuses := bufio.NewReader(conn), tt.statuses
	for {
		if _, err := in.Peek(1); err != nil {
			if timeout, ok := err.(net.Error); ok && timeout.Timeout() || len(statuses) > 0 {
				t.Errorf("%s: the answers %v did not come: %v", tt.name, statuses, err)
			}
			return // the end, or a reset, since the server does not read to the end
		}
		res, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			return
		}
		_, _ = io.Copy(io.Discard, res.Body)
		_ = res.Body.Close()
		if res.StatusCode == http.StatusContinue {
			continue
		}
		if len(statuses) == 0 || res.StatusCode != statuses[0] {
			t.Errorf("%s: %d, want %v", tt.name, res.StatusCode, statuses)
			return
		}
		statuses = statuses[1:]
	}
}

// A client that reads its answer slowly, or not at all, gives back the memory
// that it holds when the deadline for writing has come.
func TestSlowReader(t *testing.T) {
	t.Parallel()
	s := newServer(t, storetest.SQLite(t))
	key := s.newKey(t, "enterprise")
	for range 8 { // more than the kernel takes off the server
		s.accept(t, key, `{"type":"t","payload":"`+strings.Repeat("x", 1<<20-100)+`"}`)
	}
	conn, err := net.Dial("tcp", s.hurried(t).Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, rawRequest("GET", "/api/inbox?limit=100", key, "")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "memory is held", func() bool { return s.api.used.inUse() > 1<<20 })
	eventually(t, "memory is given back", func() bool { return s.api.used.inUse() == 0 })
}
