package deliver

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"triggerd/internal/trigger"
)

// resolverFunc answers every look-up.
type resolverFunc func(ctx context.Context, host string) ([]netip.Addr, error)

func (f resolverFunc) LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error) {
	if network != "ip" {
		return nil, fmt.Errorf("network %q leaves addresses out", network)
	}
	return f(ctx, host)
}

func answer(addrs ...string) resolverFunc {
	return func(context.Context, string) (as []netip.Addr, err error) {
		for _, s := range addrs {
			as = append(as, netip.MustParseAddr(s))
		}
		return as, nil
	}
}

func TestGuardTarget(t *testing.T) {
	t.Parallel()
	down := resolverFunc(func(context.Context, string) ([]netip.Addr, error) {
		return []netip.Addr{netip.IPv6Loopback()}, errors.New("lookup x on 10.9.9.9:53: no such host")
	})
	tests := []struct {
		url      string
		resolver resolverFunc // nil: must not be asked
		ok       bool
	}{
		{"https://example.com/hook?x=1#y", answer("93.184.216.34", "2606:4700::1111"), true},
		{"http://example.com:8080", answer("93.184.216.34"), true},
		{"http://8.8.8.8:1/", nil, true},
		{"http://[2606:4700::1111]/", nil, true},
		{"http://new.example", down, true},
		{"http://new.example", answer(), true},
		{"http://localhost/", answer("127.0.0.1"), false},
		{"http://localhost./", answer("::1"), false},
		{"http://printer.local/", answer("192.168.1.9"), false},
		{"http://metadata.google.internal/", answer("169.254.169.254"), false},
		{"http://mixed.example/", answer("93.184.216.34", "10.0.0.1"), false},
		{"http://mapped.example/", answer("::ffff:10.0.0.1"), false},
		{"http://zone.example/", answer("fe80::1%eth0"), false},
		{"http://[fe80::1%25eth0]/", nil, false},
		{"http://[::ffff:127.0.0.1]:5001/", nil, false},
		{"http://[::ffff:7f00:1]/", nil, false},
		{"http://[::FFFF:7F00:1]/", nil, false},
		{"http://sixtofour.example/", answer("93.184.216.34", "2002:7f00:1::1"), false},
		{"http://teredo.example/", answer("2001:0:7f00:1::80ff:fffe"), false},
		{"http://compatible.example/", answer("::127.0.0.1"), false},
		{"HTTP://LOCALHOST./", answer("127.0.0.1"), false},
		{"http://127.0.0.1:5001/", nil, false},
		{"http://127.0.0.1.:5001/", nil, false},
		{"http://0/", nil, false},
		{"http://0x7f.1/", nil, false},
		{"http://0X7F.1/", nil, false},
		{"http://0x7f.1./", nil, false},
		{"http://0177.0.0.1/", nil, false},
		{"http://2130706433/", nil, false},
		{"http://127.1/", nil, false},
		{"http://0x7f000001/", nil, false},
		{"http://%31%32%37.0.0.1/", nil, false},
		{"http://user:pass@example.com/", nil, false},
		{"http://8.8.8.8@127.0.0.1/", nil, false},
		{"ftp://example.com/", nil, false},
		{"file:///etc/passwd", nil, false},
		{"gopher://127.0.0.1/", nil, false},
		{"//example.com/", nil, false},
		{"http://", nil, false},
		{"", nil, false},
	}
	for _, tt := range tests {
		g := NewGuard(nil, false)
		g.Resolver = resolverFunc(func(ctx context.Context, host string) ([]netip.Addr, error) {
			if tt.resolver == nil {
				t.Errorf("%s: resolved %q", tt.url, host)
				return nil, nil
			}
			return tt.resolver(ctx, host)
		})
		err := g.Target(t.Context(), tt.url)
		if tt.ok != (err == nil) {
			t.Errorf("%s: %v", tt.url, err)
		}
		var shown *trigger.Error
		if err != nil && (!errors.As(err, &shown) || shown.Kind != trigger.Invalid || strings.ContainsAny(shown.Message, "0123456789")) {
			t.Errorf("%s: not fit to be shown: %v", tt.url, err)
		}
	}
}

func TestGuardRequireHTTPS(t *testing.T) {
	t.Parallel()
	g := NewGuard(prefixes(t, "127.0.0.0/8"), true)
	g.RequireHTTPS = true
	g.Resolver = answer("93.184.216.34")
	for _, raw := range []string{"https://example.com/", "HTTPS://example.com:80/", "https://127.0.0.1/"} {
		if u, err := g.URL(raw); err != nil || u.Scheme != "https" {
			t.Errorf("%s: %v", raw, err)
		}
		if err := g.Target(t.Context(), raw); err != nil {
			t.Errorf("%s: %v", raw, err)
		}
	}
	g.Resolver = nil // must not be asked
	for _, raw := range []string{"http://example.com/", "HTTP://example.com:443/", "http://127.0.0.1/", "http://localhost/"} {
		u, err := g.URL(raw)
		if trigger.KindOf(err) != trigger.Invalid || err.Error() != "url must be https" || u != nil {
			t.Errorf("%s: %v", raw, err)
		}
		if again := g.Target(t.Context(), raw); trigger.KindOf(again) != trigger.Invalid || again.Error() != "url must be https" {
			t.Errorf("%s: %v", raw, again)
		}
	}
}

func TestGuardTargetLiterals(t *testing.T) {
	t.Parallel()
	for _, s := range insideAddrs() {
		host := strings.ReplaceAll(s, "%", "%25")
		if strings.Contains(host, ":") {
			host = "[" + host + "]"
		}
		err := NewGuard(nil, false).Target(t.Context(), "http://"+host+":80/")
		if !errors.Is(err, ErrTarget) {
			t.Errorf("%s: %v", host, err)
		}
	}
}

func TestGuardAllowsTarget(t *testing.T) {
	t.Parallel()
	g := NewGuard(prefixes(t, "10.0.0.0/8"), true)
	g.Resolver = answer("10.0.0.1", "127.0.0.1", "::1")
	for _, u := range []string{"http://localhost:5001/", "http://10.0.0.1/", "http://[::1]:1/", "http://[::ffff:10.0.0.1]/"} {
		if err := g.Target(t.Context(), u); err != nil {
			t.Errorf("%s: %v", u, err)
		}
	}
	if err := g.Target(t.Context(), "http://192.168.0.1/"); err == nil {
		t.Error("192.168.0.1 passes")
	}
}

func TestGuardTargetIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := NewGuard(nil, false)
		g.Resolver = resolverFunc(func(ctx context.Context, _ string) ([]netip.Addr, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		})
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second+1)
		defer cancel()
		if err := g.Target(ctx, "http://slow.example/"); err != nil {
			t.Error(err)
		}
		if ctx.Err() != nil {
			t.Error("took over 2 s")
		}
	})
}
