package api

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"triggerd/internal/trigger"
)

// requestOf reads a request as the server does, with some headers and a body.
func requestOf(t *testing.T, headers, body string) (http.Header, []byte) {
	t.Helper()
	head := "POST / HTTP/1.1\r\nHost: h\r\n" + strings.ReplaceAll(headers, "\n", "\r\n") + "\r\n"
	raw := head + fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(body), body)
	r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(raw)))
	if err != nil {
		t.Fatal(err)
	}
	read, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return r.Header, read
}

// least are the headers that every CloudEvent has in binary mode.
const least = "ce-specversion: 1.0\nCE-ID: 1\nCe-Source: /s\nce-Type: t"

func TestParseBinaryCloudEvent(t *testing.T) {
	t.Parallel()
	const first = `{"specversion":"1.0","id":"1","source":"/s","type":"t"`
	const asJSON, asText = "Content-Type: application/json\n", "content-type: text/plain\n"
	for _, tt := range []struct {
		headers, body       string
		payload, attributes string // attributes behind the required ones
		base64              bool
	}{
		{least, "", `null`, ``, false},
		{least, " {\"a\" : 1} \r\n", `{"a" : 1}`, ``, false},
		{asJSON + least, "", `null`, `,"datacontenttype":"application/json"`, false},
		{asJSON + least, "\"\\ud800\"\n", `"\ud800"`, `,"datacontenttype":"application/json"`, false},
		{"Content-Type: Application/Vnd.X+JSON ; charset=utf-8\n" + least, "[1 ]", `[1 ]`, `,"datacontenttype":"Application/Vnd.X+JSON ; charset=utf-8"`, false},
		{"Content-Type: text/json; charset\n" + least, "0.10", `0.10`, `,"datacontenttype":"text/json; charset"`, false},
		{"Content-Type:\n" + least, "1", `1`, ``, false},
		{"Content-Type: application/x; a=\"b\\\\\"\n" + least, "é", `"é"`, `,"datacontenttype":"application/x; a=\"b\\\\\""`, false},
		{asText + least, "{<&>}\n\t\x00\"\\é😀", `"{<&>}\n\t\u0000\"\\é😀"`, `,"datacontenttype":"text/plain"`, false},
		{asText + least, "\xde\xad\xbe\xef", `"3q2+7w=="`, `,"datacontenttype":"text/plain"`, true},
		{"Content-Type: application/jsonx\n" + least, "\xed\xa0\x80", `"7aCA"`, `,"datacontenttype":"application/jsonx"`, true},
		{"ce-z: 2\nCE-A: a%20b\nX-Ce-b: 1\nCe: 1\n" + asJSON + least, "1", `1`, `,"a":"a b","datacontenttype":"application/json","z":"2"`, false},
		{"ce-a: 100%\nce-b: %zz%4\nce-c: %E2%82%ac%2520\n" + least, "1", `1`, `,"a":"100%","b":"%zz%4","c":"€%20"`, false},
		{"ce-a: \"b \\\"c\\\\ %22\"\nce-b: \"\nce-c: \"a\" b\"\nce-d: \"a\\\"\n" + least, "1", `1`, `,"a":"b \"c\\ \"","b":"\"","c":"\"a\" b\"","d":"\"a\\\""`, false},
		{"ce-a: é€\nce-b:\nce-traceparent: 00-x\nce-time: 2026-01-02T03:04:05Z\n" + least, "1", `1`, `,"a":"é€","b":"","time":"2026-01-02T03:04:05Z","traceparent":"00-x"`, false},
		{"ce-dataschema: http://x/a%20b\nce-subject: a%20b\n" + least, "1", `1`, `,"dataschema":"http://x/a%20b","subject":"a b"`, false},
	} {
		h, body := requestOf(t, tt.headers, tt.body)
		want := &trigger.Event{
			OrganizationID: 7, Type: "t", DedupID: "/s 1", Payload: []byte(tt.payload),
			Cloud: &trigger.CloudEvent{Attributes: []byte(first + tt.attributes + "}"), Base64: tt.base64},
		}
		event, err := parseBinaryCloudEvent(7, h, body)
		if err != nil {
			t.Errorf("%s: %v", tt.headers, err)
		} else if diff := cmp.Diff(want, event); diff != "" {
			t.Errorf("%s: %s", tt.headers, diff)
		}
	}
}

// In both modes the payload is a part of a body that holds little else, and
// nothing can be written behind it.
func TestParseCloudEventKeeps(t *testing.T) {
	t.Parallel()
	h, data := requestOf(t, least, " [1] ")
	body := []byte(cloud(`"data":[1] `))
	binary, err := parseBinaryCloudEvent(1, h, data)
	if err != nil {
		t.Fatal(err)
	}
	structured, err := parseCloudEvent(1, body)
	if err != nil {
		t.Fatal(err)
	}
	if &binary.Payload[0] != &data[1] || cap(binary.Payload) != 3 {
		t.Error("binary: the payload was copied, or reaches further")
	}
	if &structured.Payload[0] != &body[bytes.IndexByte(body, '[')] || cap(structured.Payload) != 3 {
		t.Error("structured: the payload was copied, or reaches further")
	}
}

// Senders that do not encode a URI, and those that do, mean the same event.
func TestParseBinaryCloudEventDecodesSources(t *testing.T) {
	t.Parallel()
	for given, want := range map[string]string{
		"/s":          "/s",
		"/a%20b":      "/a%20b", // no URI has a space: it was not encoded
		"/a%2520b":    "/a%20b",
		"/%C3%A9":     "/é",
		"/é":          "/é",
		"/100%":       "/100%",
		`"/q"`:        "/q",
		"urn:a?b=%25": "urn:a?b=%",
	} {
		h, _ := requestOf(t, strings.Replace(least, "/s", given, 1)+"\nce-traceparent: "+goodTrace, "")
		event, err := parseBinaryCloudEvent(1, h, nil)
		if err != nil || event.DedupID != want+" 1" || event.Traceparent != goodTrace {
			t.Errorf("%s: %+v %v", given, event, err)
		}
	}
}

func TestParseBinaryCloudEventRefuses(t *testing.T) {
	t.Parallel()
	const invalid = trigger.Invalid
	for headers, want := range map[string]wrong{
		"Content-Type: application/json\n" + least:                              {trigger.Malformed, "not valid JSON", ""},
		"ce-a: 1\nCe-A: 1\n" + least:                                            {invalid, "ce-a must appear only once", ""},
		"Content-Type: a/b\nContent-Type: a/b\n" + least:                        {invalid, "Content-Type must appear only once", ""},
		"Ce-DataContentType: text/plain\n" + least:                              {invalid, "ce-datacontenttype must not be set", ""},
		"ce-datacontenttype: a/b\nContent-Type: a/b\n" + least:                  {invalid, "ce-datacontenttype must not be set", ""},
		"ce-data: 1\n" + least:                                                  {invalid, "ce-data is not a valid attribute name", ""},
		"ce-data_base64: 1\n" + least:                                           {invalid, "ce-data_base64 is not a valid attribute name", ""},
		"ce-a-b: 1\n" + least:                                                   {invalid, `ce-"a-b" is not a valid attribute name`, ""},
		"ce-: 1\n" + least:                                                      {invalid, `ce-"" is not a valid attribute name`, ""},
		"ce-" + strings.Repeat("a", 65) + ": 1\n" + least:                       {invalid, "want at most 64 bytes", ""},
		"ce-subject:\n" + least:                                                 {invalid, "ce-subject must not be empty", ""},
		"ce-subject: %ff\n" + least:                                             {invalid, "ce-subject must be valid UTF-8", ""},
		"ce-subject: %C0%A0\n" + least:                                          {invalid, "ce-subject must be valid UTF-8", ""},
		"ce-subject: %ED%A0%80\n" + least:                                       {invalid, "ce-subject must be valid UTF-8", ""},
		"ce-subject: \xe9\n" + least:                                            {invalid, "ce-subject must be valid UTF-8", ""},
		"ce-subject: a%0D%0Ab\n" + least:                                        {invalid, "ce-subject must not have control characters", ""},
		"ce-subject: a\tb\n" + least:                                            {invalid, "ce-subject must not have control characters", ""},
		"ce-a: %00\n" + least:                                                   {invalid, "ce-a must not have control characters", ""},
		"ce-time: yesterday\n" + least:                                          {invalid, "ce-time must be an RFC 3339 time", ""},
		"ce-a: " + strings.Repeat("x", 17<<10) + "\n" + least:                   {invalid, "at most 16384 bytes in total", ""},
		strings.Replace(least, "1.0", "0.3", 1):                                 {invalid, "ce-specversion must be 1.0", ""},
		strings.Replace(least, "CE-ID", "X-Id", 1):                              {invalid, "ce-id is missing", ""},
		strings.Replace(least, "CE-ID: 1", "ce-id:", 1):                         {invalid, "ce-id must not be empty", ""},
		strings.Replace(least, "/s", "/a b", 1):                                 {invalid, "ce-source must be a URI reference", ""},
		strings.Replace(least, "Type: t", "Type: "+strings.Repeat("t", 256), 1): {invalid, "type must have at most 255 bytes", ""},
		"Content-Type: multipart/\xff\n" + least:                                {invalid, "Content-Type must be valid UTF-8", ""},
	} {
		h, body := requestOf(t, headers, "<x/>")
		if want.kind == invalid && !strings.Contains(strings.ToLower(headers), "content-type") {
			body = nil
		}
		event, err := parseBinaryCloudEvent(7, h, body)
		if event != nil {
			t.Errorf("%s: %+v", headers, event)
		}
		want.check(t, headers, err)
		checkRefusal(t, err)
	}
}

func TestCloudMode(t *testing.T) {
	t.Parallel()
	for headers, want := range map[string]struct {
		mode contentMode
		ok   bool
	}{
		"A: b":                           {modeNone, true},
		"Content-Type: application/json": {modeNone, true},
		"Content-Type: application/cloudevent+json":                   {modeNone, true},
		"Content-Type: text/application/cloudevents+json":             {modeNone, true},
		"Content-Type: application/cloudevents+json":                  {modeStructured, true},
		"CONTENT-TYPE:  Application/CloudEvents+JSON ; charset=UTF-8": {modeStructured, true},
		"Content-Type: application/cloudevents":                       {modeStructured, true},
		"Content-Type: application/cloudevents; charset=utf-8":        {modeStructured, true},
		"Content-Type: application/cloudevents+avro":                  {modeStructured, false},
		"Content-Type: application/cloudevents+jsonx":                 {modeStructured, false},
		"Content-Type: application/cloudevents-batch+json":            {modeBatch, true},
		"Content-Type: application/cloudevents-batch":                 {modeBatch, true},
		"Content-Type: APPLICATION/CLOUDEVENTS-BATCH+JSON;a=b":        {modeBatch, true},
		"Content-Type: application/cloudevents-batch+protobuf":        {modeBatch, false},
		"Content-Type: application/cloudevents+json\n" + least:        {modeStructured, true},
		"Content-Type: application/cloudevents-batch+json\n" + least:  {modeBatch, true},
		"Content-Type: application/cloudevents+xml\n" + least:         {modeStructured, false},
		least: {modeBinary, true},
		"Content-Type: application/x-ndjson\n" + least: {modeBinary, true},
		"cE-sPECVERSION: 0.3":                          {modeBinary, true},
		"ce-id: 1":                                     {modeBinary, true},
		"ce-type: t":                                   {modeBinary, true},
		"ce-source: s":                                 {modeBinary, true},
		"ce-id:":                                       {modeNone, true},
		"ce-other: 1\nX-Ce-Id: 1\nCeId: 1":             {modeNone, true},
	} {
		h, _ := requestOf(t, headers, "")
		if mode, ok := cloudMode(h); mode != want.mode || ok != want.ok {
			t.Errorf("%s: %v %v", headers, mode, ok)
		}
	}
}

// percentEncode is what the standard asks of senders.
func percentEncode(s string) string {
	var b strings.Builder
	for _, c := range []byte(s) {
		if c <= ' ' || c == '"' || c == '%' || c > '~' {
			fmt.Fprintf(&b, "%%%02X", c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

// An event in binary mode is the one in structured mode, if it is encoded.
func TestParseBinaryCloudEventRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		h, want := http.Header{}, map[string]string{}
		for name, value := range anyAttributes(t) {
			var s string
			if json.Unmarshal([]byte(value), &s) != nil {
				s = value // no string, but a number or a boolean
			}
			want[name] = s
			h.Set("Ce-"+name, percentEncode(s))
		}
		body := rapid.OneOf(rapid.SliceOf(rapid.Byte()), rapid.Map(rapid.String(), func(s string) []byte { return []byte(s) })).Draw(t, "body")
		h.Set("Content-Type", "text/plain")
		want["datacontenttype"] = "text/plain"
		event, err := parseBinaryCloudEvent(1, h, body)
		if err != nil {
			t.Fatal(err)
		}
		var got map[string]string
		if err := json.Unmarshal(event.Cloud.Attributes, &got); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatal(diff)
		}
		if data := dataOf(t, event); !bytes.Equal(data, body) {
			t.Fatalf("%q, want %q", data, body)
		}
		second, err := parseCloudEvent(1, again(event))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(event, second); diff != "" {
			t.Fatal(diff)
		}
	})
}

// dataOf gives the bytes back that a payload of text or base64 stands for.
func dataOf(t interface{ Fatal(args ...any) }, event *trigger.Event) []byte {
	var s *string
	if err := json.Unmarshal(event.Payload, &s); err != nil {
		t.Fatal(err)
	}
	if s == nil {
		return []byte{}
	}
	if !event.Cloud.Base64 {
		return []byte(*s)
	}
	data, err := base64.StdEncoding.DecodeString(*s)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// What a sender may put into a header, it gets back, encoded or not.
func TestDecodeHeader(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.StringMatching(`[ -~é€😀%"\\]{0,30}`).Draw(t, "value")
		if got := decodeHeader("a", percentEncode(s)); got != s {
			t.Fatalf("%q: %q", s, got)
		}
		escaped := strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s)
		if got := unquote(`"` + escaped + `"`); got != s {
			t.Fatalf("%q: %q", s, got)
		}
		if plain := strings.NewReplacer("%", "", `"`, "").Replace(s); decodeHeader("a", plain) != plain {
			t.Fatalf("%q", plain)
		}
	})
}
