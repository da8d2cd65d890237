package client

import (
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

const (
	symmetricPrefix = "whsec_"
	privatePrefix   = "whsk_"
	publicPrefix    = "whpk_"
)

var (
	errSymmetric = errors.New("triggerd: a secret must be whsec_ and the base64 of 24 to 64 bytes")
	errPrivate   = errors.New("triggerd: a private key must be whsk_ and the base64 of an ed25519 seed, or of seed and public key")
	errPublic    = errors.New("triggerd: a public key must be whpk_ and the base64 of 32 bytes")
	errSign      = errors.New("triggerd: signing needs a whsec_ secret or a whsk_ private key")
	errVerify    = errors.New("triggerd: verifying needs a whsec_ secret or a whpk_ public key")
)

// Sign returns the webhook-signature of a delivery, as triggerd makes it
// (Standard Webhooks 1.0, "Signature scheme"). It signs the webhook-id, the
// webhook-timestamp, which is at in whole Unix seconds, and the unmodified
// bytes of the body. With a secret whsec_… it returns "v1," and HMAC-SHA256,
// with a private key whsk_… it returns "v1a," and ed25519, both in base64. It
// returns an error if the secret is neither, if the id is empty or has a dot,
// or if the time is before 1970, because receivers must reject these.
func Sign(secret, id string, at time.Time, body []byte) (string, error) {
	timestamp := strconv.FormatInt(at.Unix(), 10)
	if !signable(id, timestamp) {
		return "", fmt.Errorf("triggerd: a webhook-id must not be empty or have a dot, and a webhook-timestamp must be digits; got %.64q and %s", id, timestamp)
	}
	content := signed(id, timestamp, body)
	switch {
	case strings.HasPrefix(secret, symmetricPrefix):
		key, err := symmetricKey(secret)
		if err != nil {
			return "", err
		}
		return "v1," + base64.StdEncoding.EncodeToString(digest(key, content)), nil
	case strings.HasPrefix(secret, privatePrefix):
		key, err := privateKey(secret)
		if err != nil {
			return "", err
		}
		return "v1a," + base64.StdEncoding.EncodeToString(ed25519.Sign(key, content)), nil
	}
	return "", errSign
}

// signable reports whether the signed content can be parsed in only one way:
// the id ends at the first dot, and the timestamp, which is plain digits, at
// the second.
func signable(id, timestamp string) bool {
	digits := timestamp != "" && strings.Trim(timestamp, "0123456789") == "" && (timestamp[0] != '0' || timestamp == "0")
	return digits && id != "" && !strings.Contains(id, ".")
}

// signed returns the content that a signature covers. Its parts must be
// signable.
func signed(id, timestamp string, body []byte) []byte {
	return append([]byte(id+"."+timestamp+"."), body...)
}

func digest(key, content []byte) []byte {
	mac := hmac.New(sha256.New, key)
	mac.Write(content)
	return mac.Sum(nil)
}

// symmetricKey parses a whsec_….
func symmetricKey(secret string) ([]byte, error) {
	raw, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, symmetricPrefix))
	if err != nil || len(raw) < 24 || len(raw) > 64 {
		return nil, errSymmetric
	}
	return raw, nil
}

// privateKey parses a whsk_….
func privateKey(secret string) (ed25519.PrivateKey, error) {
	raw, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, privatePrefix))
	if err != nil || len(raw) != ed25519.SeedSize && len(raw) != ed25519.PrivateKeySize {
		return nil, errPrivate
	}
	key := ed25519.NewKeyFromSeed(raw[:ed25519.SeedSize])
	if len(raw) == ed25519.PrivateKeySize && !key.Equal(ed25519.PrivateKey(raw)) {
		return nil, errPrivate
	}
	return key, nil
}

// publicKey parses a whpk_….
func publicKey(secret string) (ed25519.PublicKey, error) {
	raw, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, publicPrefix))
	if err != nil || len(raw) != ed25519.PublicKeySize {
		return nil, errPublic
	}
	return raw, nil
}
