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

// The errors of a refused delivery. Each is returned unchanged, or wrapped.
var (
	ErrMissingHeaders = errors.New("triggerd: webhook-id, webhook-timestamp or webhook-signature is missing or malformed")
	ErrBadSignature   = errors.New("triggerd: no signature matches")
	ErrTooOld         = errors.New("triggerd: the webhook-timestamp is over 5 minutes old")
	ErrTooNew         = errors.New("triggerd: the webhook-timestamp is over 5 minutes ahead")
)

// The headers of a delivery.
const (
	HeaderID        = "Webhook-Id"        // the event's id, the same for each attempt
	HeaderTimestamp = "Webhook-Timestamp" // of the attempt, in Unix seconds
	HeaderSignature = "Webhook-Signature" // one or more, separated by spaces
)

// tolerance is the maximum difference between a timestamp and now, in seconds.
const tolerance = 300

// maxSignatures is the maximum number of signatures that are checked: more than
// a sender uses who rotates secrets, and few enough to be cheap.
const maxSignatures = 32

// Verifier checks that a delivery comes from the holder of the secret, and is
// recent (Standard Webhooks 1.0, "Verifying webhook authenticity"). It is safe
// for concurrent use. It does not detect repeats: use the id for that.
type Verifier struct {
	symmetric [][]byte
	public    []ed25519.PublicKey
	now       func() time.Time // nil: the real clock
}

// NewVerifier returns a Verifier with the secrets of a webhook: whsec_…, or
// whpk_…, the public key of a webhook that signs with ed25519. During a
// rotation pass both the old and the new one. It returns an error if a secret
// is neither, or there is no secret.
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

// Verify checks that body, as received, was signed for these headers at most 5
// minutes ago. It returns nil if one of the signatures matches one of the
// secrets; otherwise ErrMissingHeaders, ErrTooOld, ErrTooNew or
// ErrBadSignature.
//
// A signature covers id.timestamp.body. So that it is valid for only one
// delivery, Verify rejects an id with a dot, and a timestamp that is not plain
// digits.
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

// verifyHeader checks everything except the body.
func (v *Verifier) verifyHeader(header http.Header) error {
	id, timestamp := header.Get(HeaderID), header.Get(HeaderTimestamp)
	once := len(header.Values(HeaderID)) == 1 && len(header.Values(HeaderTimestamp)) == 1 // with several values, another reader may use a different one
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

// matches checks one signature, in a time that does not depend on how many
// bytes match.
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
