package api

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"pgregory.net/rapid"

	"triggerd/internal/trigger"
)

// splitCase is a body and what it is split into, or what must be said of it.
type splitCase struct {
	body  string
	want  []string
	wrong wrong
}

func (c splitCase) check(t *testing.T, split func([]byte) ([][]byte, error)) {
	t.Helper()
	parts, err := split([]byte(c.body))
	if c.want == nil {
		c.wrong.check(t, c.body, err)
		checkRefusal(t, err)
	}
	if !slices.Equal(texts(parts), c.want) || c.want != nil && err != nil {
		t.Errorf("%.300q: %q %v", c.body, parts, err)
	}
}

func texts(parts [][]byte) (all []string) {
	for _, part := range parts {
		all = append(all, string(part))
	}
	return all
}

// ones joins n times "1".
func ones(n int, separator string) string {
	return strings.TrimSuffix(strings.Repeat("1"+separator, n), separator)
}

func TestSplitArray(t *testing.T) {
	t.Parallel()
	broken := wrong{trigger.Malformed, "not valid JSON", ""}
	noArray := wrong{trigger.Malformed, "must be a JSON array", ""}
	none := wrong{trigger.Invalid, "at least one event", ""}
	tooMany := wrong{trigger.Invalid, "at most 1000 events", ""}
	tooDeep := wrong{trigger.Malformed, "nested at most 64 levels deep", ""}
	notUTF8 := wrong{trigger.Malformed, "must be valid UTF-8", ""}
	deep := nested(64, "[", "]")
	for _, c := range []splitCase{
		{body: `[1]`, want: []string{"1"}},
		{body: " \t\r\n[ 1 ,\n{ \"a\" : [ 1 , 2 ] }\t,\"],\\\"[{\" , null ] \t\r\n", want: []string{"1", `{ "a" : [ 1 , 2 ] }`, `"],\"[{"`, "null"}},
		{body: `["\\","\\\"]",[],[[]],{}]`, want: []string{`"\\"`, `"\\\"]"`, "[]", "[[]]", "{}"}},
		{body: "[" + deep + "," + deep + "]", want: []string{deep, deep}},
		{body: "[" + ones(1000, ",") + "]", want: strings.Split(ones(1000, ","), ",")},
		{body: "[" + ones(1001, ",") + "]", wrong: tooMany},
		{body: "[" + ones(1001, ",") + ",x", wrong: tooMany},
		{body: "[" + ones(1000, ",") + ",", wrong: broken},
		{body: "[" + strings.Repeat("1,", 500) + "x," + ones(600, ",") + "]", wrong: broken},
		{body: `[]`, wrong: none},
		{body: " [ \n] ", wrong: none},
		{body: `[]x`, wrong: broken},
		{body: ``, wrong: noArray},
		{body: ` `, wrong: noArray},
		{body: `{"a":[]}`, wrong: noArray},
		{body: `1`, wrong: noArray},
		{body: "\ufeff[1]", wrong: noArray},
		{body: `[`, wrong: broken},
		{body: `[1`, wrong: broken},
		{body: `[1,`, wrong: broken},
		{body: `[1,]`, wrong: broken},
		{body: `[,1]`, wrong: broken},
		{body: `[,]`, wrong: broken},
		{body: `[1 2]`, wrong: broken},
		{body: `[1}`, wrong: broken},
		{body: `[}]`, wrong: broken},
		{body: `[{]}]`, wrong: broken},
		{body: `[{]`, wrong: broken},
		{body: `["]`, wrong: broken},
		{body: `[\"]`, wrong: broken},
		{body: `[1]]`, wrong: broken},
		{body: `[1],`, wrong: broken},
		{body: `[1][2]`, wrong: broken},
		{body: "[1\f]", wrong: broken},
		{body: "[1]\x00", wrong: broken},
		{body: "[\"\xff\"]", wrong: notUTF8},
		{body: "[1,[" + deep + "]]", wrong: tooDeep},
		{body: strings.Repeat("[", 1_000_000), wrong: broken},
		{body: strings.Repeat(`["`, 1_000_001), wrong: broken},
	} {
		c.check(t, splitArray)
	}
}

func TestSplitLines(t *testing.T) {
	t.Parallel()
	none := wrong{trigger.Invalid, "at least one event", ""}
	tooMany := wrong{trigger.Invalid, "at most 1000 events", ""}
	for _, c := range []splitCase{
		{body: `1`, want: []string{"1"}},
		{body: "1\n2", want: []string{"1", "2"}},
		{body: "1\r\n2\r\n", want: []string{"1", "2"}},
		{body: "\n \n\t\r\n { } \n\n\r\n1\r", want: []string{"{ }", "1"}},
		{body: "no JSON\n\xff\n\x00", want: []string{"no JSON", "\xff", "\x00"}},
		{body: "1\r2\v3\u20284\n", want: []string{"1\r2\v3\u20284"}},
		{body: "\ufeff1\n2", want: []string{"\ufeff1", "2"}},
		{body: strings.Repeat("\n", 5000) + ones(1000, "\n") + strings.Repeat("\r\n", 5000), want: strings.Split(ones(1000, ","), ",")},
		{body: ones(1001, "\n"), wrong: tooMany},
		{body: "", wrong: none},
		{body: "\r\n \t\n", wrong: none},
	} {
		c.check(t, splitLines)
	}
}

// What is split holds nothing of the body.
func TestSplitCopies(t *testing.T) {
	t.Parallel()
	for body, split := range map[string]func([]byte) ([][]byte, error){"[1,2,3]": splitArray, "1\n2\n3": splitLines} {
		given := []byte(body)
		parts, err := split(given)
		clear(given)
		if err != nil || !slices.Equal(texts(parts), []string{"1", "2", "3"}) {
			t.Errorf("%q: %q %v", body, parts, err)
		}
	}
}

// A batch of n events is split into these n, byte by byte, and each is read as
// if it stood alone.
func TestSplitRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var events, array, lines []string
		var payloads [][]byte
		for range rapid.IntRange(1, 20).Draw(t, "n") {
			event, body := anyEvent(t)
			events, payloads = append(events, body), append(payloads, event.Payload)
			array = append(array, anySpace().Draw(t, "before")+body+anySpace().Draw(t, "behind"))
			lines = append(lines, strings.ReplaceAll(body, "\n", " "), rapid.StringMatching(`[ \t\r\n]?`).Draw(t, "blank"))
		}
		parts, err := splitArray([]byte("[" + strings.Join(array, ",") + "]"))
		if err != nil || !slices.Equal(texts(parts), events) {
			t.Fatalf("%q %v", parts, err)
		}
		for i, part := range parts {
			if event, err := parseEvent(1, part, noon()); err != nil || !bytes.Equal(event.Payload, payloads[i]) {
				t.Fatalf("%q: %+v %v", part, event, err)
			}
		}
		parts, err = splitLines([]byte(strings.Join(lines, rapid.SampledFrom([]string{"\n", "\r\n"}).Draw(t, "end"))))
		if err != nil || len(parts) != len(events) {
			t.Fatalf("%q %v", parts, err)
		}
		for i, part := range parts {
			if string(part) != strings.ReplaceAll(events[i], "\n", " ") {
				t.Fatalf("%q, want %q", part, events[i])
			}
		}
	})
}

// FuzzSplitLines compares with what package strings splits.
func FuzzSplitLines(f *testing.F) {
	f.Add([]byte("1\r\n\n 2 \n\r\n\t3"))
	f.Add([]byte(ones(1001, "\n")))
	f.Fuzz(func(t *testing.T, body []byte) {
		var want []string
		for line := range strings.SplitSeq(string(body), "\n") {
			if line = strings.Trim(line, " \t\r"); line != "" {
				want = append(want, line)
			}
		}
		parts, err := splitLines(body)
		if len(want) == 0 || len(want) > 1000 {
			checkRefusal(t, err)
		} else if err != nil || !slices.Equal(texts(parts), want) {
			t.Fatalf("%q: %q %v", body, parts, err)
		}
	})
}

// FuzzSplitArray compares with encoding/json.
func FuzzSplitArray(f *testing.F) {
	for _, body := range []string{
		` [ 1 ,{ "a" : [ 1 , 2 ] }, "],\"[{" ] `, `[]`, `[1,]`, `[{]}]`, `["\\"]`, `[1}`, `[1]]`, "[" + ones(1001, ",") + "]", `{"a":[]}`,
	} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		parts, err := splitArray(body)
		if err != nil {
			checkRefusal(t, err)
		}
		var want []json.RawMessage
		ok := utf8.Valid(body) && bytes.HasPrefix(bytes.TrimLeft(body, " \t\r\n"), []byte("[")) && json.Unmarshal(body, &want) == nil
		shallow := ok && !slices.ContainsFunc(want, func(element json.RawMessage) bool { return depth(element) > 64 })
		switch {
		case len(want) > 1000: // the first fault from the left decides
			if err == nil {
				t.Fatalf("%q", body)
			}
		case !ok || !shallow:
			if trigger.KindOf(err) != trigger.Malformed {
				t.Fatalf("%q: %v", body, err)
			}
		case len(want) == 0:
			if trigger.KindOf(err) != trigger.Invalid {
				t.Fatalf("%q: %v", body, err)
			}
		case err != nil || !slices.EqualFunc(parts, want, func(a []byte, b json.RawMessage) bool { return bytes.Equal(a, b) }):
			t.Fatalf("%q: %q %v", body, parts, err)
		}
	})
}

func BenchmarkSplitLines(b *testing.B) {
	benchmarkSplit(b, splitLines, "", "\n", "")
}

func BenchmarkSplitArray(b *testing.B) {
	benchmarkSplit(b, splitArray, "[", ",", "]")
}

// benchmarkSplit splits a thousand small events and reads each.
func benchmarkSplit(b *testing.B, split func([]byte) ([][]byte, error), open, separator, end string) {
	events := make([]string, maxBatch)
	for i := range events {
		events[i] = fmt.Sprintf(`{"type":"user.created","payload":{"id":%d,"name":"Zoë"},"dedup_id":"user-%d"}`, i, i)
	}
	body := []byte(open + strings.Join(events, separator) + end)
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		parts, err := split(body)
		if err != nil {
			b.Fatal(err)
		}
		for _, part := range parts {
			if _, err := parseEvent(1, part, time.Time{}); err != nil {
				b.Fatal(err)
			}
		}
	}
}
