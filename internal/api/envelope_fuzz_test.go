package api

import (
	"bytes"
	"encoding/json"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"triggerd/internal/trigger"
)

// FuzzParseEnvelope compares with a decoder made of encoding/json alone: the
// same bodies are accepted, and the same comes out of them.
func FuzzParseEnvelope(f *testing.F) {
	for body := range goodEnvelopes() {
		f.Add([]byte(body))
	}
	for body := range badEnvelopes() {
		f.Add([]byte(body))
	}
	f.Add([]byte(ordinary))
	f.Fuzz(func(t *testing.T, body []byte) {
		before := bytes.Clone(body)
		event, err := parseEnvelope(1, body)
		if !bytes.Equal(body, before) {
			t.Fatal("the body was changed")
		}
		want, ok := decodeEnvelope(body)
		switch {
		case ok != (err == nil):
			t.Fatalf("%q: %v, while encoding/json finds %+v", body, err, want)
		case err != nil:
			if event != nil || !isRefusal(err) || !utf8.ValidString(err.Error()) {
				t.Fatalf("%q: %v", body, err)
			}
		case event.Type != want.Type || event.DedupID != want.DedupID || !bytes.Equal(event.Payload, want.Payload):
			t.Fatalf("%q: %+v, want %+v", body, event, want)
		case !bytes.Contains(body, event.Payload):
			t.Fatalf("%q: the payload is not in it: %q", body, event.Payload)
		}
	})
}

// decodeEnvelope is parseEnvelope once more, slow and from other parts.
func decodeEnvelope(body []byte) (event trigger.Event, ok bool) {
	if !utf8.Valid(body) || !json.Valid(body) || depth(body) > 64 {
		return event, false
	}
	dec := json.NewDecoder(bytes.NewReader(body))
	if open, err := dec.Token(); err != nil || open != json.Delim('{') {
		return event, false
	}
	members := map[string]json.RawMessage{}
	for dec.More() {
		name, err := dec.Token()
		var value json.RawMessage
		if err != nil || dec.Decode(&value) != nil {
			return event, false
		}
		switch _, twice := members[name.(string)]; {
		case name != "type" && name != "payload" && name != "dedup_id":
		case twice:
			return event, false
		default:
			members[name.(string)] = value
		}
	}
	var okType, okDedup bool
	event.Payload = members["payload"]
	event.Type, okType = decodeText(members["type"])
	if raw := members["dedup_id"]; raw == nil || string(raw) == "null" {
		okDedup = true
	} else {
		event.DedupID, okDedup = decodeText(raw)
	}
	control := strings.ContainsFunc(event.Type, func(r rune) bool { return r < ' ' || r > '~' && r < '\u00a0' })
	return event, event.Payload != nil && okType && okDedup && !control
}

// depth counts the levels of a valid body by its tokens.
func depth(body []byte) (deepest int) {
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.UseNumber()
	for level := 0; ; {
		token, err := dec.Token()
		if err != nil {
			return deepest
		}
		switch token {
		case json.Delim('{'), json.Delim('['):
			level++
			deepest = max(deepest, level)
		case json.Delim('}'), json.Delim(']'):
			level--
		}
	}
}

// decodeText reads a string of 1–255 bytes without NUL and lone surrogates.
// What is left of surrogates once escaped backslashes and whole pairs are
// taken out is lone.
func decodeText(raw json.RawMessage) (s string, ok bool) {
	if len(raw) == 0 || raw[0] != '"' || json.Unmarshal(raw, &s) != nil {
		return "", false
	}
	rest := strings.ReplaceAll(string(raw), `\\`, "-")
	rest = regexp.MustCompile(`(?i)\\ud[89ab][0-9a-f]{2}\\ud[c-f][0-9a-f]{2}`).ReplaceAllString(rest, "-")
	lone := regexp.MustCompile(`(?i)\\ud[89a-f]`).MatchString(rest)
	return s, !lone && s != "" && len(s) <= 255 && !strings.Contains(s, "\x00")
}

// isRefusal reports an error that is the client's: the body cannot be read, or
// says what cannot be.
func isRefusal(err error) bool {
	kind := trigger.KindOf(err)
	return kind == trigger.Malformed || kind == trigger.Invalid
}
