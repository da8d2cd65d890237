package trigger

import (
	"bytes"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// ParseContent reads a condition. The error is Invalid, with a JSON Pointer, if
// the condition does not follow the grammar of [Content]: because of an unknown
// or repeated member, a value of another type, or a string with a lone
// surrogate. It is also Invalid if the condition is over 4096 bytes, is not
// UTF-8 or not JSON, is nested over 8 conditions, has more than 64 paths or one
// over 255 bytes, or has more than 100 values in one list.
func ParseContent(raw []byte) (*Content, error) {
	switch {
	case len(raw) > MaxContent:
		return nil, contentErrorf("", "must have at most %d bytes", MaxContent)
	case !utf8.Valid(raw):
		return nil, contentErrorf("", "must be valid UTF-8")
	case !json.Valid(raw):
		return nil, contentErrorf("", "must be valid JSON")
	}
	c := &Content{raw: bytes.Clone(raw), nodes: []pathNode{{parent: -1}}}
	p := contentParser{content: c}
	var err error
	c.root, err = p.condition(c.raw, "", 1)
	if err != nil {
		return nil, err
	}
	return c, nil
}

// contentErrorf returns an Invalid error about a place in the condition, which
// is the member content of a body.
func contentErrorf(at, format string, args ...any) error {
	what := "content"
	if at != "" {
		what += " " + at
	}
	return Errorf(Invalid, what+": "+format, args...).At("#/content" + at)
}

// contentParser reads one condition, which must be valid JSON.
type contentParser struct {
	content *Content
	leaves  int
}

// condition reads the condition at a place and depth.
func (p *contentParser) condition(raw []byte, at string, depth int) (clause, error) {
	if depth > MaxContentDepth {
		return clause{}, contentErrorf(at, "must be nested at most %d conditions deep", MaxContentDepth)
	}
	members, err := parseMembers(raw, at)
	if err != nil {
		return clause{}, err
	}
	var kinds []jsonMember
	for _, m := range members {
		switch m.name {
		case clauseAll, clauseAny, clauseNot, clausePath:
			kinds = append(kinds, m)
		}
	}
	if len(kinds) != 1 {
		return clause{}, contentErrorf(at, "must have exactly one of path, all, any and not")
	}
	kind := kinds[0]
	if kind.name == clausePath {
		return p.leaf(kind.value, members, at)
	}
	for _, m := range members {
		if m.name != kind.name {
			return clause{}, unknownMember(at, m.name)
		}
	}
	c := clause{kind: kind.name, at: at + "/" + kind.name}
	if kind.name == clauseNot {
		inner, err := p.condition(kind.value, c.at, depth+1)
		c.of = []clause{inner}
		return c, err
	}
	elements, err := parseElements(kind.value, c.at)
	if err != nil {
		return clause{}, err
	}
	for i, element := range elements {
		inner, err := p.condition(element, c.at+"/"+strconv.Itoa(i), depth+1)
		if err != nil {
			return clause{}, err
		}
		c.of = append(c.of, inner)
	}
	return c, nil
}

// leaf reads a condition with a path.
func (p *contentParser) leaf(path []byte, members []jsonMember, at string) (clause, error) {
	if p.leaves++; p.leaves > MaxContentLeaves {
		return clause{}, contentErrorf(at, "exceeds the limit of %d paths", MaxContentLeaves)
	}
	c := clause{kind: clausePath, at: at}
	tokens, err := parsePointer(path, at+"/path")
	if err != nil {
		return clause{}, err
	}
	c.path = p.content.ask(tokens)
	for _, m := range members {
		if m.name == clausePath {
			continue
		}
		operators, err := parseOperator(m, at)
		if err != nil {
			return clause{}, err
		}
		c.operators = append(c.operators, operators...)
	}
	if len(c.operators) == 0 {
		return clause{}, contentErrorf(at, "must have an operator: equals, any_of, anything_but, prefix, exists or numeric")
	}
	return c, nil
}

// parsePointer reads a JSON Pointer and returns its tokens.
func parsePointer(raw []byte, at string) ([]string, error) {
	v := newJSONValue(raw)
	pointer := v.unescaped()
	switch {
	case v.kind != kindString:
		return nil, contentErrorf(at, "must be a string without lone surrogates")
	case len(pointer) > MaxContentPath:
		return nil, contentErrorf(at, "must have at most %d bytes", MaxContentPath)
	case pointer == "":
		return nil, nil
	case pointer[0] != '/':
		return nil, contentErrorf(at, "must be empty or begin with / (RFC 6901)")
	}
	for i := range len(pointer) {
		if pointer[i] == '~' && !strings.HasPrefix(pointer[i+1:], "0") && !strings.HasPrefix(pointer[i+1:], "1") {
			return nil, contentErrorf(at, "must have ~ only in ~0 or ~1 (RFC 6901)")
		}
	}
	tokens := strings.Split(pointer[1:], "/")
	escapes := strings.NewReplacer("~0", "~", "~1", "/")
	for i, token := range tokens {
		tokens[i] = escapes.Replace(token)
	}
	return tokens, nil
}

// parseOperator reads one operator of the condition at a place. It returns two
// for a numeric with two bounds.
func parseOperator(m jsonMember, at string) ([]operator, error) {
	o := operator{name: m.name, at: at + "/" + m.name}
	var kinds string
	switch m.name {
	case opNumeric:
		return parseNumeric(m.value, o.at)
	case opAnyOf:
		return parseAnyOf(o, m.value)
	case opAnythingBut:
		if m.value[0] == kindArray {
			return parseAnyOf(o, m.value)
		}
		kinds = scalarKinds
	case opEquals:
		kinds = scalarKinds
	case opPrefix:
		kinds = string(kindString)
	case opExists:
		kinds = string(kindTrue) + string(kindFalse)
	default:
		return nil, unknownMember(at, m.name)
	}
	operand, err := parseOperand(m.value, o.at, kinds)
	o.operands = []jsonValue{operand}
	return []operator{o}, err
}

// parseAnyOf reads the list of operands of an operator.
func parseAnyOf(o operator, raw []byte) ([]operator, error) {
	elements, err := parseElements(raw, o.at)
	if err != nil {
		return nil, err
	}
	if len(elements) > MaxContentValues {
		return nil, contentErrorf(o.at, "must have at most %d values; got %d", MaxContentValues, len(elements))
	}
	for i, element := range elements {
		operand, err := parseOperand(element, o.at+"/"+strconv.Itoa(i), scalarKinds)
		if err != nil {
			return nil, err
		}
		o.operands = append(o.operands, operand)
	}
	return []operator{o}, nil
}

// parseNumeric reads the bounds of a numeric.
func parseNumeric(raw []byte, at string) ([]operator, error) {
	members, err := parseMembers(raw, at)
	if err != nil {
		return nil, err
	}
	var bounds []operator
	var lower, upper int
	for _, m := range members {
		switch m.name {
		case opGT, opGTE:
			lower++
		case opLT, opLTE:
			upper++
		default:
			return nil, unknownMember(at, m.name)
		}
		operand, err := parseOperand(m.value, at+"/"+m.name, string(kindNumber))
		if err != nil {
			return nil, err
		}
		bounds = append(bounds, operator{m.name, at, []jsonValue{operand}})
	}
	if lower > 1 || upper > 1 || len(bounds) == 0 {
		return nil, contentErrorf(at, "must have gt or gte, lt or lte, or one of each")
	}
	return bounds, nil
}

// parseOperand reads a value that must be of one of the kinds.
func parseOperand(raw []byte, at, kinds string) (jsonValue, error) {
	v := newJSONValue(raw)
	switch {
	case strings.IndexByte(kinds, v.kind) >= 0:
		v.text, v.escaped = []byte(v.unescaped()), false
		return v, nil
	case v.kind == kindBroken:
		return v, contentErrorf(at, "must not have a lone surrogate")
	}
	switch kinds {
	case string(kindString):
		return v, contentErrorf(at, "must be a string")
	case string(kindNumber):
		return v, contentErrorf(at, "must be a number")
	case scalarKinds:
		return v, contentErrorf(at, "must be a string, number, true, false or null")
	}
	return v, contentErrorf(at, "must be true or false")
}

// jsonMember is a member of an object. Its value has no surrounding white space.
type jsonMember struct {
	name  string
	value []byte
}

// parseMembers reads an object, whose members must have different names.
func parseMembers(raw []byte, at string) ([]jsonMember, error) {
	s := scanner{text: raw}
	if s.next() != kindObject {
		return nil, contentErrorf(at, "must be an object")
	}
	var members []jsonMember
	for s.at++; s.next() == kindString; {
		v := newJSONValue(s.quoted())
		name := v.unescaped()
		s.next()
		s.at++ // the colon
		switch {
		case v.kind != kindString:
			return nil, contentErrorf(at, "must not have a member whose name has a lone surrogate")
		case slices.ContainsFunc(members, func(m jsonMember) bool { return m.name == name }):
			return nil, contentErrorf(at, "must have the member %.64q only once", name)
		}
		members = append(members, jsonMember{name, s.skip()})
		if s.next() == ',' {
			s.at++
		}
	}
	return members, nil
}

// parseElements reads an array of at least one element.
func parseElements(raw []byte, at string) ([][]byte, error) {
	s := scanner{text: raw}
	if s.next() != kindArray {
		return nil, contentErrorf(at, "must be an array")
	}
	var elements [][]byte
	for s.at++; s.next() != ']'; {
		elements = append(elements, s.skip())
		if s.next() == ',' {
			s.at++
		}
	}
	if elements == nil {
		return nil, contentErrorf(at, "must not be empty")
	}
	return elements, nil
}

func unknownMember(at, name string) error {
	return contentErrorf(at, "has the unknown member %.64q", name)
}
