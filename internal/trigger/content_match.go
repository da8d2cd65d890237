package trigger

import (
	"bytes"
	"slices"
	"strconv"
)

// pathNode is a place in payloads that a path leads to or through. The nodes of
// a [Content] form a tree.
type pathNode struct {
	parent   int            // -1 for the root
	members  map[string]int // the nodes below, if the value is an object
	elements []pathElement  // the nodes below, if it is an array, by rising index
}

type pathElement struct{ index, node int }

// ask adds the missing nodes of a path and returns the path's index in c.paths.
func (c *Content) ask(tokens []string) int {
	node := 0
	for _, token := range tokens {
		node = childOf(&c.nodes, node, token)
	}
	if i := slices.Index(c.paths, node); i >= 0 {
		return i
	}
	c.paths = append(c.paths, node)
	return len(c.paths) - 1
}

// childOf returns the node below a node for a token, and adds it if it is missing.
func childOf(nodes *[]pathNode, node int, token string) int {
	below, ok := (*nodes)[node].members[token]
	if !ok {
		below = len(*nodes)
		*nodes = append(*nodes, pathNode{parent: node})
		(*nodes)[node].add(token, below)
	}
	return below
}

func (n *pathNode) add(token string, below int) {
	if n.members == nil {
		n.members = map[string]int{}
	}
	n.members[token] = below
	index, err := strconv.ParseUint(token, 10, 31)
	if err != nil || strconv.FormatUint(index, 10) != token { // no leading zeros
		return
	}
	n.elements = append(n.elements, pathElement{int(index), below})
	slices.SortFunc(n.elements, func(a, b pathElement) int { return a.index - b.index })
}

// member returns the node of an object's member by the text between the quotes
// of its name.
func (n *pathNode) member(name []byte) (node int, ok bool) {
	if bytes.IndexByte(name, '\\') < 0 {
		node, ok = n.members[string(name)]
		return node, ok
	}
	var buf [6 * MaxContentPath]byte // a byte takes no more than \u0000
	if len(name) > len(buf) {
		return 0, false
	}
	text, ok := appendUnescaped(buf[:0], name)
	if !ok {
		return 0, false
	}
	node, ok = n.members[string(text)]
	return node, ok
}

// find returns the values of the paths in a payload.
func (c *Content) find(payload []byte) []jsonValue { return findValues(c.nodes, c.paths, payload) }

// findValues returns the values of some nodes in a payload, which it reads once.
func findValues(nodes []pathNode, of []int, payload []byte) []jsonValue {
	w := walk{scanner: scanner{text: payload}, nodes: nodes, found: make([]span, len(nodes))}
	w.value(0)
	values := make([]jsonValue, len(of))
	for i, node := range of {
		if at := w.found[node]; w.counts(node) {
			values[i] = newJSONValue(payload[at.start:at.end])
		}
	}
	return values
}

// walk is one pass over a payload that records where the nodes are.
type walk struct {
	scanner
	nodes []pathNode
	found []span // by node: where it was found last
}

// span is a part of the payload; its end is 0 if it was not found.
type span struct{ start, end int }

// counts reports whether the node was found, and no value around it was replaced
// by a later member of the same name.
func (w *walk) counts(node int) bool {
	if w.found[node].end == 0 {
		return false
	}
	for above := w.nodes[node].parent; above >= 0; above = w.nodes[node].parent {
		if w.found[node].start < w.found[above].start {
			return false
		}
		node = above
	}
	return true
}

// value skips a value and records the nodes in it. It recurses no deeper than
// the paths.
func (w *walk) value(node int) {
	kind := w.next()
	if kind == 0 {
		return
	}
	start := w.at
	switch n := &w.nodes[node]; {
	case kind == kindObject && len(n.members) > 0:
		w.object(n)
	case kind == kindArray && len(n.elements) > 0:
		w.array(n)
	default:
		w.skip()
	}
	w.found[node] = span{start, w.at}
}

func (w *walk) object(n *pathNode) {
	w.at++
	for {
		switch w.next() {
		case ',':
			w.at++
		case kindString:
			name := w.quoted()
			if w.next() != ':' {
				return
			}
			w.at++
			if node, ok := n.member(unquoted(name)); ok {
				w.value(node)
			} else {
				w.skip()
			}
		case '}':
			w.at++
			return
		default:
			return
		}
	}
}

func (w *walk) array(n *pathNode) {
	w.at++
	wanted := n.elements
	for index := 0; len(wanted) > 0; {
		switch w.next() {
		case ',':
			w.at++
			continue
		case ']':
			w.at++
			return
		case 0:
			return
		}
		if index == wanted[0].index {
			w.value(wanted[0].node)
			wanted = wanted[1:]
		} else {
			w.skip()
		}
		index++
	}
	w.leave()
}

// scanner skips over JSON without validating it. It ends on invalid JSON, too,
// and does not recurse.
type scanner struct {
	text []byte
	at   int
}

// next skips white space and returns the next byte; 0 at the end.
func (s *scanner) next() byte {
	for ; s.at < len(s.text); s.at++ {
		switch c := s.text[s.at]; c {
		case ' ', '\t', '\n', '\r':
		default:
			return c
		}
	}
	return 0
}

// skip skips a value and returns it. It takes at least one byte, unless only
// white space is left.
func (s *scanner) skip() []byte {
	kind := s.next()
	start := s.at
	if kind == kindString {
		return s.quoted()
	}
	s.at = min(s.at+1, len(s.text))
	if kind == kindObject || kind == kindArray {
		s.leave()
		return s.text[start:s.at]
	}
	for ; s.at < len(s.text); s.at++ {
		switch s.text[s.at] {
		case ',', ':', ']', '}', ' ', '\t', '\n', '\r':
			return s.text[start:s.at]
		}
	}
	return s.text[start:s.at]
}

// leave skips to the end of the array or object that it is in.
func (s *scanner) leave() {
	for depth := 1; depth > 0 && s.at < len(s.text); {
		switch s.text[s.at] {
		case kindString:
			s.quoted()
			continue
		case kindObject, kindArray:
			depth++
		case '}', ']':
			depth--
		}
		s.at++
	}
}

// quoted skips the string that it is at and returns it with its quotes.
func (s *scanner) quoted() []byte {
	start := s.at
	s.at++
	for {
		quote := bytes.IndexByte(s.text[s.at:], '"')
		if quote < 0 {
			s.at = len(s.text)
			return s.text[start:]
		}
		s.at += quote + 1
		escapes := 0
		for s.text[s.at-2-escapes] == '\\' { // ends at the quote before, at the latest
			escapes++
		}
		if escapes%2 == 0 {
			return s.text[start:s.at]
		}
	}
}
