package trigger_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/textproto"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"triggerd/internal/trigger"
)

func headers(name, value string) trigger.Webhook {
	return trigger.Webhook{Headers: map[string]string{name: value}}
}

func TestCheckHeaders(t *testing.T) {
	t.Parallel()
	long := func(n int) string { return strings.Repeat("a", n) }
	wantChecked(t, []check{
		{"20 headers", trigger.Webhook{Headers: members(20, "v")}, true},
		{"21 headers", trigger.Webhook{Headers: members(21, "v")}, false},
		{"empty name", headers("", "v"), false},
		{"name of 1", headers("a", "v"), true},
		{"name of 255", headers(long(255), "v"), true},
		{"name of 256", headers(long(256), "v"), false},
		{"empty value", headers("X-A", ""), true},
		{"value of 4096", headers("X-A", long(4096)), true},
		{"value of 4097", headers("X-A", long(4097)), false},
		{"tab and spaces within a value", headers("X-A", "a\t b"), true},
		{"twice by case", trigger.Webhook{Headers: map[string]string{"X-Key": "a", "x-key": "a"}}, false},
		{"twice by case of one letter", trigger.Webhook{Headers: map[string]string{"x-keY": "a", "x-key": "b"}}, false},
		{"hyphen and underscore", trigger.Webhook{Headers: map[string]string{"X-Key": "a", "X_Key": "a"}}, true},
	})
}

// reserved are names that an owner must not set; a final star stands for any
// end.
func reserved() []string {
	return []string{
		"Webhook-*", "Proxy-*", "Svix-*", "Sec-*", "Ce-*",
		"Accept-Encoding", "Authorization", "Connection", "Content-Encoding", "Content-Length", "Content-Type", "Cookie", "Date",
		"Expect", "Forwarded", "Host", "Keep-Alive", "TE", "Traceparent", "Tracestate", "Trailer", "Transfer-Encoding", "Upgrade",
		"User-Agent", "Via", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto",
	}
}

func TestReservedHeaders(t *testing.T) {
	t.Parallel()
	for _, name := range reserved() {
		spelled := []string{name}
		if prefix, ok := strings.CutSuffix(name, "*"); ok {
			spelled = []string{prefix, prefix + "Id", prefix + "x", prefix + "-", prefix + "Signature-2"}
		}
		for _, s := range spelled {
			for _, s := range []string{s, strings.ToLower(s), strings.ToUpper(s), strings.ReplaceAll(s, "-", "_"), strings.ToLower(strings.Replace(s, "-", "_", 1))} {
				webhook := headers(s, "v")
				wantValid(t, s, webhook.Check(), false)
			}
		}
	}
	for _, name := range []string{
		"Webhook", "Webhooks-Id", "X-Webhook-Id", "Proxy", "Sec", "Second-1", "Ce", "Cent", "X-Ce-Id", "Accept", "Accept-Language", "Content",
		"X-Content-Type", "Content-Typed", "Cookies", "Dat", "Updated", "X-Date", "Hosts", "X-Host", "X-Via", "Tea", "X-Api-Key", "X-Authorization",
	} {
		webhook := headers(name, "v")
		wantValid(t, name, webhook.Check(), true)
	}
}

// Every byte is tried at the beginning, in the middle and at the end of all
// that becomes part of a request's head: no line ends before its end.
func TestNoByteBreaksAHeader(t *testing.T) {
	t.Parallel()
	const token = "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ" // RFC 9110, section 5.6.2
	for b := range 256 {
		c := string([]byte{byte(b)})
		printable := b >= 0x20 && b <= 0x7e
		for place, s := range map[string]string{"first": c + "aa", "middle": "a" + c + "a", "last": "aa" + c, "alone": c} {
			inside := place == "middle"
			wantChecked(t, []check{
				{fmt.Sprintf("name with %#x %s", b, place), headers("x"+s, "v"), strings.Contains(token, c)},
				{fmt.Sprintf("value with %#x %s", b, place), headers("X-A", s), b > 0x20 && b <= 0x7e || inside && (b == ' ' || b == '\t')},
				{fmt.Sprintf("bearer with %#x %s", b, place), trigger.Webhook{Auth: trigger.Auth{Bearer: s}}, printable && (inside || b != ' ')},
				{fmt.Sprintf("user with %#x %s", b, place), trigger.Webhook{Auth: trigger.Auth{User: s, Password: "p"}}, printable && b != ':'},
				{fmt.Sprintf("password with %#x %s", b, place), trigger.Webhook{Auth: trigger.Auth{User: "u", Password: s}}, printable},
			})
		}
	}
	for _, s := range []string{"é", "İ", "\u2028", "ſ", "\u212a", "a\r\nHost: evil", "a\r\n\r\nbody", "\ufffd", "🙂"} {
		wantChecked(t, []check{
			{"name " + s, headers(s, "v"), false},
			{"value " + s, headers("X-A", s), false},
			{"bearer " + s, trigger.Webhook{Auth: trigger.Auth{Bearer: s}}, false},
			{"user " + s, trigger.Webhook{Auth: trigger.Auth{User: s}}, false},
			{"password " + s, trigger.Webhook{Auth: trigger.Auth{Password: s}}, false},
		})
	}
}

// mirror is a server that answers with the head of the request it has read.
func mirror(t testing.TB) *httptest.Server {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := json.NewEncoder(w).Encode(r.Header); err != nil {
			t.Error(err)
		}
	}))
	t.Cleanup(server.Close)
	return server
}

// arrives sends what a webhook has chosen. An error says how what the receiver
// reads is not exactly that.
func arrives(ctx context.Context, server *httptest.Server, webhook *trigger.Webhook) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, server.URL, strings.NewReader("{}"))
	if err != nil {
		return err
	}
	want := http.Header{}
	for name, value := range webhook.Headers {
		req.Header.Set(name, value)
		want[textproto.CanonicalMIMEHeaderKey(name)] = []string{value}
	}
	if authorization := webhook.Auth.Header(); authorization != "" {
		req.Header.Set("Authorization", authorization)
		want["Authorization"] = []string{authorization}
	}
	resp, err := server.Client().Do(req)
	if err != nil {
		return fmt.Errorf("%q, %q: %w", webhook.Headers, webhook.Auth.Header(), err)
	}
	defer resp.Body.Close()
	var got http.Header
	if err := json.NewDecoder(resp.Body).Decode(&got); err != nil {
		return err
	}
	for _, own := range []string{"Accept-Encoding", "Content-Length", "User-Agent"} {
		got.Del(own)
	}
	if want.Get("Pragma") == "no-cache" && want.Get("Cache-Control") == "" {
		got.Del("Cache-Control") // which net/http adds (RFC 7234, section 5.4)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		return fmt.Errorf("sent and received differ: %s", diff)
	}
	return nil
}

// drawHeaders draws mostly good headers.
func drawHeaders(t *rapid.T) map[string]string {
	name := rapid.OneOf(
		rapid.StringMatching("[a-zA-Z0-9!#$%&'*+.^_`|~-]{1,12}"),
		rapid.SampledFrom(reserved()), rapid.SampledFrom([]string{"Range", "Pragma", "If-None-Match", "Accept", "X:A", "X A", "Référence"}),
	)
	value := rapid.OneOf(
		rapid.StringMatching(`[ -~]{0,20}`), rapid.StringMatching(`[!-~][\t -~]{0,20}[!-~]`),
		rapid.SampledFrom([]string{"a\r\nX-B: c", "a\nb", "\x00", "é", "no-cache", "close", "chunked"}),
	)
	return rapid.MapOfN(name, value, 0, 5).Draw(t, "headers")
}

// What Check passes, net/http sends, and a server reads the very same.
func TestHeadersArrive(t *testing.T) {
	t.Parallel()
	server := mirror(t)
	passed := 0
	rapid.Check(t, func(rt *rapid.T) {
		webhook := &trigger.Webhook{Headers: drawHeaders(rt)}
		text := rapid.StringMatching(`[ -~]{0,10}`)
		if rapid.Bool().Draw(rt, "basic") {
			webhook.Auth = trigger.Auth{User: text.Draw(rt, "user"), Password: text.Draw(rt, "password")}
		} else {
			webhook.Auth = trigger.Auth{Bearer: text.Draw(rt, "bearer")}
		}
		if err := webhook.Check(); err != nil {
			if trigger.KindOf(err) != trigger.Invalid {
				rt.Fatal(err)
			}
			return
		}
		passed++
		if err := arrives(t.Context(), server, webhook); err != nil {
			rt.Fatal(err)
		}
	})
	if passed == 0 {
		t.Error("Check has passed none")
	}
}

// The largest head that an owner may choose arrives as well.
func TestLargestHeadersArrive(t *testing.T) {
	t.Parallel()
	large := strings.Repeat("a", trigger.MaxHeaderValue)
	for _, auth := range []trigger.Auth{{Bearer: large}, {User: large, Password: large}} {
		webhook := &trigger.Webhook{Headers: members(trigger.MaxHeaders, large), Auth: auth}
		if err := webhook.Check(); err != nil {
			t.Fatal(err)
		}
		if err := arrives(t.Context(), mirror(t), webhook); err != nil {
			t.Error(err)
		}
	}
}

func FuzzHeaders(f *testing.F) {
	f.Add("X-Api-Key", "secret", "", "", "")
	f.Add("x-a", "a\r\nHost: evil", "token", "", "")
	f.Add("Webhook_Id", "evt_1", "", "user", "pass:word")
	f.Add("X-A", " a ", " ", ":", "\x00")
	f.Add("Pragma", "no-cache", "", "", "é")
	f.Add("Transfer-Encoding", "chunked", "a\nb", "", "")
	server := mirror(f)
	f.Fuzz(func(t *testing.T, name, value, bearer, user, password string) {
		webhook := &trigger.Webhook{
			Headers: map[string]string{name: value},
			Auth:    trigger.Auth{Bearer: bearer, User: user, Password: password},
		}
		if err := webhook.Check(); err != nil {
			wantValid(t, name, err, false)
			return
		}
		if err := arrives(t.Context(), server, webhook); err != nil {
			t.Error(err)
		}
	})
}
