package deliver

import (
	"bytes"
	"html"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// reading is a text without its escapes, and the origin of each of its bytes.
type reading struct {
	text []byte
	from []int // of each byte, then the length of the original
}

// escape decodes an escape at the beginning of a text and returns its length; 0
// if there is no escape.
type escape func(text []byte) (plain []byte, size int)

// readings returns a text unchanged, and as decoded by readers of JSON, URLs
// and HTML, also within a JSON string. Invalid escapes stay unchanged.
func readings(text []byte) []reading {
	raw := reading{text: text}
	all := []reading{raw}
	bases := all
	for range 2 { // JSON, and JSON within a JSON string
		if last := all[len(all)-1]; bytes.IndexByte(last.text, '\\') >= 0 {
			all = append(all, last.without(jsonEscape))
			bases = all
		}
	}
	for _, base := range slices.Clone(bases) {
		if bytes.IndexByte(base.text, '%') >= 0 {
			all = append(all, base.without(urlEscape))
		}
		if bytes.IndexByte(base.text, '+') >= 0 {
			all = append(all, base.without(formEscape))
		}
		if bytes.IndexByte(base.text, '&') >= 0 {
			all = append(all, base.without(htmlEscape))
		}
	}
	return all
}

// origin returns the position of a byte in the original.
func (r *reading) origin(i int) int {
	if r.from == nil {
		return i
	}
	return r.from[i]
}

// without decodes the escapes of one kind.
func (r *reading) without(of escape) reading {
	plain := reading{text: make([]byte, 0, len(r.text)), from: make([]int, 0, len(r.text)+1)}
	for i := 0; i < len(r.text); {
		bytes, size := of(r.text[i:])
		if size == 0 {
			bytes, size = r.text[i:i+1], 1
		}
		for range bytes {
			plain.from = append(plain.from, r.origin(i))
		}
		plain.text = append(plain.text, bytes...)
		i += size
	}
	plain.from = append(plain.from, r.origin(len(r.text)))
	return plain
}

// find returns the positions of a value in the original.
func (r *reading) find(value string) (spans [][2]int) {
	for at := 0; ; {
		i := bytes.Index(r.text[at:], []byte(value))
		if i < 0 {
			return spans
		}
		spans = append(spans, [2]int{r.origin(at + i), r.origin(at + i + len(value))})
		at += i + len(value)
	}
}

// begun returns the position in the original of the beginning of a value at its
// end, perhaps before part of an escape; the length if there is none.
func (r *reading) begun(value string) int {
	at := len(r.text)
	for _, text := range [][]byte{r.text, r.text[:len(r.text)-begunEscape(r.text)]} {
		for size := min(len(value)-1, len(text)); size >= minRedacted; size-- {
			if string(text[len(text)-size:]) == value[:size] {
				at = min(at, len(text)-size)
				break
			}
		}
	}
	return r.origin(at)
}

// longestEscape is the length in bytes of the longest escape that begunEscape
// detects.
const longestEscape = 10

// begunEscape returns how many bytes at the end of a cut-off text may be the
// beginning of an escape.
func begunEscape(text []byte) int {
	tail := text[max(0, len(text)-longestEscape):]
	if i := bytes.LastIndexAny(tail, `\%&`); i >= 0 {
		return len(tail) - i
	}
	return 0
}

// jsonEscape decodes escapes of JSON and JavaScript strings.
func jsonEscape(text []byte) (plain []byte, size int) {
	if len(text) < 2 || text[0] != '\\' {
		return nil, 0
	}
	switch c := text[1]; c {
	case 'u':
		return coded(text, 2, 4)
	case 'x':
		return coded(text, 2, 2)
	case 'b', 'f', 'n', 'r', 't':
		return []byte{"\b\f\n\r\t"[strings.IndexByte("bfnrt", c)]}, 2
	default:
		return text[1:2], 2
	}
}

// coded decodes an escape with a hexadecimal character code.
func coded(text []byte, at, digits int) (plain []byte, size int) {
	if len(text) < at+digits {
		return nil, 0
	}
	code, err := strconv.ParseUint(string(text[at:at+digits]), 16, 16)
	if err != nil {
		return nil, 0
	}
	return utf8.AppendRune(nil, rune(code)), at + digits
}

// urlEscape decodes escapes of URLs, in which + is itself.
func urlEscape(text []byte) (plain []byte, size int) {
	if len(text) < 3 || text[0] != '%' {
		return nil, 0
	}
	code, err := strconv.ParseUint(string(text[1:3]), 16, 8)
	if err != nil {
		return nil, 0
	}
	return []byte{byte(code)}, 3
}

// formEscape decodes escapes of forms, in which + is a space.
func formEscape(text []byte) (plain []byte, size int) {
	if text[0] == '+' {
		return []byte{' '}, 1
	}
	return urlEscape(text)
}

// htmlEscape decodes escapes of HTML and XML.
func htmlEscape(text []byte) (plain []byte, size int) {
	if text[0] != '&' {
		return nil, 0
	}
	end := bytes.IndexByte(text[:min(len(text), longestEscape)], ';')
	if end < 0 {
		return nil, 0
	}
	entity := string(text[:end+1])
	if read := html.UnescapeString(entity); read != entity {
		return []byte(read), len(entity)
	}
	return nil, 0
}
