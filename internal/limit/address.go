package limit

import "net/netip"

// Address returns the key of a client by its remote address of net/http
// ("ip:port"): its IPv4 address, or the /64 of its IPv6 address, because one
// client commonly has a whole /64. All other texts have one key, the zero
// prefix.
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
