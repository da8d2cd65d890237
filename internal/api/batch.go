package api

import (
	"bytes"

	"triggerd/internal/trigger"
)

// maxBatch is how many events one request may have.
const maxBatch = 1000

// jsonSpace is what JSON takes as white space (RFC 8259, section 2).
const jsonSpace = " \t\r\n"

// splitArray gives the elements of a body that is a JSON array, without the
// white space around them. Each is a copy, so that an event that lives longer
// than its request holds nothing of the others. The first fault from the left
// decides: Malformed where the body is no array, or no JSON, or where checkJSON
// says so of an element, which may be nested as deep as a body of its own;
// Invalid where there is no element, or one more than maxBatch, behind which
// nothing is looked at.
func splitArray(body []byte) ([][]byte, error) {
	rest, isArray := bytes.CutPrefix(bytes.TrimLeft(body, jsonSpace), []byte("["))
	if !isArray {
		return nil, trigger.Errorf(trigger.Malformed, "body must be a JSON array")
	}
	var elements [][]byte
	for last := false; !last; {
		end := elementEnd(rest)
		if end < 0 {
			return nil, trigger.Errorf(trigger.Malformed, "body is not valid JSON")
		}
		element := bytes.Trim(rest[:end], jsonSpace)
		last, rest = rest[end] == ']', rest[end+1:]
		if last && elements == nil && len(element) == 0 {
			break
		}
		if len(elements) == maxBatch {
			return nil, tooManyEvents()
		}
		// An array whose elements are all valid, between commas, is valid.
		if err := checkJSON(element); err != nil {
			return nil, err
		}
		elements = append(elements, bytes.Clone(element))
	}
	switch {
	case len(bytes.Trim(rest, jsonSpace)) > 0:
		return nil, trigger.Errorf(trigger.Malformed, "body is not valid JSON")
	case elements == nil:
		return nil, noEvents()
	}
	return elements, nil
}

// elementEnd is where the first element of an array ends: at its comma or its
// closing bracket; -1 if it does not end. It needs no valid JSON: it is right
// where the element is valid, and else what it finds is no element either.
func elementEnd(rest []byte) int {
	depth, inString := 0, false
	for i := 0; i < len(rest); i++ {
		switch c := rest[i]; {
		case inString && c == '\\':
			i++
		case c == '"':
			inString = !inString
		case inString:
		case c == '{' || c == '[':
			depth++
		case depth > 0 && (c == '}' || c == ']'):
			depth--
		case depth == 0 && (c == ',' || c == ']'):
			return i
		}
	}
	return -1
}

// splitLines gives the lines of a body that are not blank, without the white
// space around them, so that lines may end as Windows ends them. Each is a
// copy, as those of splitArray are. What a line holds is not judged: a bad one
// spoils no other. Invalid if there is none, or one more than maxBatch.
func splitLines(body []byte) ([][]byte, error) {
	var lines [][]byte
	for line := range bytes.Lines(body) {
		line = bytes.Trim(line, jsonSpace)
		switch {
		case len(line) == 0:
			continue
		case len(lines) == maxBatch:
			return nil, tooManyEvents()
		}
		lines = append(lines, bytes.Clone(line))
	}
	if lines == nil {
		return nil, noEvents()
	}
	return lines, nil
}

func tooManyEvents() error {
	return trigger.Errorf(trigger.Invalid, "a batch must have at most %d events", maxBatch)
}

func noEvents() error { return trigger.Errorf(trigger.Invalid, "a batch must have at least one event") }
