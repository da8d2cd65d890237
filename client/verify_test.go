package client

import (
	"encoding/base64"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"pgregory.net/rapid"
)

// The example of the Standard Webhooks documents, and the pair of keys in
// those of Svix, whose tests sign the same message with it.
const (
	exampleSecret     = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	exampleID         = "msg_p5jXN8AQM9LWM0D4loKWxJek"
	exampleTime       = 1614265330
	exampleBody       = `{"test": 2432232314}`
	exampleSignature  = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
	examplePrivate    = "whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg=="
	exampleSeed       = "whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbc="
	examplePublic     = "whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4="
	exampleSignature2 = "v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAg=="
)

func secret(raw []byte) string { return "whsec_" + base64.StdEncoding.EncodeToString(raw) }

// verifierAt takes secrets, and a time as now.
func verifierAt(t testing.TB, unix int64, secrets ...string) *Verifier {
	t.Helper()
	v, err := NewVerifier(secrets...)
	if err != nil {
		t.Fatal(err)
	}
	v.now = func() time.Time { return time.Unix(unix, 500_000_000) }
	return v
}

func headers(id, timestamp, signature string) http.Header {
	h := http.Header{}
	h.Set("webhook-id", id)
	h.Set("webhook-timestamp", timestamp)
	h.Set("webhook-signature", signature)
	return h
}

func TestSignMakesTheDocumentedSignatures(t *testing.T) {
	t.Parallel()
	for secret, want := range map[string]string{exampleSecret: exampleSignature, examplePrivate: exampleSignature2, exampleSeed: exampleSignature2} {
		got, err := Sign(secret, exampleID, time.Unix(exampleTime, 999_999_999), []byte(exampleBody))
		diff(t, secret, got, want)
		diff(t, secret, err, nil)
	}
}

func TestWrongSecrets(t *testing.T) {
	t.Parallel()
	other := "whsk_" + base64.StdEncoding.EncodeToString(make([]byte, 64)) // the public half is not its own
	for _, wrong := range []string{
		"", "whsec_", "whsk_", "whpk_", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", secret(make([]byte, 23)), secret(make([]byte, 65)), "whsec_" + strings.Repeat("=", 40),
		examplePublic + "AAAA", "whpk_!", examplePrivate[:50], other,
	} {
		if _, err := Sign(wrong, "id", time.Unix(0, 0), nil); err == nil {
			t.Errorf("%q signs", wrong)
		}
		if _, err := NewVerifier(exampleSecret, wrong); err == nil {
			t.Errorf("%q verifies", wrong)
		}
	}
	if _, err := Sign(examplePublic, "id", time.Unix(0, 0), nil); err == nil {
		t.Error("a public key signs")
	}
	if _, err := NewVerifier(examplePrivate); err == nil {
		t.Error("a private key verifies")
	}
	if _, err := NewVerifier(); err == nil {
		t.Error("nothing verifies")
	}
	if _, err := NewVerifier(secret(make([]byte, 24)), secret(make([]byte, 64))); err != nil {
		t.Error(err)
	}
}

func TestVerify(t *testing.T) {
	t.Parallel()
	const now = "1614265330"
	bad := "v1," + base64.StdEncoding.EncodeToString(make([]byte, 32))
	both := []string{exampleSecret, examplePublic}
	tests := []struct {
		name                   string
		secrets                []string
		id, timestamp, of, sig string // of is the body
		want                   error
	}{
		{"symmetric", both[:1], exampleID, now, exampleBody, exampleSignature, nil},
		{"ed25519", both[1:], exampleID, now, exampleBody, exampleSignature2, nil},
		{"either", both, exampleID, now, exampleBody, exampleSignature2, nil},
		{"the last of several", both[:1], exampleID, now, exampleBody, bad + " v9,x nonsense " + exampleSignature2 + " " + exampleSignature, nil},
		{"an old secret", []string{secret(make([]byte, 32)), exampleSecret}, exampleID, now, exampleBody, exampleSignature, nil},
		{"another secret", []string{secret(make([]byte, 32))}, exampleID, now, exampleBody, exampleSignature, ErrBadSignature},
		{"only the other kind", both[1:], exampleID, now, exampleBody, exampleSignature, ErrBadSignature},
		{"confused kinds", both, exampleID, now, exampleBody, "v1a" + exampleSignature[2:] + " v1" + exampleSignature2[3:], ErrBadSignature},
		{"no version", both, exampleID, now, exampleBody, exampleSignature[3:], ErrBadSignature},
		{"cut short", both, exampleID, now, exampleBody, exampleSignature[:20], ErrBadSignature},
		{"empty one", both, exampleID, now, exampleBody, "v1, v1a, ,", ErrBadSignature},
		{"too many", both, exampleID, now, exampleBody, strings.Repeat(bad+" ", maxSignatures) + exampleSignature, ErrBadSignature},
		{"as many as may be", both, exampleID, now, exampleBody, strings.Repeat(bad+" ", maxSignatures-1) + exampleSignature, nil},
		{"another body", both, exampleID, now, exampleBody + " ", exampleSignature, ErrBadSignature},
		{"another id", both, exampleID + "x", now, exampleBody, exampleSignature, ErrBadSignature},
		{"another time", both, exampleID, "1614265331", exampleBody, exampleSignature, ErrBadSignature},
		{"no id", both, "", now, exampleBody, exampleSignature, ErrMissingHeaders},
		{"no time", both, exampleID, "", exampleBody, exampleSignature, ErrMissingHeaders},
		{"no signature", both, exampleID, now, exampleBody, "", ErrMissingHeaders},
		{"a date", both, exampleID, "2021-02-25T15:02:10Z", exampleBody, exampleSignature, ErrMissingHeaders},
		{"with a sign", both, exampleID, "+" + now, exampleBody, exampleSignature, ErrMissingHeaders},
		{"with a zero", both, exampleID, "0" + now, exampleBody, exampleSignature, ErrMissingHeaders},
		{"huge", both, exampleID, "99999999999999999999", exampleBody, exampleSignature, ErrMissingHeaders},
		{"far", both, exampleID, "9223372036854775807", exampleBody, exampleSignature, ErrTooNew},
		{"before 1970", both, exampleID, "-1", exampleBody, exampleSignature, ErrMissingHeaders},
		{"long ago", both, exampleID, "0", exampleBody, exampleSignature, ErrTooOld},
		{"no digits alone", both, exampleID, now + ".0", exampleBody, exampleSignature, ErrMissingHeaders},
		{"digits of elsewhere", both, exampleID, "١٦١٤٢٦٥٣٣٠", exampleBody, exampleSignature, ErrMissingHeaders},
		{"a dot in the id", both, "a.b", now, exampleBody, exampleSignature, ErrMissingHeaders},
		{"a dot as the id", both, ".", now, exampleBody, exampleSignature, ErrMissingHeaders},
	}
	for _, tt := range tests {
		v := verifierAt(t, exampleTime, tt.secrets...)
		diff(t, tt.name, v.Verify(headers(tt.id, tt.timestamp, tt.sig), []byte(tt.of)), tt.want)
	}
	diff(t, "no headers", verifierAt(t, exampleTime, both...).Verify(nil, nil), ErrMissingHeaders)
}

func TestTolerance(t *testing.T) {
	t.Parallel()
	for late, want := range map[int64]error{-301: ErrTooNew, -300: nil, 0: nil, 300: nil, 301: ErrTooOld} {
		v := verifierAt(t, exampleTime+late, exampleSecret)
		diff(t, strconv.FormatInt(late, 10), v.Verify(headers(exampleID, "1614265330", exampleSignature), []byte(exampleBody)), want)
	}
}

// A payload that begins like a timestamp must not make an old signature young:
// what was signed as id.old.young.rest is no delivery of the id id.old.
func TestOldSignatureStaysOld(t *testing.T) {
	t.Parallel()
	const old, young = exampleTime - 3*3600, exampleTime
	body := strconv.Itoa(young) + ".25" // a number is a payload
	signature, err := Sign(exampleSecret, exampleID, time.Unix(old, 0), []byte(body))
	diff(t, "sign", err, nil)
	v := verifierAt(t, exampleTime, exampleSecret)
	diff(t, "as it came", v.Verify(headers(exampleID, strconv.Itoa(old), signature), []byte(body)), ErrTooOld)
	h := headers(exampleID+"."+strconv.Itoa(old), strconv.Itoa(young), signature)
	diff(t, "as another", v.Verify(h, []byte("25")), ErrMissingHeaders)
}

// What two readers of one header could read in two ways is refused.
func TestHeadersThatAreThereTwice(t *testing.T) {
	t.Parallel()
	v := verifierAt(t, exampleTime, exampleSecret)
	for _, name := range []string{HeaderID, HeaderTimestamp} {
		h := headers(exampleID, "1614265330", exampleSignature)
		h.Add(name, "1")
		diff(t, name, v.Verify(h, []byte(exampleBody)), ErrMissingHeaders)
	}
}

func TestSignRefuses(t *testing.T) {
	t.Parallel()
	for _, id := range []string{"", ".", "a.1614265330", "a."} {
		if got, err := Sign(exampleSecret, id, time.Unix(exampleTime, 0), nil); err == nil || !strings.Contains(err.Error(), strconv.Quote(id)) {
			t.Errorf("%q is signed as %s: %v", id, got, err)
		}
	}
	if got, err := Sign(exampleSecret, "id", time.Unix(-1, 0), nil); err == nil {
		t.Errorf("a time before 1970 is signed as %s", got)
	}
}

// accepted lists the deliveries that one signature, of content, is good for,
// each at its own time: every id, timestamp and body that content can be cut
// into.
func accepted(t testing.TB, content []byte) (ids []string) {
	t.Helper()
	key, err := symmetricKey(exampleSecret)
	if err != nil {
		t.Fatal(err)
	}
	signature := "v1," + base64.StdEncoding.EncodeToString(digest(key, content))
	for i, first := range content {
		if first != '.' {
			continue
		}
		for j := i + 1; j < len(content); j++ {
			if content[j] != '.' {
				continue
			}
			id, timestamp, body := string(content[:i]), string(content[i+1:j]), content[j+1:]
			at, _ := strconv.ParseInt(timestamp, 10, 64) // whatever is no time is refused
			if verifierAt(t, at, exampleSecret).Verify(headers(id, timestamp, signature), body) == nil {
				ids = append(ids, id+" "+timestamp)
			}
		}
	}
	return ids
}

// No signature is good for two deliveries.
func TestOneSignatureIsOfOneDelivery(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		content := []byte(rapid.StringMatching(`[a.0-9]{0,4}\.[0-9]{1,3}\.[a.0-9]{0,12}`).Draw(rt, "content"))
		if ids := accepted(t, content); len(ids) > 1 {
			rt.Fatalf("%q is taken as %q", content, ids)
		}
	})
}

func FuzzOneSignatureIsOfOneDelivery(f *testing.F) {
	f.Add([]byte("a.1.2.b"))
	f.Add([]byte("a..1.2."))
	f.Add([]byte(exampleID + ".1614265330." + exampleBody))
	f.Fuzz(func(t *testing.T, content []byte) {
		if len(content) > 200 {
			return // each cut costs
		}
		if ids := accepted(t, content); len(ids) > 1 {
			t.Errorf("%q is taken as %q", content, ids)
		}
	})
}

// By the real clock, and by the official library.
func TestVerifyNow(t *testing.T) {
	t.Parallel()
	now := time.Now()
	signature, err := Sign(exampleSecret, "id", now, []byte("{}"))
	if err != nil {
		t.Fatal(err)
	}
	v, err := NewVerifier(exampleSecret)
	if err != nil {
		t.Fatal(err)
	}
	h := headers("id", strconv.FormatInt(now.Unix(), 10), signature)
	diff(t, "ours", v.Verify(h, []byte("{}")), nil)
	official, err := standardwebhooks.NewWebhook(exampleSecret)
	if err != nil {
		t.Fatal(err)
	}
	diff(t, "the official one", official.Verify([]byte("{}"), h), nil)
}

// What is signed is genuine, and nothing that differs from it is.
func TestSignAndVerifyAgree(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		raw := rapid.SliceOfN(rapid.Byte(), 24, 64).Draw(rt, "secret")
		id := rapid.StringMatching(`[!-\-/-~]{1,40}`).Draw(rt, "id") // no dot
		body := rapid.SliceOf(rapid.Byte()).Draw(rt, "body")
		unix := rapid.Int64Range(0, 1<<40).Draw(rt, "time")
		signing, verifying := secret(raw), secret(raw)
		if rapid.Bool().Draw(rt, "ed25519") {
			signing, verifying = examplePrivate, examplePublic
		}
		signature, err := Sign(signing, id, time.Unix(unix, 0), body)
		if err != nil {
			rt.Fatal(err)
		}
		v := verifierAt(t, unix, verifying, secret(make([]byte, 32)))
		h := headers(id, strconv.FormatInt(unix, 10), signature)
		if err := v.Verify(h, body); err != nil {
			rt.Fatal(err)
		}
		at := rapid.IntRange(0, len(body)).Draw(rt, "place")
		if err := v.Verify(h, append(body[:at:at], append([]byte("x"), body[at:]...)...)); !errors.Is(err, ErrBadSignature) {
			rt.Errorf("a byte more: %v", err)
		}
		h.Set(HeaderID, id+"x")
		if err := v.Verify(h, body); !errors.Is(err, ErrBadSignature) {
			rt.Errorf("another id: %v", err)
		}
		official, _ := standardwebhooks.NewWebhookRaw(raw)
		if want, _ := official.Sign(id, time.Unix(unix, 0), body); signing != examplePrivate && want != signature {
			rt.Errorf("signed %s, the official library %s", signature, want)
		}
	})
}

// Verify refuses whatever was not signed, whatever its headers are, and takes
// what the official library takes.
func FuzzVerify(f *testing.F) {
	f.Add(exampleID, "1614265330", exampleSignature, []byte(exampleBody))
	f.Add(exampleID, "1614265330", exampleSignature2+" "+exampleSignature, []byte(exampleBody))
	f.Add(exampleID, "1614265330", "v1, v1a, ,,", []byte(exampleBody))
	f.Add("", "-1", "v1a,AAAA v1,AAAA", []byte(nil))
	official, err := standardwebhooks.NewWebhook(exampleSecret)
	if err != nil {
		f.Fatal(err)
	}
	v := verifierAt(f, exampleTime, exampleSecret, examplePublic)
	f.Fuzz(func(t *testing.T, id, timestamp, signature string, body []byte) {
		h := headers(id, timestamp, signature)
		got := v.Verify(h, body) == nil
		if genuine := id == exampleID && timestamp == "1614265330" && string(body) == exampleBody; got && !genuine {
			t.Errorf("%q is taken", h)
		}
		few := len(strings.Fields(signature)) < maxSignatures
		plain := timestamp == "1614265330" && few && !strings.ContainsAny(signature, "\t\n\v\f\r\u0085\u00a0")
		if plain && official.VerifyIgnoringTimestamp(body, h) == nil && !got {
			t.Errorf("%q is refused", h)
		}
	})
}
