package api

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// hang is when a server that does not answer is given up.
const hang = 10 * time.Second

// exchange writes bytes to a connection of its own and reads the n answers
// that must come, none more, and how many times the server said before that it
// may go on (100 Continue). With cut the client says that no more will follow;
// otherwise the answers must come while the connection is open.
func (s *server) exchange(t *testing.T, what, requests string, cut bool, n int) (answers []reply, continues int) {
	t.Helper()
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(hang))
	var writing sync.WaitGroup
	writing.Go(func() {
		_, _ = io.WriteString(conn, requests) // the server may have answered before it read all
		if cut {
			_ = conn.(*net.TCPConn).CloseWrite()
		}
	})
	method, _, _ := strings.Cut(requests, " ")
	in := bufio.NewReader(conn)
	for len(answers) < n {
		res, err := http.ReadResponse(in, &http.Request{Method: method})
		if err != nil {
			t.Fatalf("%s: %d answers instead of %d: %v", what, len(answers), n, err)
		}
		if res.StatusCode == http.StatusContinue {
			continues++
			continue
		}
		body, err := io.ReadAll(res.Body)
		_ = res.Body.Close()
		if err != nil {
			t.Errorf("%s: answer %d ended early: %v", what, res.StatusCode, err)
		}
		if res.Close {
			res.Header.Set("Connection", "close") // ReadResponse takes it out
		}
		answers = append(answers, reply{res.StatusCode, res.Header, string(body)})
	}
	writing.Wait()
	_ = conn.(*net.TCPConn).CloseWrite()
	rest, err := io.ReadAll(in)
	if len(rest) > 0 {
		t.Errorf("%s: after the last answer came %.200q", what, rest)
	}
	if timeout, ok := err.(net.Error); ok && timeout.Timeout() { // a reset is an end too
		t.Errorf("%s: the server does not close the connection", what)
	}
	return answers, continues
}

// raw is exchange for one request and its one answer.
func (s *server) raw(t *testing.T, what, request string, cut bool) reply {
	t.Helper()
	answers, _ := s.exchange(t, what, request, cut, 1)
	return answers[0]
}
