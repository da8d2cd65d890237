package api

import (
	"bytes"
	"strings"
	"testing"

	"triggerd/internal/trigger"
)

func TestParseEnvelope(t *testing.T) {
	t.Parallel()
	for body, want := range goodEnvelopes() {
		event, err := parseEnvelope(7, []byte(body))
		if err != nil {
			t.Errorf("%s: %v", body, err)
			continue
		}
		if string(event.Payload) != want || event.OrganizationID != 7 {
			t.Errorf("%s: %+v", body, event)
		}
	}
	for body, want := range badEnvelopes() {
		event, err := parseEnvelope(7, []byte(body))
		if event != nil || err == nil || !isRefusal(err) || !strings.Contains(err.Error(), want) {
			t.Errorf("%.200q: %v, want %q", body, err, want)
		}
	}
}

func TestParseEnvelopeDecodesStrings(t *testing.T) {
	t.Parallel()
	body := `{"dedup_id":"\u0064\t\"\\\/\ud83d\uDE00é\u00e9\u007f","payload":{},"type":"user\u002ecreated 😀"}`
	event, err := parseEnvelope(1, []byte(body))
	if err != nil {
		t.Fatal(err)
	}
	if event.Type != "user.created 😀" || event.DedupID != "d\t\"\\/😀éé\x7f" {
		t.Errorf("%q %q", event.Type, event.DedupID)
	}
}

// The payload is a part of the body itself, and nothing can be written behind
// it; the strings do not change with the body.
func TestParseEnvelopeSharesThePayload(t *testing.T) {
	t.Parallel()
	body := []byte(`  {"type":"abc","payload":[1],"dedup_id":"def"}`)
	event, err := parseEnvelope(1, body)
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(body, []byte("[1]"))
	if &event.Payload[0] != &body[at] || cap(event.Payload) != 3 {
		t.Error("the payload was copied, or reaches further")
	}
	for i := range body {
		body[i] = 'x'
	}
	if event.Type != "abc" || event.DedupID != "def" {
		t.Errorf("%q %q", event.Type, event.DedupID)
	}
}

const ordinary = `{"type":"user.created","payload":{"a":[1,"\u00e9\\"],"é":null},"dedup_id":"é\ud83d\ude00"} `

func TestParseEnvelopeCutAnywhere(t *testing.T) {
	t.Parallel()
	for end := range len(ordinary) - 1 {
		if _, err := parseEnvelope(1, []byte(ordinary[:end])); trigger.KindOf(err) != trigger.Malformed {
			t.Errorf("%s: %v", ordinary[:end], err)
		}
	}
	if _, err := parseEnvelope(1, []byte(ordinary)); err != nil {
		t.Error(err)
	}
}

func TestParseEnvelopeNotUTF8Anywhere(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{"\xff", "\xc3", "\x80", "\xc0\x80", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xf0\x9f\x98"} {
		for at := range len(ordinary) + 1 {
			body := ordinary[:at] + bad + ordinary[at:]
			_, err := parseEnvelope(1, []byte(body))
			if bad == "\xc3" && at < len(ordinary) && ordinary[at]&0xc0 == 0x80 {
				continue // completed by what follows
			}
			if trigger.KindOf(err) != trigger.Malformed || !strings.Contains(err.Error(), "UTF-8") {
				t.Errorf("%q: %v", body, err)
			}
		}
	}
}

// What would take long, or much stack, if anything of it were repeated or
// recursive. A test that hangs is seen by the limit of the whole run.
func TestParseEnvelopeHuge(t *testing.T) {
	t.Parallel()
	const n = 1_000_000
	for name, body := range map[string]string{
		"brackets":        strings.Repeat("[", n),
		"braces":          strings.Repeat(`{"a":`, n),
		"closed brackets": `{"type":"t","payload":` + nested(n, "[", "]") + `}`,
		"other brackets":  strings.Repeat("]", n),
		"quotes":          strings.Repeat(`"`, n),
		"backslashes":     `{"` + strings.Repeat(`\`, n),
		"long key twice":  `{"type":"t","payload":1,"type":"` + strings.Repeat(`\"`, n) + `"}`,
	} {
		if _, err := parseEnvelope(1, []byte(body)); !isRefusal(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, member := range map[string]string{
		"wide":            strings.Repeat(`"x":1,`, 100_000),
		"wide and alike":  strings.Repeat(`"payloaD":{"payload":1},`, 100_000),
		"escaped names":   strings.Repeat(`"\u0070\ud800":[],`, 100_000),
		"long name":       `"` + strings.Repeat(`\\\"`, n/10) + `":1,`,
		"long string":     `"x":"` + strings.Repeat(`\\\"{[`, n/10) + `",`,
		"long number":     `"x":` + strings.Repeat("1", n/10) + `e` + strings.Repeat("9", n/10) + `,`,
		"many brackets":   `"x":[` + strings.Repeat("[],", n/10) + `{}],`,
		"much whitespace": strings.Repeat(" \n", n/10),
	} {
		event, err := parseEnvelope(1, []byte(`{"type":"t",`+member+`"payload":2}`))
		if err != nil || string(event.Payload) != "2" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestParseObject(t *testing.T) {
	t.Parallel()
	o, err := parseObject([]byte(`{"url":"http://x/","event_type_filter":null,"n":1,"empty":"","nul":"\u0000"}`),
		"url", "event_type_filter", "n", "empty", "absent", "nul")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, value string
		present     bool
		message     string
		required    string // the message of required, where it is another one
	}{
		{"url", "http://x/", true, "", ""},
		{"event_type_filter", "", false, "", "event_type_filter is missing"},
		{"absent", "", false, "", "absent is missing"},
		{"empty", "", true, "", "empty must not be empty"},
		{"n", "", false, "n must be a string", "n must be a string"},
		{"nul", "", false, "nul must not have a NUL character", "nul must not have a NUL character"},
	} {
		value, present, err := o.str(tt.name)
		if value != tt.value || present != tt.present || message(err) != tt.message {
			t.Errorf("%s: %q %v %v", tt.name, value, present, err)
		}
		value, err = o.required(tt.name)
		if value != tt.value || message(err) != tt.required {
			t.Errorf("%s, required: %q %v", tt.name, value, err)
		}
	}
	if string(o.raw("n")) != "1" || string(o.raw("event_type_filter")) != "null" || o.raw("absent") != nil {
		t.Error("raw values")
	}
	if _, err := parseObject([]byte(`{"organization_name":"a","tier":"free","tier":"free"}`), "organization_name", "tier"); message(err) != "tier must appear only once" {
		t.Error(err)
	}
}

func message(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
