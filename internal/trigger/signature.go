package trigger

import (
	"bytes"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"log/slog"
	"strconv"
	"strings"
	"time"
)

// Secret signs a webhook's deliveries (Standard Webhooks 1.0, "Signature
// scheme"). It is either symmetric, 24–64 random bytes known to both sides and
// written as "whsec_" and their base64, or an ed25519 private key, written as
// "whsk_", whose receiver knows the public key, "whpk_".
type Secret struct {
	key     []byte // of HMAC-SHA256, or the private key of ed25519
	ed25519 bool
}

const (
	symmetricPrefix = "whsec_"
	privatePrefix   = "whsk_"
	publicPrefix    = "whpk_"
)

// NewSecret returns a symmetric secret of 256 random bits.
func NewSecret(random [32]byte) Secret { return Secret{key: random[:]} }

// NewKeyPair returns an ed25519 secret of 256 random bits.
func NewKeyPair(random [32]byte) Secret {
	return Secret{key: ed25519.NewKeyFromSeed(random[:]), ed25519: true}
}

// StoredSecret returns a symmetric secret with the given bytes. Programs before
// schema 3 store secrets so.
func StoredSecret(key []byte) Secret { return Secret{key: key} }

// Stored returns the bytes that StoredSecret takes, nil for an ed25519 secret.
func (s Secret) Stored() []byte {
	if s.ed25519 {
		return nil
	}
	return s.key
}

// IsZero reports whether the secret is empty.
func (s Secret) IsZero() bool { return len(s.key) == 0 }

// Reveal returns the secret as it is shown to its owner, once.
func (s Secret) Reveal() string {
	if s.ed25519 {
		return privatePrefix + base64.StdEncoding.EncodeToString(s.key)
	}
	return symmetricPrefix + base64.StdEncoding.EncodeToString(s.key)
}

// Public returns the public key by which the receiver verifies an ed25519
// signature; "" for a symmetric secret.
func (s Secret) Public() string {
	if !s.ed25519 {
		return ""
	}
	return publicPrefix + base64.StdEncoding.EncodeToString(s.key[ed25519.PrivateKeySize-ed25519.PublicKeySize:])
}

// String returns a text without the secret, for logs and messages.
func (s Secret) String() string {
	if s.ed25519 {
		return privatePrefix + "[redacted]"
	}
	return symmetricPrefix + "[redacted]"
}

// GoString returns String, for %#v.
func (s Secret) GoString() string { return s.String() }

// LogValue returns String, for slog.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalText returns String, for JSON.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// ParseSecret reads what Reveal returns, or a private key by its seed alone.
// Other texts are Invalid.
func ParseSecret(shown string) (Secret, error) {
	if encoded, ok := strings.CutPrefix(shown, symmetricPrefix); ok {
		raw, err := base64.StdEncoding.DecodeString(encoded)
		if err == nil && len(raw) >= 24 && len(raw) <= 64 {
			return Secret{key: raw}, nil
		}
		return Secret{}, Errorf(Invalid, "a secret must be whsec_ followed by the base64 of 24 to 64 bytes")
	}
	encoded, ok := strings.CutPrefix(shown, privatePrefix)
	raw, err := base64.StdEncoding.DecodeString(encoded)
	if !ok || err != nil {
		return Secret{}, Errorf(Invalid, "a secret must be whsec_ or whsk_ followed by base64")
	}
	if len(raw) == ed25519.SeedSize {
		return Secret{ed25519.NewKeyFromSeed(raw), true}, nil
	}
	if len(raw) == ed25519.PrivateKeySize && string(ed25519.NewKeyFromSeed(raw[:ed25519.SeedSize])) == string(raw) {
		return Secret{raw, true}, nil
	}
	return Secret{}, Errorf(Invalid, "a private key must be whsk_ followed by the base64 of an ed25519 seed, or of the seed and the public key")
}

// Sign returns the webhook-signature of one attempt over the id, the timestamp
// (Unix seconds) and the bytes of the body, separated by dots: "v1," and the
// base64 of HMAC-SHA256, or "v1a," and the base64 of an ed25519 signature. It
// returns "" for an id with a dot or a time before 1970, because the signature
// would also be valid with a part of the body as the timestamp.
func (s Secret) Sign(id string, at time.Time, body []byte) string {
	if id == "" || strings.Contains(id, ".") || at.Unix() < 0 {
		return ""
	}
	head := id + "." + strconv.FormatInt(at.Unix(), 10) + "."
	if s.ed25519 {
		return "v1a," + base64.StdEncoding.EncodeToString(ed25519.Sign(s.key, append([]byte(head), body...)))
	}
	mac := hmac.New(sha256.New, s.key)
	mac.Write([]byte(head))
	mac.Write(body)
	return "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// IssuedSecret is a secret of a webhook and the time until which it signs.
type IssuedSecret struct {
	Secret
	Until time.Time // zero: until it is rotated
}

// Secrets are the secrets of a webhook, the newest first.
type Secrets []IssuedSecret

// DefaultOverlap is how long an old secret signs together with the next one;
// MaxOverlap is the largest value.
const (
	DefaultOverlap = 24 * time.Hour
	MaxOverlap     = 30 * 24 * time.Hour
)

// maxSecrets is how many secrets sign at the same time. More rotations within an
// overlap end the oldest ones early, to bound the header.
const maxSecrets = 5

// Valid returns the secrets that sign at a time.
func (s Secrets) Valid(at time.Time) (valid Secrets) {
	for _, secret := range s {
		if secret.Until.IsZero() || secret.Until.After(at) {
			valid = append(valid, secret)
		}
	}
	return valid
}

// FirstEnd returns the earliest end of a secret, or zero if none ends.
func (s Secrets) FirstEnd() (first time.Time) {
	for _, secret := range s {
		if !secret.Until.IsZero() && (first.IsZero() || secret.Until.Before(first)) {
			first = secret.Until
		}
	}
	return first
}

// OneSecret returns the Secrets of a new webhook.
func OneSecret(s Secret) Secrets { return Secrets{{Secret: s}} }

// Rotate returns the secrets with a new one in front. The others sign for the
// overlap, or for the rest of their own. A secret that exists already moves to
// the front, so a rotation may be repeated.
func (s Secrets) Rotate(next Secret, now time.Time, overlap time.Duration) Secrets {
	rotated := s.rotated(next, now, overlap)
	return rotated[:min(len(rotated), maxSecrets)]
}

// PushesOut reports whether a rotation would end a secret before its overlap
// ends, because there are too many.
func (s Secrets) PushesOut(next Secret, now time.Time, overlap time.Duration) bool {
	return len(s.rotated(next, now, overlap)) > maxSecrets
}

// rotated is Rotate without the limit of secrets.
func (s Secrets) rotated(next Secret, now time.Time, overlap time.Duration) Secrets {
	until := now.Add(overlap)
	rotated := Secrets{{Secret: next}}
	for _, old := range s {
		if old.ed25519 == next.ed25519 && bytes.Equal(old.key, next.key) {
			continue
		}
		if old.Until.IsZero() || old.Until.After(until) {
			old.Until = until
		}
		if old.Until.After(now) {
			rotated = append(rotated, old)
		}
	}
	return rotated
}

// Sign returns the webhook-signature of one attempt to deliver an event: the
// signatures of all secrets that are valid then, separated by spaces.
func (s Secrets) Sign(event ID, at time.Time, body []byte) string {
	id := event.String() // has no dot
	var signatures []string
	for _, secret := range s.Valid(at) {
		signatures = append(signatures, secret.Sign(id, at, body))
	}
	return strings.Join(signatures, " ")
}
