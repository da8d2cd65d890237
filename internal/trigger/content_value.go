package trigger

import (
	"bytes"
	"encoding/hex"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// The kinds of JSON values, by their first byte, and three others.
const (
	kindString = '"'
	kindObject = '{'
	kindArray  = '['
	kindTrue   = 't'
	kindFalse  = 'f'
	kindNull   = 'n'
	kindNumber = '0' // all digits and the minus
	kindBroken = '?' // a string that is not valid Unicode
	kindAbsent = 0   // no value

	scalarKinds = string(kindString) + string(kindNumber) + string(kindTrue) + string(kindFalse) + string(kindNull)
)

// jsonValue is a value of a payload or an operand. The zero value is absent.
type jsonValue struct {
	kind    byte
	escaped bool    // string: its text has escapes
	text    []byte  // string: between its quotes
	number  decimal // number
}

// newJSONValue reads a value, which must have at least one byte and no
// surrounding white space. It reads only strings and numbers, once.
func newJSONValue(raw []byte) jsonValue {
	switch c := raw[0]; {
	case c == '-' || '0' <= c && c <= '9':
		return jsonValue{kind: kindNumber, number: parseDecimal(raw)}
	case c != kindString:
		return jsonValue{kind: c}
	}
	v := jsonValue{kind: kindString, text: unquoted(raw)}
	v.escaped = bytes.IndexByte(v.text, '\\') >= 0
	if !v.escaped && !utf8.Valid(v.text) || v.escaped && !isText(v.text) {
		v.kind = kindBroken
	}
	return v
}

// unquoted returns the text between the quotes of a string.
func unquoted(raw []byte) []byte { return bytes.TrimSuffix(raw[1:], []byte{'"'}) }

// isOneOf reports whether the value equals one of the operands, which are
// scalars without escapes.
func (v *jsonValue) isOneOf(operands []jsonValue) bool {
	for i := range operands {
		if v.equals(&operands[i]) {
			return true
		}
	}
	return false
}

func (v *jsonValue) equals(operand *jsonValue) bool {
	switch {
	case v.kind != operand.kind:
		return false
	case v.kind == kindNumber:
		return v.number.compare(&operand.number) == 0
	case v.kind == kindString:
		rest, ok := v.cutPrefix(operand.text)
		return ok && len(rest) == 0
	}
	return true
}

// cutPrefix returns the rest of the string after a prefix. The string must be
// valid Unicode. It reads only the prefix.
func (v *jsonValue) cutPrefix(prefix []byte) (rest []byte, ok bool) {
	if !v.escaped {
		return bytes.CutPrefix(v.text, prefix)
	}
	rest = v.text
	for len(prefix) > 0 {
		want, size := utf8.DecodeRune(prefix)
		r, length := decodeRune(rest)
		if r != want {
			return nil, false
		}
		prefix, rest = prefix[size:], rest[length:]
	}
	return rest, true
}

// unescaped returns the string without its escapes, "" if it is not valid
// Unicode.
func (v *jsonValue) unescaped() string {
	text, ok := appendUnescaped(nil, v.text)
	if !ok {
		return ""
	}
	return string(text)
}

// isText reports whether the text between a string's quotes is valid Unicode.
func isText(raw []byte) bool {
	for len(raw) > 0 {
		r, length := decodeRune(raw)
		if r < 0 {
			return false
		}
		raw = raw[length:]
	}
	return true
}

// appendUnescaped appends the text between a string's quotes without its
// escapes. ok is false if it is not valid Unicode.
func appendUnescaped(b, raw []byte) (text []byte, ok bool) {
	for len(raw) > 0 {
		r, length := decodeRune(raw)
		if r < 0 {
			return b, false
		}
		b = utf8.AppendRune(b, r)
		raw = raw[length:]
	}
	return b, true
}

// decodeRune returns the first character of the text between a string's quotes,
// and its length there. r is -1 at the end, or for an invalid character.
func decodeRune(raw []byte) (r rune, length int) {
	if len(raw) > 0 && raw[0] != '\\' {
		r, length = utf8.DecodeRune(raw)
		if r == utf8.RuneError && length == 1 {
			return -1, 1
		}
		return r, length
	}
	if len(raw) < 2 {
		return -1, len(raw)
	}
	if raw[1] == 'u' {
		return decodeHex(raw)
	}
	const letters, meanings = `"\/bfnrt`, "\"\\/\b\f\n\r\t"
	if i := strings.IndexByte(letters, raw[1]); i >= 0 {
		return rune(meanings[i]), 2
	}
	return -1, 2
}

// decodeHex is decodeRune for \u. A pair of surrogates takes two of them.
func decodeHex(raw []byte) (r rune, length int) {
	high, ok := codeUnit(raw)
	switch {
	case !ok:
		return -1, 2
	case !utf16.IsSurrogate(high):
		return high, 6
	}
	low, ok := codeUnit(raw[6:])
	if r = utf16.DecodeRune(high, low); !ok || r == utf8.RuneError {
		return -1, 6
	}
	return r, 12
}

// codeUnit reads an escape of the form \u0000.
func codeUnit(raw []byte) (unit rune, ok bool) {
	var b [2]byte
	if len(raw) < 6 || raw[0] != '\\' || raw[1] != 'u' {
		return 0, false
	}
	if _, err := hex.Decode(b[:], raw[2:6]); err != nil {
		return 0, false
	}
	return rune(b[0])<<8 | rune(b[1]), true
}
