package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// verdicts answers a batch: each event by its type.
func verdicts(request string) (int, string) {
	_, body, _ := strings.Cut(request, "/v1/events ")
	var b strings.Builder
	for i, text := range strings.Split(strings.TrimSpace(body), "\n") {
		var event struct {
			Type  string
			Dedup string `json:"dedup_id"`
		}
		err := json.Unmarshal([]byte(text), &event)
		switch {
		case err != nil:
			fmt.Fprintf(&b, `{"index":%d,"status":"rejected","problem":{"title":"Invalid JSON","status":400,"code":"invalid_json","detail":"body is not valid JSON"}}`, i)
		case event.Type == "bad":
			fmt.Fprintf(&b, `{"index":%d,"status":"rejected","problem":{"title":"Validation failed","status":422,"code":"validation_failed","errors":[{"pointer":"#/type","detail":"is bad"}]}}`, i)
		case event.Type == "old":
			fmt.Fprintf(&b, `{"index":%d,"status":"duplicate","id":"e%s","payload_matches":true}`, i, event.Dedup)
		default:
			fmt.Fprintf(&b, `{"index":%d,"status":"accepted","id":"e%s","warnings":[{"detail":"no name","pointer":"#/payload"}]}`, i, event.Dedup)
		}
		b.WriteString("\n")
	}
	return 200, b.String()
}

const someLines = "\ufeff" + `{"type":"a","payload":{ "x": 1.0 },"dedup_id":"1"}

{"type":"old","dedup_id":"2"}
{"type":"bad","dedup_id":"3","payload":1}
{"type":
  {"type":"a","TYPE":"\ud800","dedup_id":"5","deliver_at":null} ` + "\r\n\xff"

// Lines go out as they are: what the server reads, and refuses, is what came.
func TestSendLines(t *testing.T) {
	t.Parallel()
	api := newFakeAPI(t, verdicts)
	got := api.run(t, someLines, "send", "--ndjson", "--batch", "4")
	got.failsWith(t, "3 of 6 events were not accepted")
	if want := "2 accepted, 1 duplicates, 3 rejected, 0 unavailable\n"; got.out != want {
		t.Errorf("it wrote %q, want %q", got.out, want)
	}
	want := `event 1: warning: #/payload: no name
event 3 (line 4) is rejected: Validation failed (#/type: is bad)
event 4 (line 5) is rejected: Invalid JSON: body is not valid JSON
event 5 (line 6): warning: #/payload: no name
event 6 (line 7) is rejected: Invalid JSON: body is not valid JSON
`
	if diff := cmp.Diff(want, got.errOut); diff != "" {
		t.Error(diff)
	}
	sent := []string{
		`POST /v1/events {"type":"a","payload":{ "x": 1.0 },"dedup_id":"1"}` + "\n" + `{"type":"old","dedup_id":"2"}` + "\n" + `{"type":"bad","dedup_id":"3","payload":1}` + "\n" + `{"type":`,
		`POST /v1/events {"type":"a","TYPE":"\ud800","dedup_id":"5","deliver_at":null}` + "\n\xff",
	}
	if got := api.requests(); len(got) != 2 || got[0] != sent[0] || got[1] != sent[1] {
		t.Errorf("it sent %q, want %q", got, sent)
	}
}

func TestSendLinesAsJSON(t *testing.T) {
	t.Parallel()
	api := newFakeAPI(t, verdicts)
	got := api.run(t, `{"type":"a","dedup_id":"1"}`+"\n"+`{"type":"old","dedup_id":"2"}`+"\n"+`x`, "send", "--ndjson", "--json", "--batch=1")
	want := `{"index":0,"status":"accepted","id":"e1","warnings":[{"detail":"no name","pointer":"#/payload"}]}
{"index":1,"status":"duplicate","id":"e2","payload_matches":true}
{"index":2,"status":"rejected","problem":{"title":"Invalid JSON","status":400,"code":"invalid_json","detail":"body is not valid JSON"}}
`
	if diff := cmp.Diff(want, got.out); diff != "" || got.errOut != "1 accepted, 1 duplicates, 1 rejected, 0 unavailable\n" {
		t.Errorf("%q, %s", got.errOut, diff)
	}
	got.failsWith(t, "1 of 3 events")
}

// What nobody answers is told, and none of it as accepted.
func TestSendLinesFails(t *testing.T) {
	t.Parallel()
	api := newFakeAPI(t, always(403, `{"title":"Organization suspended","code":"organization_suspended","status":403}`))
	got := api.run(t, "{\"type\":\"a\"}\n{\"type\":\"b\"}\n", "send", "--ndjson")
	got.failsWith(t, "Organization suspended")
	if got.out != "0 accepted, 0 duplicates, 0 rejected, 0 unavailable\n" || got.errOut != "the 2 events from event 1 on are not stored\n" {
		t.Errorf("it wrote %+v", got)
	}
	api = newFakeAPI(t, always(500, `{"title":"Internal error","code":"internal","status":500}`))
	got = api.run(t, "{\"type\":\"a\"}\n{\"type\":\"b\"}\n", "send", "--ndjson")
	if got.failsWith(t, "Internal error"); got.errOut != "2 events from event 1 on may or may not be stored\n" {
		t.Errorf("it wrote %+v", got)
	}
}

// Events go out though their source is silent and has not ended, and a stop
// does not wait for it.
func TestSendLinesOfASilentSource(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	posted := make(chan struct{}, 1)
	api := newFakeAPI(t, func(request string) (int, string) {
		posted <- struct{}{}
		return verdicts(request)
	})
	in, source := io.Pipe()
	defer source.Close()
	var out, errOut bytes.Buffer
	ended := make(chan error, 1)
	go func() {
		env := map[string]string{"TRIGGERD_URL": api.URL, "TRIGGERD_KEY": "sk_x"}
		s := &session{in: in, out: &out, errOut: &errOut, now: cliNow}
		ended <- runWith(ctx, []string{"send", "--ndjson"}, func(name string) string { return env[name] }, s)
	}()
	if _, err := io.WriteString(source, `{"type":"a","dedup_id":"1"}`+"\n"); err != nil {
		t.Fatal(err)
	}
	<-posted
	cancel()
	if err := <-ended; err == nil || !strings.Contains(err.Error(), "interrupted") {
		t.Errorf("it ended with %v", err)
	}
}

func TestDuplicatesAreTold(t *testing.T) {
	t.Parallel()
	api := newFakeAPI(t, always(200, `{"status":"duplicate","id":"e1","payload_matches":false}`))
	got := api.run(t, "", "send", "a", "--dedup-id", "d")
	if got.out != "duplicate e1\n" || !strings.Contains(got.errOut, "another payload") || got.err != nil {
		t.Errorf("it wrote %+v", got)
	}
	if got := api.run(t, "", "send", "a", "--dedup-id", "d", "--json"); got.out != `{"status":"duplicate","id":"e1","payload_matches":false}`+"\n" {
		t.Errorf("it wrote %+v", got)
	}
}

// What is consumed is written as it came, and then acknowledged.
func TestConsume(t *testing.T) {
	t.Parallel()
	claims := 0
	api := newFakeAPI(t, func(request string) (int, string) {
		switch {
		case strings.Contains(request, "/claim"):
			if claims++; claims > 1 {
				return 200, `{"claim":null,"data":[]}`
			}
			return 200, `{"claim":"c","data":[{"id":"a","payload":1.0,"new":1},{"id":"b"}]}`
		default:
			return 200, `{"data":[{"id":"a","status":"acknowledged"},{"id":"b","status":"lost"}]}`
		}
	})
	got := api.run(t, "", "inbox", "consume", "--drain")
	if want := `{"id":"a","payload":1.0,"new":1}` + "\n" + `{"id":"b"}` + "\n"; got.out != want || got.err != nil || !strings.Contains(got.errOut, "event b was no longer ours") {
		t.Errorf("it wrote %+v", got)
	}
	if got := api.requests()[1]; got != `POST /v1/inbox/ack {"claim":"c","ids":["a","b"]}` {
		t.Errorf("it sent %s", got)
	}
}

// Of many that are not accepted, the first are named.
func TestSendLinesNamesTheFirst(t *testing.T) {
	t.Parallel()
	got := newFakeAPI(t, verdicts).run(t, strings.Repeat("x\n", 100), "send", "--ndjson")
	got.failsWith(t, "100 of 100 events")
	if n := strings.Count(got.errOut, "is rejected"); n != maxListed || !strings.HasSuffix(got.errOut, "and more; --json lists all\n") {
		t.Errorf("%d are named: %s", n, got.errOut)
	}
}

// What is too large for the server is rejected by itself, and the rest goes on.
func TestSendLinesThatAreTooLarge(t *testing.T) {
	t.Parallel()
	large := `{"type":"a","dedup_id":"large","payload":"` + strings.Repeat("x", 1<<10) + `"}`
	api := newFakeAPI(t, func(request string) (int, string) {
		if len(request) > 1<<10 {
			return 413, `{"title":"Body too large","status":413,"code":"body_too_large","detail":"The body is over 1024 bytes"}`
		}
		return verdicts(request)
	})
	lines := []string{`{"type":"a","dedup_id":"1"}`, `{"type":"old","dedup_id":"2"}`, large, strings.Repeat("y", maxLine+1), `{"type":"a","dedup_id":"5"}`}
	got := api.run(t, strings.Join(lines, "\n"), "send", "--ndjson")
	got.failsWith(t, "2 of 5 events were not accepted")
	want := "event 1: warning: #/payload: no name\nevent 3 is rejected: Body too large: The body is over 1024 bytes\n" +
		"event 4 is rejected: Body too large: the line is over 33554432 bytes\nevent 5: warning: #/payload: no name\n"
	if diff := cmp.Diff(want, got.errOut); diff != "" || got.out != "2 accepted, 1 duplicates, 2 rejected, 0 unavailable\n" {
		t.Errorf("it wrote %q, %s", got.out, diff)
	}
}

// Lines are read in bounded memory, and numbered as they stand in the input.
func TestLineReader(t *testing.T) {
	t.Parallel()
	const most = 100 << 10
	fits, long := strings.Repeat("a", most), strings.Repeat("b", most+1)
	for _, tt := range []struct {
		input string
		want  []string // "number text", and ! for what is too long
	}{
		{"", nil},
		{"\n \r\n\t\n", nil},
		{"a\n\n b \r\nc", []string{"1 a", "3 b", "4 c"}},
		{"\ufeffa\n\ufeffb", []string{"1 a", "2 \ufeffb"}},
		{"\ufeff\n\ufeff", []string{"2 \ufeff"}},
		{"\xef\xbb", []string{"1 \xef\xbb"}},
		{"\v\n\u00a0", []string{"1 \v", "2 \u00a0"}},
		{fits + "\r\n" + long + "\n" + fits, []string{"1 " + fits, "2 !", "3 " + fits}},
		{strings.Repeat(long, 9) + "\nc", []string{"1 !", "2 c"}},
		{long, []string{"1 !"}},
	} {
		var got []string
		r := newLineReader(strings.NewReader(tt.input), most)
		l, err := r.next()
		for ; err == nil; l, err = r.next() {
			text := string(l.text)
			if l.problem != nil {
				text = "!"
			}
			got = append(got, fmt.Sprintf("%d %s", l.number, text))
		}
		if diff := cmp.Diff(tt.want, got); diff != "" || err != io.EOF {
			t.Errorf("%.20q: %v, %s", tt.input, err, diff)
		}
	}
}
