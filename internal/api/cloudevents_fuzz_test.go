package api

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"triggerd/internal/trigger"
)

// FuzzParseCloudEvent compares with a decoder made of encoding/json alone.
func FuzzParseCloudEvent(f *testing.F) {
	for body := range badCloudEvents() {
		f.Add([]byte(body))
	}
	f.Add([]byte(cloud(`"data":{"a":[1]},"time":"2026-01-02T03:04:05Z","x":-1,"y":true,"subject":null`)))
	f.Add([]byte(cloud(`"data_base64":"3q2+7w==","traceparent":"` + goodTrace + `"`)))
	f.Fuzz(func(t *testing.T, body []byte) {
		before := bytes.Clone(body)
		event, err := parseCloudEvent(1, body)
		if !bytes.Equal(body, before) {
			t.Fatal("the body was changed")
		}
		payload, ok := decodeCloudEvent(body)
		switch {
		case ok != (err == nil):
			t.Fatalf("%q: %v, while encoding/json finds %q", body, err, payload)
		case err != nil:
			checkRefusal(t, err)
		case !bytes.Equal(event.Payload, payload):
			t.Fatalf("%q: %q, want %q", body, event.Payload, payload)
		default:
			checkCloudEvent(t, event)
		}
	})
}

// FuzzBinaryCloudEvent sends any headers and any body.
func FuzzBinaryCloudEvent(f *testing.F) {
	f.Add("1", "/s", "t", "a", "b", "text/plain", []byte("<x/>"))
	f.Add("%C3%A9", `"/a b"`, "100%", "time", "2026-01-02T03:04:05Z", "application/json", []byte(" [1] "))
	f.Add("a b", "/a%20b", "%ff", "traceparent", goodTrace, "", []byte("\xff"))
	f.Add("1", "/s", "t", "data", "b", "a/b+json", []byte(""))
	f.Fuzz(func(t *testing.T, id, source, eventType, name, value, contentType string, body []byte) {
		h := http.Header{"Ce-Specversion": {"1.0"}, "Ce-Id": {id}, "Ce-Source": {source}, "Ce-Type": {eventType}}
		h.Add("Ce-"+name, value)
		h.Set("Content-Type", contentType)
		before := bytes.Clone(body)
		event, err := parseBinaryCloudEvent(1, h, body)
		if !bytes.Equal(body, before) {
			t.Fatal("the body was changed")
		}
		if err != nil {
			checkRefusal(t, err)
			return
		}
		checkCloudEvent(t, event)
		media, _, _ := strings.Cut(strings.ToLower(contentType), ";")
		isJSON := contentType == "" || regexp.MustCompile(`^[^/]*/(.*\+)?json$`).MatchString(strings.TrimSpace(media))
		switch {
		case len(body) == 0:
			if string(event.Payload) != "null" {
				t.Fatalf("%q", event.Payload)
			}
		case isJSON:
			if !bytes.Equal(event.Payload, bytes.TrimSpace(body)) || event.Cloud.Base64 {
				t.Fatalf("%q: %q", body, event.Payload)
			}
		case !bytes.Equal(dataOf(t, event), body) || event.Cloud.Base64 == utf8.Valid(body):
			t.Fatalf("%q: %q", body, event.Payload)
		}
	})
}

// checkCloudEvent holds an event to what all of them keep.
func checkCloudEvent(t *testing.T, event *trigger.Event) {
	t.Helper()
	members, ok := decodeMembers(event.Cloud.Attributes)
	if !ok || len(event.Cloud.Attributes) > maxAttributes || !json.Valid(event.Payload) {
		t.Fatalf("%+v", event)
	}
	value := map[string]string{}
	for i, m := range members {
		text := ""
		if m.value[0] == '"' && json.Unmarshal(m.value, &text) != nil {
			t.Fatalf("%s", m.value)
		}
		value[m.name] = text
		first := []string{"specversion", "id", "source", "type"}
		if i < len(first) && m.name != first[i] || m.name == "data" || m.name == "data_base64" {
			t.Fatalf("%s", event.Cloud.Attributes)
		}
	}
	switch {
	case value["specversion"] != "1.0" || value["type"] != event.Type || event.OrganizationID != 1:
		t.Fatalf("%+v", event)
	case event.DedupID != value["source"]+" "+value["id"] && (len(event.DedupID) != 71 || !strings.HasPrefix(event.DedupID, "sha256:")):
		t.Fatalf("%+v", event)
	case event.Traceparent != "" && (event.Traceparent != value["traceparent"] || !isTraceparent(event.Traceparent)):
		t.Fatalf("%+v", event)
	}
	if _, err := trigger.NewEvent(1, event.Type, event.DedupID, event.Payload); err != nil {
		t.Fatal(err)
	}
	if second, err := parseCloudEvent(1, again(event)); err != nil {
		t.Fatalf("%s: %v", again(event), err)
	} else if diff := cmp.Diff(event, second); diff != "" {
		t.Fatal(diff)
	}
}

// decodeCloudEvent is parseCloudEvent once more, slow and from other parts.
func decodeCloudEvent(body []byte) (payload []byte, ok bool) {
	members, ok := decodeMembers(body)
	if !ok {
		return nil, false
	}
	payload = []byte("null")
	size, found, hasData, hasBinary := 1, 0, false, false
	for _, m := range members {
		isNull := string(m.value) == "null"
		switch m.name {
		case "data":
			hasData, payload = true, m.value
			continue
		case "data_base64":
			hasBinary = !isNull
			continue
		}
		size += len(m.name) + len(m.value) + 4
		if !regexp.MustCompile(`^[a-z0-9]{1,64}$`).MatchString(m.name) || size > 16384 || !isNull && !isAttribute(m) {
			return nil, false
		}
		if !isNull && regexp.MustCompile(`^(specversion|id|source|type)$`).MatchString(m.name) {
			found++
		}
	}
	if hasBinary {
		for _, m := range members {
			var data []byte
			if m.name != "data_base64" {
				continue
			}
			if json.Unmarshal(m.value, &data) != nil || m.value[0] != '"' || lineBreaks(m.value) {
				return nil, false
			}
			payload = m.value
		}
	}
	return payload, found == 4 && (!hasBinary || !hasData)
}

// lineBreaks reports whether base64 decodes only because Go overlooks them.
func lineBreaks(raw json.RawMessage) bool {
	var s string
	return json.Unmarshal(raw, &s) != nil || strings.ContainsAny(s, "\r\n") ||
		base64.StdEncoding.EncodedLen(base64.StdEncoding.DecodedLen(len(s))) != len(s)
}

// isAttribute judges a value by its name.
func isAttribute(m member) bool {
	named := regexp.MustCompile(`^(specversion|id|source|type|subject|time|datacontenttype|dataschema)$`).MatchString(m.name)
	if m.value[0] != '"' {
		var number int32
		isNumber := regexp.MustCompile(`^-?\d+$`).Match(m.value) && json.Unmarshal(m.value, &number) == nil
		return !named && (isNumber || string(m.value) == "true" || string(m.value) == "false")
	}
	var s string
	if json.Unmarshal(m.value, &s) != nil || named && s == "" || regexp.MustCompile(`[\x00-\x1f\x7f-\x{9f}]`).MatchString(s) {
		return false
	}
	rest := strings.ReplaceAll(string(m.value), `\\`, "-")
	rest = regexp.MustCompile(`(?i)\\ud[89ab][0-9a-f]{2}\\ud[c-f][0-9a-f]{2}`).ReplaceAllString(rest, "-")
	if regexp.MustCompile(`(?i)\\ud[89a-f]`).MatchString(rest) {
		return false
	}
	switch m.name {
	case "specversion":
		return s == "1.0"
	case "source":
		return !strings.Contains(s, " ")
	case "type":
		return len(s) <= 255
	case "time":
		_, isTime := decodeTime(s)
		return isTime
	}
	return true
}
