package client

import (
	"crypto/ed25519"
	"crypto/hmac"
	"encoding/base64"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Why a delivery is refused. Each is returned as it is, or wrapped.
var (
	ErrMissingHeaders = errors.New("triggerd: webhook-id, webhook-timestamp or webhook-signature is missing or malformed")
	ErrBadSignature   = errors.New("triggerd: no signature matches")
	ErrTooOld         = errors.New("triggerd: the webhook-timestamp is over 5 minutes old")
	ErrTooNew         = errors.New("triggerd: the webhook-timestamp is over 5 minutes ahead")
)

// The headers of a delivery.
const (
	HeaderID        = "Webhook-Id"        // the event's id, the same at each attempt
	HeaderTimestamp = "Webhook-Timestamp" // of the attempt, in Unix seconds
	HeaderSignature = "Webhook-Signature" // one or more, with spaces between
)

// tolerance is how far a timestamp may be from now, in seconds.
const tolerance = 300

// maxSignatures is how many signatures are looked at: more than any sender has
// who rotates secrets, and few enough to be no burden.
const maxSignatures = 32

// Verifier tells whether a delivery comes from who has the secret, and now
// (Standard Webhooks 1.0, "Verifying webhook authenticity"). It may be used
// concurrently. That a delivery was seen before it cannot tell: go by its id.
type Verifier struct {
	symmetric [][]byte
	public    []ed25519.PublicKey
	now       func() time.Time // nil: the clock
}

// NewVerifier takes the secrets of a webhook: whsec_…, or whpk_…, the public key
// of one that signs by ed25519. While they rotate it is both, the old one and
// the new one. An error if one of them is neither, or there is none.
func NewVerifier(secrets ...string) (*Verifier, error) {
	v := &Verifier{}
	for _, secret := range secrets {
		switch {
		case strings.HasPrefix(secret, symmetricPrefix):
			key, err := symmetricKey(secret)
			if err != nil {
				return nil, err
			}
			v.symmetric = append(v.symmetric, key)
		case strings.HasPrefix(secret, publicPrefix):
			key, err := publicKey(secret)
			if err != nil {
				return nil, err
			}
			v.public = append(v.public, key)
		default:
			return nil, errVerify
		}
	}
	if len(secrets) == 0 {
		return nil, errVerify
	}
	return v, nil
}

// Verify tells whether body, as it came, was signed for these headers not over
// 5 minutes ago: nil if one of the signatures matches one of the secrets.
// Otherwise it is ErrMissingHeaders, ErrTooOld, ErrTooNew or ErrBadSignature.
//
// A signature is over id.timestamp.body. So that it is good for one delivery
// alone, an id with a dot is refused, and a timestamp that is not plain digits.
func (v *Verifier) Verify(header http.Header, body []byte) error {
	if err := v.verifyHeader(header); err != nil {
		return err
	}
	content, signatures := signed(header.Get(HeaderID), header.Get(HeaderTimestamp), body), header.Get(HeaderSignature)
	digests := make([][]byte, len(v.symmetric))
	for i, key := range v.symmetric {
		digests[i] = digest(key, content)
	}
	for i, signature := range strings.Fields(signatures) {
		if i < maxSignatures && v.matches(signature, content, digests) {
			return nil
		}
	}
	return ErrBadSignature
}

// verifyHeader tells what is wrong with a delivery whatever its body is.
func (v *Verifier) verifyHeader(header http.Header) error {
	id, timestamp := header.Get(HeaderID), header.Get(HeaderTimestamp)
	once := len(header.Values(HeaderID)) == 1 && len(header.Values(HeaderTimestamp)) == 1 // else another reader may take another one
	if !once || header.Get(HeaderSignature) == "" || !signable(id, timestamp) {
		return ErrMissingHeaders
	}
	at, err := strconv.ParseInt(timestamp, 10, 64)
	if err != nil {
		return ErrMissingHeaders
	}
	switch now := clock(v.now).Unix(); {
	case at < now-tolerance:
		return ErrTooOld
	case at > now+tolerance:
		return ErrTooNew
	}
	return nil
}

// matches judges one signature, in a time that does not tell how near it is.
func (v *Verifier) matches(signature string, content []byte, digests [][]byte) bool {
	version, encoded, _ := strings.Cut(signature, ",")
	raw, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		return false
	}
	found := false
	switch version {
	case "v1":
		for _, digest := range digests {
			found = hmac.Equal(raw, digest) || found
		}
	case "v1a":
		for _, key := range v.public {
			found = ed25519.Verify(key, content, raw) || found
		}
	}
	return found
}
