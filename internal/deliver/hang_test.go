package deliver_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"triggerd/internal/deliver"
	"triggerd/internal/store/storetest"
	"triggerd/internal/telemetry"
	"triggerd/internal/trigger"
)

// rawServer hands each connection to serve, whose context ends when the server
// stops, and returns its address.
func rawServer(t *testing.T, serve func(context.Context, net.Conn)) (address string, stop func()) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				defer conn.Close()
				defer context.AfterFunc(ctx, func() { conn.Close() })()
				serve(ctx, conn)
			})
		}
	})
	stop = sync.OnceFunc(func() {
		cancel()
		listener.Close()
		serving.Wait()
	})
	t.Cleanup(stop)
	return listener.Addr().String(), stop
}

// untilClosed waits until the other side has closed the connection.
func untilClosed(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) }

// answers sends some text when a request has begun, and then drips more of it
// for ever.
func answers(text, drip string) func(context.Context, net.Conn) {
	return func(ctx context.Context, conn net.Conn) {
		if _, err := conn.Read(make([]byte, 1024)); err != nil {
			return
		}
		if _, err := io.WriteString(conn, text); err != nil {
			return
		}
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for drip != "" {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			if _, err := io.WriteString(conn, drip); err != nil {
				return
			}
		}
		untilClosed(conn)
	}
}

// answersEach sends some text for each small request.
func answersEach(text string) func(context.Context, net.Conn) {
	return func(_ context.Context, conn net.Conn) {
		for buf := make([]byte, 64<<10); ; {
			if _, err := conn.Read(buf); err != nil {
				return
			}
			if _, err := io.WriteString(conn, text); err != nil {
				return
			}
		}
	}
}

// breaksOff sends some text when a request has begun, and closes the connection.
func breaksOff(text string) func(context.Context, net.Conn) {
	return func(_ context.Context, conn net.Conn) {
		_, _ = conn.Read(make([]byte, 1024))
		_, _ = io.WriteString(conn, text)
	}
}

// blackHole is an address where no connection is ever made: its queue is full.
func blackHole(t *testing.T) string {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Close(fd) })
	if err := errors.Join(syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}), syscall.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	name, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	address := fmt.Sprintf("127.0.0.1:%d", name.(*syscall.SockaddrInet4).Port)
	for {
		conn, err := net.DialTimeout("tcp", address, 200*time.Millisecond)
		if err != nil {
			return address
		}
		t.Cleanup(func() { conn.Close() })
	}
}

// in use are the goroutines and file descriptors of this process.
func inUse(t *testing.T) (goroutines, files int) {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return runtime.NumGoroutine(), len(list)
}

// Whatever a receiver does not do, the one deadline of an attempt ends it, and
// nothing of it is left: no goroutine and no connection. What status and headers
// have said by then counts. This test runs beside no other.
func TestNoAttemptEscapesItsDeadline(t *testing.T) {
	const head = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n"
	silentDNS := rawUDP(t)
	db := storetest.SQLite(t)
	s := db.Open(t)
	for name, c := range map[string]struct {
		serve   func(context.Context, net.Conn)
		url     string // "" is http at the server
		status  int
		outcome trigger.Outcome
		payload int
		after   time.Duration // Retry-After
	}{
		"no answer from the name server":       {url: "http://silent.test/", outcome: trigger.Transient},
		"no connection":                        {url: "http://" + blackHole(t) + "/", outcome: trigger.Transient},
		"a handshake that never begins":        {serve: answers("", ""), url: "https://%s/", outcome: trigger.Transient},
		"a handshake that stalls":              {serve: answers("\x16\x03\x03\x00\x7a\x02\x00", ""), url: "https://%s/", outcome: trigger.Transient},
		"a handshake that drips":               {serve: answers("\x16\x03\x03\x40\x00\x02\x00\x3f\xfc", "\x00"), url: "https://%s/", outcome: trigger.Transient},
		"a request that is not read":           {serve: func(ctx context.Context, _ net.Conn) { <-ctx.Done() }, payload: 8 << 20, outcome: trigger.Transient},
		"no status line":                       {serve: answers("", ""), outcome: trigger.Transient},
		"a status line that stops":             {serve: answers("HTTP/1.1 20", ""), outcome: trigger.Transient},
		"headers for ever":                     {serve: answers("HTTP/1.1 200 OK\r\n", "a: b\r\n"), outcome: trigger.Transient},
		"103 for ever":                         {serve: answers("", "HTTP/1.1 103 Early Hints\r\n\r\n"), outcome: trigger.Transient},
		"101 and silence":                      {serve: answers("HTTP/1.1 101 Switching Protocols\r\n\r\n", ""), status: 101, outcome: trigger.Transient},
		"101 with an upgrade, and more":        {serve: answers("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n", "x"), status: 101, outcome: trigger.Transient},
		"a body that stops":                    {serve: answers(head+"\r\nabc", ""), status: 200, outcome: trigger.Success},
		"a body that is cut":                   {serve: breaksOff(head + "\r\nabc"), status: 200, outcome: trigger.Success},
		"a body that drips":                    {serve: answers(head+"\r\n", "x"), status: 200, outcome: trigger.Success},
		"a body without end":                   {serve: answers("HTTP/1.1 200 OK\r\n\r\n", "x"), status: 200, outcome: trigger.Success},
		"chunks without end":                   {serve: answers("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "1\r\nx\r\n"), status: 200, outcome: trigger.Success},
		"a broken chunk":                       {serve: answers("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", ""), status: 200, outcome: trigger.Success},
		"410 with a body that stops":           {serve: answers("HTTP/1.1 410 Gone\r\nContent-Length: 5\r\n\r\n", ""), status: 410, outcome: trigger.ReceiverGone},
		"abort with a body that stops":         {serve: answers("HTTP/1.1 400 No\r\nwebhook-delivery: abort-message\r\nContent-Length: 5\r\n\r\n", ""), status: 400, outcome: trigger.Permanent},
		"Retry-After with a body that stops":   {serve: answers("HTTP/1.1 429 No\r\nRetry-After: 7\r\nContent-Length: 5\r\n\r\n", ""), status: 429, outcome: trigger.Transient, after: 7 * time.Second},
		"an answer before the request is read": {serve: answers("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", ""), payload: 8 << 20, status: 200, outcome: trigger.Success},
		"an answer to a part, and a close":     {serve: breaksOff("HTTP/1.1 410 Gone\r\nContent-Length: 0\r\n\r\n"), payload: 8 << 20, status: 410, outcome: trigger.ReceiverGone},
		"a redirect to nowhere":                {serve: answersEach("HTTP/1.1 302 Found\r\nLocation: http://[\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n"), status: 302, outcome: trigger.Transient, after: 7 * time.Second},
		"an answer, and the connection stays":  {serve: answersEach("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"), status: 200, outcome: trigger.Success},
	} {
		t.Run(name, func(t *testing.T) {
			url, stop := c.url, func() {}
			goroutines, files := inUse(t)
			if c.serve != nil {
				var address string
				if address, stop = rawServer(t, c.serve); url == "" {
					url = "http://" + address + "/"
				} else {
					url = fmt.Sprintf(url, address)
				}
			}
			guard := deliver.NewGuard(nil, true)
			guard.Resolver = silentDNS
			n := deliver.New(deliver.Config{Store: s, Guard: guard, Timeout: time.Minute, Now: db.Clock.Now, Metrics: telemetry.New()})
			w := trigger.Webhook{ID: 1, URL: url, Timeout: 1500 * time.Millisecond, Secrets: trigger.OneSecret(trigger.NewSecret([32]byte{7}))}
			e := &trigger.Event{ID: trigger.NewID(s.Now(), 0, 1), Type: "a", Payload: append(append([]byte{'"'}, bytes.Repeat([]byte{'x'}, c.payload)...), '"')}
			var trying sync.WaitGroup
			for range 3 {
				trying.Go(func() {
					a := n.Try(t.Context(), &w, e)
					if a.Status != c.status || a.Outcome != c.outcome || a.RetryAfter != c.after {
						t.Errorf("status %d, %s, wait %v (%s); want %d, %s, %v", a.Status, a.Outcome, a.RetryAfter, a.Error, c.status, c.outcome, c.after)
					}
				})
			}
			trying.Wait()
			n.Idle()
			stop()
			until(t, fmt.Sprintf("%d goroutines and %d files are left, as before", goroutines, files), func() bool {
				g, f := inUse(t)
				return g <= goroutines && f <= files
			})
		})
	}
}

// rawUDP is a resolver whose name server never answers.
func rawUDP(t *testing.T) *net.Resolver {
	t.Helper()
	server, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "udp", server.LocalAddr().String())
	}}
}
