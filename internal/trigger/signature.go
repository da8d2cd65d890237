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
// scheme"). It is symmetric, 24–64 random bytes that both sides know, shown as
// "whsec_" and their base64; or an ed25519 key, shown as "whsk_", whose
// receiver knows the public half, "whpk_". The zero Secret is none.
type Secret struct {
	key     []byte // of HMAC-SHA256, or the private key of ed25519
	ed25519 bool
}

const (
	symmetricPrefix = "whsec_"
	privatePrefix   = "whsk_"
	publicPrefix    = "whpk_"
)

// NewSecret makes a symmetric secret from 256 random bits.
func NewSecret(random [32]byte) Secret { return Secret{key: random[:]} }

// NewKeyPair makes an ed25519 secret from 256 random bits.
func NewKeyPair(random [32]byte) Secret {
	return Secret{key: ed25519.NewKeyFromSeed(random[:]), ed25519: true}
}

// StoredSecret is a symmetric secret by its bytes, as programs before schema 3
// keep it, and Stored gives them, nil for an ed25519 secret.
func StoredSecret(key []byte) Secret { return Secret{key: key} }

// Stored is what StoredSecret takes.
func (s Secret) Stored() []byte {
	if s.ed25519 {
		return nil
	}
	return s.key
}

// IsZero reports whether there is no secret.
func (s Secret) IsZero() bool { return len(s.key) == 0 }

// Reveal gives the secret as its owner gets to see it, once.
func (s Secret) Reveal() string {
	if s.ed25519 {
		return privatePrefix + base64.StdEncoding.EncodeToString(s.key)
	}
	return symmetricPrefix + base64.StdEncoding.EncodeToString(s.key)
}

// Public is what the receiver verifies an ed25519 signature with, which may be
// shown to anyone; "" for a symmetric secret.
func (s Secret) Public() string {
	if !s.ed25519 {
		return ""
	}
	return publicPrefix + base64.StdEncoding.EncodeToString(s.key[ed25519.PrivateKeySize-ed25519.PublicKeySize:])
}

// String, and the three below, keep the secret out of logs and messages.
func (s Secret) String() string {
	if s.ed25519 {
		return privatePrefix + "[redacted]"
	}
	return symmetricPrefix + "[redacted]"
}

// GoString is String, for %#v.
func (s Secret) GoString() string { return s.String() }

// LogValue is String, for slog.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalText is String, for what is written as JSON.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// ParseSecret reads what Reveal shows; a private key may be given by its seed
// alone. Invalid if it is no secret.
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

// Sign makes the webhook-signature of one attempt over id, timestamp (Unix
// seconds) and the very bytes of the body, with dots between: "v1," and the
// base64 of HMAC-SHA256, or "v1a," and that of ed25519. An id with a dot, or a
// time before 1970, gets no signature, "": it would be good for a part of the
// body as the timestamp, too.
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

// IssuedSecret is a secret of a webhook and for how long it signs.
type IssuedSecret struct {
	Secret
	Until time.Time // zero: until it is rotated
}

// Secrets are those of a webhook, the newest first.
type Secrets []IssuedSecret

// DefaultOverlap is for how long an old secret goes on signing beside the one
// that follows it; MaxOverlap is the longest it may.
const (
	DefaultOverlap = 24 * time.Hour
	MaxOverlap     = 30 * 24 * time.Hour
)

// maxSecrets is how many secrets sign at the same time; more rotations than
// that within an overlap end the oldest ones early, to bound the header.
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

// FirstEnd returns when the first of the secrets ends; zero if none does.
func (s Secrets) FirstEnd() (first time.Time) {
	for _, secret := range s {
		if !secret.Until.IsZero() && (first.IsZero() || secret.Until.Before(first)) {
			first = secret.Until
		}
	}
	return first
}

// OneSecret is a webhook's first.
func OneSecret(s Secret) Secrets { return Secrets{{Secret: s}} }

// Rotate puts a new secret before the others, which go on signing beside it
// for the overlap, or for what is left of their own. One that is there already
// comes to the front, so that a rotation may be repeated.
func (s Secrets) Rotate(next Secret, now time.Time, overlap time.Duration) Secrets {
	rotated := s.rotated(next, now, overlap)
	return rotated[:min(len(rotated), maxSecrets)]
}

// PushesOut reports whether a rotation would end a secret whose own overlap is not
// over, since there are too many.
func (s Secrets) PushesOut(next Secret, now time.Time, overlap time.Duration) bool {
	return len(s.rotated(next, now, overlap)) > maxSecrets
}

// rotated is Rotate, however many secrets that makes.
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

// Sign makes the webhook-signature of one attempt to deliver the event with the
// given id: those of all secrets that are valid then, with spaces between.
func (s Secrets) Sign(event ID, at time.Time, body []byte) string {
	id := event.String() // has no dot
	var signatures []string
	for _, secret := range s.Valid(at) {
		signatures = append(signatures, secret.Sign(id, at, body))
	}
	return strings.Join(signatures, " ")
}
