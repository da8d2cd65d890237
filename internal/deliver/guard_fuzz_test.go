package deliver

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"testing"

	"triggerd/internal/trigger"
)

// inside judges addresses once more, by net/netip's own words and by the
// networks that it has no word for: what no webhook may reach unless an
// operator opened it.
func inside(addr netip.Addr) bool {
	zone := addr.Zone()
	addr = addr.Unmap()
	if zone != "" || addr.IsLoopback() || addr.IsPrivate() || addr.IsLinkLocalUnicast() || addr.IsMulticast() ||
		addr.IsUnspecified() || !addr.IsGlobalUnicast() {
		return true
	}
	special := `0.0.0.0/8 100.64.0.0/10 192.0.0.0/24 192.0.2.0/24 192.31.196.0/24 192.52.193.0/24 192.88.99.0/24
		192.175.48.0/24 198.18.0.0/15 198.51.100.0/24 203.0.113.0/24 240.0.0.0/4 168.63.129.16/32`
	if addr.Is6() {
		if !netip.MustParsePrefix("2000::/3").Contains(addr) { // ::/96 and NAT64, which embed IPv4, are beyond it
			return true
		}
		special = `2001::/23 2001:db8::/32 2002::/16 2620:4f:8000::/48 3fff::/20` // Teredo and 6to4, which do so too, among them
	}
	return slices.ContainsFunc(strings.Fields(special), func(network string) bool {
		return netip.MustParsePrefix(network).Contains(addr)
	})
}

// FuzzGuardAddr holds that an address inside is allowed only by a network that
// was opened, and that nothing turns on how it is spelled, nor on whether it
// is judged at a registration, after a look-up, or at a connect.
func FuzzGuardAddr(f *testing.F) {
	for _, s := range []string{"127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::a9fe:a9fe", "2002:7f00:1::1", "8.8.8.8", "fe80::1%eth0"} {
		f.Add(s, "10.0.0.0/8")
	}
	closed := NewGuard(nil, false)
	f.Fuzz(func(t *testing.T, text, network string) {
		addr, err := netip.ParseAddr(text)
		if fromBytes, ok := netip.AddrFromSlice([]byte(text)); err != nil && ok {
			addr, text, err = fromBytes, fromBytes.String(), nil
		}
		if err != nil {
			if !errors.Is(closed.Control("tcp4", net.JoinHostPort(text, "80"), nil), ErrTarget) {
				t.Errorf("%q is connected to, and is no address", text)
			}
			return
		}
		refused := closed.Addr(addr) != nil
		if refused != inside(addr) {
			t.Errorf("%s: refused is %v", addr, refused)
		}
		sameJudgement(t, closed, addr, text, refused)

		opened, err := netip.ParsePrefix(network)
		if err != nil {
			return
		}
		contains := opened.Contains(addr) || opened.Contains(addr.Unmap()) || opened.Contains(netip.AddrFrom16(addr.As16()))
		guard := NewGuard([]netip.Prefix{opened}, false)
		switch allowed := guard.Addr(addr) == nil; {
		case allowed && refused && !contains:
			t.Errorf("%s is allowed by %s, which does not hold it", addr, opened)
		case allowed && (addr.Zone() != "" || addr.Unmap().IsUnspecified() || addr.Unmap().IsMulticast()):
			t.Errorf("%s is allowed by %s, and nothing may allow it", addr, opened)
		case allowed && netip.MustParsePrefix("64:ff9b::/96").Contains(addr) && guard.Addr(embedded(addr)) != nil:
			t.Errorf("%s is allowed by %s, and the address in it is not", addr, opened)
		case !allowed && !refused:
			t.Errorf("%s is refused since %s was opened", addr, opened)
		default:
			sameJudgement(t, guard, addr, text, !allowed)
		}
	})
}

// embedded is the IPv4 address at the end of one of NAT64.
func embedded(addr netip.Addr) netip.Addr {
	bytes := addr.As16()
	return netip.AddrFrom4([4]byte(bytes[12:]))
}

// sameJudgement asks a guard about an address in all the ways there are.
func sameJudgement(t *testing.T, g *Guard, addr netip.Addr, text string, refused bool) {
	t.Helper()
	spellings := []netip.Addr{addr, netip.MustParseAddr(addr.String()), netip.MustParseAddr(addr.StringExpanded())}
	if addr.Is4() {
		spellings = append(spellings, netip.AddrFrom16(addr.As16())) // IPv4-mapped
	}
	for _, spelling := range spellings {
		if got := g.Addr(spelling) != nil; got != refused {
			t.Errorf("%s: refused is %v, spelled %s it is %v", addr, refused, spelling, got)
		}
	}
	for _, network := range []string{"tcp4", "tcp6"} {
		if got := g.Control(network, net.JoinHostPort(addr.String(), "80"), nil) != nil; got != refused {
			t.Errorf("%s: refused is %v, at a connect by %s it is %v", addr, refused, network, got)
		}
	}
	host := strings.ReplaceAll(text, "%", "%25")
	if addr.Is6() {
		host = "[" + host + "]"
	}
	if got := g.Target(t.Context(), "http://"+host+"/") != nil; got != refused {
		t.Errorf("%s: refused is %v, at a registration of %s it is %v", addr, refused, host, got)
	}
	byName := *g
	byName.Resolver = resolverFunc(func(context.Context, string) ([]netip.Addr, error) { return []netip.Addr{addr}, nil })
	if got := byName.Target(t.Context(), "http://name.example/") != nil; got != refused {
		t.Errorf("%s: refused is %v, behind a name it is %v", addr, refused, got)
	}
}

// errDialed ends a request where it would connect.
var errDialed = errors.New("dialed")

// FuzzGuardTarget holds that what is judged when a webhook is registered is
// what its deliveries then connect to: the same host, which is either an
// address that is not inside, or a name.
func FuzzGuardTarget(f *testing.F) {
	for _, raw := range []string{
		"http://8.8.8.8/", "https://example.com:8443/a?b#c", "http://[2606:4700::1111]:1/", "http://0x7f.1/", "http://a.b@127.0.0.1/",
		"HTTP://EXAMPLE.com./", "http://[::ffff:8.8.8.8]/", "http://xn--a/", "http://a_b.-c/", "http://h:/",
	} {
		f.Add(raw)
	}
	guard := NewGuard(nil, false)
	guard.Resolver = answer("93.184.215.14")
	strict := &Guard{RequireHTTPS: true}
	f.Fuzz(func(t *testing.T, raw string) {
		err := guard.Target(t.Context(), raw)
		if _, shape := guard.URL(raw); (shape == nil) != (err == nil || errors.Is(err, ErrTarget)) {
			t.Errorf("%q: its shape: %v, when registered: %v", raw, shape, err)
		}
		if err != nil {
			if trigger.KindOf(err) != trigger.Invalid {
				t.Errorf("%q: %v", raw, err)
			}
			return
		}
		u, err := url.Parse(raw)
		if err != nil || u.User != nil || u.Scheme != "http" && u.Scheme != "https" {
			t.Fatalf("%q is registered: %v", raw, err)
		}
		if _, err := strict.URL(raw); (err == nil) != (u.Scheme == "https") {
			t.Errorf("%q, where https is required: %v", raw, err)
		}
		dialed := ""
		client := &http.Client{Transport: &http.Transport{DialContext: func(_ context.Context, _, address string) (net.Conn, error) {
			dialed = address
			return nil, errDialed
		}}}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, raw, strings.NewReader("{}"))
		if err != nil {
			t.Fatalf("%q is registered, and cannot be requested: %v", raw, err)
		}
		if _, err := client.Do(req); !errors.Is(err, errDialed) {
			t.Fatalf("%q is registered, and cannot be requested: %v", raw, err)
		}
		host, _, err := net.SplitHostPort(dialed)
		if err != nil || !strings.EqualFold(host, u.Hostname()) {
			t.Errorf("%q is registered with the host %q, and connects to %q", raw, u.Hostname(), dialed)
		}
		if addr, err := netip.ParseAddr(host); err == nil && inside(addr) {
			t.Errorf("%q is registered, and connects to %s", raw, addr)
		}
	})
}
