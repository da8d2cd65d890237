package api

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/tidwall/gjson"

	"triggerd/internal/trigger"
)

// Bounds of a CloudEvent's context attributes, in bytes. The standard has no
// limits, and recommends names of at most 20.
const (
	maxAttributeName = 64
	maxAttributes    = 16 << 10 // all together, as the JSON object in which they are kept
)

// parseCloudEvent parses a CloudEvent 1.0 in its JSON format: a body in
// structured mode, or an element of a batch. Its data is the payload, kept as in
// parseEnvelope, or null if absent. The payload for data_base64 is the base64 as
// a string, unchanged. Source and id form the dedup id. null counts as absent,
// as in the standard. The error is Malformed if the body is not a JSON object.
// It is Invalid, with a pointer, if a member is repeated, an attribute violates
// the standard, or data and data_base64 are both present.
func parseCloudEvent(orgID int64, body []byte) (*trigger.Event, error) {
	if err := checkJSON(body); err != nil {
		return nil, err
	}
	root := gjson.ParseBytes(body)
	if !root.IsObject() {
		return nil, trigger.Errorf(trigger.Malformed, "body must be a JSON object")
	}
	a := attributes{seen: map[string]bool{}}
	var data, binary gjson.Result
	var err error
	root.ForEach(func(key, value gjson.Result) bool {
		member := &data
		switch key.Str {
		case "data":
		case "data_base64":
			member = &binary
		default:
			err = a.add(key.Str, value)
			return err == nil
		}
		if member.Exists() {
			err = a.fault(key.Str, "must appear only once")
		}
		*member = value
		return err == nil
	})
	if err != nil {
		return nil, err
	}
	isBinary := binary.Type != gjson.Null
	switch {
	case isBinary && data.Exists():
		return nil, a.fault("data_base64", "must not appear together with data")
	case isBinary && !isBase64(binary):
		return nil, a.fault("data_base64", "must be a base64 string")
	case isBinary:
		data = binary
	case !data.Exists():
		return a.event(orgID, []byte("null"), false)
	}
	end := data.Index + len(data.Raw)
	return a.event(orgID, keep(body, body[data.Index:end]), isBinary)
}

// isBase64 reports whether a value is a string in the standard's base64 (RFC
// 4648, section 4), padded and without line breaks, which Go would ignore.
func isBase64(value gjson.Result) bool {
	if value.Type != gjson.String || strings.ContainsAny(value.Str, "\r\n") {
		return false
	}
	_, err := base64.StdEncoding.DecodeString(value.Str)
	return err == nil
}

// attributes collects the context attributes of a CloudEvent in the order they
// come, in either mode.
type attributes struct {
	inHeaders   bool // binary mode: errors name headers, and have no pointers
	seen        map[string]bool
	size        int             // of all so far, as appendAttribute writes them
	required    [4]gjson.Result // of requiredAttributes; the zero Result if absent
	others      []byte          // as appendAttribute writes them
	traceparent string
}

func requiredAttributes() [4]string { return [...]string{"specversion", "id", "source", "type"} }

// add adds one attribute. The error is Invalid if it is repeated, not valid, or
// exceeds maxAttributes.
func (a *attributes) add(name string, value gjson.Result) error {
	switch {
	case len(name) > maxAttributeName:
		return a.fault(name, "is not a valid attribute name: want at most "+strconv.Itoa(maxAttributeName)+" bytes")
	case !isAttributeName(name):
		return a.fault(name, "is not a valid attribute name: want lower-case letters and digits, and not data")
	case a.seen[name]:
		return a.fault(name, "must appear only once")
	}
	a.seen[name] = true
	if a.size += len(name) + len(value.Raw) + len(`"":,`); len("{")+a.size > maxAttributes {
		return trigger.Errorf(trigger.Invalid, "the attributes must have at most %d bytes in total", maxAttributes)
	}
	if value.Type == gjson.Null {
		return nil
	}
	if wrong := judgeAttribute(name, value); wrong != "" {
		return a.fault(name, wrong)
	}
	names := requiredAttributes()
	if i := slices.Index(names[:], name); i >= 0 {
		a.required[i] = value
		return nil
	}
	a.others = appendAttribute(a.others, name, value.Raw)
	if name == "traceparent" && validTraceparent(value.Str) {
		a.traceparent = strings.Clone(value.Str)
	}
	return nil
}

// isAttributeName reports whether a name has only lower-case letters and digits.
// "data" is the payload, and so not an attribute, in a header either.
func isAttributeName(name string) bool {
	other := func(r rune) bool { return (r < 'a' || r > 'z') && (r < '0' || r > '9') }
	return name != "" && name != "data" && !strings.ContainsFunc(name, other)
}

// judgeAttribute returns what is wrong with a value, or "". Values are strings,
// integers or booleans; the standard's own attributes have strings.
func judgeAttribute(name string, value gjson.Result) string {
	named := false
	switch name {
	case "specversion", "id", "source", "type", "subject", "time", "datacontenttype", "dataschema":
		named = true
	}
	switch {
	case value.Type == gjson.String && named && value.Str == "":
		return "must not be empty"
	case value.Type == gjson.String:
		return judgeText(name, value)
	case named:
		return "must be a string"
	case value.Type == gjson.JSON:
		return "must be a string, an integer or a boolean"
	case value.Type == gjson.Number:
		if _, err := strconv.ParseInt(value.Raw, 10, 32); err != nil {
			return "must be a 32-bit integer; got " + clipped(value.Raw)
		}
	}
	return ""
}

// judgeText is judgeAttribute for a string. A source must not have a space,
// because URI references have none, and because source and id would then be
// ambiguous in the dedup id.
func judgeText(name string, value gjson.Result) string {
	text := value.Str
	switch {
	case !utf8.ValidString(text): // from a header; JSON was checked as a whole
		return "must be valid UTF-8"
	case hasLoneSurrogate([]byte(value.Raw)):
		return "must not have a lone surrogate"
	case strings.ContainsFunc(text, unicode.IsControl):
		return "must not have control characters"
	case name == "specversion" && text != "1.0":
		return "must be 1.0; got " + strconv.Quote(clipped(text))
	case name == "source" && strings.Contains(text, " "):
		return "must be a URI reference, which has no spaces"
	case name == "time":
		if _, ok := parseRFC3339(text); !ok {
			return "must be an RFC 3339 time, for example 2026-01-02T03:04:05Z; got " + strconv.Quote(clipped(text))
		}
	}
	return ""
}

// fault returns an error about an attribute or another member.
func (a *attributes) fault(name, wrong string) error {
	switch {
	case a.inHeaders && name == "datacontenttype":
		return trigger.Errorf(trigger.Invalid, "Content-Type %s", wrong)
	case a.inHeaders:
		return trigger.Errorf(trigger.Invalid, "ce-%s %s", shown(name), wrong)
	}
	return trigger.Errorf(trigger.Invalid, "%s %s", shown(name), wrong).At(pointerTo(name))
}

// event returns the event of the attributes and the payload. The error is
// Invalid if a required attribute is absent or not valid for [trigger.NewEvent].
func (a *attributes) event(orgID int64, payload []byte, base64 bool) (*trigger.Event, error) {
	all := append(make([]byte, 0, len("{")+a.size), '{')
	for i, name := range requiredAttributes() {
		if !a.required[i].Exists() {
			return nil, a.fault(name, "is missing")
		}
		all = appendAttribute(all, name, a.required[i].Raw)
	}
	all = append(all, a.others...)
	all[len(all)-1] = '}' // it was a comma
	id, source, eventType := a.required[1].Str, a.required[2].Str, a.required[3].Str
	event, err := trigger.NewEvent(orgID, strings.Clone(eventType), cloudDedupID(source, id), payload)
	switch {
	case err != nil && a.inHeaders:
		return nil, err
	case err != nil: // cloudDedupID only returns valid dedup ids
		return nil, trigger.AtMember(err, "#/type")
	}
	event.Traceparent = a.traceparent
	event.Cloud = &trigger.CloudEvent{Attributes: all, Base64: base64}
	return event, nil
}

func appendAttribute(b []byte, name, raw string) []byte {
	b = append(b, '"')
	b = append(b, name...)
	b = append(b, `":`...)
	b = append(b, raw...)
	return append(b, ',')
}

// cloudDedupID returns the dedup id: source and id identify a CloudEvent.
// Because a source has no space, different pairs have different ids.
func cloudDedupID(source, id string) string {
	both := source + " " + id
	if len(both) <= trigger.MaxDedupID {
		return both
	}
	sum := sha256.Sum256([]byte(both))
	return "sha256:" + hex.EncodeToString(sum[:])
}

// shown returns a name for a message. A name that is not valid may be any text,
// so it is quoted and cut.
func shown(name string) string {
	if name == "data" || name == "data_base64" || isAttributeName(name) && len(name) <= maxAttributeName {
		return name
	}
	return fmt.Sprintf("%.64q", name)
}
