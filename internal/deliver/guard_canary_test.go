package deliver

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// canary listens on loopback and tells whether anybody came.
type canary struct{ net.Listener }

func newCanary(t *testing.T) canary {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return canary{l}
}

func (c canary) port() string {
	_, port, _ := net.SplitHostPort(c.Addr().String())
	return port
}

// check connects itself: connections are accepted in their order, so the first
// one is ours unless somebody came before.
func (c canary) check(t *testing.T) {
	t.Helper()
	ours, err := net.Dial("tcp4", c.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ours.Close() }()
	first, err := c.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = first.Close() }()
	if first.RemoteAddr().String() != ours.LocalAddr().String() {
		t.Error("a connection came through")
	}
}

// guardedClient is an HTTP client whose every connect is judged.
func guardedClient(t *testing.T, g *Guard, r *net.Resolver) *http.Client {
	t.Helper()
	dialer := &net.Dialer{Control: g.Control, Resolver: r}
	transport := &http.Transport{DialContext: dialer.DialContext, DisableKeepAlives: true}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: 10 * time.Second} // a canary never answers
}

func get(t *testing.T, client *http.Client, url string) error {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader("{}"))
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

// dnsServer is a resolver whose look-ups all go to a name server in memory:
// the n-th question for IPv4 addresses (from 0) is answered by answer(n), any
// other question by nothing.
func dnsServer(answer func(n int) [4]byte) *net.Resolver {
	questions := make(chan int, 1)
	questions <- 0
	return &net.Resolver{
		PreferGo: true,
		Dial: func(context.Context, string, string) (net.Conn, error) {
			client, server := net.Pipe()
			go func() {
				defer func() { _ = server.Close() }()
				for serveDNS(server, questions, answer) == nil {
				}
			}()
			return client, nil
		},
	}
}

// serveDNS answers one question by RFC 1035, section 4, in its form for TCP
// (a pipe keeps no packets apart): it copies the question, with an answer
// record behind it that points back to the name.
func serveDNS(conn net.Conn, questions chan int, answer func(n int) [4]byte) error {
	var size [2]byte
	if _, err := io.ReadFull(conn, size[:]); err != nil {
		return err
	}
	query := make([]byte, int(size[0])<<8|int(size[1]))
	if _, err := io.ReadFull(conn, query); err != nil {
		return err
	}
	end := 12
	for query[end] != 0 {
		end += 1 + int(query[end])
	}
	reply := append([]byte{query[0], query[1], 0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0}, query[12:end+5]...)
	if query[end+1] == 0 && query[end+2] == 1 { // type A
		n := <-questions
		questions <- n + 1
		addr := answer(n)
		reply[7] = 1
		reply = append(reply, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4)
		reply = append(reply, addr[:]...)
	}
	_, err := conn.Write(append([]byte{byte(len(reply) >> 8), byte(len(reply))}, reply...))
	return err
}

func TestGuardRebinding(t *testing.T) {
	t.Parallel()
	c := newCanary(t)
	resolver := dnsServer(func(n int) [4]byte {
		if n == 0 {
			return [4]byte{93, 184, 216, 34}
		}
		return [4]byte{127, 0, 0, 1}
	})
	g := NewGuard(nil, false)
	g.Resolver = resolver
	target := "http://rebind.example.:" + c.port() + "/"
	if err := g.Target(t.Context(), target); err != nil {
		t.Fatal("public at first:", err)
	}
	if err := get(t, guardedClient(t, g, resolver), target); !errors.Is(err, ErrTarget) {
		t.Error("inside at connect:", err)
	}
	if err := g.Target(t.Context(), target); !errors.Is(err, ErrTarget) {
		t.Error("inside when registered again:", err)
	}
	c.check(t)
}

// The guard at the connect holds alone: URLs that no registration would accept,
// and names that all resolve to loopback.
func TestGuardCanary(t *testing.T) {
	t.Parallel()
	c := newCanary(t)
	client := guardedClient(t, NewGuard(nil, false), dnsServer(func(int) [4]byte { return [4]byte{127, 0, 0, 1} }))
	for host := range strings.FieldsSeq(`
		127.0.0.1 127.1 127.0.1 0177.0.0.1 0x7f.0.0.1 0x7f.1 0x7f000001 2130706433 017700000001
		0 0.0.0.0 localhost localhost. LOCALHOST rebind.example. 127.0.0.1. 127.0.0.1.example.
		[::1] [::] [::ffff:127.0.0.1] [::ffff:7f00:1] [0:0:0:0:0:ffff:127.0.0.1] [::127.0.0.1] [::1%25lo]
		[64:ff9b::7f00:1] [2002:7f00:1::] 127。0。0。1 １２７.０.０.１ ①②⑦.0.0.1 user:pass@127.0.0.1 8.8.8.8@127.0.0.1`) {
		if err := get(t, client, "http://"+host+":"+c.port()+"/"); err == nil || errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("%s was reached: %v", host, err)
		}
	}
	c.check(t)
}

// The canary would notice: with loopback opened the same client comes through.
func TestGuardCanarySings(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(server.Close)
	_, port, _ := net.SplitHostPort(server.Listener.Addr().String())
	client := guardedClient(t, NewGuard(nil, true), dnsServer(func(int) [4]byte { return [4]byte{127, 0, 0, 1} }))
	if err := get(t, client, "http://rebind.example.:"+port+"/"); err != nil {
		t.Error(err)
	}
}
