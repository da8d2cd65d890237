package api

import (
	"bytes"
	"slices"
	"strings"
	"time"

	"github.com/tidwall/gjson"

	"triggerd/internal/trigger"
)

// parseEvent parses an event of /v1: {"type","payload","dedup_id","deliver_at",
// "traceparent"}, the last three optional. It keeps the payload as parseEnvelope
// does. The error is Malformed or Invalid as in parseMembers, and Invalid, with
// a pointer, if a member is missing or not valid. A deliver_at that is not after
// now counts as absent; the caller must check how far ahead it is. A traceparent
// that is not valid by W3C is dropped: no event is refused because of its
// tracing.
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

// parseMembers is parseObject for /v1: other members are Invalid, and so is a
// repeated member, with a pointer to it. The error is Malformed if the body is
// not a JSON object.
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
			o.values[i] = body[value.Index:end:end] // an append must not overwrite what follows
			return true
		}
		return false
	})
	return o, err
}

// keep returns a part of body for an event, which lives longer than its request:
// the part itself, or a copy if body is much larger.
func keep(body, part []byte) []byte {
	if cap(body) > 2*len(part)+1024 {
		return bytes.Clone(part)
	}
	return slices.Clip(part)
}

// readDeliverAt returns the member deliver_at, or zero if it is absent or not
// after now.
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

// parseRFC3339 parses a time with any offset by the grammar of RFC 3339: T and Z
// in either case, and a leap second, which becomes the second after it. The
// result is in UTC.
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
	if hour, minute, sec := at.Clock(); leap > 0 && hour+minute+sec > 0 { // leap seconds end a day in UTC
		return time.Time{}, false
	}
	return at, true
}

// isLoose reports whether [time.Parse] accepted more than RFC 3339 allows: an
// hour of one digit, a decimal comma, an offset of a day or more.
func isLoose(s string) bool {
	offset := s[len(s)-len("+15:04"):]
	return s[len("2006-01-02T15")] != ':' || strings.Contains(s, ",") ||
		!strings.HasSuffix(s, "Z") && (offset[1:3] > "23" || offset[4:] > "59")
}

// readTraceparent returns the member traceparent, or "" if it is absent or not
// valid by W3C. The error is Invalid if it is not a string.
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

// maxTraceparent bounds the traceparent of a future version, in bytes.
const maxTraceparent = 255

// validTraceparent reports whether s follows W3C Trace Context (section 3.2):
// version, trace id, parent id and flags, in lower-case hexadecimal digits. A
// future version may have more after another "-", here only visible ASCII.
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

// maxPointer bounds the length of a name in a pointer, in bytes.
const maxPointer = 255

// pointerTo returns a JSON Pointer (RFC 6901) to a member of the outermost
// object, as a URI fragment, percent-encoded as RFC 3986 requires. If the name
// is over maxPointer, it points to the object.
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
