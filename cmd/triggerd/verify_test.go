package main

import (
	"bytes"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"triggerd/internal/store"
	"triggerd/internal/store/storetest"
	"triggerd/internal/trigger"
)

// subscriber is a webhook, what of it the receiver knows, and what it has to
// see of it.
type subscriber struct {
	trigger.Webhook
	signing []string    // the secrets that sign, as their owner got them, in the order of their signatures
	public  []string    // for each of them the public key, "" if it is symmetric
	own     http.Header // Authorization and the webhook's own headers
}

// TestOfficialLibrariesVerify lets the libraries that receivers have judge what
// a whole server sends: those of Standard Webhooks for Go and npm, and svix.
func TestOfficialLibrariesVerify(t *testing.T) {
	t.Parallel()
	needNode(t)
	db := storetest.SQLite(t)
	rec := newRecorder(t, nil)
	s := startServer(t, db, nil)
	key := s.newKey(t, "enterprise")
	subscribers := allKinds(t, db.Clock.Now())
	for path, sub := range subscribers {
		s.subscribe(t, key, rec.URL+path, &sub.Webhook)
	}
	begun := db.Clock.Now()
	events := map[string]trigger.Event{} // by id
	for i, payload := range payloads() {
		eventType := fmt.Sprintf(`user."Zoë"\%d`, i)
		id := s.postEvent(t, key, eventType, "", payload).EventID
		events[id] = trigger.Event{Type: eventType, Payload: []byte(payload)}
	}
	if len(events) != len(payloads()) {
		t.Fatalf("%d different ids for %d events", len(events), len(payloads()))
	}
	seen := map[string]bool{}
	var captured []capture
	for _, got := range rec.wait(t, len(events)*len(subscribers)) {
		id := got.header.Get("Webhook-Id")
		event, ok := events[id]
		if !ok || seen[got.path+id] {
			t.Errorf("%s: event %q, known %v, came before %v", got.path, id, ok, seen[got.path+id])
		}
		seen[got.path+id] = true
		sub := subscribers[got.path]
		checkHeader(t, sub, got, begun, db.Clock.Now())
		checkBody(t, sub.Format, got, &event)
		checkByGo(t, sub, got)
		captured = append(captured, captures(sub, got)...)
	}
	checkByNode(t, captured)
}

// TestRetriesAreSignedAnew holds that a retry has the event's id and body, but
// the time and hence the signature of its own attempt.
func TestRetriesAreSignedAnew(t *testing.T) {
	t.Parallel()
	needNode(t)
	const later = 10 * time.Second
	db := storetest.SQLite(t)
	rec := newRecorder(t, func(n int, _ received) int {
		if n == 0 {
			db.Clock.Advance(later)
			return http.StatusServiceUnavailable
		}
		return http.StatusOK
	})
	s := startServer(t, db, nil)
	key := s.newKey(t, "free")
	sub := newSubscriber(t, trigger.FormatStandard, secretOf(t, 32), keyPair(t, 9))
	sub.Schedule = trigger.Schedule{0}
	s.subscribe(t, key, rec.URL+"/retried", &sub.Webhook)
	begun := db.Clock.Now()
	id := s.postEvent(t, key, "t", "", `{"n":1}`).EventID
	var captured []capture
	var before received
	for n, got := range rec.wait(t, 2) {
		checkHeader(t, sub, got, begun.Add(time.Duration(n)*later), db.Clock.Now())
		checkByGo(t, sub, got)
		captured = append(captured, captures(sub, got)...)
		if h := got.header; h.Get("Webhook-Id") != id || n > 0 && (!bytes.Equal(got.body, before.body) ||
			h.Get("Webhook-Timestamp") == before.header.Get("Webhook-Timestamp") ||
			h.Get("Webhook-Signature") == before.header.Get("Webhook-Signature")) {
			t.Errorf("attempt %d of event %s: %v %s\nafter %v %s", n, id, h, got.body, before.header, before.body)
		}
		before = got
	}
	checkByNode(t, captured)
}

// payloads are the JSON that is easily changed on its way: each must arrive in
// its own bytes, since bytes are what is signed.
func payloads() []string {
	return []string{
		"{\"name\":\"Zoë 日本語 🚀 e\u0301 \u202e\u2028\ufeff\ufffd\",\"<&>\":\"\u007f\"}",
		`{"s":"\u00e9\ud83d\ude80\/\"\\\b\f\n\r\t\u003c\u0041","\u006b":null}`,
		`[12345678901234567890123456789,0.10,1E+2,1e400,-0,0.1e-7,9007199254740993]`,
		"{ \"a\" :\t[ 1 ,\r\n  2 ] , \"b\" : { } }",
		`{"b":1,"a":2,"b":3}`,
		`"text"`, `""`, `null`, `false`, `0`, `[]`, `{}`,
		`"` + strings.Repeat("ä", 20_000) + `"`,
	}
}

// allKinds are webhooks of all kinds, by the path of their URL. Secrets have
// the shortest and the longest length there is, and what is usual.
func allKinds(t *testing.T, now time.Time) map[string]*subscriber {
	t.Helper()
	standard, cloudEvents, payload := trigger.FormatStandard, trigger.FormatCloudEvents, trigger.FormatPayload
	all := map[string]*subscriber{
		"/default":     newSubscriber(t, "", secretOf(t, 32)),
		"/standard":    newSubscriber(t, standard, secretOf(t, 24)),
		"/cloudevents": newSubscriber(t, cloudEvents, secretOf(t, 64)),
		"/payload":     newSubscriber(t, payload, secretOf(t, 32)),
		"/ed25519":     newSubscriber(t, standard, keyPair(t, 1)),
		"/rotated":     newSubscriber(t, standard, secretOf(t, 32), secretOf(t, 33)),
		"/crossed":     newSubscriber(t, cloudEvents, keyPair(t, 2), secretOf(t, 32), keyPair(t, 3)),
		"/basic":       newSubscriber(t, standard, secretOf(t, 32)),
		"/bearer":      newSubscriber(t, payload, keyPair(t, 4)),
	}
	// What is over does not sign any more.
	all["/rotated"].Secrets = append(all["/rotated"].Secrets,
		trigger.IssuedSecret{Secret: secretOf(t, 34), Until: now.Add(-time.Minute)})
	basic, bearer := all["/basic"], all["/bearer"]
	basic.Auth = trigger.Auth{User: "Aladdin", Password: "open: sesame"}
	basic.Headers = map[string]string{"X-Tenant": `a, b; c="d"`, "x-lower": "1\t 2", "Accept": "text/plain"}
	basic.own = http.Header{
		"Authorization": {"Basic QWxhZGRpbjpvcGVuOiBzZXNhbWU="}, "X-Tenant": {`a, b; c="d"`}, "X-Lower": {"1\t 2"}, "Accept": {"text/plain"},
	}
	bearer.Auth = trigger.Auth{Bearer: "a.b-c_d~e+f/g=="}
	bearer.Headers = map[string]string{"x-api-key": "k"}
	bearer.own = http.Header{"Authorization": {"Bearer a.b-c_d~e+f/g=="}, "X-Api-Key": {"k"}}
	return all
}

// newSubscriber has the secrets, the newest first; the others within their
// overlap.
func newSubscriber(t *testing.T, f trigger.Format, secrets ...trigger.Secret) *subscriber {
	t.Helper()
	sub := &subscriber{Webhook: trigger.Webhook{State: trigger.Active, Format: f}}
	for i, secret := range secrets {
		issued := trigger.IssuedSecret{Secret: secret}
		if i > 0 {
			issued.Until = time.Now().Add(time.Hour)
		}
		sub.Secrets = append(sub.Secrets, issued)
		sub.signing = append(sub.signing, secret.Reveal())
		sub.public = append(sub.public, secret.Public())
	}
	return sub
}

// secretOf is a symmetric secret of a length.
func secretOf(t *testing.T, length int) trigger.Secret {
	t.Helper()
	raw := bytes.Repeat([]byte{0xfb, byte(length)}, length)[:length]
	secret, err := trigger.ParseSecret("whsec_" + base64.StdEncoding.EncodeToString(raw))
	if err != nil {
		t.Fatal(err)
	}
	return secret
}

// keyPair is one of ed25519.
func keyPair(t *testing.T, n byte) trigger.Secret {
	t.Helper()
	seed := bytes.Repeat([]byte{n}, ed25519.SeedSize)
	secret, err := trigger.ParseSecret("whsk_" + base64.StdEncoding.EncodeToString(seed))
	if err != nil {
		t.Fatal(err)
	}
	return secret
}

// subscribe stores a webhook for the organization that has the key.
func (s *testServer) subscribe(t *testing.T, key, url string, w *trigger.Webhook) {
	t.Helper()
	hash, _ := trigger.HashAPIKey(key)
	found, err := s.server.store.APIKeyByHash(t.Context(), hash)
	if err != nil {
		t.Fatal(err)
	}
	w.URL = url
	if w.ID, err = s.server.store.AddWebhook(t.Context(), found.Organization.ID, *w, store.Once{}); err != nil {
		t.Fatal(err)
	}
}

// checkHeader wants the very bytes of each header, and none besides. The
// signature is made here once more, from what the webhook's owner was shown.
func checkHeader(t *testing.T, sub *subscriber, got received, begun, ended time.Time) {
	t.Helper()
	id, at := got.header.Get("Webhook-Id"), got.header.Get("Webhook-Timestamp")
	seconds, err := strconv.ParseInt(at, 10, 64)
	if err != nil || strconv.FormatInt(seconds, 10) != at || seconds < begun.Unix() || seconds > ended.Unix() {
		t.Errorf("%s: webhook-timestamp %q, want one from %d to %d: %v", got.path, at, begun.Unix(), ended.Unix(), err)
	}
	var signatures []string
	for _, shown := range sub.signing {
		signatures = append(signatures, signature(t, shown, signed(got.header, got.body)))
	}
	media := "application/json"
	if sub.Format == trigger.FormatCloudEvents {
		media = "application/cloudevents+json"
	}
	want := http.Header{
		"Content-Type": {media}, "Content-Length": {strconv.Itoa(len(got.body))}, "User-Agent": {"triggerd/" + version},
		"Webhook-Id": {id}, "Webhook-Timestamp": {at}, "Webhook-Signature": {strings.Join(signatures, " ")},
	}
	for name, values := range sub.own {
		want[name] = values
	}
	header := got.header.Clone()
	header.Del("Traceparent") // of a trace, if there is one
	header.Del("Tracestate")
	if diff := cmp.Diff(want, header); diff != "" {
		t.Errorf("%s: headers (-want +got):\n%s", got.path, diff)
	}
}

// signed is what a signature is over.
func signed(h http.Header, body []byte) []byte {
	return slices.Concat([]byte(h.Get("Webhook-Id")+"."+h.Get("Webhook-Timestamp")+"."), body)
}

// signature is that of Standard Webhooks 1.0, "Signature scheme".
func signature(t *testing.T, shown string, message []byte) string {
	t.Helper()
	prefix, encoded, _ := strings.Cut(shown, "_")
	key, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		t.Fatal(err)
	}
	if prefix == "whsk" {
		return "v1a," + base64.StdEncoding.EncodeToString(ed25519.Sign(key, message))
	}
	mac := hmac.New(sha256.New, key)
	mac.Write(message)
	return "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// checkBody wants the payload's own bytes, in the frame of the format.
func checkBody(t *testing.T, f trigger.Format, got received, sent *trigger.Event) {
	t.Helper()
	id, eventType := got.header.Get("Webhook-Id"), strings.NewReplacer(`"`, `\"`, `\`, `\\`).Replace(sent.Type)
	begin, end := fmt.Sprintf(`{"id":"%s","type":"%s","timestamp":"`, id, eventType), fmt.Sprintf(`","data":%s}`, sent.Payload)
	switch f {
	case trigger.FormatCloudEvents:
		begin = `{"specversion":"1.0",`
	case trigger.FormatPayload:
		begin, end = string(sent.Payload), string(sent.Payload)
	}
	if body := string(got.body); !strings.HasPrefix(body, begin) || !strings.HasSuffix(body, end) ||
		f == trigger.FormatPayload && body != end {
		t.Errorf("%s: the body is %.200s, want the payload %.200s", got.path, got.body, sent.Payload)
	}
}
