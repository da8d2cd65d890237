package api

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"

	"triggerd/internal/store/storetest"
	"triggerd/internal/trigger"
)

// newWebhook registers a webhook and gives its id.
func (s *server) newWebhook(t *testing.T, key, body string) int64 {
	t.Helper()
	r := s.do(t, "POST", "/api/webhook/register", key, body)
	var answer struct {
		ID int64 `json:"webhook-id"`
	}
	if err := json.Unmarshal([]byte(r.body), &answer); err != nil || r.status != 200 || answer.ID < 1 {
		t.Fatalf("%s: %d %s", body, r.status, r.body)
	}
	return answer.ID
}

func TestRegisterWebhook(t *testing.T) {
	t.Parallel()
	shape := regexp.MustCompile(`^\{"status":"registered","webhook-id":[1-9][0-9]*,"secret":"whsec_[0-9A-Za-z+/]{43}="\}$`)
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := newServer(t, db)
		key := s.newKey(t, "free")
		org := s.keyOf(t, key).Organization.ID
		seen := map[any]bool{}
		for _, tt := range []struct{ body, url, filter string }{
			{`{"url":"https://example.com/webhook","event_type_filter":"user.*"}`, "https://example.com/webhook", "user.*"},
			{`{"url":"https://example.com/webhook","event_type_filter":"user.*"}`, "https://example.com/webhook", "user.*"}, // once more
			{`{"url":"https://example.com/webhook"}`, "https://example.com/webhook", ""},
			{`{"url":"http://example.com","event_type_filter":null}`, "http://example.com", ""},
			{`{"url":"http://example.com","event_type_filter":""}`, "http://example.com", ""},
			{`{"url":"http://example.com","event_type_filter":"*"}`, "http://example.com", "*"},
			{`{"url":"http://example.com","event_type_filter":"*.created"}`, "http://example.com", "*.created"},
			{`{"url":"http://example.com","event_type_filter":"' OR 1=1; --%_"}`, "http://example.com", "' OR 1=1; --%_"},
			{`{"url":"http://example.com","event_type_filter":"` + strings.Repeat("*a", 8) + `"}`, "http://example.com", strings.Repeat("*a", 8)},
			{`{"url":"http://example.com","event_type_filter":"` + strings.Repeat("a", 255) + `"}`, "http://example.com", strings.Repeat("a", 255)},
			{`{"url":"https://example.com:1/a?b=c&d=%20#e","secret":"mine","id":1,"state":"gone"}`, "https://example.com:1/a?b=c&d=%20#e", ""},
			{`{"url":"http://nowhere.example:65535/"}`, "http://nowhere.example:65535/", ""}, // does not resolve now
			{`{"url":"http://93.184.215.14:22/"}`, "http://93.184.215.14:22/", ""},
			{`{"url":"http://[2606:2800:21f:cb07:6820:80da:af6b:8b2c]:8080/"}`, "http://[2606:2800:21f:cb07:6820:80da:af6b:8b2c]:8080/", ""},
			{`{"url":"http:\/\/example.com/` + strings.Repeat("a", 2048-19) + `"}`, "http://example.com/" + strings.Repeat("a", 2048-19), ""},
		} {
			r := s.do(t, "POST", "/api/webhook/register", key, tt.body)
			var answer struct {
				ID     int64  `json:"webhook-id"`
				Secret string `json:"secret"`
			}
			if r.status != 200 || !shape.MatchString(r.body) || json.Unmarshal([]byte(r.body), &answer) != nil {
				t.Errorf("%s: %d %s", tt.body, r.status, r.body)
				continue
			}
			if seen[answer.ID] || seen[answer.Secret] {
				t.Errorf("%s: not another webhook: %s", tt.body, r.body)
			}
			seen[answer.ID], seen[answer.Secret] = true, true
			stored, err := s.store.Webhook(t.Context(), org, answer.ID)
			if err != nil || stored.URL != tt.url || strings.Join(stored.Filter.TypeStrings(), ",") != tt.filter || stored.State != trigger.Active ||
				stored.Secrets[0].Reveal() != answer.Secret {
				t.Errorf("%s: stored as %+v: %v", tt.body, stored, err)
			}
			if strings.Contains(s.log.String(), answer.Secret) {
				t.Error("the log holds the secret")
			}
		}
	})
}

func TestRegisterWebhookRefuses(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := newServer(t, db)
		key := s.newKey(t, "free")
		for _, url := range []string{
			``, `null`, `1`, `["https://example.com"]`, `"example.com"`, `"/hook"`, `"//example.com/"`, `"http:"`, `"http://"`,
			`"http:///hook"`, `"http://:80/"`, `"http:example.com"`, `"ftp://example.com/"`, `"javascript:alert(1)"`, `"file:///etc/passwd"`,
			`"gopher://example.com/"`, `"https://user@example.com/"`, `"https://user:pw@example.com/"`, `"https://@example.com/"`,
			`"http://example.com:65536/"`, `"http://example.com:-1/"`, `"http://example.com:a/"`, `"http://exa mple.com/"`, `" http://example.com/"`,
			`"http://example.com/\r\nX-A: b"`, `"http://example.com/\u0000"`, `"http://example.com/\ud800"`, `"http://example.com/%zz"`,
			`"http://éxample.com/"`, `"http://[::1"`, `"http://example.com\\@127.0.0.1/"`,
			`"http://example.com/` + strings.Repeat("a", 2049-19) + `"`,
			`"http://127.0.0.1/"`, `"http://127.1/"`, `"http://2130706433/"`, `"http://0x7f000001/"`, `"http://0177.0.0.1/"`, `"http://[::1]/"`,
			`"http://[::ffff:127.0.0.1]/"`, `"http://[::ffff:7f00:1]/"`, `"http://[64:ff9b::127.0.0.1]/"`, `"http://0.0.0.0/"`, `"http://10.0.0.1/"`,
			`"http://192.168.1.1/"`, `"http://172.16.0.1/"`, `"http://169.254.169.254/latest"`, `"http://168.63.129.16/"`, `"http://100.64.0.1/"`,
			`"http://[fe80::1%25eth0]/"`, `"http://[fd00::1]/"`, `"http://localhost/"`, `"http://LOCALHOST:8080/"`, `"http://inside.example/"`,
		} {
			body := `{"url":` + url + `}`
			if url == "" {
				body = `{}`
			}
			s.do(t, "POST", "/api/webhook/register", key, body).wants(t, url, 400, `"error":"`)
		}
		for _, filter := range []string{
			`1`, `false`, `[]`, `{}`, `["a"]`, `"\u0000"`, `"a\nb"`, `"\ud800"`, `"` + strings.Repeat("*", 9) + `"`,
			`"` + strings.Repeat("a", 256) + `"`, `"` + strings.Repeat("é", 128) + `"`, `"a","event_type_filter":"a"`,
		} {
			body := `{"url":"https://example.com/","event_type_filter":` + filter + `}`
			s.do(t, "POST", "/api/webhook/register", key, body).wants(t, filter, 400, "event_type_filter")
		}
		for _, body := range []string{
			``, `{`, `null`, `[]`, `"https://example.com/"`, `{"url":"https://example.com/","url":"https://example.com/"}`,
			`{"URL":"https://example.com/"}`, "{\"url\":\"https://example.com/\xff\"}", `{"url":"https://example.com/","x":` + nested(64, "[", "]") + `}`,
		} {
			s.do(t, "POST", "/api/webhook/register", key, body).wants(t, body, 400, "")
		}
		org := s.keyOf(t, key).Organization.ID
		subs, err := s.store.Subscribers(t.Context(), []int64{org})
		if err != nil || len(subs[org].Webhooks) != 0 {
			t.Errorf("stored: %+v: %v", subs, err)
		}
	})
}

func TestFiftyWebhooks(t *testing.T) {
	t.Parallel()
	const body = `{"url":"https://example.com/"}`
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := newServer(t, db)
		key, other := s.newKey(t, "free"), s.newKey(t, "free")
		var last int64
		for range 50 {
			last = s.newWebhook(t, key, body)
		}
		s.do(t, "POST", "/api/webhook/register", key, body).wants(t, "the 51st", 400, "50 webhooks")
		s.newWebhook(t, other, body)
		if err := s.store.SetWebhookState(t.Context(), s.keyOf(t, key).Organization.ID, last, trigger.Deleted); err != nil {
			t.Fatal(err)
		}
		s.newWebhook(t, key, body) // what is gone does not count
		s.do(t, "POST", "/api/webhook/register", key, body).wants(t, "the 51st", 400, "50 webhooks")
	})
}
