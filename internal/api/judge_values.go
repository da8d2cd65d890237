package api

import (
	"encoding/json"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// value checks the keywords for values of all types.
func (j *judge) value(s *jsonschema.Schema, v any) bool {
	if s.Types != nil && !s.Types.IsEmpty() && !j.isOf(*s.Types, v) {
		return j.fail("must be of type " + strings.Join(s.Types.ToStrings(), " or "))
	}
	if s.Const != nil && !j.equal(v, *s.Const) {
		return j.fail("must be " + shownValue(*s.Const, "the value of const"))
	}
	if s.Enum == nil || slices.ContainsFunc(s.Enum.Values, func(want any) bool { return j.equal(v, want) }) {
		return true
	}
	return j.fail("must be one of " + shownValue(s.Enum.Values, "the values of enum"))
}

// shownValue returns a value of a schema for a message, or its name if it is
// long.
func shownValue(v any, name string) string {
	b, err := json.Marshal(v)
	if err != nil || len(b) > 100 {
		return name
	}
	return string(b)
}

func (j *judge) isOf(types jsonschema.Types, v any) bool {
	has := func(name string) bool {
		var one jsonschema.Types
		one.Add(name)
		return types&one != 0
	}
	switch v := v.(type) {
	case nil:
		return has("null")
	case bool:
		return has("boolean")
	case string:
		return has("string")
	case []any:
		return has("array")
	case map[string]any:
		return has("object")
	case json.Number:
		if has("number") || !has("integer") {
			return has("number")
		}
		j.left -= len(v) / 64
		n := normalOf(v)
		return n.isInteger()
	}
	return false
}

// equal compares as JSON Schema does: 1 equals 1.0, and members have no order.
func (j *judge) equal(a, b any) bool {
	if j.left--; j.over() {
		return false
	}
	switch a := a.(type) {
	case map[string]any:
		b, ok := b.(map[string]any)
		return ok && j.equalMembers(a, b)
	case []any:
		b, ok := b.([]any)
		return ok && slices.EqualFunc(a, b, j.equal)
	case string:
		b, ok := b.(string)
		if ok && len(a) == len(b) {
			j.left -= len(a) / 512
		}
		return ok && a == b
	case json.Number:
		b, ok := b.(json.Number)
		if !ok || a == b {
			return ok
		}
		j.left -= (len(a) + len(b)) / 64
		return normalOf(a) == normalOf(b)
	}
	return a == b // nil and booleans
}

func (j *judge) equalMembers(a, b map[string]any) bool {
	if len(a) != len(b) {
		return false
	}
	for name, value := range a {
		if other, ok := b[name]; !ok || !j.equal(value, other) {
			return false
		}
	}
	return true
}

// text checks a string.
func (j *judge) text(s *jsonschema.Schema, v string) bool {
	ok := true
	if s.MinLength != nil || s.MaxLength != nil {
		j.left -= len(v) / 128
		n := utf8.RuneCountInString(v)
		ok = j.count(n, s.MinLength, s.MaxLength, "characters")
	}
	if s.Pattern != nil && (ok || j.loud) && !j.matches(s.Pattern, v) {
		ok = j.fail("must match the regular expression " + s.Pattern.String())
	}
	return ok
}

func (j *judge) matches(re jsonschema.Regexp, text string) bool {
	p, ok := re.(*expression) // all are expressions
	if !ok {
		return false
	}
	if j.left -= len(text) * p.size / 16; j.left < 0 {
		return false
	}
	return p.MatchString(text)
}

// number checks a number, exactly.
func (j *judge) number(s *jsonschema.Schema, v json.Number) bool {
	if s.Minimum == nil && s.Maximum == nil && s.ExclusiveMinimum == nil && s.ExclusiveMaximum == nil && s.MultipleOf == nil {
		return true
	}
	j.left -= 2 + len(v)/64
	n := normalOf(v)
	if !n.isShort() {
		return j.fail("has too many digits to be compared exactly")
	}
	size := len(n.digits) + max(n.exponent, -n.exponent)
	j.left -= size / 16
	r := n.rat()
	bound := func(want *big.Rat, what string, holds func(order int) bool) bool {
		return want == nil || holds(r.Cmp(want)) || j.fail("must be "+what+" "+shownRat(want))
	}
	ok := bound(s.Minimum, "at least", func(order int) bool { return order >= 0 })
	ok = bound(s.Maximum, "at most", func(order int) bool { return order <= 0 }) && ok
	ok = bound(s.ExclusiveMinimum, "more than", func(order int) bool { return order > 0 }) && ok
	ok = bound(s.ExclusiveMaximum, "less than", func(order int) bool { return order < 0 }) && ok
	if s.MultipleOf != nil {
		j.left -= 10 + size/2
		if !new(big.Rat).Quo(r, s.MultipleOf).IsInt() {
			ok = j.fail("must be a multiple of " + shownRat(s.MultipleOf))
		}
	}
	return ok
}

// array checks an array.
func (j *judge) array(s *jsonschema.Schema, v []any, out *looked) bool {
	ok := j.count(len(v), s.MinItems, s.MaxItems, "items")
	if s.UniqueItems && (ok || j.loud) {
		ok = j.unique(v) && ok
	}
	if ok || j.loud {
		ok = j.items(s, v, out) && ok
	}
	if s.Contains != nil && (ok || j.loud) {
		ok = j.contains(s, v, out) && ok
	}
	return ok
}

func (j *judge) items(s *jsonschema.Schema, v []any, out *looked) bool {
	ok := true
	upTo := min(len(s.PrefixItems), len(v))
	for i := 0; i < upTo && (ok || j.loud); i++ {
		ok = j.item(s.PrefixItems[i], v[i], i) && ok
	}
	if s.Items2020 != nil {
		for i := upTo; i < len(v) && (ok || j.loud) && !j.over(); i++ {
			ok = j.item(s.Items2020, v[i], i) && ok
		}
		upTo = len(v)
	}
	if out != nil {
		out.upTo = max(out.upTo, upTo)
	}
	return ok
}

func (j *judge) contains(s *jsonschema.Schema, v []any, out *looked) bool {
	least, met := 1, 0
	if s.MinContains != nil {
		least = *s.MinContains
	}
	for i, item := range v {
		if met >= least && s.MaxContains == nil && out == nil || j.over() {
			break
		}
		if j.quietly(s.Contains, item, nil) {
			if met++; out != nil {
				out.item(i)
			}
		}
	}
	if met < least {
		return j.fail("must contain at least " + strconv.Itoa(least) + " items that match contains")
	}
	if s.MaxContains != nil && met > *s.MaxContains {
		return j.fail("must contain at most " + strconv.Itoa(*s.MaxContains) + " items that match contains")
	}
	return true
}

// unique compares the items by texts that are equal only for equal items.
func (j *judge) unique(v []any) bool {
	known := make(map[string]int, min(len(v), 1000))
	for i, item := range v {
		key := appendKey(nil, item)
		if j.left -= 4 + len(key)/4; j.over() {
			return false
		}
		if other, twice := known[string(key)]; twice {
			return j.fail("must have unique items, and items " + strconv.Itoa(other) + " and " + strconv.Itoa(i) + " are equal")
		}
		known[string(key)] = i
	}
	return true
}

// appendKey appends a text that is equal only for equal values.
func appendKey(b []byte, v any) []byte {
	text := func(b []byte, s string) []byte {
		b = strconv.AppendInt(b, int64(len(s)), 10)
		b = append(b, '"')
		return append(b, s...)
	}
	switch v := v.(type) {
	case nil:
		return append(b, 'n')
	case bool:
		return strconv.AppendBool(b, v)
	case string:
		return text(b, v)
	case json.Number:
		n := normalOf(v)
		return append(n.appendKey(append(b, '#')), ',')
	case []any:
		b = append(b, '[')
		for _, item := range v {
			b = appendKey(b, item)
		}
		return append(b, ']')
	case map[string]any:
		b = append(b, '{')
		for name, value := range each(v, true) {
			b = appendKey(text(b, name), value)
		}
		return append(b, '}')
	}
	return b
}
