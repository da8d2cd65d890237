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

// hang is when a server that does not answer is given up: before its own
// deadline for bodies, which would end the wait.
const hang = 15 * time.Second

// raw writes the bytes of one request to a connection of its own and reads
// the one answer that must come. With cut the client says that no more will
// follow; otherwise the answer must come while the connection is open.
func (s *server) raw(t *testing.T, what, request string, cut bool) reply {
	t.Helper()
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(hang))
	var writing sync.WaitGroup
	writing.Go(func() {
		_, _ = io.WriteString(conn, request) // the server may have answered before it read all
		if cut {
			_ = conn.(*net.TCPConn).CloseWrite()
		}
	})
	method, _, _ := strings.Cut(request, " ")
	in := bufio.NewReader(conn)
	res, err := http.ReadResponse(in, &http.Request{Method: method})
	if err != nil {
		t.Fatalf("%s: no answer: %v", what, err)
	}
	body, err := io.ReadAll(res.Body)
	_ = res.Body.Close()
	if err != nil {
		t.Errorf("%s: answer %d ended early: %v", what, res.StatusCode, err)
	}
	writing.Wait()
	_ = conn.(*net.TCPConn).CloseWrite()
	if rest, _ := io.ReadAll(in); len(rest) > 0 { // a reset is an end too
		t.Errorf("%s: after the answer came %.200q", what, rest)
	}
	if res.Close {
		res.Header.Set("Connection", "close") // ReadResponse takes it out
	}
	return reply{res.StatusCode, res.Header, string(body)}
}
