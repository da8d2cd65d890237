package trigger

import (
	"crypto/sha256"
	"encoding/base64"
	"strings"
)

// operatorPrefix begins each operator token that triggerd creates, so that
// people and scanners can tell it from an API key.
const operatorPrefix = "tok_"

// NewOperatorToken returns an operator token of 256 random bits: "tok_" and the
// bits in base64 for URLs.
func NewOperatorToken(random [32]byte) string {
	return operatorPrefix + base64.RawURLEncoding.EncodeToString(random[:])
}

// IsOperatorToken reports whether NewOperatorToken can return the token.
func IsOperatorToken(token string) bool {
	if len(token) != len(NewOperatorToken([32]byte{})) || !strings.HasPrefix(token, operatorPrefix) {
		return false
	}
	random, err := base64.RawURLEncoding.Strict().DecodeString(token[len(operatorPrefix):])
	return err == nil && len(random) == 32
}

// HashOperatorToken returns the hash by which a token is stored and compared.
// The token may be any text, because people choose ADMIN_TOKEN.
func HashOperatorToken(token string) [32]byte { return sha256.Sum256([]byte(token)) }
