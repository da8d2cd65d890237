package store

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
)

// keyring encrypts the secrets of webhooks, so that a copy of the database
// alone does not reveal them. It does not protect against writers of the
// database, because it also opens plain secrets. The zero keyring has no keys
// and encrypts nothing.
type keyring struct {
	keys []sealingKey // the first encrypts, all decrypt
}

type sealingKey struct {
	id   [keyIDSize]byte
	aead cipher.AEAD
}

// The stored forms of a secret, by the first byte. An empty secret is stored as
// no bytes.
const (
	formPlain  = 0 // the secret follows
	formSealed = 1 // the key's id follows, then the output of AES-256-GCM: nonce, ciphertext, tag
)

// keyIDSize is how many bytes of a key's hash identify it.
const keyIDSize = 8

// These labels separate our uses of a key, and must never change.
const (
	keyIDLabel = "triggerd key id 1\x00"
	sealLabel  = "triggerd secret 1\x00"
)

var (
	errKey   = errors.New(`must be 32 bytes in base64, or 64 hexadecimal digits; generate one with "openssl rand -base64 32"`)
	errNoKey = errors.New("a secret in the database is sealed with a key that is not in SECRET_KEY: " +
		"add it there, old keys after the new one, separated by commas")
	errNotSealedHere = errors.New("a sealed secret in the database cannot be opened: it was changed, or sealed for another organization")
	errForm          = errors.New("a secret in the database has a form that this version does not know")
)

// newKeyring parses keys as operators write them, each 32 random bytes in
// base64 (of either alphabet, with or without padding) or hexadecimal. The
// first encrypts, all decrypt; without keys secrets stay plain.
func newKeyring(keys []string) (*keyring, error) {
	k := &keyring{}
	for i, text := range keys {
		raw, err := parseKey(strings.TrimSpace(text))
		if err != nil {
			return nil, fmt.Errorf("key %d of SECRET_KEY %w", i+1, err)
		}
		block, err := aes.NewCipher(raw)
		if err != nil {
			return nil, err
		}
		aead, err := cipher.NewGCMWithRandomNonce(block)
		if err != nil {
			return nil, err
		}
		sum := sha256.Sum256(append([]byte(keyIDLabel), raw...))
		k.keys = append(k.keys, sealingKey{id: [keyIDSize]byte(sum[:]), aead: aead})
	}
	return k, nil
}

// parseKey decodes a key. Its error contains no part of the text.
func parseKey(text string) ([]byte, error) {
	if len(text) == hex.EncodedLen(32) {
		if raw, err := hex.DecodeString(text); err == nil {
			return raw, nil
		}
	}
	text = strings.NewReplacer("-", "+", "_", "/").Replace(strings.TrimSuffix(text, "="))
	raw, err := base64.RawStdEncoding.Strict().DecodeString(text)
	if err != nil || len(raw) != 32 {
		return nil, errKey
	}
	return raw, nil
}

// seal returns the stored form of a secret for its owner, an organization:
// encrypted if there is a key. It never returns nil.
func (k *keyring) seal(plain []byte, owner int64) []byte {
	switch {
	case len(plain) == 0:
		return []byte{}
	case len(k.keys) == 0:
		return append([]byte{formPlain}, plain...)
	}
	key := k.keys[0]
	stored := append([]byte{formSealed}, key.id[:]...)
	return key.aead.Seal(stored, nil, plain, sealedFor(owner))
}

// open returns the secret that was stored for its owner. Its errors contain no
// bytes.
func (k *keyring) open(stored []byte, owner int64) ([]byte, error) {
	switch {
	case len(stored) == 0:
		return nil, nil
	case stored[0] == formPlain:
		return bytes.Clone(stored[1:]), nil
	case stored[0] != formSealed:
		return nil, errForm
	case len(stored) < 1+keyIDSize:
		return nil, errNotSealedHere
	}
	id, sealed := [keyIDSize]byte(stored[1:]), stored[1+keyIDSize:]
	i := slices.IndexFunc(k.keys, func(key sealingKey) bool { return key.id == id })
	if i < 0 {
		return nil, errNoKey
	}
	plain, err := k.keys[i].aead.Open(nil, nil, sealed, sealedFor(owner))
	if err != nil {
		return nil, errNotSealedHere
	}
	return plain, nil
}

// current reports whether a secret is stored in the form that seal would now
// return.
func (k *keyring) current(stored []byte) bool {
	switch {
	case len(stored) == 0:
		return true
	case len(k.keys) == 0:
		return stored[0] == formPlain
	}
	id := k.keys[0].id
	return stored[0] == formSealed && bytes.HasPrefix(stored[1:], id[:])
}

// sealedFor binds an encrypted secret to its owner, so that it does not open
// for another.
func sealedFor(owner int64) []byte {
	return binary.BigEndian.AppendUint64([]byte(sealLabel), uint64(owner))
}

// String, GoString and LogValue keep the keys out of logs and messages.
func (k keyring) String() string { return "keyring[redacted]" }

// GoString is String, for %#v.
func (k keyring) GoString() string { return k.String() }

// LogValue is String, for slog.
func (k keyring) LogValue() slog.Value { return slog.StringValue(k.String()) }

// encrypts reports whether there is a key.
func (k *keyring) encrypts() bool { return len(k.keys) > 0 }
