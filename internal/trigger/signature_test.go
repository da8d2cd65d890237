package trigger_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"pgregory.net/rapid"

	"triggerd/internal/trigger"
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
	examplePublic     = "whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4="
	exampleSignature2 = "v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAg=="
)

func parseSecret(t *testing.T, shown string) trigger.Secret {
	t.Helper()
	secret, err := trigger.ParseSecret(shown)
	if err != nil {
		t.Fatal(err)
	}
	return secret
}

// rawKey is what the shown form of a secret holds, "wh…_" and base64.
func rawKey(t testing.TB, shown string) []byte {
	t.Helper()
	_, encoded, _ := strings.Cut(shown, "_")
	raw, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		t.Fatalf("%s: %v", shown, err)
	}
	return raw
}

func encode(raw []byte) string { return base64.StdEncoding.EncodeToString(raw) }

func TestSignMakesTheDocumentedSignature(t *testing.T) {
	t.Parallel()
	at := time.Unix(exampleTime, 999_999_999)
	tests := []struct{ shown, public, want string }{
		{exampleSecret, "", exampleSignature},
		{examplePrivate, examplePublic, exampleSignature2},
	}
	for _, tt := range tests {
		secret := parseSecret(t, tt.shown)
		if got := secret.Sign(exampleID, at, []byte(exampleBody)); got != tt.want {
			t.Errorf("Sign() = %s, want %s", got, tt.want)
		}
		if got := secret.Public(); got != tt.public {
			t.Errorf("Public() = %s, want %s", got, tt.public)
		}
	}
}

// verify is a receiver's: it knows the secret as it is shown to its owner, or
// the public key. HMAC is left to the receivers' library, which knows no
// ed25519.
func verify(secret trigger.Secret, id string, at time.Time, body []byte, signature string) error {
	header := http.Header{}
	header.Set(standardwebhooks.HeaderWebhookID, id)
	header.Set(standardwebhooks.HeaderWebhookTimestamp, strconv.FormatInt(at.Unix(), 10))
	header.Set(standardwebhooks.HeaderWebhookSignature, signature)
	encoded, ok := strings.CutPrefix(secret.Public(), "whpk_")
	if !ok {
		receiver, err := standardwebhooks.NewWebhook(secret.Reveal())
		if err != nil {
			return err
		}
		return receiver.VerifyIgnoringTimestamp(body, header)
	}
	public, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		return err
	}
	signed := []byte(id + "." + strconv.FormatInt(at.Unix(), 10) + "." + string(body))
	for part := range strings.SplitSeq(signature, " ") {
		version, encoded, _ := strings.Cut(part, ",")
		raw, err := base64.StdEncoding.DecodeString(encoded)
		if version == "v1a" && err == nil && ed25519.Verify(public, signed, raw) {
			return nil
		}
	}
	return errors.New("no signature of this key")
}

func draw32(t *rapid.T, name string) [32]byte {
	return [32]byte(rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, name))
}

func drawSecret(t *rapid.T, name string) trigger.Secret {
	if rapid.Bool().Draw(t, name+" is a pair of keys") {
		return trigger.NewKeyPair(draw32(t, name))
	}
	secret, err := trigger.ParseSecret("whsec_" + encode(rapid.SliceOfN(rapid.Byte(), 24, 64).Draw(t, name)))
	if err != nil {
		t.Fatal(err)
	}
	return secret
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
		if secret.Reveal() != other.Reveal() {
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
		if err != nil || got.Reveal() != secret.Reveal() || got.Public() != secret.Public() || got.IsZero() {
			t.Fatalf("ParseSecret(%s) = %s, %v", secret.Reveal(), got.Reveal(), err)
		}
	})
}

func TestNewSecret(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		random := draw32(t, "random")
		secret, pair := trigger.NewSecret(random), trigger.NewKeyPair(random)
		if got, want := secret.Reveal(), "whsec_"+encode(random[:]); got != want || secret.Public() != "" {
			t.Fatalf("NewSecret(%x) is %s with public key %q", random, got, secret.Public())
		}
		key := ed25519.NewKeyFromSeed(random[:])
		if got, want := pair.Reveal(), "whsk_"+encode(key); got != want {
			t.Fatalf("NewKeyPair(%x) is %s, want %s", random, got, want)
		}
		if got, want := pair.Public(), "whpk_"+encode(key.Public().(ed25519.PublicKey)); got != want {
			t.Fatalf("NewKeyPair(%x) has the public key %s, want %s", random, got, want)
		}
		seed, err := trigger.ParseSecret("whsk_" + encode(random[:]))
		if err != nil || seed.Reveal() != pair.Reveal() {
			t.Fatalf("the seed alone is another key: %v", err)
		}
	})
}

func TestZeroSecret(t *testing.T) {
	t.Parallel()
	var zero trigger.Secret
	if !zero.IsZero() || zero.Public() != "" {
		t.Errorf("IsZero() = %v, Public() = %q", zero.IsZero(), zero.Public())
	}
	if trigger.NewSecret([32]byte{}).IsZero() || trigger.NewKeyPair([32]byte{}).IsZero() {
		t.Error("a secret of 32 zero bytes is none")
	}
}

func TestParseSecret(t *testing.T) {
	t.Parallel()
	bytesOf := func(n int) string { return encode(bytes.Repeat([]byte{0xfb}, n)) }
	key := rawKey(t, examplePrivate)
	changed := func(at int) string {
		other := bytes.Clone(key)
		other[at] ^= 1
		return "whsk_" + encode(other)
	}
	tests := []struct {
		name, shown string
		valid       bool
	}{
		{"example", exampleSecret, true},
		{"23 bytes", "whsec_" + bytesOf(23), false},
		{"24 bytes", "whsec_" + bytesOf(24), true},
		{"64 bytes", "whsec_" + bytesOf(64), true},
		{"65 bytes", "whsec_" + bytesOf(65), false},
		{"empty", "", false},
		{"prefix only", "whsec_", false},
		{"no prefix", bytesOf(32), false},
		{"other prefix", "WHSEC_" + bytesOf(32), false},
		{"unknown prefix", "whxx_" + bytesOf(32), false},
		{"no padding", "whsec_" + strings.TrimRight(bytesOf(32), "="), false},
		{"URL alphabet", "whsec_" + strings.ReplaceAll(bytesOf(32), "+", "-"), false},
		{"space before", " whsec_" + bytesOf(32), false},
		{"redacted", trigger.NewSecret([32]byte{}).String(), false},
		{"pair of keys", examplePrivate, true},
		{"seed", "whsk_" + encode(key[:32]), true},
		{"public key", examplePublic, false},
		{"public key as private", "whsk_" + encode(key[32:]), true}, // any 32 bytes are a seed
		{"public key as secret", "whsec_" + encode(key[32:]), true},
		{"pair as secret", "whsec_" + encode(key), true},
		{"first bit of the public half", changed(32), false},
		{"last bit of the public half", changed(63), false},
		{"a bit of the seed", changed(0), false},
		{"halves swapped", "whsk_" + encode(append(bytes.Clone(key[32:]), key[:32]...)), false},
		{"pair, other prefix", "WHSK_" + encode(key), false},
		{"pair without padding", strings.TrimRight(examplePrivate, "="), false},
		{"private prefix only", "whsk_", false},
		{"pair redacted", trigger.NewKeyPair([32]byte{}).String(), false},
	}
	for _, tt := range tests {
		secret, err := trigger.ParseSecret(tt.shown)
		wantValid(t, tt.name, err, tt.valid)
		if err != nil && !secret.IsZero() {
			t.Errorf("%s: a secret with an error", tt.name)
		}
		if err != nil && len(tt.shown) > 6 && strings.Contains(err.Error(), tt.shown) {
			t.Errorf("%s: the error %q shows what was given", tt.name, err)
		}
	}
	for n := range 100 {
		_, err := trigger.ParseSecret("whsk_" + encode(append(bytes.Clone(key), key...)[:n]))
		wantValid(t, "a private key of "+strconv.Itoa(n)+" bytes", err, n == 32 || n == 64)
	}
}

func FuzzParseSecret(f *testing.F) {
	f.Add(exampleSecret)
	f.Add(examplePrivate)
	f.Add(examplePublic)
	f.Add("whsec_")
	f.Add("whsec_" + strings.Repeat("A", 43) + "=")
	f.Add("whsk_" + strings.Repeat("A", 43) + "=")
	f.Add("whsk_" + strings.Repeat("A", 86) + "==")
	f.Fuzz(func(t *testing.T, shown string) {
		secret, err := trigger.ParseSecret(shown)
		if err != nil {
			wantValid(t, shown, err, false)
			return
		}
		again, err := trigger.ParseSecret(secret.Reveal())
		if err != nil || again.Reveal() != secret.Reveal() {
			t.Errorf("ParseSecret(%q) is another after Reveal: %v", shown, err)
		}
		raw := rawKey(t, secret.Reveal())
		if !bytes.HasPrefix(raw, rawKey(t, shown)) {
			t.Errorf("ParseSecret(%q) has the key %x", shown, raw)
		}
		if secret.Public() == "" {
			if len(raw) < 24 || len(raw) > 64 || !strings.HasPrefix(shown, "whsec_") {
				t.Errorf("ParseSecret(%q) has %d bytes", shown, len(raw))
			}
			return
		}
		if len(raw) != 64 || !strings.HasPrefix(shown, "whsk_") {
			t.Errorf("ParseSecret(%q) has a private key of %d bytes", shown, len(raw))
		}
		at := time.Unix(exampleTime, 0)
		if err := verify(secret, "id", at, nil, secret.Sign("id", at, nil)); err != nil {
			t.Errorf("ParseSecret(%q) signs what its public key does not verify: %v", shown, err)
		}
	})
}

// What is signed can be read in one way: no id that would carry the separator
// gets a signature, and no event has such an id.
func TestNoSignatureOfAnIDWithADot(t *testing.T) {
	t.Parallel()
	at := time.Unix(exampleTime, 0)
	for _, secret := range []trigger.Secret{trigger.NewSecret([32]byte{1}), trigger.NewKeyPair([32]byte{1})} {
		for _, id := range []string{"", ".", "a.b", "msg.1614265330", "a."} {
			if got := secret.Sign(id, at, nil); got != "" {
				t.Errorf("%q is signed as %s", id, got)
			}
		}
		if got := secret.Sign("id", time.Unix(-1, 0), nil); got != "" {
			t.Errorf("a time before 1970 is signed as %s", got)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		id := trigger.ID(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "id"))
		if strings.Contains(id.String(), ".") {
			t.Errorf("%v has a dot", id)
		}
	})
}
