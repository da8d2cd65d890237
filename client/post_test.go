package client

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// payloads are texts that encoding/json would change.
func payloads() []string {
	return []string{
		`null`, `""`, `{}`, `[ ]`, `{ "a" : 1 }`, `"<a>&\u003c\u2028` + "\u2028" + `"`, `1.0`, `1e400`, `123456789012345678901234567890`, `-0`, `"\/"`, `"é\u00e9"`,
		`{"b":1,"a":2,"b":3}`, "[\n\t1,\r\n 2\n]", "\"\xed\xa0\x80\"", `"\ud800"`,
	}
}

// member cuts the value of the last member out of an object.
func member(t rapid.TB, object, name string) string {
	t.Helper()
	_, value, ok := strings.Cut(object, `"`+name+`":`)
	if !ok {
		t.Fatalf("no %s in %s", name, object)
	}
	return strings.TrimSuffix(value, "}")
}

func TestPayloadsGoOutUnchanged(t *testing.T) {
	t.Parallel()
	for _, payload := range payloads() {
		for _, around := range []string{"", " ", "\r\n\t"} {
			c := fake(func(r *http.Request) (*http.Response, error) {
				diff(t, "payload", member(t, bodyOf(t, r), "payload"), payload)
				return reply("201", `{"status":"accepted","id":"e"}`), nil
			}).client()
			if _, err := c.PostEvent(t.Context(), EventInput{Type: "t", Payload: json.RawMessage(around + payload + around)}); err != nil {
				t.Error(err)
			}
		}
	}
}

func TestPayloadsComeInUnchanged(t *testing.T) {
	t.Parallel()
	for _, payload := range payloads() {
		c := fake(func(*http.Request) (*http.Response, error) {
			return reply("200", `{"data":[{"id":"e","payload": `+payload+` }]}`), nil
		}).client()
		page, err := c.EventsPage(t.Context(), EventQuery{}, "")
		if err != nil {
			t.Fatal(err)
		}
		diff(t, "payload", string(page.Data[0].Payload), payload)
	}
}

func TestBadEventsAreNotSent(t *testing.T) {
	t.Parallel()
	c := fake(func(*http.Request) (*http.Response, error) { return nil, errors.New("sent") }).client()
	good := EventInput{Type: "t", Payload: json.RawMessage("1")}
	for _, bad := range []EventInput{
		{Type: "t", Payload: json.RawMessage("{")},
		{Type: "t", Payload: json.RawMessage("1 2")},
		{Type: "\xff", Payload: good.Payload},
		{Type: "t", Payload: good.Payload, DedupID: "\xff"},
		{Type: "t", Payload: good.Payload, Traceparent: "\xff"},
	} {
		_, err := c.PostEvent(t.Context(), bad)
		_, err2 := c.PostEvents(t.Context(), []EventInput{good, bad})
		for _, err := range []error{err, err2} {
			if err == nil || strings.Contains(err.Error(), "sent") {
				t.Errorf("%+v: %v", bad, err)
			}
		}
	}
	_, err := c.PostEvents(t.Context(), make([]EventInput, MaxBatch+1))
	diff(t, "too many", fmt.Sprint(err), "triggerd: 1001 events are over the 1000 of a request")
	verdicts, err := c.PostEvents(t.Context(), nil)
	diff(t, "none", len(verdicts) == 0 && err == nil, true)
	verdicts, err = c.PostCloudEvents(t.Context(), nil)
	diff(t, "none", len(verdicts) == 0 && err == nil, true)
	_, err = c.PostCloudEvent(t.Context(), json.RawMessage("{"))
	diff(t, "CloudEvent", fmt.Sprint(err), "triggerd: event 0 is not JSON")
}

// ingest is a server that keeps events by their dedup ids.
type ingest struct {
	t       *testing.T
	kept    map[string]string // payloads
	fails   []string          // what each request does after it has kept its events, "" nothing
	flaky   map[string]int    // how often an event is unavailable, by its dedup id
	formats []string
}

func (s *ingest) client() *Client {
	s.kept = map[string]string{}
	return fake(s.serve).client()
}

func (s *ingest) serve(r *http.Request) (*http.Response, error) {
	kind, body := r.Header.Get("Content-Type"), bodyOf(s.t, r)
	s.formats = append(s.formats, kind)
	var events []json.RawMessage
	switch {
	case kind == "application/x-ndjson":
		for line := range strings.Lines(body) {
			events = append(events, json.RawMessage(line))
		}
	case body[0] == '[':
		if err := json.Unmarshal([]byte(body), &events); err != nil {
			s.t.Error(err)
		}
	default:
		events = []json.RawMessage{json.RawMessage(body)}
	}
	var verdicts []string
	for i, event := range events {
		verdicts = append(verdicts, s.keep(i, event, r.Header.Get("Idempotency-Key")))
	}
	if len(s.fails) > 0 {
		fail := s.fails[0]
		s.fails = s.fails[1:]
		if fail != "" {
			return nil, errors.New(fail)
		}
	}
	switch {
	case kind == "application/x-ndjson":
		return reply("200 application/x-ndjson", strings.Join(verdicts, "\n")+"\n"), nil
	case body[0] == '[':
		return reply("207", `{"data":[`+strings.Join(verdicts, ",")+`]}`), nil
	}
	return reply("201", verdicts[0]), nil
}

func (s *ingest) keep(i int, event json.RawMessage, key string) string {
	var in struct {
		DedupID string          `json:"dedup_id"`
		Payload json.RawMessage `json:"payload"`
	}
	if err := json.Unmarshal(event, &in); err != nil {
		s.t.Error(err)
	}
	id := in.DedupID + key
	if s.flaky[id] > 0 {
		s.flaky[id]--
		return fmt.Sprintf(`{"index":%d,"status":"unavailable","problem":%s}`, i, problem(CodeUnavailable, id))
	}
	if kept, ok := s.kept[id]; ok {
		return fmt.Sprintf(`{"index":%d,"status":"duplicate","id":%q,"payload_matches":%v}`, i, id, kept == string(in.Payload))
	}
	s.kept[id] = string(in.Payload)
	return fmt.Sprintf(`{"index":%d,"status":"accepted","id":%q}`, i, id)
}

func TestPostEventIsStoredOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &ingest{t: t, fails: []string{"lost", "lost", ""}}
		c := s.client()
		in := EventInput{Type: "t", Payload: json.RawMessage("1")}
		accepted, err := c.PostEvent(t.Context(), in)
		diff(t, "error", err, nil)
		diff(t, "status", accepted.Status, PostAccepted)
		diff(t, "match", accepted.PayloadMatches, nil)
		diff(t, "events", len(s.kept), 1)
		if _, err := c.PostEvent(t.Context(), in); err != nil {
			t.Error(err)
		}
		diff(t, "events of two calls", len(s.kept), 2)

		in.DedupID = "d"
		s.fails = []string{"lost"}
		accepted, err = c.PostEvent(t.Context(), in)
		diff(t, "error", err, nil)
		diff(t, "status", accepted.Status, PostDuplicate)
		diff(t, "match", *accepted.PayloadMatches, true)
		in.Payload = json.RawMessage("2")
		if accepted, err = c.PostEvent(t.Context(), in); err != nil {
			t.Fatal(err)
		}
		diff(t, "match", *accepted.PayloadMatches, false)
		diff(t, "events", len(s.kept), 3)
	})
}

func TestPostEventsAreStoredOnce(t *testing.T) {
	t.Parallel()
	for payload, format := range map[string]string{"1": "application/x-ndjson", "[\n1]": "application/json", "[\r1]": "application/json"} {
		synctest.Test(t, func(t *testing.T) {
			s := &ingest{t: t, fails: []string{"lost", ""}, flaky: map[string]int{"b": 3, "c": 99}}
			in := []EventInput{
				{Type: "t", Payload: json.RawMessage(payload)},
				{Type: "t", Payload: json.RawMessage(payload), DedupID: "a"},
				{Type: "t", Payload: json.RawMessage(payload), DedupID: "b"},
				{Type: "t", Payload: json.RawMessage(payload), DedupID: "c"},
				{Type: "t", Payload: json.RawMessage(payload), DedupID: "a"},
			}
			verdicts, err := s.client().PostEvents(t.Context(), in)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for i, v := range verdicts {
				diff(t, "index", v.Index, i)
				got = append(got, v.Status)
			}
			want := []string{PostAccepted, PostDuplicate, PostAccepted, PostUnavailable, PostDuplicate}
			if d := cmp.Diff(want, got); d != "" {
				t.Error(d)
			}
			diff(t, "problem", IsCode(verdicts[3].Problem, CodeUnavailable), true)
			diff(t, "events", len(s.kept), 3)
			diff(t, "unchanged input", in[0].DedupID, "")
			for _, kept := range s.kept {
				diff(t, "payload", kept, payload)
			}
			diff(t, "formats", slices.Index(s.formats, format) == 0 && len(slices.Compact(s.formats)) == 1, true)
		})
	}
}

// A round for those that were unavailable fails: what is known stays known.
func TestPostEventsKeepsVerdicts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &ingest{t: t, flaky: map[string]int{"b": 1}, fails: append([]string{""}, slices.Repeat([]string{"lost"}, 9)...)}
		verdicts, err := s.client().PostEvents(t.Context(), []EventInput{{DedupID: "a"}, {DedupID: "b"}})
		diff(t, "error", err, nil)
		diff(t, "first", verdicts[0].Status, PostAccepted)
		diff(t, "second", verdicts[1].Status, PostUnavailable)
	})
}

func TestWrongVerdicts(t *testing.T) {
	t.Parallel()
	for _, body := range []string{"", "{}\n", "{}\n{}\n", "{}\n{\"index\":1}\n{\"index\":2}\n", "{}\n{", "x"} {
		c := fake(func(*http.Request) (*http.Response, error) { return reply("200", body), nil }).client()
		if verdicts, err := c.PostEvents(t.Context(), []EventInput{{}, {}}); err == nil {
			t.Errorf("%q: %v", body, verdicts)
		}
	}
}

// Whatever is posted arrives, each once, with its own bytes, however often
// answers are lost.
func TestPostEventsProperty(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		texts := rapid.SliceOfN(rapid.SampledFrom(payloads()), 1, 20).Draw(rt, "payloads")
		lost := rapid.SliceOfN(rapid.SampledFrom([]string{"", "lost"}), 0, DefaultRetries).Draw(rt, "answers")
		kept := map[string]string{}
		synctest.Test(t, func(t *testing.T) {
			s := &ingest{t: t, fails: lost}
			var events []EventInput
			for _, text := range texts {
				events = append(events, EventInput{Type: "t", Payload: json.RawMessage(text)})
			}
			verdicts, err := s.client().PostEvents(t.Context(), events)
			if err != nil {
				t.Fatal(err)
			}
			for i, v := range verdicts {
				diff(t, "payload", s.kept[v.ID], texts[i])
			}
			kept = s.kept
		})
		got := slices.Sorted(maps.Values(kept))
		slices.Sort(texts)
		if !slices.Equal(got, texts) {
			rt.Errorf("kept %q, want %q", got, texts)
		}
	})
}

func FuzzSplice(f *testing.F) {
	for _, payload := range payloads() {
		f.Add("user.created", "d", []byte(payload))
	}
	f.Fuzz(func(t *testing.T, kind, dedup string, payload []byte) {
		b, err := EventInput{Type: kind, DedupID: dedup, Payload: payload}.MarshalJSON()
		if err != nil {
			return
		}
		var got struct {
			Type    string          `json:"type"`
			DedupID string          `json:"dedup_id"`
			Payload json.RawMessage `json:"payload"`
		}
		if err := json.Unmarshal(b, &got); err != nil {
			t.Fatalf("%s: %v", b, err)
		}
		if got.Type != kind || got.DedupID != dedup || !bytes.Equal(got.Payload, bytes.Trim(payload, " \t\r\n")) {
			t.Errorf("%q, %q, %q became %s", kind, dedup, payload, b)
		}
	})
}
