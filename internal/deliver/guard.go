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

// ErrTarget is the error of a [Guard] for an address that webhooks may not
// reach. Its text contains no address, so that the owner of a webhook cannot
// explore the server's network.
var ErrTarget = errors.New("address is not allowed as a target")

// resolveTimeout bounds the lookup of a host when its webhook is registered.
const resolveTimeout = 2 * time.Second

// Guard decides which URLs and addresses webhooks may reach, when one is
// registered ([Guard.Target]) and at every attempt: the form of the URL
// ([Guard.URL]), and the address at the connect ([Guard.Control]), because a
// name may resolve to another address by then. An allowed address is on the
// public internet: IPv4 without the IANA special-purpose registry (RFC 6890),
// or IPv6 within 2000::/3 without its own registry. The operator may allow
// other networks. A Guard is safe for concurrent use.
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

// NewGuard returns a guard that also allows the given prefixes, and 127.0.0.0/8
// and ::1 if allowLoopback is set. IPv4 prefixes may be written as IPv4-mapped
// IPv6. An invalid prefix allows nothing.
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
	// Azure serves virtual machines at a public address of its own, which is in
	// no registry.
	azure := netip.PrefixFrom(netip.AddrFrom4([4]byte{168, 63, 129, 16}), 32)
	return &Guard{
		Resolver: net.DefaultResolver,
		rules: ssrf.New(
			ssrf.WithAllowedV4Prefixes(v4...),
			ssrf.WithAllowedV6Prefixes(v6...),
			ssrf.WithDeniedV4Prefixes(azure)),
	}
}

// Addr returns ErrTarget unless webhooks may reach the address. All checks of
// addresses use it. An IPv4-mapped address counts as its IPv4 address, which a
// connect would reach. Unspecified and multicast addresses and zones are never
// allowed, even within allowed prefixes. NAT64 (64:ff9b::/96, RFC 6052) is
// allowed only if both it and the IPv4 address inside are.
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

// Control is for [net.Dialer]: it checks the address of a connect, after its
// name was resolved. It returns ErrTarget unless the address may be reached,
// and for every network but tcp4 and tcp6.
func (g *Guard) Control(network, address string, _ syscall.RawConn) error {
	addr, err := netip.ParseAddrPort(address)
	if err != nil || network != "tcp4" && network != "tcp6" {
		return ErrTarget
	}
	return g.Addr(addr.Addr())
}

// URL parses a webhook's URL by [trigger.ParseTarget] and requires https if
// RequireHTTPS is set. Errors are Invalid. All checks of URLs use it.
func (g *Guard) URL(raw string) (*url.URL, error) {
	u, err := trigger.ParseTarget(raw)
	if err == nil && g.RequireHTTPS && u.Scheme != "https" {
		return nil, trigger.Errorf(trigger.Invalid, "url must be https")
	}
	return u, err
}

// Target checks a webhook's URL when it is registered: its form, by URL, and
// every current address of its host, by Addr. A host that does not resolve
// within 2 s passes, because each connect is checked again. Errors are Invalid,
// with ErrTarget as the cause if an address is not allowed.
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

// resolve returns the addresses of a host: the host itself if it is an address,
// or nil if it does not resolve.
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
