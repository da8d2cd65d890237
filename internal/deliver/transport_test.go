package deliver

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"triggerd/internal/telemetry"
	"triggerd/internal/trigger"
)

// standStill is a store with nothing but a time.
type standStill struct {
	Store
	now func() time.Time
}

func (s standStill) Now() time.Time { return s.now() }

// sender is an engine that only tries, and its time, which a test moves.
type sender struct {
	engine *Engine
	ahead  atomic.Int64
}

func (s *sender) now() time.Time          { return time.Unix(1_800_000_000, s.ahead.Load()) }
func (s *sender) advance(d time.Duration) { s.ahead.Add(int64(d)) }

func newSender(guard *Guard, transport http.RoundTripper) *sender {
	s := &sender{}
	s.engine = New(Config{
		Store: standStill{now: s.now}, Guard: guard, Transport: transport, Now: s.now, Timeout: time.Minute, Metrics: telemetry.New(),
	})
	return s
}

// try sends an event to a URL.
func (s *sender) try(ctx context.Context, url string, headers map[string]string) trigger.Attempt {
	w := trigger.Webhook{ID: 1, URL: url, Headers: headers, Timeout: 20 * time.Second, Secrets: trigger.OneSecret(trigger.NewSecret([32]byte{7}))}
	return s.engine.Try(ctx, &w, &trigger.Event{ID: trigger.NewID(s.now(), 0, 1), Type: "a", Payload: []byte("1")})
}

// twins are two servers of one certificate and one port, at 127.0.0.1 and
// 127.0.0.2, which count their requests.
func twins(t *testing.T, secured bool) (port string, transport *http.Transport, first, second *atomic.Int64) {
	t.Helper()
	guard := NewGuard(nil, true)
	guard.Resolver = dnsServer("127.0.0.1", "127.0.0.2")
	transport = newTransport(guard)
	t.Cleanup(transport.CloseIdleConnections)
	counts, port := [2]atomic.Int64{}, "0"
	for i, host := range []string{"127.0.0.1", "127.0.0.2"} {
		listener, err := net.Listen("tcp", net.JoinHostPort(host, port))
		if err != nil {
			t.Fatal(err)
		}
		_, port, _ = net.SplitHostPort(listener.Addr().String())
		server := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { counts[i].Add(1) }))
		_ = server.Listener.Close()
		server.Listener = listener
		if secured {
			server.StartTLS()
			transport.TLSClientConfig.RootCAs = server.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
		} else {
			server.Start()
		}
		t.Cleanup(server.Close)
	}
	return port, transport, &counts[0], &counts[1]
}

// A webhook that is busy all the time follows its name to another address within
// a minute, and no attempt fails for that.
func TestBusyWebhookFollowsItsName(t *testing.T) {
	t.Parallel()
	for _, scheme := range []string{"http", "https"} {
		t.Run(scheme, func(t *testing.T) {
			t.Parallel()
			port, transport, first, second := twins(t, scheme == "https")
			s := newSender(NewGuard(nil, true), transport)
			for range 60 {
				if a := s.try(t.Context(), scheme+"://example.com:"+port+"/", nil); a.Outcome != trigger.Success {
					t.Fatalf("%s: %s", a.Outcome, a.Error)
				}
				s.advance(time.Second)
			}
			if first.Load() != 30 || second.Load() != 30 {
				t.Errorf("%d requests to the first address and %d to the second, want 30 and 30", first.Load(), second.Load())
			}
		})
	}
}

// A connection is not used any more shortly before its receiver closes it.
func TestKeepAliveHeader(t *testing.T) {
	t.Parallel()
	for header, want := range map[string]int64{
		"":                                1,
		"timeout=5":                       1,
		"timeout=5, max=100":              1,
		"max=100, Timeout=4":              2,
		"timeout=1":                       4,
		"timeout=0":                       4,
		"timeout=":                        1,
		"timeout=-1":                      1,
		"timeout=99999999999999999999999": 1,
		"timeout":                         1,
	} {
		t.Run(header, func(t *testing.T) {
			t.Parallel()
			var connections atomic.Int64
			server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Keep-Alive", header)
				_, _ = io.WriteString(w, "ok")
			}))
			server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
				if state == http.StateNew {
					connections.Add(1)
				}
			}
			server.Start()
			t.Cleanup(server.Close)
			transport := newTransport(NewGuard(nil, true))
			t.Cleanup(transport.CloseIdleConnections)
			s := newSender(NewGuard(nil, true), transport)
			for _, pause := range []time.Duration{0, 2 * time.Second, 2 * time.Second, 3 * time.Second} {
				s.advance(pause)
				if a := s.try(t.Context(), server.URL, nil); a.Outcome != trigger.Success {
					t.Fatalf("%s: %s", a.Outcome, a.Error)
				}
			}
			if got := connections.Load(); got != want {
				t.Errorf("%d connections, want %d", got, want)
			}
		})
	}
}

// A receiver that closes a kept connection when a request has come has perhaps
// got it: it is not sent again at once, whatever headers the webhook has.
func TestNoRequestIsSentTwice(t *testing.T) {
	t.Parallel()
	for name, headers := range map[string]map[string]string{"no header": nil, "Idempotency-Key": {"Idempotency-Key": "1"}, "X-Idempotency-Key": {"X-Idempotency-Key": "1"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var requests atomic.Int64
			server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
				if requests.Add(1) == 2 {
					panic(http.ErrAbortHandler)
				}
			}))
			t.Cleanup(server.Close)
			transport := newTransport(NewGuard(nil, true))
			t.Cleanup(transport.CloseIdleConnections)
			s := newSender(NewGuard(nil, true), transport)
			for i, want := range []trigger.Outcome{trigger.Success, trigger.Transient, trigger.Success} {
				if a := s.try(t.Context(), server.URL, headers); a.Outcome != want {
					t.Errorf("attempt %d: %s (%s), want %s", i+1, a.Outcome, a.Error, want)
				}
			}
			if got := requests.Load(); got != 3 {
				t.Errorf("%d requests, want 3", got)
			}
		})
	}
}

// racing is a transport whose connections have been closed by the receiver, as
// a request finds them, until there is a good one.
type racing struct {
	closed  int  // so many connections
	reused  bool // they had been kept
	written bool // a part of the request was written to them
	calls   int
	bodies  map[string]bool
}

func (r *racing) RoundTrip(req *http.Request) (*http.Response, error) {
	r.calls++
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return nil, err
	}
	r.bodies[string(body)] = true
	ours, theirs := net.Pipe()
	defer theirs.Close()
	conn := newReceiverConn(req.Context(), ours)
	httptrace.ContextClientTrace(req.Context()).GotConn(httptrace.GotConnInfo{Conn: conn, Reused: r.reused})
	if r.calls > r.closed {
		return &http.Response{StatusCode: 204, Body: http.NoBody}, nil
	}
	if r.written {
		go func() { _, _ = io.ReadFull(theirs, make([]byte, 1)) }()
		_, _ = conn.Write([]byte("P"))
	}
	return nil, errors.Join(conn.Close(), io.EOF)
}

// A request that met the end of kept connections, and of which nothing was
// written, is sent again at once, whole.
func TestUnsentRequestIsSentAgain(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		racing
		calls   int
		outcome trigger.Outcome
	}{
		{racing{closed: 0, reused: true}, 1, trigger.Success},
		{racing{closed: 1, reused: true}, 2, trigger.Success},
		{racing{closed: 64, reused: true}, 65, trigger.Success},
		{racing{closed: 1000, reused: true}, 65, trigger.Transient},
		{racing{closed: 1, reused: false}, 1, trigger.Transient},
		{racing{closed: 1, reused: true, written: true}, 1, trigger.Transient},
	} {
		synctest.Test(t, func(t *testing.T) {
			c.bodies = map[string]bool{}
			a := newSender(NewGuard(nil, true), &c.racing).try(t.Context(), "http://127.0.0.1/", nil)
			if c.racing.calls != c.calls || a.Outcome != c.outcome || len(c.bodies) != 1 || c.bodies[""] {
				t.Errorf("%+v: %d calls, %s (%s), bodies %v; want %d, %s", c.racing, c.racing.calls, a.Outcome, a.Error, c.bodies, c.calls, c.outcome)
			}
			if strings.Contains(a.Error, "EOF") {
				t.Errorf("reason %q", a.Error)
			}
		})
	}
}

// resets answers each request with a text, or not at all, and resets the
// connection at once.
func resets(t *testing.T, answer string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		_, _ = io.WriteString(conn, answer)
		if secured, ok := conn.(*tls.Conn); ok {
			conn = secured.NetConn()
		}
		_ = conn.(*net.TCPConn).SetLinger(0)
		_ = conn.Close()
	}
}

// A receiver that resets the connection, in the middle of a request or behind an
// answer, ends the attempt. That is so over TLS too, where net/http says good-bye
// on the connection when nobody reads from it any more.
func TestResetHoldsNobody(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		answer  string
		payload int
	}{
		"in the middle":   {payload: 8 << 20},
		"behind a 101":    {answer: "HTTP/1.1 101 Switching Protocols\r\n\r\n"},
		"behind a 200":    {answer: "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"},
		"behind a header": {answer: "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"},
	} {
		for _, scheme := range []string{"http", "https"} {
			t.Run(name+", "+scheme, func(t *testing.T) {
				t.Parallel()
				server := httptest.NewUnstartedServer(resets(t, c.answer))
				transport := newTransport(NewGuard(nil, true))
				if scheme == "https" {
					server.StartTLS()
					transport.TLSClientConfig.RootCAs = server.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
				} else {
					server.Start()
				}
				t.Cleanup(server.Close)
				t.Cleanup(transport.CloseIdleConnections)
				s := newSender(NewGuard(nil, true), transport)
				w := trigger.Webhook{ID: 1, URL: server.URL, Timeout: 20 * time.Second, Secrets: trigger.OneSecret(trigger.NewSecret([32]byte{7}))}
				payload := append(append([]byte{'"'}, bytes.Repeat([]byte{'x'}, c.payload)...), '"')
				for range 20 {
					a := s.engine.Try(t.Context(), &w, &trigger.Event{ID: trigger.NewID(s.now(), 0, 1), Type: "a", Payload: payload})
					if a.Status == 0 && a.Error != "connection closed" {
						t.Errorf("%s: %q, want connection closed", a.Outcome, a.Error)
					}
				}
			})
		}
	}
}

// Closing says good-bye to a receiver that has reset the connection, and waits
// for nothing, though nobody reads.
func TestCloseAfterReset(t *testing.T) {
	t.Parallel()
	server := httptest.NewUnstartedServer(nil)
	server.StartTLS() // for its certificate
	defer server.Close()
	listener, err := tls.Listen("tcp", "127.0.0.1:0", server.TLS)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	reset := make(chan error, 1)
	go func() {
		conn, err := listener.Accept()
		if err == nil {
			_, err = io.ReadFull(conn, make([]byte, 1))
			raw := conn.(*tls.Conn).NetConn()
			_ = raw.(*net.TCPConn).SetLinger(0)
			_ = raw.Close()
		}
		reset <- err
	}()
	transport := newTransport(NewGuard(nil, true))
	transport.TLSClientConfig.RootCAs = server.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
	conn, err := transport.DialTLSContext(t.Context(), "tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if err := <-reset; err != nil {
		t.Fatal(err)
	}
	_ = conn.Close() // fails, or not
}
