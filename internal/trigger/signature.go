package trigger

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"log/slog"
	"strconv"
	"strings"
	"time"
)

// Secret signs a webhook's deliveries: 24–64 random bytes, shown as "whsec_"
// and their base64 (Standard Webhooks 1.0, "Signature scheme").
type Secret []byte

const secretPrefix = "whsec_"

// NewSecret makes a secret from 256 random bits.
func NewSecret(random [32]byte) Secret { return random[:] }

// Reveal gives the secret as its owner gets to see it, once.
func (s Secret) Reveal() string { return secretPrefix + base64.StdEncoding.EncodeToString(s) }

// String, and the three below, keep the secret out of logs and messages.
func (s Secret) String() string { return "whsec_[redacted]" }

// GoString is String, for %#v.
func (s Secret) GoString() string { return s.String() }

// LogValue is String, for slog.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalText is String, for what is written as JSON.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// ParseSecret reads the shown form. Invalid if it is none.
func ParseSecret(shown string) (Secret, error) {
	encoded, ok := strings.CutPrefix(shown, secretPrefix)
	raw, err := base64.StdEncoding.DecodeString(encoded)
	if !ok || err != nil || len(raw) < 24 || len(raw) > 64 {
		return nil, Errorf(Invalid, "a secret is whsec_ and the base64 of 24 to 64 bytes")
	}
	return raw, nil
}

// Sign makes the webhook-signature of one attempt: "v1," and the base64 of
// HMAC-SHA256 over id, timestamp (Unix seconds) and the very bytes of the
// body, with dots between.
func (s Secret) Sign(id string, at time.Time, body []byte) string {
	mac := hmac.New(sha256.New, s)
	mac.Write([]byte(id + "." + strconv.FormatInt(at.Unix(), 10) + "."))
	mac.Write(body)
	return "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
}
