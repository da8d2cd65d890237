package api

import (
	"bytes"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/tidwall/gjson"

	"triggerd/internal/trigger"
)

// maxNesting is how deep a body may be nested; its outermost value is level 1.
const maxNesting = 64

// maxMembers bounds the members of an object.
const maxMembers = 8

// parseEnvelope parses an event: {"type","payload","dedup_id"}. Its payload is a
// part of body, byte for byte, or a copy if body is much larger. The event
// refers to nothing else of body. The error is Malformed or Invalid as in
// parseObject and [trigger.NewEvent], and Invalid if type or payload is missing
// or dedup_id is empty. A null dedup_id counts as absent.
func parseEnvelope(orgID int64, body []byte) (*trigger.Event, error) {
	o, err := parseObject(body, "type", "payload", "dedup_id")
	if err != nil {
		return nil, err
	}
	eventType, err := o.required("type")
	if err != nil {
		return nil, err
	}
	payload := o.raw("payload")
	if payload == nil {
		return nil, trigger.Errorf(trigger.Invalid, "payload is missing")
	}
	dedupID, present, err := o.str("dedup_id")
	switch {
	case err != nil:
		return nil, err
	case present && dedupID == "":
		return nil, trigger.Errorf(trigger.Invalid, "dedup_id must not be empty")
	}
	if cap(body) > 2*len(payload)+1024 { // the event lives longer than its request
		payload = bytes.Clone(payload)
	}
	return trigger.NewEvent(orgID, strings.Clone(eventType), strings.Clone(dedupID), payload)
}

// object holds the requested members of a JSON object.
type object struct {
	names  [maxMembers]string
	values [maxMembers][]byte // by index of the name; nil if absent
}

// parseObject reads the named members of a JSON object, at most maxMembers.
// Names are compared after decoding and are case-sensitive. Other members are
// ignored. The error is Malformed as in checkJSON and if the body is not an
// object. It is Invalid if one of the names is repeated.
func parseObject(body []byte, names ...string) (o object, err error) {
	if err := checkJSON(body); err != nil {
		return o, err
	}
	root := gjson.ParseBytes(body)
	if !root.IsObject() {
		return o, trigger.Errorf(trigger.Malformed, "body must be a JSON object")
	}
	copy(o.names[:], names)
	root.ForEach(func(key, value gjson.Result) bool {
		i := slices.Index(names, key.Str)
		if i < 0 {
			return true
		}
		if o.values[i] != nil {
			err = trigger.Errorf(trigger.Invalid, "%s must appear only once", names[i])
			return false
		}
		end := value.Index + len(value.Raw)
		o.values[i] = body[value.Index:end:end] // an append must not overwrite what follows
		return true
	})
	return o, err
}

// checkJSON checks a whole body. The error is Malformed unless the body is
// UTF-8, nested at most 64 levels, and valid JSON (RFC 8259).
func checkJSON(body []byte) error {
	switch {
	case !utf8.Valid(body):
		return trigger.Errorf(trigger.Malformed, "body must be valid UTF-8")
	case nestedOver(body, maxNesting): // first, so that the checks below recurse no deeper
		return trigger.Errorf(trigger.Malformed, "body must be nested at most %d levels deep", maxNesting)
	case !json.Valid(body): // not by gjson, which also accepts invalid JSON
		return trigger.Errorf(trigger.Malformed, "body is not valid JSON")
	}
	return nil
}

// nestedOver reports whether arrays and objects are nested over limit levels.
// The body need not be valid JSON. nestedOver does not recurse.
func nestedOver(body []byte, limit int) bool {
	depth, inString := 0, false
	for i := 0; i < len(body); i++ {
		switch c := body[i]; {
		case inString && c == '\\':
			i++
		case c == '"':
			inString = !inString
		case inString:
		case c == '{' || c == '[':
			if depth++; depth > limit {
				return true
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	return false
}

// raw returns the bytes of a member's value, without surrounding white space, or
// nil if it is absent. The name must be a requested one.
func (o *object) raw(name string) []byte {
	return o.values[slices.Index(o.names[:], name)]
}

// str returns a member that is a string. null counts as absent. The error is
// Invalid if it is something else, or has a NUL or a lone surrogate. (UTF-8
// cannot represent lone surrogates, so different strings would become equal.)
func (o *object) str(name string) (value string, present bool, err error) {
	raw := o.raw(name)
	switch {
	case raw == nil || raw[0] == 'n':
		return "", false, nil
	case raw[0] != '"':
		return "", false, trigger.Errorf(trigger.Invalid, "%s must be a string", name)
	case hasLoneSurrogate(raw):
		return "", false, trigger.Errorf(trigger.Invalid, "%s must not have a lone surrogate", name)
	}
	value = gjson.ParseBytes(raw).Str
	if strings.IndexByte(value, 0) >= 0 {
		return "", false, trigger.Errorf(trigger.Invalid, "%s must not have a NUL character", name)
	}
	return value, true, nil
}

// required returns a member that must be a non-empty string. The error is
// Invalid otherwise.
func (o *object) required(name string) (string, error) {
	value, present, err := o.str(name)
	switch {
	case err != nil:
		return "", err
	case !present:
		return "", trigger.Errorf(trigger.Invalid, "%s is missing", name)
	case value == "":
		return "", trigger.Errorf(trigger.Invalid, "%s must not be empty", name)
	}
	return value, nil
}

// hasLoneSurrogate reports whether a valid JSON string has one half of a
// surrogate pair, \ud800 to \udfff, without the other.
func hasLoneSurrogate(raw []byte) bool {
	for i := 0; i < len(raw); i++ {
		if raw[i] != '\\' {
			continue
		}
		unit := escapedUnit(raw[i:])
		switch {
		case unit < 0:
			i++ // an escape of two bytes
		case !utf16.IsSurrogate(unit):
			i += 5
		case utf16.DecodeRune(unit, escapedUnit(raw[i+6:])) == utf8.RuneError:
			return true
		default:
			i += 11
		}
	}
	return false
}

// escapedUnit returns the UTF-16 unit of the \u escape at the start of raw, or
// -1 if raw does not start with one.
func escapedUnit(raw []byte) rune {
	if len(raw) < 6 || raw[0] != '\\' || raw[1] != 'u' {
		return -1
	}
	unit, _ := strconv.ParseUint(string(raw[2:6]), 16, 16) // valid JSON has 4 digits here
	return rune(unit)
}
