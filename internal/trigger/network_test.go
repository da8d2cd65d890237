package trigger

import (
	"strings"
	"testing"
)

func TestParseNetwork(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"10.0.0.0/8": "10.0.0.0/8", "10.1.2.3/8": "10.0.0.0/8", "192.0.2.1": "192.0.2.1/32", " 192.0.2.1\t": "192.0.2.1/32", "::1": "::1/128",
		"2001:db8::1/32": "2001:db8::/32", "::ffff:10.1.2.3": "10.1.2.3/32", "0.0.0.0/0": "0.0.0.0/0",
	} {
		if got, err := ParseNetwork(text); err != nil || got.String() != want {
			t.Errorf("%q: %v, %v, want %s", text, got, err, want)
		}
	}
	for _, text := range []string{"", " ", "here", "10.0.0.1/33", "10.0.0", "10.0.0.0/", "::ffff:10.0.0.0/104", "fe80::1%eth0", "fe80::/10%eth0", "[::1]", "10.0.0.1:80", "10.0.0.0/8,::1"} {
		got, err := ParseNetwork(text)
		if err == nil || KindOf(err) != Invalid || got.IsValid() || !strings.HasPrefix(err.Error(), `"`+strings.TrimSpace(text)+`" is not a network`) {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
	if _, err := ParseNetwork(strings.Repeat("x", 1000)); err == nil || len(err.Error()) > 200 {
		t.Errorf("%v", err)
	}
}
