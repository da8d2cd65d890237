package trigger

import (
	"bytes"
	"cmp"
)

// decimal is a number of JSON, ±0.digits × 10^(exponent+point), of any size and
// without loss. It refers to the text that it was read from.
type decimal struct {
	negative bool
	digits   []byte // first and last not 0, perhaps with a point between; empty for 0
	point    int    // at most the length of the text
	exponent exponent
}

// exponent is the number after the e: an integer of any size.
type exponent struct {
	negative bool
	digits   []byte // the first not 0; empty for 0
}

// parseDecimal reads a number of JSON (RFC 8259, section 6). It reads the text a
// few times and does not copy it. For other texts the result is undefined.
func parseDecimal(text []byte) (d decimal) {
	text, d.negative = cutSign(text)
	if e := bytes.IndexAny(text, "eE"); e >= 0 {
		d.exponent.digits, d.exponent.negative = cutSign(text[e+1:])
		d.exponent.digits = bytes.TrimLeft(d.exponent.digits, "0")
		text = text[:e]
	}
	point := bytes.IndexByte(text, '.')
	if point < 0 {
		point = len(text)
	}
	d.digits = bytes.TrimLeft(text, "0.")
	d.point = point - (len(text) - len(d.digits))
	if d.point < 0 {
		d.point++ // the point itself is not a zero
	}
	d.digits = bytes.TrimRight(d.digits, "0.")
	return d
}

func cutSign(text []byte) (rest []byte, negative bool) {
	if len(text) > 0 && (text[0] == '-' || text[0] == '+') {
		return text[1:], text[0] == '-'
	}
	return text, false
}

// compare returns -1 if d is less than other, 0 if they are equal, +1 if it is
// more. Its time is linear in the shorter text.
func (d *decimal) compare(other *decimal) int {
	sign := d.sign()
	if c := cmp.Compare(sign, other.sign()); c != 0 {
		return c
	}
	if c := cmp.Compare(d.exponent.minus(&other.exponent), int64(other.point)-int64(d.point)); c != 0 {
		return sign * c
	}
	return sign * compareDigits(d.digits, other.digits)
}

func (d *decimal) sign() int {
	switch {
	case len(d.digits) == 0:
		return 0
	case d.negative:
		return -1
	}
	return 1
}

// minus returns the difference of two exponents, or some number beyond ±2^48,
// longer than any text, if the difference is beyond that.
func (e *exponent) minus(other *exponent) int64 {
	const enough = 1 << 48
	var difference int64
	for place := max(len(e.digits), len(other.digits)); place > 0; place-- {
		difference = 10*difference + e.digit(place) - other.digit(place)
		if difference > enough || difference < -enough { // the rest cannot bring it back
			break
		}
	}
	return difference
}

// digit returns the digit at a place, with the exponent's sign; the last place
// is 1.
func (e *exponent) digit(place int) int64 {
	if place > len(e.digits) {
		return 0
	}
	digit := int64(e.digits[len(e.digits)-place] - '0')
	if e.negative {
		return -digit
	}
	return digit
}

// compareDigits compares 0.a with 0.b and ignores points among the digits.
func compareDigits(a, b []byte) int {
	for {
		a, b = bytes.TrimPrefix(a, []byte{'.'}), bytes.TrimPrefix(b, []byte{'.'})
		if len(a) == 0 || len(b) == 0 {
			return cmp.Compare(len(a), len(b))
		}
		if c := cmp.Compare(a[0], b[0]); c != 0 {
			return c
		}
		a, b = a[1:], b[1:]
	}
}
