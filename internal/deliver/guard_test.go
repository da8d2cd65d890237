package deliver

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
)

// insideAddrs are addresses that must not be reached, in all their spellings.
func insideAddrs() []string {
	return strings.Fields(`
		127.0.0.1 127.0.0.0 127.1.2.3 127.255.255.255 ::1 0:0:0:0:0:0:0:1
		0.0.0.0 0.0.0.1 0.255.255.255 :: 255.255.255.255
		10.0.0.0 10.255.255.255 172.16.0.0 172.31.255.255 192.168.0.0 192.168.255.255
		169.254.0.0 169.254.169.254 169.254.170.2 169.254.255.255 168.63.129.16
		100.64.0.0 100.100.100.200 100.127.255.255
		192.0.0.0 192.0.0.192 192.0.2.1 198.51.100.1 203.0.113.255 198.18.0.0 198.19.255.255
		192.88.99.1 192.31.196.1 192.52.193.1 192.175.48.1
		224.0.0.0 224.0.0.251 239.255.255.255 240.0.0.0 254.1.1.1
		::ffff:127.0.0.1 ::ffff:7f00:1 0:0:0:0:0:ffff:7f00:0001 ::ffff:10.0.0.1 ::ffff:a00:1
		::ffff:169.254.169.254 ::ffff:a9fe:a9fe ::ffff:168.63.129.16 ::ffff:0.0.0.0 ::FFFF:192.168.1.1
		::ffff:8.8.8.8%eth0 ::ffff:0:127.0.0.1 ::ffff:0:8.8.8.8
		::127.0.0.1 ::7f00:1 ::8.8.8.8 ::808:808 ::a9fe:a9fe ::2
		64:ff9b::127.0.0.1 64:ff9b::7f00:1 64:ff9b::a9fe:a9fe 64:ff9b::8.8.8.8 64:ff9b:0:0:0:0:0:0
		64:ff9b:1::1 64:ff9b:1:ffff:ffff:ffff:ffff:ffff 64:ff9b:1:7f00:1::
		2002:: 2002:7f00:1:: 2002:7f00:0001::1 2002:a9fe:a9fe::1 2002:0808:0808::1
		2001::1 2001:0:4136:e378:8000:63bf:3fff:fdd2 2001:2::1 2001:10::1 2001:20::1 2001:1ff:ffff::
		2001:db8::1 2001:db8:ffff::1 3fff::1 3fff:fff::1 2620:4f:8000::1
		fe80::1 fe80::1%eth0 fe80::1%1 febf::1 fec0::1 ::1%lo 2606:4700::1111%eth0
		fc00::1 fd00::1 fd00:ec2::254 fd20:ce::254 fdff:ffff::1
		ff00:: ff01::1 ff02::1 ff02::1%eth0 ff05::2 ff0e::1 ffff::1
		100::1 100:0:0:1::1 5f00::1 4000::1 1fff:ffff::1 8000::1`)
}

func outsideAddrs() []string {
	return strings.Fields(`
		8.8.8.8 1.1.1.1 93.184.216.34 ::ffff:8.8.8.8 ::ffff:808:808
		9.255.255.255 11.0.0.0 100.63.255.255 100.128.0.0 126.255.255.255 128.0.0.0
		168.63.129.15 168.63.129.17 169.253.255.255 169.255.0.0 172.15.255.255 172.32.0.0
		192.167.255.255 192.169.0.0 198.17.255.255 198.20.0.0 223.255.255.255
		2606:4700:4700::1111 2001:4860:4860::8888 2001:200::1 2a00:1450::1 2003::1 2001:db9::1`)
}

func prefixes(t *testing.T, list ...string) (ps []netip.Prefix) {
	t.Helper()
	for _, s := range list {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			t.Fatal(err)
		}
		ps = append(ps, p)
	}
	return ps
}

func TestGuardAddr(t *testing.T) {
	t.Parallel()
	closed := NewGuard(nil, false)
	for _, s := range insideAddrs() {
		addr := netip.MustParseAddr(s)
		err := closed.Addr(addr)
		if !errors.Is(err, ErrTarget) {
			t.Errorf("%s passes", s)
		} else if strings.ContainsAny(err.Error(), "0123456789:%") {
			t.Errorf("%s: the text shows an address: %v", s, err)
		}
	}
	for _, s := range outsideAddrs() {
		if err := closed.Addr(netip.MustParseAddr(s)); err != nil {
			t.Errorf("%s is refused", s)
		}
	}
	if err := closed.Addr(netip.Addr{}); !errors.Is(err, ErrTarget) {
		t.Error("the zero address passes")
	}
}

func TestGuardAllowed(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name     string
		allowed  []string
		loopback bool
		pass     string
		refuse   string
	}{
		{
			name: "loopback", loopback: true,
			pass:   "127.0.0.1 127.255.255.255 ::1 ::ffff:127.0.0.1",
			refuse: "::1%lo 0.0.0.0 :: 10.0.0.1 64:ff9b::7f00:1 ::127.0.0.1 169.254.169.254 ::ffff:10.0.0.1",
		},
		{
			name: "one network", allowed: []string{"10.1.0.0/16"},
			pass:   "10.1.0.0 10.1.255.255 ::ffff:10.1.2.3 8.8.8.8 2a00::1",
			refuse: "10.0.255.255 10.2.0.0 ::ffff:10.2.0.1 127.0.0.1 ::10.1.2.3 64:ff9b::10.1.2.3 ::ffff:10.1.2.3%eth0",
		},
		{
			name: "mapped spelling", allowed: []string{"::ffff:192.168.0.0/112"},
			pass: "192.168.0.1 ::ffff:192.168.255.255", refuse: "172.16.0.1 10.0.0.1 ::1",
		},
		{
			name: "unmasked", allowed: []string{"10.1.2.3/8", "fd00::1/8"},
			pass: "10.0.0.0 10.255.255.255 fd12::9", refuse: "fc00::1 fd12::9%eth0 172.16.0.1",
		},
		{
			name: "one address of a cloud", allowed: []string{"168.63.129.16/32"},
			pass: "168.63.129.16", refuse: "169.254.169.254",
		},
		{
			name: "NAT64", allowed: []string{"64:ff9b::/96"},
			pass:   "64:ff9b::8.8.8.8",
			refuse: "64:ff9b::127.0.0.1 64:ff9b::10.0.0.1 64:ff9b::169.254.169.254 64:ff9b::0.0.0.0 64:ff9b:1::1",
		},
		{
			name: "NAT64 and a network behind it", allowed: []string{"64:ff9b::/96", "10.0.0.0/8"},
			pass: "64:ff9b::10.0.0.1 10.0.0.1", refuse: "64:ff9b::127.0.0.1 64:ff9b::192.168.0.1",
		},
		{
			name: "everything", allowed: []string{"0.0.0.0/0", "::/0"},
			pass:   "127.0.0.1 10.0.0.1 fe80::1 2002:7f00:1::1 64:ff9b::7f00:1",
			refuse: "0.0.0.0 :: ::ffff:0.0.0.0 224.0.0.1 ff02::1 fe80::1%eth0",
		},
		{
			name: "IPv6 opens no IPv4", allowed: []string{"::/0"},
			pass: "::1 fc00::1", refuse: "127.0.0.1 ::ffff:127.0.0.1 10.0.0.1 64:ff9b::7f00:1",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			g := NewGuard(prefixes(t, tt.allowed...), tt.loopback)
			for _, s := range strings.Fields(tt.pass) {
				if err := g.Addr(netip.MustParseAddr(s)); err != nil {
					t.Errorf("%s is refused", s)
				}
			}
			for _, s := range strings.Fields(tt.refuse) {
				if err := g.Addr(netip.MustParseAddr(s)); !errors.Is(err, ErrTarget) {
					t.Errorf("%s passes", s)
				}
			}
		})
	}
}

func TestGuardZeroPrefix(t *testing.T) {
	t.Parallel()
	if err := NewGuard([]netip.Prefix{{}}, false).Addr(netip.MustParseAddr("10.0.0.1")); err == nil {
		t.Error("a zero prefix opens something")
	}
}

func TestGuardControl(t *testing.T) {
	t.Parallel()
	g := NewGuard(nil, false)
	for _, ok := range []string{"tcp4 8.8.8.8:80", "tcp6 [2a00::1]:65535", "tcp6 [::ffff:8.8.8.8]:1"} {
		network, address, _ := strings.Cut(ok, " ")
		if err := g.Control(network, address, nil); err != nil {
			t.Errorf("%s is refused", ok)
		}
	}
	for _, bad := range []string{
		"tcp4 127.0.0.1:80", "tcp6 [::1]:80", "tcp6 [fe80::1%eth0]:80", "tcp6 [::ffff:10.0.0.1]:80",
		"tcp 8.8.8.8:80", "udp4 8.8.8.8:53", "udp6 [2a00::1]:53", "ip4 8.8.8.8:0", "unix /run/x.sock",
		" 8.8.8.8:80", "TCP4 8.8.8.8:80", "tcp4 8.8.8.8", "tcp4 example.com:80", "tcp4 :80", "tcp4 ",
		"tcp4 8.8.8.8:65536", "tcp4 08.8.8.8:80", "tcp4 2130706433:80", "tcp4 0x7f.1:80",
	} {
		network, address, _ := strings.Cut(bad, " ")
		if err := g.Control(network, address, nil); !errors.Is(err, ErrTarget) {
			t.Errorf("%q passes", bad)
		}
	}
}
