package api

import (
	"bytes"
	"encoding/json"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"triggerd/internal/trigger"
)

// FuzzParseEvent compares with a decoder made of encoding/json alone: the same
// bodies are accepted, and the same comes out of them.
func FuzzParseEvent(f *testing.F) {
	for body := range badEvents() {
		f.Add([]byte(body))
	}
	f.Add([]byte(ordinary))
	f.Add([]byte(`{"type":"t","payload":[],"deliver_at":"2026-01-02T15:30:00.000+02:30","traceparent":"` + goodTrace + `"}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		before := bytes.Clone(body)
		event, err := parseEvent(1, body, noon())
		if !bytes.Equal(body, before) {
			t.Fatal("the body was changed")
		}
		want, ok := decodeEvent(body)
		switch {
		case ok != (err == nil):
			t.Fatalf("%q: %v, while encoding/json finds %+v", body, err, want)
		case err != nil:
			if event != nil {
				t.Fatalf("%q: %v", body, event)
			}
			checkRefusal(t, err)
		case event.Type != want.Type || event.DedupID != want.DedupID || !bytes.Equal(event.Payload, want.Payload):
			t.Fatalf("%q: %+v, want %+v", body, event, want)
		case !event.DeliverAt.Equal(want.DeliverAt) || event.Traceparent != want.Traceparent:
			t.Fatalf("%q: %+v, want %+v", body, event, want)
		case event.Cloud != nil || event.OrganizationID != 1:
			t.Fatalf("%q: %+v", body, event)
		}
	})
}

// decodeEvent is parseEvent once more, slow and from other parts.
func decodeEvent(body []byte) (event trigger.Event, ok bool) {
	members, ok := decodeMembers(body)
	if !ok {
		return event, false
	}
	for _, m := range members {
		switch m.name {
		case "payload":
			event.Payload = m.value
			continue
		case "type", "dedup_id", "deliver_at", "traceparent":
		default:
			return event, false
		}
		if string(m.value) == "null" {
			continue
		}
		var s string
		if json.Unmarshal(m.value, &s) != nil {
			return event, false
		}
		text, isText := decodeText(m.value)
		switch m.name {
		case "type":
			ok = ok && isText && !strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r > '~' && r < '\u00a0' })
			event.Type = text
		case "dedup_id":
			ok = ok && isText
			event.DedupID = text
		case "deliver_at":
			at, isTime := decodeTime(s)
			ok = ok && isTime
			if at.After(noon()) {
				event.DeliverAt = at
			}
		case "traceparent":
			if isTraceparent(s) {
				event.Traceparent = s
			}
		}
	}
	return event, ok && event.Payload != nil && event.Type != ""
}

// member is one of an object, in the order they stand.
type member struct {
	name  string
	value json.RawMessage
}

// decodeMembers reads a body that is an object without a name twice.
func decodeMembers(body []byte) (members []member, ok bool) {
	if !utf8.Valid(body) || !json.Valid(body) || depth(body) > 64 {
		return nil, false
	}
	dec := json.NewDecoder(bytes.NewReader(body))
	if open, err := dec.Token(); err != nil || open != json.Delim('{') {
		return nil, false
	}
	seen := map[string]bool{}
	for dec.More() {
		name, err := dec.Token()
		m := member{}
		if err != nil || dec.Decode(&m.value) != nil {
			return nil, false
		}
		m.name, _ = name.(string)
		if seen[m.name] {
			return nil, false
		}
		seen[m.name] = true
		members = append(members, m)
	}
	return members, true
}

// decodeTime reads the grammar of RFC 3339, section 5.6, by a pattern.
func decodeTime(s string) (time.Time, bool) {
	pattern := regexp.MustCompile(`^(\d{4}-\d\d-\d\d)[Tt](\d\d:\d\d:)(\d\d)(\.\d+)?([Zz]|[+-](?:[01]\d|2[0-3]):[0-5]\d)$`)
	parts := pattern.FindStringSubmatch(s)
	if parts == nil {
		return time.Time{}, false
	}
	layout, second, zone := "2006-01-02 15:04:05Z07:00", parts[3], strings.ToUpper(parts[5])
	leap := second == "60"
	if leap {
		second = "59"
	}
	at, err := time.Parse(layout, parts[1]+" "+parts[2]+second+parts[4]+zone)
	if err != nil || !leap {
		return at, err == nil
	}
	return at.Add(time.Second), strings.HasPrefix(at.UTC().Format("15:04:05"), "23:59:59")
}

// isTraceparent is validTraceparent by patterns.
func isTraceparent(s string) bool {
	shape := regexp.MustCompile(`^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(-[!-~]*)?$`)
	zero := regexp.MustCompile(`^(ff-|..-0{32}-|.{35}-0{16}-)`)
	return shape.MatchString(s) && !zero.MatchString(s) && len(s) <= 255 && (len(s) == 55 || !strings.HasPrefix(s, "00"))
}
