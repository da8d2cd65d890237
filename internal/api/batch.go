package api

import (
	"bytes"

	"triggerd/internal/trigger"
)

// maxBatch is the maximum number of events of a request.
const maxBatch = 1000

// jsonSpace is the white space of JSON (RFC 8259, section 2).
const jsonSpace = " \t\r\n"

// splitArray returns the elements of a JSON array, without surrounding white
// space. Each is a copy, so that an event that lives longer than its request
// does not keep the others. The first error from the left counts. It is
// Malformed if the body is not an array or not JSON. An element may be nested as
// deep as a body of its own; see checkJSON for its errors. The error is Invalid
// if the array is empty, or has more than maxBatch elements; the rest is then
// not checked.
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

// elementEnd returns the end of the first element of an array: the index of its
// comma or closing bracket, or -1. On invalid JSON it may return a wrong index,
// but then what it cuts off is not a valid element either.
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

// splitLines returns the non-blank lines of a body, without surrounding white
// space, so that Windows line ends are accepted. Each is a copy, as in
// splitArray. It does not check the lines, so that a bad one does not affect
// others. The error is Invalid if it finds no lines, or more than maxBatch.
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
