package deliver

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"net/url"
	"syscall"
	"time"

	"code.dny.dev/ssrf"

	"triggerd/internal/trigger"
)

// ErrTarget is what a [Guard] answers for an address that webhooks may not
// reach. Its text names no address, so that the owner of a webhook learns
// nothing about the network that the server stands in.
var ErrTarget = errors.New("address is not allowed as a target")

// resolveTimeout bounds the look-up of a host whose webhook is registered.
const resolveTimeout = 2 * time.Second

// Guard judges what webhooks may reach, when one is registered
// ([Guard.Target]) and again at every attempt: the shape of its URL
// ([Guard.URL]), and the address at the connect ([Guard.Control]), since a
// name may resolve to something else by then. An address that passes is on
// the public internet: IPv4 without the IANA special-purpose registry (RFC
// 6890), IPv6 within 2000::/3 without its own; other networks pass where the
// operator opened them. A Guard may be used concurrently.
type Guard struct {
	// RequireHTTPS refuses http URLs. Set it before use.
	RequireHTTPS bool

	// Resolver looks up hosts for Target, and for deliveries if it is a
	// [net.Resolver]. Set it before use to replace net.DefaultResolver.
	Resolver interface {
		LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
	}

	rules *ssrf.Guardian
}

// NewGuard makes a guard that also opens the allowed prefixes, and with
// allowLoopback 127.0.0.0/8 and ::1. IPv4 prefixes may be spelled as
// IPv4-mapped IPv6; an invalid prefix opens nothing.
func NewGuard(allowed []netip.Prefix, allowLoopback bool) *Guard {
	var v4, v6 []netip.Prefix
	for _, p := range allowed {
		if p.Addr().Is4In6() && p.Bits() >= 96 {
			p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
		}
		if p.Addr().Is4() {
			v4 = append(v4, p)
		} else {
			v6 = append(v6, p)
		}
	}
	if allowLoopback {
		v4 = append(v4, netip.PrefixFrom(netip.AddrFrom4([4]byte{127}), 8))
		v6 = append(v6, netip.PrefixFrom(netip.IPv6Loopback(), 128))
	}
	// Azure answers virtual machines at a public address of its own; no
	// registry lists it.
	azure := netip.PrefixFrom(netip.AddrFrom4([4]byte{168, 63, 129, 16}), 32)
	return &Guard{
		Resolver: net.DefaultResolver,
		rules: ssrf.New(
			ssrf.WithAllowedV4Prefixes(v4...),
			ssrf.WithAllowedV6Prefixes(v6...),
			ssrf.WithDeniedV4Prefixes(azure)),
	}
}

// Addr is the one judgement: ErrTarget unless webhooks may reach the address.
// An IPv4-mapped address is judged as the IPv4 address that a connect to it
// would reach. Unspecified and multicast addresses and zones never pass,
// whatever was opened. NAT64 (64:ff9b::/96, RFC 6052) passes only where both
// it and the IPv4 address inside do.
func (g *Guard) Addr(addr netip.Addr) error {
	zone := addr.Zone()
	addr = addr.Unmap()
	switch {
	case !addr.IsValid() || zone != "" || addr.IsUnspecified() || addr.IsMulticast():
		return ErrTarget
	case g.rules.SafeAddr(addr) != nil:
		return ErrTarget
	case ssrf.IPv6NAT64Prefix.Contains(addr):
		bytes := addr.As16()
		return g.Addr(netip.AddrFrom4([4]byte(bytes[12:])))
	}
	return nil
}

// Control is made for [net.Dialer]: it judges the address that is about to be
// connected to, after its name was resolved. ErrTarget unless it may be
// reached, and for every network but tcp4 and tcp6.
func (g *Guard) Control(network, address string, _ syscall.RawConn) error {
	addr, err := netip.ParseAddrPort(address)
	if err != nil || network != "tcp4" && network != "tcp6" {
		return ErrTarget
	}
	return g.Addr(addr.Addr())
}

// URL is the one judgement of the shape of a webhook's URL: that of
// [trigger.ParseTarget], and https where that is required. Invalid otherwise.
func (g *Guard) URL(raw string) (*url.URL, error) {
	u, err := trigger.ParseTarget(raw)
	if err == nil && g.RequireHTTPS && u.Scheme != "https" {
		return nil, trigger.Errorf(trigger.Invalid, "url must be https")
	}
	return u, err
}

// Target judges a webhook's URL when it is registered: its shape, by URL, and
// every address that its host has now, by Addr. A host that does not resolve
// within 2 s passes, since each connect is judged again. Invalid otherwise,
// with ErrTarget as the cause where the address is it.
func (g *Guard) Target(ctx context.Context, rawURL string) error {
	u, err := g.URL(rawURL)
	if err != nil {
		return err
	}
	for _, addr := range g.resolve(ctx, u.Hostname()) {
		if err := g.Addr(addr); err != nil {
			return &trigger.Error{
				Kind:    trigger.Invalid,
				Message: "url has an address that is not allowed as a target",
				Cause:   err,
			}
		}
	}
	return nil
}

// resolve gives the addresses of a host: its own if it is one, none if it has
// none now.
func (g *Guard) resolve(ctx context.Context, host string) []netip.Addr {
	if addr, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{addr}
	}
	ctx, cancel := context.WithTimeout(ctx, resolveTimeout)
	defer cancel()
	addrs, err := g.Resolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil
	}
	return addrs
}
