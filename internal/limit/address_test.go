package limit

import "testing"

func TestAddress(t *testing.T) {
	t.Parallel()
	for remoteAddr, want := range map[string]string{
		"192.0.2.7:4711":                  "192.0.2.7/32",
		"[::ffff:192.0.2.7]:4711":         "192.0.2.7/32",
		"[2001:db8:1:2:3:4:5:6]:4711":     "2001:db8:1:2::/64",
		"[2001:db8:1:2:ffff::]:1":         "2001:db8:1:2::/64",
		"[2001:db8:1:3::]:1":              "2001:db8:1:3::/64",
		"[fe80::1%eth0]:4711":             "fe80::/64",
		"[::1]:4711":                      "::/64",
		"[::ffff:192.0.2.7%eth0]:4711":    "192.0.2.7/32",
		"192.0.2.7":                       "invalid Prefix",
		"2001:db8::1":                     "invalid Prefix",
		"localhost:80":                    "invalid Prefix",
		"@":                               "invalid Prefix",
		"":                                "invalid Prefix",
		"192.0.2.7:99999":                 "invalid Prefix",
		"192.0.2.7:80, 198.51.100.1:4711": "invalid Prefix",
	} {
		if got := Address(remoteAddr).String(); got != want {
			t.Errorf("%q: %s, want %s", remoteAddr, got, want)
		}
	}
}
