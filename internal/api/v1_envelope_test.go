package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/url"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"triggerd/internal/trigger"
)

const goodTrace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

// wrong is what must be said of a bad body.
type wrong struct {
	kind    trigger.Kind
	message string // a part of it
	pointer string // "": none
}

// check holds an error to what it must say.
func (w wrong) check(t *testing.T, body string, err error) {
	t.Helper()
	e, ok := errors.AsType[*trigger.Error](err)
	if !ok || e.Kind != w.kind || !strings.Contains(e.Message, w.message) || pointerOf(e) != w.pointer {
		t.Errorf("%.300q: %+v, want %+v", body, err, w)
	}
}

func pointerOf(e *trigger.Error) string {
	if len(e.Fields) == 0 {
		return ""
	}
	return e.Fields[0].Pointer
}

// checkRefusal holds an error to what all errors of a parser keep.
func checkRefusal(t testing.TB, err error) {
	t.Helper()
	e, ok := errors.AsType[*trigger.Error](err)
	if !ok || e.Kind != trigger.Malformed && e.Kind != trigger.Invalid || e.Cause != nil || len(e.Fields) > 1 {
		t.Fatalf("%+v", err)
	}
	if !utf8.ValidString(e.Message) || len(e.Message) > 800 || len(pointerOf(e)) > 1000 {
		t.Fatalf("%q %q", e.Message, pointerOf(e))
	}
	if _, err := url.Parse(pointerOf(e)); err != nil {
		t.Fatal(err)
	}
	if e.Kind == trigger.Malformed && len(e.Fields) > 0 {
		t.Fatalf("%+v", e)
	}
}

func noon() time.Time { return time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC) }

func TestParseEvent(t *testing.T) {
	t.Parallel()
	later := noon().Add(time.Hour)
	for body, want := range map[string]trigger.Event{
		`{"type":"t","payload":null}`:                                {Payload: []byte("null")},
		` { "payload" : { "a" : 1 } , "typ\u0065":"t" } `:            {Payload: []byte(`{ "a" : 1 }`)},
		`{"type":"t","payload":{"x":1,"x":2},"dedup_id":"d é"}`:      {Payload: []byte(`{"x":1,"x":2}`), DedupID: "d é"},
		`{"type":"t","payload":1,"dedup_id":null,"deliver_at":null}`: {Payload: []byte("1")},
		`{"type":"t","payload":1,"traceparent":null}`:                {Payload: []byte("1")},
		`{"type":"t","payload":1,"traceparent":"` + goodTrace + `"}`: {Payload: []byte("1"), Traceparent: goodTrace},
		`{"type":"t","payload":1,"traceparent":""}`:                  {Payload: []byte("1")},
		`{"type":"t","payload":1,"traceparent":"00-\u0000\ud800"}`:   {Payload: []byte("1")},
		`{"type":"t","payload":1,"deliver_at":"2026-01-02T13:00:00Z"}`: {
			Payload: []byte("1"), DeliverAt: later,
		},
		`{"type":"t","payload":1,"deliver_at":"2026-01-02t15:30:00.000+02:30"}`: {
			Payload: []byte("1"), DeliverAt: later,
		},
		`{"type":"t","payload":1,"deliver_at":"2026-01-02T12:00:00.000000001z"}`: {
			Payload: []byte("1"), DeliverAt: noon().Add(1),
		},
		`{"type":"t","payload":1,"deliver_at":"2026-01-02T12:00:00Z"}`: {Payload: []byte("1")},
		`{"type":"t","payload":1,"deliver_at":"0000-01-01T00:00:00Z"}`: {Payload: []byte("1")},
	} {
		want.OrganizationID, want.Type = 7, "t"
		event, err := parseEvent(7, []byte(body), noon())
		if err != nil {
			t.Errorf("%s: %v", body, err)
		} else if diff := cmp.Diff(want, *event); diff != "" {
			t.Errorf("%s: %s", body, diff)
		}
	}
}

func TestParseEventTakesEveryPayload(t *testing.T) {
	t.Parallel()
	for body, want := range goodEnvelopes() {
		if !strings.HasPrefix(body, `{"type":"a.b"`) && !strings.HasPrefix(body, `{"payload" :`) {
			continue // it has members that /v1 refuses
		}
		event, err := parseEvent(7, []byte(body), noon())
		if err != nil || string(event.Payload) != want {
			t.Errorf("%s: %+v %v", body, event, err)
		}
	}
}

func badEvents() map[string]wrong {
	const malformed, invalid = trigger.Malformed, trigger.Invalid
	bodies := map[string]wrong{
		"":                      {malformed, "not valid JSON", ""},
		"{}x":                   {malformed, "not valid JSON", ""},
		"{\"type\":\"\xff\"}":   {malformed, "must be valid UTF-8", ""},
		"[]":                    {malformed, "must be a JSON object", ""},
		`"t"`:                   {malformed, "must be a JSON object", ""},
		nested(65, "[", "]"):    {malformed, "nested at most 64 levels deep", ""},
		nested(64, "[", "]"):    {malformed, "must be a JSON object", ""},
		`{}`:                    {invalid, "type is missing", "#/type"},
		`{"type":null}`:         {invalid, "type is missing", "#/type"},
		`{"type":"t"}`:          {invalid, "payload is missing", "#/payload"},
		`{"type":"t","data":1}`: {invalid, `unknown member "data"`, "#/data"},
		`{"a~b/c d%é\"":1}`:     {invalid, "unknown member", "#/a~0b~1c%20d%25%C3%A9%22"},
		`{"":1}`:                {invalid, `unknown member ""`, "#/"},
		`{"Type":"t"}`:          {invalid, `unknown member "Type"`, "#/Type"},
		`{"\u0000\n":1}`:        {invalid, `unknown member "\x00\n"`, "#/%00%0A"},
		`{"` + strings.Repeat("é", 200) + `":1}`:                                  {invalid, "unknown member", "#"},
		`{"type":"t","payload":1,"payload":1}`:                                    {invalid, "payload must appear only once", "#/payload"},
		`{"type":null,"type":"t","payload":1}`:                                    {invalid, "type must appear only once", "#/type"},
		`{"type":"t","payload":1,"x":1,"x":1}`:                                    {invalid, `unknown member "x"`, "#/x"},
		`{"type":1,"payload":1}`:                                                  {invalid, "type must be a string", "#/type"},
		`{"type":"","payload":1}`:                                                 {invalid, "type must not be empty", "#/type"},
		`{"type":"\ud800","payload":1}`:                                           {invalid, "type must not have a lone surrogate", "#/type"},
		`{"type":"\u0000","payload":1}`:                                           {invalid, "type must not have a NUL", "#/type"},
		`{"type":"\n","payload":1}`:                                               {invalid, "control characters", "#/type"},
		`{"type":"` + strings.Repeat("t", 256) + `","payload":1}`:                 {invalid, "type must have at most 255 bytes", "#/type"},
		`{"type":"\n","payload":1,"dedup_id":"` + strings.Repeat("d", 256) + `"}`: {invalid, "control characters", "#/type"},
	}
	for dedupID, message := range map[string]string{
		`""`: "must not be empty", `1`: "must be a string", `{}`: "must be a string", `"\u0000"`: "must not have a NUL",
		`"\ud800"`: "lone surrogate", `"` + strings.Repeat("d", 256) + `"`: "at most 255 bytes",
	} {
		bodies[`{"type":"t","payload":1,"dedup_id":`+dedupID+`}`] = wrong{invalid, message, "#/dedup_id"}
	}
	for at, message := range map[string]string{
		`1`: "must be a string", `""`: "RFC 3339", `"\u0000"`: "must not have a NUL", `"2026-01-02"`: "RFC 3339",
		`"2026-01-02T13:00:00"`: "RFC 3339", `"2026-01-02 13:00:00Z"`: "RFC 3339", `"in an hour"`: "RFC 3339",
	} {
		bodies[`{"type":"t","payload":1,"deliver_at":`+at+`}`] = wrong{invalid, message, "#/deliver_at"}
	}
	for _, traceparent := range []string{`1`, `{}`, `false`} {
		bodies[`{"type":"t","payload":1,"traceparent":`+traceparent+`}`] = wrong{invalid, "traceparent must be a string", "#/traceparent"}
	}
	return bodies
}

func TestParseEventRefuses(t *testing.T) {
	t.Parallel()
	for body, want := range badEvents() {
		event, err := parseEvent(7, []byte(body), noon())
		if event != nil {
			t.Errorf("%s: %+v", body, event)
		}
		want.check(t, body, err)
		checkRefusal(t, err)
	}
}

// An event lives longer than the body of its request, and holds no more of it
// than it must.
func TestParseEventKeeps(t *testing.T) {
	t.Parallel()
	small := []byte(`{"type":"t","payload":[1]}`)
	event, err := parseEvent(1, small, noon())
	if err != nil || &event.Payload[0] != &small[bytes.IndexByte(small, '[')] || cap(event.Payload) != 3 {
		t.Errorf("%v: the payload was copied, or reaches further", err)
	}
	large := append(make([]byte, 0, 1<<20), small...)
	event, err = parseEvent(1, large, noon())
	if err != nil || &event.Payload[0] == &large[bytes.IndexByte(large, '[')] {
		t.Errorf("%v: a small payload holds a large body", err)
	}
}

func TestParseRFC3339(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]string{
		"2026-01-02T03:04:05Z":                "2026-01-02T03:04:05Z",
		"2026-01-02t03:04:05.5z":              "2026-01-02T03:04:05.5Z",
		"2026-01-02T03:04:05.123456789123Z":   "2026-01-02T03:04:05.123456789Z",
		"2026-01-02T03:04:05+23:59":           "2026-01-01T03:05:05Z",
		"2026-01-02T03:04:05-00:00":           "2026-01-02T03:04:05Z",
		"2024-02-29T00:00:00Z":                "2024-02-29T00:00:00Z",
		"0000-01-01T00:00:00Z":                "0000-01-01T00:00:00Z",
		"9999-12-31T23:59:59.999-23:59":       "10000-01-01T23:58:59.999Z",
		"2016-12-31T23:59:60Z":                "2017-01-01T00:00:00Z",
		"2016-12-31T15:59:60.25-08:00":        "2017-01-01T00:00:00.25Z",
		"2016-12-31T22:59:60Z":                "",
		"2016-12-31T23:59:61Z":                "",
		"2026-01-02T23:60:00Z":                "",
		"2026-01-02T24:00:00Z":                "",
		"2025-02-29T00:00:00Z":                "",
		"2026-01-02T03:04:05":                 "",
		"2026-01-02T03:04Z":                   "",
		"2026-01-02T03:04:60":                 "",
		"2026-01-02T3:04:05Z":                 "",
		"2026-01-02T03:04:05,5Z":              "",
		"2026-01-02T03:04:05.Z":               "",
		"2026-01-02T03:04:05+22:60":           "",
		"2026-01-02T03:04:05+24:00":           "",
		"2026-01-02T03:04:05+0100":            "",
		"2026-01-02 03:04:05Z":                "",
		"20260102T030405Z":                    "",
		" 2026-01-02T03:04:05Z":               "",
		"2026-01-02T03:04:05Z ":               "",
		"+2026-01-02T03:04:05Z":               "",
		"":                                    "",
		"2026-01-02T03:04:05\u017a":           "",
		"2026-01-02T03:04:05Z\x00":            "",
		"\uff12026-01-02T03:04:05Z":           "",
		"2026-01-02T03:04:05.5Z[Europe/Rome]": "",
	} {
		at, ok := parseRFC3339(s)
		if ok != (want != "") || ok && (at.Format(time.RFC3339Nano) != want || at.Location() != time.UTC) {
			t.Errorf("%q: %v %v, want %q", s, at, ok, want)
		}
	}
}

func TestValidTraceparent(t *testing.T) {
	t.Parallel()
	future := "01" + goodTrace[2:]
	for s, want := range map[string]bool{
		goodTrace:                               true,
		goodTrace[:53] + "ff":                   true,
		goodTrace + "-":                         false,
		goodTrace + "-00":                       false,
		goodTrace + " ":                         false,
		" " + goodTrace:                         false,
		goodTrace[:54]:                          false,
		"":                                      false,
		strings.ToUpper(goodTrace):              false,
		goodTrace[:53] + "0g":                   false,
		goodTrace[:53] + "0A":                   false,
		"ff" + goodTrace[2:]:                    false,
		"0g" + goodTrace[2:]:                    false,
		strings.Replace(goodTrace, "-", "_", 1): false,
		goodTrace[:35] + "_" + goodTrace[36:]:   false,
		goodTrace[:52] + "_" + goodTrace[53:]:   false,
		"00-" + strings.Repeat("0", 32) + goodTrace[35:]: false,
		goodTrace[:36] + strings.Repeat("0", 16) + "-01": false,
		future:                            true,
		"fe" + goodTrace[2:]:              true,
		future + "-":                      true,
		future + "-what.ever=comes":       true,
		future + "0":                      false,
		future + ".0":                     false,
		future + "- ":                     false,
		future + "-\n":                    false,
		future + "-é":                     false,
		future + strings.Repeat("-", 200): true,
		future + strings.Repeat("-", 201): false,
	} {
		if validTraceparent(s) != want {
			t.Errorf("%q: %v", s, !want)
		}
	}
}

// A pointer is a URI that leads back to the name.
func TestPointerTo(t *testing.T) {
	t.Parallel()
	const plain = "azAZ09-._!$&'()*+,;=:@?"
	if got := pointerTo(plain); got != "#/"+plain {
		t.Error(got)
	}
	if got := pointerTo(strings.Repeat("a", 256)); got != "#" {
		t.Error(got)
	}
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.OneOf(rapid.String(), rapid.StringMatching(`[~/01 %#"<>]*`)).Draw(t, "name")
		u, err := url.Parse(pointerTo(name))
		switch {
		case err != nil:
			t.Fatal(err)
		case len(name) > maxPointer:
			return
		}
		back := strings.NewReplacer("~1", "/", "~0", "~").Replace(strings.TrimPrefix(u.Fragment, "/"))
		if back != name || !strings.HasPrefix(u.Fragment, "/") {
			t.Fatalf("%q: %q", pointerTo(name), back)
		}
	})
}

// anyText draws strings that are fine as types and dedup ids.
func anyText() *rapid.Generator[string] {
	return rapid.OneOf(rapid.StringMatching(`[a-z.]{1,20}`), rapid.StringMatching(`[ -~é€😀]{1,60}`))
}

// anyJSON draws payloads as they may come.
func anyJSON() *rapid.Generator[string] {
	return rapid.OneOf(
		rapid.SampledFrom([]string{
			`null`, `[]`, `{ }`, `0.10`, `1e400`, `"\ud800"`, `"\u0000\/"`, `{"a":1,"a":[2 ]}`, "[1,\n2]", `"],[{"`, `"\\"`,
			`"\\\"],"`, `[{"}":"]"},"[{"]`, nested(62, "[", "]"),
		}),
		rapid.Custom(func(t *rapid.T) string {
			b, _ := json.Marshal(rapid.MapOf(rapid.String(), rapid.SliceOf(rapid.String())).Draw(t, "value"))
			return string(b)
		}),
	)
}

// anySpace draws JSON's white space.
func anySpace() *rapid.Generator[string] { return rapid.StringMatching(`[ \t\r\n]{0,3}`) }

// anyEvent draws an event and a body that says it, without line breaks outside
// of its payload.
func anyEvent(t *rapid.T) (event trigger.Event, body string) {
	event.Type = anyText().Draw(t, "type")
	event.Payload = []byte(anyJSON().Draw(t, "payload"))
	members := []string{`"type": ` + quoted(event.Type), `"payload":` + string(event.Payload)}
	if rapid.Bool().Draw(t, "has dedup_id") {
		event.DedupID = anyText().Draw(t, "dedup_id")
		members = append(members, `"dedup_id" :`+quoted(event.DedupID))
	}
	if rapid.Bool().Draw(t, "has deliver_at") {
		ahead := rapid.Int64Range(-1e18, 1e18).Draw(t, "ahead")
		at := noon().Add(time.Duration(ahead))
		if ahead > 0 {
			event.DeliverAt = at
		}
		zone := time.FixedZone("", 60*rapid.IntRange(-1439, 1439).Draw(t, "offset"))
		members = append(members, `"deliver_at":`+quoted(at.In(zone).Format(time.RFC3339Nano)))
	}
	if rapid.Bool().Draw(t, "has traceparent") {
		event.Traceparent = goodTrace
		members = append(members, `"traceparent":`+quoted(goodTrace))
	}
	return event, `{` + strings.Join(rapid.Permutation(members).Draw(t, "order"), ",") + `}`
}

func quoted(s string) string {
	b, _ := json.Marshal(s)
	return string(b)
}

func TestParseEventRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		want, body := anyEvent(t)
		event, err := parseEvent(0, []byte(anySpace().Draw(t, "before")+body+anySpace().Draw(t, "behind")), noon())
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, *event); diff != "" {
			t.Fatal(diff)
		}
	})
}
