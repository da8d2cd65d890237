package api

import (
	"bytes"
	"slices"
	"strings"
	"time"

	"github.com/tidwall/gjson"

	"triggerd/internal/trigger"
)

// parseEvent reads an event as /v1 takes it: {"type","payload","dedup_id",
// "deliver_at","traceparent"}, the last three optional. Its payload is kept as
// parseEnvelope keeps it. Malformed and Invalid where parseMembers says so, and
// Invalid, with a pointer, where a member is missing or not as it must be. A
// deliver_at that is not after now counts as absent; how far ahead it may lie
// is not judged here. A traceparent that W3C would not take is dropped: no
// event is refused for its tracing.
func parseEvent(orgID int64, body []byte, now time.Time) (*trigger.Event, error) {
	o, err := parseMembers(body, "type", "payload", "dedup_id", "deliver_at", "traceparent")
	if err != nil {
		return nil, err
	}
	eventType, err := o.required("type")
	if err != nil {
		return nil, trigger.AtMember(err, "#/type")
	}
	payload := o.raw("payload")
	if payload == nil {
		return nil, trigger.Errorf(trigger.Invalid, "payload is missing").At("#/payload")
	}
	dedupID, present, err := o.str("dedup_id")
	switch {
	case err != nil:
		return nil, trigger.AtMember(err, "#/dedup_id")
	case present && dedupID == "":
		return nil, trigger.Errorf(trigger.Invalid, "dedup_id must not be empty").At("#/dedup_id")
	}
	deliverAt, err := readDeliverAt(&o, now)
	if err != nil {
		return nil, trigger.AtMember(err, "#/deliver_at")
	}
	traceparent, err := readTraceparent(&o)
	if err != nil {
		return nil, trigger.AtMember(err, "#/traceparent")
	}
	event, err := trigger.NewEvent(orgID, strings.Clone(eventType), strings.Clone(dedupID), keep(body, payload))
	if err != nil {
		pointer := "#/dedup_id"
		if _, typeErr := trigger.NewEvent(orgID, eventType, "", nil); typeErr != nil {
			pointer = "#/type"
		}
		return nil, trigger.AtMember(err, pointer)
	}
	event.DeliverAt, event.Traceparent = deliverAt, traceparent
	return event, nil
}

// parseMembers is parseObject as /v1 has it: a body that cannot be read as a
// JSON object is Malformed, and a member of another name is Invalid, as is one
// that is there twice, with a pointer to it.
func parseMembers(body []byte, names ...string) (o object, err error) {
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
		switch {
		case i < 0:
			err = trigger.Errorf(trigger.Invalid, "unknown member %.64q", key.Str).At(pointerTo(key.Str))
		case o.values[i] != nil:
			err = trigger.Errorf(trigger.Invalid, "%s must appear only once", names[i]).At(pointerTo(names[i]))
		default:
			end := value.Index + len(value.Raw)
			o.values[i] = body[value.Index:end:end] // an append must not write on
			return true
		}
		return false
	})
	return o, err
}

// keep gives a part of body to an event, which lives longer than its request:
// the part itself, or a copy where body holds much else.
func keep(body, part []byte) []byte {
	if cap(body) > 2*len(part)+1024 {
		return bytes.Clone(part)
	}
	return slices.Clip(part)
}

// readDeliverAt gives the member deliver_at; zero if it is absent or not after
// now.
func readDeliverAt(o *object, now time.Time) (time.Time, error) {
	s, present, err := o.str("deliver_at")
	if err != nil || !present {
		return time.Time{}, err
	}
	at, ok := parseRFC3339(s)
	switch {
	case !ok:
		return time.Time{}, trigger.Errorf(trigger.Invalid, "deliver_at must be an RFC 3339 time, for example 2026-01-02T03:04:05Z; got %.60q", s)
	case !at.After(now):
		return time.Time{}, nil
	}
	return at, nil
}

// parseRFC3339 reads a time with any offset, as the grammar of RFC 3339 has it:
// T and Z in either case, and a leap second, which is taken as the second after
// it. The time is in UTC.
func parseRFC3339(s string) (at time.Time, ok bool) {
	const second = len("2006-01-02T15:04:")
	s, leap := strings.ToUpper(s), time.Duration(0)
	if len(s) > second && strings.HasPrefix(s[second:], "60") {
		s, leap = s[:second]+"59"+s[second+2:], time.Second
	}
	at, err := time.Parse(time.RFC3339, s)
	if err != nil || isLoose(s) {
		return time.Time{}, false
	}
	at = at.UTC().Add(leap)
	if hour, minute, sec := at.Clock(); leap > 0 && hour+minute+sec > 0 { // they end a day in UTC
		return time.Time{}, false
	}
	return at, true
}

// isLoose reports whether a time that [time.Parse] took is more than RFC 3339
// allows: an hour of one digit, a decimal comma, an offset of a day or more.
func isLoose(s string) bool {
	offset := s[len(s)-len("+15:04"):]
	return s[len("2006-01-02T15")] != ':' || strings.Contains(s, ",") ||
		!strings.HasSuffix(s, "Z") && (offset[1:3] > "23" || offset[4:] > "59")
}

// readTraceparent gives the member traceparent, "" if it is absent or none that
// W3C would take. Invalid if it is no string.
func readTraceparent(o *object) (string, error) {
	raw := o.raw("traceparent")
	if raw == nil || raw[0] != '"' {
		_, _, err := o.str("traceparent")
		return "", err
	}
	s := gjson.ParseBytes(raw).Str
	if !validTraceparent(s) {
		return "", nil
	}
	return strings.Clone(s), nil
}

// maxTraceparent bounds what is kept of a version to come, in bytes.
const maxTraceparent = 255

// validTraceparent judges by W3C Trace Context (section 3.2): version, trace
// id, parent id and flags, in lower-case hexadecimal digits. A version to come
// may have more behind a further "-", all of it visible ASCII here.
func validTraceparent(s string) bool {
	const size = len("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	if len(s) < size || s[2] != '-' || s[35] != '-' || s[52] != '-' {
		return false
	}
	version, trace, parent, rest := s[:2], s[3:35], s[36:52], s[size:]
	if !isHex(version+trace+parent+s[53:size]) || version == "ff" || !nonZero(trace) || !nonZero(parent) {
		return false
	}
	if rest == "" {
		return true
	}
	invisible := func(r rune) bool { return r <= ' ' || r > '~' }
	return version != "00" && rest[0] == '-' && len(s) <= maxTraceparent && !strings.ContainsFunc(rest, invisible)
}

func isHex(s string) bool { return strings.Trim(s, "0123456789abcdef") == "" }

func nonZero(s string) bool { return strings.Trim(s, "0") != "" }

// maxPointer bounds the names that a pointer spells out, in bytes.
const maxPointer = 255

// pointerTo points to a member of the outermost object: a JSON Pointer (RFC
// 6901) as the fragment of a URI, percent-encoded where RFC 3986 asks for it.
// Where the name is very long, it points to the object.
func pointerTo(name string) string {
	const hexDigits = "0123456789ABCDEF"
	if len(name) > maxPointer {
		return "#"
	}
	b := make([]byte, 0, len("#/")+len(name))
	b = append(b, "#/"...)
	for i := range len(name) {
		switch c := name[i]; {
		case c == '~':
			b = append(b, "~0"...)
		case c == '/':
			b = append(b, "~1"...)
		case 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("-._!$&'()*+,;=:@?", c) >= 0:
			b = append(b, c)
		default:
			b = append(b, '%', hexDigits[c>>4], hexDigits[c&0xf])
		}
	}
	return string(b)
}
