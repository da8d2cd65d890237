package limit

import "net/netip"

// Address is what a client counts as, by its remote address as net/http gives
// it ("ip:port"): its IPv4 address, or the /64 of its IPv6 address, since one
// client commonly has all of that. What is no such address counts as the zero
// prefix, all of it together.
func Address(remoteAddr string) netip.Prefix {
	remote, err := netip.ParseAddrPort(remoteAddr)
	if err != nil {
		return netip.Prefix{}
	}
	addr := remote.Addr().Unmap()
	bits := 64
	if addr.Is4() {
		bits = 32
	}
	prefix, _ := addr.Prefix(bits) // fails for too many bits only
	return prefix
}
