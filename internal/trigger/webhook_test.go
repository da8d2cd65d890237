package trigger_test

import (
	"fmt"
	"math"
	"net/netip"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"triggerd/internal/trigger"
)

func TestSubscribersMatch(t *testing.T) {
	t.Parallel()
	filter := func(types ...string) trigger.Filter {
		f, err := trigger.ParseFilter(types, nil)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	subscribers := &trigger.Subscribers{Webhooks: []trigger.Webhook{
		{ID: 1, State: trigger.Active, Filter: filter("user.*")},
		{ID: 2, State: trigger.Paused, Filter: filter("user.*")},
		{ID: 3, State: trigger.Gone, Filter: filter("user.*")},
		{ID: 4, State: trigger.Deleted},
		{ID: 5, State: trigger.Active, Filter: filter("*.deleted")},
		{ID: 6, State: trigger.Paused, Filter: filter("user.deleted")},
		{ID: 7, State: trigger.Active, Filter: filter("*.deleted", "invoice.*")},
	}}
	tests := []struct {
		eventType string
		want      []int64
	}{
		{"user.created", []int64{1, 2}},
		{"user.deleted", []int64{1, 2, 5, 6, 7}},
		{"order.deleted", []int64{5, 7}},
		{"invoice.paid", []int64{7}},
		{"order.created", nil},
	}
	for _, tt := range tests {
		var got []int64
		for _, webhook := range subscribers.Match(nil, tt.eventType, []byte(`{}`)) {
			got = append(got, webhook.ID)
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("Match(%q): %s", tt.eventType, diff)
		}
	}
	first := &trigger.Webhook{ID: 9}
	got := subscribers.Match([]*trigger.Webhook{first}, "order.deleted", []byte(`{}`))
	if len(got) != 3 || got[0] != first || got[1] != &subscribers.Webhooks[4] {
		t.Errorf("Match does not append to what it is given: %v", got)
	}
}

// The payload decides as well as the type, for each webhook by itself.
func TestSubscribersMatchPayload(t *testing.T) {
	t.Parallel()
	subscribers := &trigger.Subscribers{}
	for i, condition := range []string{"", `{"path":"/a","equals":1}`, `{"path":"/a","equals":2}`, `{"path":"/a","exists":false}`} {
		filter, err := trigger.ParseFilter([]string{"user.*"}, []byte(condition))
		if err != nil {
			t.Fatal(err)
		}
		subscribers.Webhooks = append(subscribers.Webhooks, trigger.Webhook{ID: int64(i), State: trigger.Active, Filter: filter})
	}
	tests := []struct {
		eventType, payload string
		want               []int64
	}{
		{"user.created", `{"a":1}`, []int64{0, 1}},
		{"user.created", `{"a":2}`, []int64{0, 2}},
		{"user.created", `{"a":3}`, []int64{0}},
		{"user.created", `{}`, []int64{0, 3}},
		{"order.created", `{"a":1}`, nil},
	}
	for _, tt := range tests {
		var got []int64
		for _, webhook := range subscribers.Match(nil, tt.eventType, []byte(tt.payload)) {
			got = append(got, webhook.ID)
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("Match(%q, %s): %s", tt.eventType, tt.payload, diff)
		}
	}
}

func TestParseTargetAccepts(t *testing.T) {
	t.Parallel()
	tests := []struct{ raw, host, port string }{
		{"http://example.com", "example.com", ""},
		{"https://example.com/", "example.com", ""},
		{"HTTPS://Example.COM/Webhook?a=b&c=%20", "Example.COM", ""},
		{"https://example.com./hook", "example.com.", ""},
		{"https://a-b_c.example.com:8443/x", "a-b_c.example.com", "8443"},
		{"http://localhost:5001/x", "localhost", "5001"},
		{"http://h:/x", "h", ""},
		{"http://h/a@b:c", "h", ""},
		{"http://h?user:pass@x", "h", ""},
		{"http://127.0.0.1/", "127.0.0.1", ""},
		{"http://0.0.0.0:1/", "0.0.0.0", "1"},
		{"http://169.254.169.254/latest/meta-data/", "169.254.169.254", ""},
		{"http://[::1]/", "::1", ""},
		{"http://[::1]:8080/", "::1", "8080"},
		{"http://[2001:db8::1]:65535/x", "2001:db8::1", "65535"},
		{"http://[::ffff:127.0.0.1]/", "::ffff:127.0.0.1", ""},
		{"https://xn--bcher-kva.example/ü", "xn--bcher-kva.example", ""},
		{"http://1e3/", "1e3", ""},
		{"http://0xfg.0xg/", "0xfg.0xg", ""},
		{"http://127.0.0.1.example/", "127.0.0.1.example", ""},
		{"http://" + strings.Repeat("a", 63) + ".example/", strings.Repeat("a", 63) + ".example", ""},
		{"http://" + strings.Repeat("a.", 126) + "b/", strings.Repeat("a.", 126) + "b", ""},
		{"http://h:1/", "h", "1"},
		{"http://h/" + strings.Repeat("a", 2048-len("http://h/")), "h", ""},
	}
	for _, tt := range tests {
		u, err := trigger.ParseTarget(tt.raw)
		if err != nil {
			t.Errorf("ParseTarget(%q): %v", tt.raw, err)
			continue
		}
		if u.Hostname() != tt.host || u.Port() != tt.port {
			t.Errorf("ParseTarget(%q) has host %q, port %q", tt.raw, u.Hostname(), u.Port())
		}
	}
}

// What no URL has is encoded, and what is encoded stays as it is.
func TestParseTargetEncodes(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]string{
		"http://h":                        "http://h",
		"http://h/":                       "http://h/",
		"http://h/a b":                    "http://h/a%20b",
		"http://h/ü?n=Zoë":                "http://h/%C3%BC?n=Zo%C3%AB",
		"http://h/?name=Ada L":            "http://h/?name=Ada%20L",
		`http://h/?f={"a":1}`:             "http://h/?f=%7B%22a%22:1%7D",
		"http://h/a%2Fb/c d?x=%2f+%20":    "http://h/a%2Fb/c%20d?x=%2f+%20",
		"http://h/a//b/../c?d[]=1&e='(*)": "http://h/a//b/../c?d[]=1&e='(*)",
		"http://h/<a>|^`\\?<b>|^`\\":      "http://h/%3Ca%3E%7C%5E%60%5C?%3Cb%3E%7C%5E%60%5C",
		"http://h?a":                      "http://h?a",
		"http://h/?":                      "http://h/?",
		"http://h/;a=b,c:@!$&":            "http://h/;a=b,c:@!$&",
	} {
		u, err := trigger.ParseTarget(raw)
		if err != nil || u.String() != want {
			t.Errorf("ParseTarget(%q) = %v, %v; want %s", raw, u, err, want)
			continue
		}
		if again, err := trigger.ParseTarget(want); err != nil || again.String() != want {
			t.Errorf("ParseTarget(%q) = %v, %v: it is encoded already", want, again, err)
		}
	}
}

func TestParseTargetRefuses(t *testing.T) {
	t.Parallel()
	refused := map[string][]string{
		"no absolute http URL": {
			"", " ", "/", "/hook", "hook", "example.com", "example.com/hook", "//example.com/hook", "http", "http:",
			"http:/example.com", "http:example.com", "http://", "http:///hook", "http://:80/", "http://?a", "https://#a",
			"ftp://example.com/", "ws://example.com/", "file:///etc/passwd", "gopher://example.com/", "httpx://example.com/",
			"unix:///run/x.sock", "data:,x", "javascript:alert(1)", "mailto:a@example.com", "://example.com",
			" http://example.com/", "1http://example.com/",
		},
		"userinfo": {
			"http://user@example.com/", "http://user:pass@example.com/", "http://:pass@example.com/",
			"http://@example.com/", "http://:@example.com/", "http://example.com@127.0.0.1/",
			"http://example.com:80@127.0.0.1:80/", "http://a%40b@example.com/", "http://a@b@example.com/",
		},
		"numbers for addresses": {
			"http://2130706433/", "http://0x7f000001/", "http://0X7F000001/", "http://017700000001/",
			"http://0x7f.1/", "http://127.1/", "http://127.0.1/", "http://0177.0.0.1/", "http://127.0.0.01/",
			"http://0x7f.0x0.0x0.0x1/", "http://0/", "http://0x/", "http://0x.0x./", "http://127.0.0.1./",
			"http://127.0.0.0x1/", "http://127.0.0.0x/", "http://256.0.0.1/", "http://1.2.3.4.5/", "http://99999999999/",
			"http://2130706433:80/x", "http://example.com.1/", "http://example.0xa/", "http://09/", "http://08.1/",
		},
		"broken hosts": {
			"http://[::1/", "http://::1/", "http://[::1]x/", "http://[]/", "http://[1.2.3.4]/", "http://[example.com]/",
			"http://a b/", "http://a\\b/", "http://%31%32%37.1/", "http://1.2.3.4%2f/", "http://a:b/", "http://a:80:80/",
			"http://a:-1/", "http://a:0x50/", "http://a:8o/",
		},
		"characters": {
			"http://example.com/\n", "http://example.com/\x00", "http://exam\tple.com/", "http://example.com/\x7f",
			"http://example.com/\u0085", "http://example.com/\xff", "http://example.com/%", "http://example.com/%zz",
		},
		"odd hosts": {
			"http://<script>alert(1)</", "http://a'b/", "http://bücher.example/", "http://127。0。0。1/",
			"http://２１３０７０６４３３/", "http://a!b/", "http://h:65536/", "http://h:99999/",
		},
		"parts of hosts": {
			"http://a..b/", "http://.a/", "http://a../", "http://./", "http://" + strings.Repeat("a", 64) + "/",
			"http://x." + strings.Repeat("a", 64) + ".y/", "http://" + strings.Repeat("a.", 126) + "bc/",
		},
		"ports":            {"http://h:0/", "http://h:00000/"},
		"percent signs":    {"http://h/?a=%zz", "http://h/?%", "http://h/?a=100%", "http://h/%2", "http://h/#%"},
		"blanks around it": {"http://h/ ", " http://h/", "http://h/\u00a0", "http://h/?a=b "},
		"length":           {"http://h/" + strings.Repeat("a", 2049-len("http://h/"))},
	}
	for why, raws := range refused {
		for _, raw := range raws {
			u, err := trigger.ParseTarget(raw)
			wantValid(t, why+": "+raw, err, false)
			if u != nil {
				t.Errorf("%s: ParseTarget(%q) = %v with an error", why, raw, u)
			}
		}
	}
}

// inetAton reads a host as the C function of that name does, with which old
// resolvers begin: 1 to 4 numbers, decimal, octal or hexadecimal, the last of
// which fills what is left of the 32 bits.
func inetAton(host string) (addr uint32, ok bool) {
	parts := strings.Split(host, ".")
	if len(parts) > 4 {
		return 0, false
	}
	for i, part := range parts {
		limit, shift := uint64(math.MaxUint8), 24-8*i
		if i == len(parts)-1 {
			limit, shift = math.MaxUint32>>(8*i), 0
		}
		n, err := strconv.ParseUint(part, 0, 32)
		if err != nil || strings.ContainsAny(part, "_oObB") && !strings.HasPrefix(strings.ToLower(part), "0x") || n > limit {
			return 0, false
		}
		addr |= uint32(n) << shift
	}
	return addr, true
}

// drawSpelling draws an address, and one of the ways to write it that
// inet_aton reads.
func drawSpelling(t *rapid.T) (addr uint32, spelling string) {
	addr = rapid.Uint32().Draw(t, "address")
	rest, count := addr, rapid.IntRange(1, 4).Draw(t, "parts")
	form := rapid.SampledFrom([]string{"%d", "%d", "0%o", "0x%x", "0X%X", "0x0%x"})
	var parts []string
	for range count - 1 {
		parts = append(parts, fmt.Sprintf(form.Draw(t, "form"), rest>>24))
		rest <<= 8
	}
	rest >>= 8 * (count - 1)
	return addr, strings.Join(append(parts, fmt.Sprintf(form.Draw(t, "form"), rest)), ".")
}

// However an IPv4 address is spelled, only its usual form is taken.
func TestParseTargetTakesOneFormOfAnAddress(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		addr, spelling := drawSpelling(t)
		if got, ok := inetAton(spelling); !ok || got != addr {
			t.Fatalf("the test reads %s as %d, %v; want %d", spelling, got, ok, addr)
		}
		usual := netip.AddrFrom4([4]byte{byte(addr >> 24), byte(addr >> 16), byte(addr >> 8), byte(addr)}).String()
		_, err := trigger.ParseTarget("http://" + spelling + "/")
		if (err == nil) != (spelling == usual) {
			t.Fatalf("ParseTarget of %s, usually %s: error %v", spelling, usual, err)
		}
	})
}

func FuzzParseTarget(f *testing.F) {
	for _, raw := range []string{
		"https://example.com:8443/hook?a=b#c", "http://user:pass@h/", "http://0x7f.1/", "http://127.0.0.1:80/",
		"http://[::1]:80/", "http://[fe80::1%25eth0]/", "//h", "http://h\x00/", "http://1。1/", "http://%c2%b2/",
	} {
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		u, err := trigger.ParseTarget(raw)
		if err != nil {
			wantValid(t, raw, err, false)
			return
		}
		host := u.Hostname()
		if len(raw) > 2048 || host == "" || u.User != nil || u.Scheme != "http" && u.Scheme != "https" {
			t.Errorf("ParseTarget(%q) = %#v", raw, u)
		}
		_, notUsual := netip.ParseAddr(host)
		if _, ok := inetAton(strings.TrimSuffix(host, ".")); ok && notUsual != nil {
			t.Errorf("ParseTarget(%q) takes %q, which resolvers may read as an address", raw, host)
		}
	})
}

func TestOrigin(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]string{
		"https://Example.com/a?b":    "https://example.com:443",
		"HTTPS://example.com:443":    "https://example.com:443",
		"https://example.com:8443/":  "https://example.com:8443",
		"http://example.com":         "http://example.com:80",
		"http://example.com:443":     "http://example.com:443",
		"https://example.com./":      "https://example.com.:443", // another name for TLS
		"https://[2001:DB8::1]/x":    "https://[2001:db8::1]:443",
		"https://a.example.com":      "https://a.example.com:443",
		"https://u@example.com/":     "",
		"ftp://example.com/":         "",
		"//example.com/":             "",
		"":                           "",
		"https://example.com:0443/a": "https://example.com:0443",
	} {
		if got := trigger.Origin(raw); got != want {
			t.Errorf("Origin(%q) = %q, want %q", raw, got, want)
		}
	}
}
