package trigger

import (
	"crypto/sha256"
	"encoding/binary"
	"hash/crc32"
	"math/big"
	"strings"
	"unicode/utf8"
)

// Organization is a tenant: everything else belongs to exactly one.
type Organization struct {
	ID      int64 // from 1, never used again
	Name    string
	Tier    Tier
	Version int64 // bumped by every change of its webhooks
}

// Tier is what an organization pays for; it decides its rate limit.
type Tier string

// The tiers.
const (
	Free         Tier = "free"
	Professional Tier = "professional"
	Enterprise   Tier = "enterprise"
)

// ParseTier reads a tier's name. Invalid if there is no such tier.
func ParseTier(s string) (Tier, error) {
	switch t := Tier(s); t {
	case Free, Professional, Enterprise:
		return t, nil
	}
	return "", Errorf(Invalid, "tier must be free, professional or enterprise")
}

// CheckName judges an organization's name: 1–255 bytes of valid UTF-8 without
// control characters. Invalid otherwise.
func CheckName(name string) error {
	return checkText("organization_name", name, MaxName)
}

// checkText judges a short text that people chose: 1–limit bytes, valid
// UTF-8, no control characters.
func checkText(what, s string, limit int) error {
	switch {
	case s == "":
		return Errorf(Invalid, "%s must not be empty", what)
	case len(s) > limit:
		return Errorf(Invalid, "%s is over %d bytes", what, limit)
	case !utf8.ValidString(s) || strings.ContainsFunc(s, isControl):
		return Errorf(Invalid, "%s must be UTF-8 without control characters", what)
	}
	return nil
}

func isControl(r rune) bool { return r < 0x20 || r >= 0x7f && r < 0xa0 }

// APIKey is a key of an organization as it is stored: its hash, never the key.
type APIKey struct {
	ID           int64
	Organization Organization
	Hash         [32]byte // SHA-256 of the key
	Prefix       string   // its first characters, to recognize it by
}

const (
	keyPrefix   = "sk_"
	keyDigits   = 43 // 256 bits in base 62
	keyChecksum = 6  // a CRC-32 in base 62
	keyLength   = len(keyPrefix) + keyDigits + keyChecksum
)

// NewAPIKey makes a key from 256 random bits: "sk_", 43 base-62 digits, and 6
// digits of checksum by which scanners, and [HashAPIKey], recognize a key.
func NewAPIKey(random [32]byte) string {
	digits := base62(new(big.Int).SetBytes(random[:]), keyDigits)
	return keyPrefix + digits + checksum(digits)
}

// HashAPIKey gives what a key is stored and looked up by. ok is false for a
// text that cannot be a key, which need not be looked up.
func HashAPIKey(key string) (hash [32]byte, ok bool) {
	if len(key) != keyLength || key[:len(keyPrefix)] != keyPrefix {
		return hash, false
	}
	digits, sum := key[len(keyPrefix):keyLength-keyChecksum], key[keyLength-keyChecksum:]
	if checksum(digits) != sum {
		return hash, false
	}
	return sha256.Sum256([]byte(key)), true
}

// KeyPrefix is the part of a key that may be shown again: 9 characters.
func KeyPrefix(key string) string { return key[:min(len(key), 9)] }

func checksum(digits string) string {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], crc32.ChecksumIEEE([]byte(digits)))
	return base62(new(big.Int).SetBytes(b[:]), keyChecksum)
}

func base62(n *big.Int, digits int) string {
	s := n.Text(62)
	return strings.Repeat("0", digits-len(s)) + s
}
