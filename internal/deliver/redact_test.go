package deliver_test

import (
	"encoding/base64"
	"encoding/hex"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"triggerd/internal/store"
	"triggerd/internal/store/storetest"
	"triggerd/internal/trigger"
)

// What a receiver shows of the request that it got, as a debugging page does,
// has none of the webhook's credentials, when it is kept and when it is shown.
func TestAnswersHaveNoCredentials(t *testing.T) {
	t.Parallel()
	const token, header, password = "tok/en+1234?", `he"ad<er value`, "pass word&9"
	secret := trigger.NewSecret([32]byte{7, 250, 190})
	seed := trigger.NewKeyPair([32]byte{9, 251, 191})
	symmetric, _ := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret.Reveal(), "whsec_"))
	private, _ := base64.StdEncoding.DecodeString(strings.TrimPrefix(seed.Reveal(), "whsk_"))
	basic := base64.StdEncoding.EncodeToString([]byte("me:" + password))
	tests := []struct {
		name, body string
		auth       trigger.Auth
		leaks      []string
	}{
		{"bearer", "authorization: Bearer " + token, trigger.Auth{Bearer: token}, []string{token}},
		{"token alone", "<" + token + ">", trigger.Auth{Bearer: token}, []string{token}},
		{"token in base64", base64.StdEncoding.EncodeToString([]byte(token)), trigger.Auth{Bearer: token}, []string{base64.RawStdEncoding.EncodeToString([]byte(token))}},
		{"token in base64 for URLs", base64.URLEncoding.EncodeToString([]byte(token)), trigger.Auth{Bearer: token}, []string{base64.RawURLEncoding.EncodeToString([]byte(token))}},
		{"token in a URL", "?t=" + url.QueryEscape(token), trigger.Auth{Bearer: token}, []string{url.QueryEscape(token)}},
		{"basic", "Basic " + basic, trigger.Auth{User: "me", Password: password}, []string{basic, password}},
		{"password", "me:" + password, trigger.Auth{User: "me", Password: password}, []string{password}},
		{"header", "x-token: " + header, trigger.Auth{}, []string{header}},
		{"header in JSON", `{"x-token":"he\"ad\u003cer value"}`, trigger.Auth{}, []string{"er value"}},
		{"secret", secret.Reveal(), trigger.Auth{}, []string{secret.Reveal()[6:]}},
		{"secret's bytes", string(symmetric), trigger.Auth{}, []string{string(symmetric)}},
		{"secret's bytes in hexadecimal", hex.EncodeToString(symmetric), trigger.Auth{}, []string{hex.EncodeToString(symmetric)}},
		{"private key", seed.Reveal(), trigger.Auth{}, []string{seed.Reveal()[5:48]}},
		{"seed", base64.StdEncoding.EncodeToString(private[:32]), trigger.Auth{}, []string{base64.RawStdEncoding.EncodeToString(private[:32])}},
		{"twice", token + token, trigger.Auth{Bearer: token}, []string{token, token[:4]}},
		{"over what is kept", strings.Repeat("x", 16<<10-6) + token, trigger.Auth{Bearer: token}, []string{token[:4]}},
		{"over what is read", strings.Repeat(strings.Repeat("Z", 999)+" ", 65) + strings.Repeat("-", 521) + token, trigger.Auth{Bearer: token}, []string{token[:4]}},
	}
	db := storetest.SQLite(t)
	s := db.Open(t)
	org := storetest.NewOrganization(t, s)
	answers := make(chan string, 1)
	r := newReceiver(t, func(w http.ResponseWriter, _ *http.Request) {
		body := <-answers
		if len(body) < 100 {
			w.Header().Set("Location", "/"+strings.Repeat("a", 190)+url.PathEscape(body)+"?"+url.QueryEscape(body))
		}
		w.WriteHeader(http.StatusFound)
		_, _ = w.Write([]byte("before " + body + " after"))
	})
	n := startNode(t, db, s, nil)
	for _, tt := range tests {
		hook := &trigger.Webhook{
			State: trigger.Active, URL: r.URL, OrganizationID: org, Auth: tt.auth,
			Headers: map[string]string{"X-Token": header, "X-Short": "re", "X-Long": strings.Repeat("Z", 999)},
			Secrets: trigger.OneSecret(seed).Rotate(secret, s.Now(), trigger.DefaultOverlap),
		}
		var err error
		if hook.ID, err = s.AddWebhook(t.Context(), org, *hook, store.Once{}); err != nil {
			t.Fatal(err)
		}
		event := &trigger.Event{OrganizationID: org, ID: trigger.NewID(s.Now(), 0, 1), Type: "test", Payload: []byte(`1`)}
		answers <- tt.body
		a := n.Try(t.Context(), hook, event)
		if a.Status != http.StatusFound || !strings.HasPrefix(string(a.Response), "before ") || len(a.Response) > 16<<10 {
			t.Fatalf("%s: %+v", tt.name, a)
		}
		for _, leak := range tt.leaks {
			if strings.Contains(string(a.Response), leak) {
				t.Errorf("%s: the answer has %q: %.300q", tt.name, leak, a.Response)
			}
			if strings.Contains(a.Error, leak) || strings.Contains(a.Error, url.QueryEscape(leak)) {
				t.Errorf("%s: the error has %q: %s", tt.name, leak, a.Error)
			}
		}
		if whole := !strings.HasPrefix(tt.name, "over"); whole != strings.HasSuffix(string(a.Response), " after") || whole && !strings.Contains(string(a.Response), "[redacted]") {
			t.Errorf("%s: the answer is %.300q", tt.name, a.Response)
		}
	}
}
