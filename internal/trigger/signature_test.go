package trigger_test

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"pgregory.net/rapid"

	"triggerd/internal/trigger"
)

// The example of the Standard Webhooks documents.
const (
	exampleSecret    = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	exampleID        = "msg_p5jXN8AQM9LWM0D4loKWxJek"
	exampleTime      = 1614265330
	exampleBody      = `{"test": 2432232314}`
	exampleSignature = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
)

func parseSecret(t *testing.T, shown string) trigger.Secret {
	t.Helper()
	secret, err := trigger.ParseSecret(shown)
	if err != nil {
		t.Fatal(err)
	}
	return secret
}

func TestSignMakesTheDocumentedSignature(t *testing.T) {
	t.Parallel()
	secret := parseSecret(t, exampleSecret)
	at := time.Unix(exampleTime, 999_999_999)
	if got := secret.Sign(exampleID, at, []byte(exampleBody)); got != exampleSignature {
		t.Errorf("Sign() = %s, want %s", got, exampleSignature)
	}
}

// verify asks the receivers' library, which knows the secret as it is shown
// to its owner.
func verify(secret trigger.Secret, id string, at time.Time, body []byte, signature string) error {
	receiver, err := standardwebhooks.NewWebhook(secret.Reveal())
	if err != nil {
		return err
	}
	header := http.Header{}
	header.Set(standardwebhooks.HeaderWebhookID, id)
	header.Set(standardwebhooks.HeaderWebhookTimestamp, strconv.FormatInt(at.Unix(), 10))
	header.Set(standardwebhooks.HeaderWebhookSignature, signature)
	return receiver.VerifyIgnoringTimestamp(body, header)
}

func drawSecret(t *rapid.T, name string) trigger.Secret {
	return rapid.SliceOfN(rapid.Byte(), 24, 64).Draw(t, name)
}

func TestReceiversVerifySignatures(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		secret, other := drawSecret(t, "secret"), drawSecret(t, "other secret")
		eventID, _ := drawID(t, 1_700_000_000_000_000, "id")
		id, at := eventID.String(), time.Unix(rapid.Int64Range(1, 1<<40).Draw(t, "at"), 0)
		body := rapid.SliceOfN(rapid.Byte(), 1, 200).Draw(t, "body")
		signature := secret.Sign(id, at, body)
		if err := verify(secret, id, at, body, signature); err != nil {
			t.Fatal(err)
		}
		changed := bytes.Clone(body)
		changed[rapid.IntRange(0, len(body)-1).Draw(t, "changed")] ^= rapid.ByteRange(1, 255).Draw(t, "by")
		forged := map[string]error{
			"another body":    verify(secret, id, at, changed, signature),
			"a shorter body":  verify(secret, id, at, body[1:], signature),
			"a longer body":   verify(secret, id, at, append(changed[:0:0], append(body, ' ')...), signature),
			"another id":      verify(secret, id+"0", at, body, signature),
			"a later time":    verify(secret, id, at.Add(time.Second), body, signature),
			"an earlier time": verify(secret, id, at.Add(-time.Second), body, signature),
		}
		if !bytes.Equal(secret, other) {
			forged["another secret"] = verify(other, id, at, body, signature)
		}
		for what, err := range forged {
			if err == nil {
				t.Fatalf("the library takes the signature for %s", what)
			}
		}
	})
}

func TestSecretRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		secret := drawSecret(t, "secret")
		got, err := trigger.ParseSecret(secret.Reveal())
		if err != nil || !bytes.Equal(got, secret) {
			t.Fatalf("ParseSecret(%s) = %x, %v", secret.Reveal(), []byte(got), err)
		}
		random := [32]byte(rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "random"))
		if got := trigger.NewSecret(random); !bytes.Equal(got, random[:]) {
			t.Fatalf("NewSecret(%x) = %x", random, []byte(got))
		}
	})
}

func TestParseSecret(t *testing.T) {
	t.Parallel()
	encode := func(n int) string { return base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{0xfb}, n)) }
	tests := []struct {
		name, shown string
		valid       bool
	}{
		{"example", exampleSecret, true},
		{"23 bytes", "whsec_" + encode(23), false},
		{"24 bytes", "whsec_" + encode(24), true},
		{"64 bytes", "whsec_" + encode(64), true},
		{"65 bytes", "whsec_" + encode(65), false},
		{"empty", "", false},
		{"prefix only", "whsec_", false},
		{"no prefix", encode(32), false},
		{"other prefix", "WHSEC_" + encode(32), false},
		{"no padding", "whsec_" + strings.TrimRight(encode(32), "="), false},
		{"URL alphabet", "whsec_" + strings.ReplaceAll(encode(32), "+", "-"), false},
		{"space before", " whsec_" + encode(32), false},
		{"redacted", trigger.NewSecret([32]byte{}).String(), false},
	}
	for _, tt := range tests {
		_, err := trigger.ParseSecret(tt.shown)
		wantValid(t, tt.name, err, tt.valid)
		if err != nil && len(tt.shown) > 6 && strings.Contains(err.Error(), tt.shown) {
			t.Errorf("%s: the error %q shows what was given", tt.name, err)
		}
	}
}

func FuzzParseSecret(f *testing.F) {
	f.Add(exampleSecret)
	f.Add("whsec_")
	f.Add("whsec_" + strings.Repeat("A", 43) + "=")
	f.Fuzz(func(t *testing.T, shown string) {
		secret, err := trigger.ParseSecret(shown)
		if err != nil {
			wantValid(t, shown, err, false)
			return
		}
		if len(secret) < 24 || len(secret) > 64 || !strings.HasPrefix(shown, "whsec_") {
			t.Errorf("ParseSecret(%q) has %d bytes", shown, len(secret))
		}
		if again, err := trigger.ParseSecret(secret.Reveal()); err != nil || !bytes.Equal(again, secret) {
			t.Errorf("ParseSecret(%q) is another after Reveal: %v", shown, err)
		}
	})
}

func TestSecretIsRedacted(t *testing.T) {
	t.Parallel()
	secret := parseSecret(t, exampleSecret)
	webhook := trigger.Webhook{ID: 1, Secret: secret}
	var logged strings.Builder
	for _, handler := range []slog.Handler{
		slog.NewTextHandler(&logged, nil),
		slog.NewJSONHandler(&logged, nil),
	} {
		slog.New(handler).Info("m", "secret", secret)
		slog.New(handler).With("secret", secret).Info(fmt.Sprint("m ", secret))
	}
	slog.New(slog.NewTextHandler(&logged, nil)).Info("m", "webhook", webhook)
	shown := map[string]string{
		"%v within": fmt.Sprintf("%v %+v", webhook, &webhook),
		"%v slice":  fmt.Sprintf("%v", []trigger.Secret{secret}),
		"error":     fmt.Errorf("with %v", secret).Error(),
		"slog":      logged.String(),
	}
	for _, verb := range []string{"%v", "%+v", "%s", "%q", "%x"} {
		shown[verb] = fmt.Sprintf(verb, secret)
	}
	for how, got := range shown {
		for name, form := range map[string]string{
			"base64":  exampleSecret[len("whsec_"):],
			"raw":     string(secret),
			"hex":     fmt.Sprintf("%x", []byte(secret)),
			"decimal": strings.Trim(fmt.Sprint([]byte(secret)), "[]"),
		} {
			if strings.Contains(got, form) {
				t.Errorf("%s shows the secret as %s: %s", how, name, got)
			}
		}
		redacted := fmt.Sprintf("%x", "whsec_[redacted]")
		if !strings.Contains(got, "whsec_[redacted]") && got != redacted {
			t.Errorf("%s gives %s, want it redacted", how, got)
		}
	}
}
