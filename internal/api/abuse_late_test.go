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

// TestLateBodies holds that a body that does not arrive in time gets 408 from
// each route that reads one, in each form, and that the connection is closed
// after it: a sender that sees 400 would drop the event.
func TestLateBodies(t *testing.T) {
	t.Parallel()
	a := newAbused(t, storetest.SQLite(t))
	before := a.counts(t)
	quick := a.hurried(t)
	var clients sync.WaitGroup
	late := func(request, form, sent, want string) {
		headers := "\r\nContent-Type: " + form + "\r\n\r\n"
		if form == "*/*" { // a CloudEvent in the binary form
			headers = "\r\nCe-Specversion: 1.0\r\nCe-Id: 1\r\nCe-Source: /a\r\nCe-Type: t\r\n\r\n"
		}
		clients.Go(func() {
			status, got := quick.answerAndEnd(t, strings.Replace(request, "\r\n\r\n", headers+sent, 1))
			if status != 408 || !strings.Contains(got, want) {
				line, _, _ := strings.Cut(request, " HTTP")
				t.Errorf("%s as %s: %d %s", line, form, status, got)
			}
		})
	}
	for _, path := range postRoutes {
		late(unfinished("POST", path, a.key, adminToken), "application/json", "{", `{"error":"The body did not arrive in time: got 1 bytes`)
	}
	routes := a.withBodies()
	if len(routes) < 20 {
		t.Errorf("only %d routes with a body are found", len(routes))
	}
	for o, rt := range routes {
		key, headers := a.key, []string(nil)
		if rt.scope == scopeAdmin {
			key, headers = "", []string{adminToken}
		}
		for form := range o.requests {
			late(unfinished(rt.method, a.has.fill(rt.path, nil), key, headers...), form, "{\n", `"status":408,"code":"request_timeout"`)
		}
	}
	clients.Wait()
	for what, n := range a.counts(t) {
		if n != before[what] {
			t.Errorf("%d %s are there, and %d were before", n, what, before[what])
		}
	}
}

// unfinished is the head of a request whose body is larger than what will come.
func unfinished(method, target, key string, headers ...string) string {
	request := rawRequest(method, target, key, "", append(headers, "Transfer-Encoding: chunked")...)
	return strings.Replace(request, "Transfer-Encoding: chunked", "Content-Length: 1000", 1)
}

// answerAndEnd writes a request and reads until the server closes the
// connection, which the answer must say, too. It may run on any goroutine.
func (s *server) answerAndEnd(t *testing.T, request string) (status int, body string) {
	conn, err := net.Dial("tcp", s.Listener.Addr().String())
	if err != nil {
		t.Error(err)
		return 0, ""
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(hang))
	if _, err := io.WriteString(conn, request); err != nil {
		t.Error(err)
	}
	in := bufio.NewReader(conn)
	res, err := http.ReadResponse(in, nil)
	if err != nil {
		t.Error(err)
		return 0, ""
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	rest, end := io.ReadAll(in)
	if timeout, ok := end.(net.Error); err != nil || !res.Close || len(rest) > 0 || ok && timeout.Timeout() {
		t.Errorf("%d %s: %v, closes %v, then %q, %v", res.StatusCode, text, err, res.Close, rest, end)
	}
	return res.StatusCode, string(text)
}

// The same holds of a stream of HTTP/2, which has no connection of its own.
func TestLateBodyOfHTTP2(t *testing.T) {
	t.Parallel()
	s := newServer(t, storetest.SQLite(t))
	key := s.newKey(t, "free")
	quick := httptest.NewUnstartedServer(s.Config.Handler)
	quick.Config.ReadTimeout, quick.Config.ErrorLog, quick.EnableHTTP2 = time.Second, s.Config.ErrorLog, true
	quick.StartTLS()
	t.Cleanup(quick.Close)
	body, more := io.Pipe()
	defer more.Close()
	req, err := http.NewRequestWithContext(t.Context(), "POST", quick.URL+"/v1/events", body)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Api-Key", key)
	res, err := quick.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if res.StatusCode != 408 || res.ProtoMajor != 2 || !strings.Contains(string(text), `"code":"request_timeout"`) {
		t.Errorf("%s %d %s, %v", res.Proto, res.StatusCode, text, err)
	}
}
