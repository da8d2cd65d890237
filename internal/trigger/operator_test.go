package trigger

import (
	"strings"
	"testing"
)

func TestOperatorToken(t *testing.T) {
	t.Parallel()
	token, other := NewOperatorToken([32]byte{0: 1, 31: 0xff}), NewOperatorToken([32]byte{0: 2, 31: 0xff})
	if !IsOperatorToken(token) || !strings.HasPrefix(token, "tok_") || len(token) != 47 {
		t.Errorf("%s is no operator token", token)
	}
	if token == other || HashOperatorToken(token) == HashOperatorToken(other) {
		t.Errorf("%s and %s are the same", token, other)
	}
	for _, text := range []string{"", "tok_", token[4:], token[:46], token + "A", "sk__" + token[4:], token + "\n", strings.Replace(token, "A", "+", 1)} {
		if IsOperatorToken(text) {
			t.Errorf("%q is taken for an operator token", text)
		}
	}
}
