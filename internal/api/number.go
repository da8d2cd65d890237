package api

import (
	"encoding/json"
	"math/big"
	"strconv"
	"strings"
)

// normal is a JSON number in a unique form: ±digits × 10^exponent. The digits
// begin and end with other than 0. For 0, digits is empty and exponent is 0.
type normal struct {
	negative bool
	digits   string
	exponent int
	odd      string // the number as written, if its exponent is absurdly large
}

// normalOf converts a number in linear time.
func normalOf(n json.Number) (r normal) {
	text := string(n)
	text, r.negative = strings.CutPrefix(text, "-")
	exponent := 0
	if e := strings.IndexAny(text, "eE"); e >= 0 {
		var err error
		if exponent, err = strconv.Atoi(text[e+1:]); err != nil || exponent > 1<<40 || exponent < -1<<40 {
			r.odd = string(n)
		}
		text = text[:e]
	}
	whole, fraction, _ := strings.Cut(text, ".")
	exponent -= len(fraction)
	if fraction != "" {
		whole += fraction
	}
	r.digits = strings.TrimRight(whole, "0")
	exponent += len(whole) - len(r.digits)
	if r.digits = strings.TrimLeft(r.digits, "0"); r.digits == "" {
		return normal{}
	}
	r.exponent = exponent
	return r
}

// isShort reports whether the number is small enough to calculate with.
func (n *normal) isShort() bool {
	return n.odd == "" && len(n.digits) <= maxDigits && n.exponent <= maxDigits-len(n.digits) && n.exponent >= -maxDigits
}

// isInteger reports whether the number has no fraction, for example 1.0 or 1e3.
func (n *normal) isInteger() bool {
	if n.odd != "" {
		return !strings.Contains(n.odd[1:], "-")
	}
	return n.exponent >= 0
}

// rat returns the number's value. It must be short.
func (n *normal) rat() *big.Rat {
	r, _ := new(big.Rat).SetString("0" + n.digits + "e" + strconv.Itoa(n.exponent))
	if n.negative {
		r.Neg(r)
	}
	return r
}

// appendKey appends a text that is equal only for equal numbers.
func (n *normal) appendKey(b []byte) []byte {
	if n.odd != "" {
		return append(b, n.odd...)
	}
	if n.negative {
		b = append(b, '-')
	}
	b = append(b, n.digits...)
	b = append(b, 'e')
	return strconv.AppendInt(b, int64(n.exponent), 10)
}

// shownRat returns a number for a message, or a placeholder if it is long.
func shownRat(r *big.Rat) string {
	const enough = 40
	if places, exact := r.FloatPrec(); exact && places <= enough {
		if text := r.FloatString(places); len(text) <= enough {
			return text
		}
	}
	return "the number in the schema"
}
