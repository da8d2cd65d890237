package deliver

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"
)

// canary listens on loopback, at one port of both families if there are both,
// and tells whether anybody came.
type canary []net.Listener

func newCanary(t *testing.T) canary {
	t.Helper()
	c := canary{listen(t, "127.0.0.1:0")}
	if l, err := net.Listen("tcp6", net.JoinHostPort("::1", c.port())); err == nil {
		t.Cleanup(func() { _ = l.Close() })
		c = append(c, l)
	}
	return c
}

func listen(t *testing.T, address string) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp4", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func (c canary) port() string {
	return strconv.Itoa(c[0].Addr().(*net.TCPAddr).Port)
}

// check connects itself: connections are accepted in their order, so the first
// one is ours unless somebody came before.
func (c canary) check(t *testing.T) {
	t.Helper()
	for _, l := range c {
		ours, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = ours.Close() }()
		first, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = first.Close() }()
		if first.RemoteAddr().String() != ours.LocalAddr().String() {
			t.Errorf("a connection came through to %s", l.Addr())
		}
	}
}

// guardedTransport is the transport that webhooks are sent with.
func guardedTransport(t *testing.T, g *Guard) *http.Transport {
	t.Helper()
	transport := newTransport(g)
	t.Cleanup(transport.CloseIdleConnections)
	return transport
}

// post sends a request as webhooks have it, and gives the status.
func post(t *testing.T, transport *http.Transport, url string) (int, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second) // a canary never answers
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader("{}"))
	if err != nil {
		return 0, err
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return 0, err
	}
	return resp.StatusCode, resp.Body.Close()
}

func TestGuardRebinding(t *testing.T) {
	t.Parallel()
	for _, now := range []string{"127.0.0.1", "::1", "::ffff:127.0.0.1", "0.0.0.0", "::", "127.0.0.1 ::1"} {
		c := newCanary(t)
		g := NewGuard(nil, false)
		g.Resolver = dnsServer("93.184.216.34 2606:4700::1111", now)
		target := "http://rebind.example.:" + c.port() + "/"
		if err := g.Target(t.Context(), target); err != nil {
			t.Fatal("public at first:", err)
		}
		if _, err := post(t, guardedTransport(t, g), target); !errors.Is(err, ErrTarget) {
			t.Fatalf("%s at connect: %v", now, err)
		}
		if err := g.Target(t.Context(), target); !errors.Is(err, ErrTarget) {
			t.Errorf("%s when registered again: %v", now, err)
		}
		c.check(t)
	}
}

// Nothing in an answer leads elsewhere, not even to what may be reached.
func TestGuardRedirects(t *testing.T) {
	t.Parallel()
	c := newCanary(t)
	elsewhere := "127.0.0.1:" + c.port()
	status := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Location", r.URL.Query().Get("to"))
		w.Header().Set("Refresh", "0; url=http://"+elsewhere+"/")
		w.Header().Set("Alt-Svc", `http/1.1="`+elsewhere+`", h2="`+elsewhere+`"`)
		w.WriteHeader(status)
	}))
	t.Cleanup(server.Close)
	transport := guardedTransport(t, NewGuard(nil, true))
	for _, status = range []int{200, 201, 300, 301, 302, 303, 304, 305, 306, 307, 308, 399} {
		for _, to := range []string{"http://" + elsewhere + "/", "https://" + elsewhere + "/", "//" + elsewhere, "http://u:p@" + elsewhere} {
			if got, err := post(t, transport, server.URL+"?to="+to); err != nil || got != status {
				t.Fatalf("%d to %s: %d, %v", status, to, got, err)
			}
		}
	}
	c.check(t)
}

// The guard at the connect holds alone: URLs that no registration would accept,
// and names that all resolve to loopback.
func TestGuardCanary(t *testing.T) {
	t.Parallel()
	c := newCanary(t)
	g := NewGuard(nil, false)
	g.Resolver = dnsServer("127.0.0.1")
	transport := guardedTransport(t, g)
	for host := range strings.FieldsSeq(`
		127.0.0.1 0x7f.0.0.1 0X7F.0.0.1 0x7f.1 0x7f000001 0X7F000001 0.0.0.0 127.255.255.254
		localhost localhost. LOCALHOST LocalHost. rebind.example. REBIND.EXAMPLE. 127.0.0.1.example.
		[::1] [::] [0:0:0:0:0:0:0:1] [::ffff:127.0.0.1] [::FFFF:127.0.0.1] [::ffff:7f00:1] [0:0:0:0:0:ffff:127.0.0.1]
		[::127.0.0.1] [::7f00:1] [::ffff:0:127.0.0.1] [::1%25lo] [::1%251] [::ffff:127.0.0.1%25lo] [fe80::1%25lo]
		[64:ff9b::7f00:1] [64:ff9b::127.0.0.1] [64:ff9b:1::7f00:1] [2002:7f00:1::] [2002:7f00:1::1] [2001:0:7f00:1::80ff:fffe]
		127。0。0。1 １２７.０.０.１ ①②⑦.0.0.1 user:pass@127.0.0.1 8.8.8.8@127.0.0.1 u@[::1]`) {
		for _, scheme := range []string{"http://", "HTTPS://"} {
			if _, err := post(t, transport, scheme+host+":"+c.port()+"/"); !errors.Is(err, ErrTarget) {
				t.Fatalf("%s%s: %v", scheme, host, err)
			}
		}
	}
	c.check(t)
}

// Some of these are no names for one resolver and addresses for another, the
// system's.
func TestGuardCanaryOddities(t *testing.T) {
	t.Parallel()
	c := newCanary(t)
	memory := NewGuard(nil, false)
	memory.Resolver = dnsServer("127.0.0.1")
	for _, g := range []*Guard{memory, NewGuard(nil, false)} {
		transport := guardedTransport(t, g)
		for start := range strings.FieldsSeq(`
			http://0 http://127.1 http://127.0.1 http://0177.0.0.1 http://2130706433 http://017700000001 http://127.0.0.1.
			http://%31%32%37.0.0.1 http://127.0.0.1%20 http://127.0.0.1%00 http://127.0.0.1%23 http:127.0.0.1 http:///127.0.0.1
			ftp://127.0.0.1 gopher://127.0.0.1 ws://127.0.0.1 unix://127.0.0.1 file://127.0.0.1`) {
			if _, err := post(t, transport, start+":"+c.port()+"/"); err == nil || errors.Is(err, context.DeadlineExceeded) {
				t.Fatalf("%s: %v", start, err)
			}
		}
	}
	c.check(t)
}

// A proxy would connect to names that nobody has judged.
func TestGuardNoProxy(t *testing.T) {
	t.Parallel()
	if newTransport(NewGuard(nil, false)).Proxy != nil {
		t.Error("a proxy is used")
	}
}

// The canary would notice: with loopback opened the same transport comes through.
func TestGuardCanarySings(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(server.Close)
	g := NewGuard([]netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}, false)
	g.Resolver = dnsServer("127.0.0.1")
	_, port, _ := net.SplitHostPort(server.Listener.Addr().String())
	if _, err := post(t, guardedTransport(t, g), "http://rebind.example.:"+port+"/"); err != nil {
		t.Error(err)
	}
}
