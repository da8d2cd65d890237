package main

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"triggerd/internal/store/storetest"
)

// poor is a listener without descriptors.
type poor struct{ net.Listener }

func (poor) Accept() (net.Conn, error) {
	return nil, &net.OpError{Op: "accept", Net: "tcp", Err: syscall.EMFILE}
}

func TestAcceptErrorsAreTold(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	relieved := 0
	logger, relieve := slog.New(slog.NewTextHandler(&log, nil)), func() { relieved++ }
	if _, err := (loudListener{poor{}, logger, relieve}).Accept(); err == nil || !strings.Contains(log.String(), "too many open files") || relieved != 1 {
		t.Errorf("%v is not in the log: %s; relieved %d times", err, log.String(), relieved)
	}
	log.Reset()
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	if _, err := (loudListener{closed, logger, relieve}).Accept(); err == nil || log.Len() > 0 || relieved != 1 {
		t.Errorf("%v: the end of a listener is no trouble: %s", err, log.String())
	}
}

// peer is a connection from an address, which notes that it was closed.
type peer struct {
	net.Conn
	remote net.Addr
	closed bool
}

func (p *peer) RemoteAddr() net.Addr { return p.remote }
func (p *peer) Close() error         { p.closed = true; return nil }

// crowd opens connections one after the other, from ports of their own.
type crowd struct {
	*connections
	ports uint16
}

func (c *crowd) from(address string) *peer {
	c.ports++
	p := &peer{remote: net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(address), c.ports))}
	c.changed(p, http.StateNew)
	return p
}

// asked has a connection ask, and wait for the next request.
func (c *crowd) asked(p *peer) *peer {
	c.changed(p, http.StateActive)
	c.changed(p, http.StateIdle)
	return p
}

// ends has the server see that a connection is closed.
func (c *crowd) ends(p *peer) { c.changed(p, http.StateClosed) }

// newCrowd has room for 56 connections, 42 of one address, and 4 that are
// limited; from 48 on, idle ones are closed.
func newCrowd() *crowd {
	return &crowd{connections: newConnections(64, []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")})}
}

// Where there are many connections, a new one closes the one that has been idle
// for the longest time.
func TestOldestIdleConnectionCloses(t *testing.T) {
	t.Parallel()
	c := newCrowd()
	first, second, busy := c.asked(c.from("10.0.0.1")), c.asked(c.from("10.0.0.1")), c.from("10.0.0.1")
	c.asked(first) // it is younger than the second now
	for range 45 {
		c.from("10.0.0.1")
	}
	if first.closed || second.closed || c.count() != 48 {
		t.Fatalf("closed: %v, %v; %d are open", first.closed, second.closed, c.count())
	}
	c.from("10.0.0.1")
	if first.closed || !second.closed {
		t.Errorf("the oldest idle one: %v, the younger: %v", second.closed, first.closed)
	}
	c.ends(second) // the server sees it later
	third := c.from("10.0.0.1")
	if !first.closed || busy.closed || c.count() != 48 || !c.admits(third.remote.String()) {
		t.Errorf("closed: %v; a busy one: %v; %d are open", first.closed, busy.closed, c.count())
	}
}

// Where none is idle, new ones are limited, and make room for each other.
func TestLimitedConnections(t *testing.T) {
	t.Parallel()
	c := newCrowd()
	var busy []*peer
	for range 56 {
		busy = append(busy, c.from("10.0.0.1"))
	}
	var limited []*peer
	for range 5 {
		limited = append(limited, c.asked(c.from("10.0.0.1")))
	}
	for i, p := range limited {
		if p.closed != (i == 0) || c.admits(p.remote.String()) != (i == 0) {
			t.Errorf("limited %d: closed %v, admitted %v", i, p.closed, c.admits(p.remote.String()))
		}
	}
	c.ends(limited[0])
	for _, p := range busy {
		if p.closed || !c.admits(p.remote.String()) {
			t.Fatal("one that came before is closed, or limited")
		}
	}
	for _, p := range append(busy[:1], limited[1:]...) {
		c.ends(p)
	}
	if p := c.from("10.0.0.1"); !c.admits(p.remote.String()) || c.count() != 56 || c.limitedNow.Load() != 0 {
		t.Errorf("there is room again, and a new one is limited; %d are open", c.count())
	}
}

// One address cannot take the room of all; a proxy's may.
func TestConnectionsOfOneAddress(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, address, same, other string
		bounded                    bool
	}{
		{"IPv4", "192.0.2.1", "192.0.2.1", "192.0.2.2", true},
		{"IPv4 in IPv6", "::ffff:192.0.2.1", "192.0.2.1", "192.0.2.2", true},
		{"a network of IPv6", "2001:db8::1", "2001:db8::2", "2001:db8:0:1::1", true},
		{"a proxy", "10.0.0.1", "10.0.0.1", "10.0.0.2", false},
	} {
		c := newCrowd()
		for range 41 {
			c.from(tt.address)
		}
		idle := c.asked(c.from(tt.address))
		if p := c.from(tt.same); idle.closed != tt.bounded || !c.admits(p.remote.String()) {
			t.Errorf("%s: the idle one of 42 is closed: %v, the next is admitted: %v", tt.name, idle.closed, c.admits(p.remote.String()))
		}
		if p := c.from(tt.same); c.admits(p.remote.String()) == tt.bounded {
			t.Errorf("%s: one more is admitted: %v", tt.name, !tt.bounded)
		}
		if p := c.from(tt.other); !c.admits(p.remote.String()) {
			t.Errorf("%s: another address is not admitted", tt.name)
		}
	}
}

// Whatever comes and goes, nothing is left in the end.
func TestConnectionsAreForgotten(t *testing.T) {
	t.Parallel()
	c := newCrowd()
	var all []*peer
	for i := range 300 {
		p := c.from([]string{"192.0.2.1", "192.0.2.2", "2001:db8::1", "10.0.0.1"}[i%4])
		if all = append(all, p); i%3 > 0 {
			c.asked(p)
		}
	}
	c.relieve()
	for _, p := range all {
		c.changed(p, http.StateActive)
		c.ends(p)
	}
	if c.count() != 0 || c.full != 0 || c.idle.Len() != 0 || c.limited.Len() != 0 || len(c.byAddr) != 0 || len(c.names) != 0 || c.limitedNow.Load() != 0 {
		t.Errorf("left are %+v", c.connections)
	}
}

// With no descriptor left, the oldest idle connections close.
func TestRelieve(t *testing.T) {
	t.Parallel()
	c := newCrowd()
	c.relieve() // nothing is idle
	var idle []*peer
	for range 32 {
		idle = append(idle, c.asked(c.from("192.0.2.1")))
	}
	c.relieve()
	for i, p := range idle {
		if p.closed != (i < 3) {
			t.Errorf("idle %d is closed: %v", i, p.closed)
		}
	}
}

// A server whose connections are all taken still says how it is, and nothing
// else.
func TestHealthBesideManyConnections(t *testing.T) {
	t.Parallel()
	c := newCertified(t)
	for _, secure := range []bool{false, true} {
		s := startServer(t, storetest.SQLite(t), func(set *settings) {
			set.Descriptors = 16
			if secure {
				set.TLSCert, set.TLSKey = c.cert, c.key
			}
		})
		address := s.server.listener.Addr().String()
		for range s.server.conns.perAddress { // each is busy, because it owes its body
			r := c.ask(t, address, secure, "POST /api/keys/generate HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n")
			if r.StatusCode != http.StatusContinue {
				t.Fatalf("status %d, want 100", r.StatusCode)
			}
		}
		env := map[string]string{"LISTEN": address}
		if secure {
			env["TLS_CERT"], env["TLS_KEY"] = c.cert, c.key
		}
		for range 10 {
			for _, args := range [][]string{{"health"}, {"health", "--live"}} {
				if said, err := runProgram(t.Context(), env, args...); err != nil {
					t.Errorf("%s: %s, %v", args, said, err)
				}
			}
		}
		for path, want := range map[string]string{"/livez": `{"status":"ok"}`, "/stats/cache": `{"error":"Service unavailable"}`, "/v1/me": `"code":"unavailable"`} {
			res := c.ask(t, address, secure, "GET "+path+" HTTP/1.1\r\nHost: a\r\n\r\n")
			body, err := io.ReadAll(res.Body)
			if err != nil || !strings.Contains(string(body), want) || !res.Close || (res.Header.Get("Retry-After") != "") != (res.StatusCode == 503) {
				t.Errorf("%s: %d %s, %v, closes %v", path, res.StatusCode, body, err, res.Close)
			}
		}
		if n := s.server.conns.limitedSoFar.Load(); n < 20 {
			t.Errorf("only %d connections were limited", n)
		}
	}
}

// ask writes a request to a connection of its own, which stays open until the
// end of the test, and returns the head of the answer.
func (c *certified) ask(t *testing.T, address string, secure bool, request string) *http.Response {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if secure {
		conn = tls.Client(conn, &tls.Config{RootCAs: c.pool, ServerName: "127.0.0.1"})
	}
	_ = conn.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(conn, request); err != nil {
		t.Fatal(err)
	}
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { res.Body.Close() })
	return res
}
