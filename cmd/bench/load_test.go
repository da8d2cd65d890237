package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// fake is a server that accepts events and delivers each at once, but for what
// it does wrong with one of them.
type fake struct {
	hooks  atomic.Int64
	urls   [4]string
	events atomic.Int64
	wrong  string
}

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	switch r.URL.Path {
	case "/api/keys/generate":
		fmt.Fprint(w, `{"api-key":"sk_1"}`)
	case "/api/webhook/register":
		var hook struct{ URL string }
		_ = json.Unmarshal(body, &hook)
		n := f.hooks.Add(1)
		f.urls[n-1] = hook.URL
		fmt.Fprintf(w, `{"webhook-id":%d}`, n)
	case "/api/events":
		f.event(w, body)
	}
}

func (f *fake) event(w http.ResponseWriter, body []byte) {
	var event struct {
		Type    string
		Payload json.RawMessage
	}
	_ = json.Unmarshal(body, &event)
	var hook int
	_, _ = fmt.Sscanf(event.Type, "bench.%d", &hook)
	data := fmt.Appendf(nil, `{"id":"1","type":%q,"data":%s}`, event.Type, event.Payload)
	times, job := 1, ""
	if f.events.Add(1) == 50 {
		switch f.wrong {
		case "status":
			http.Error(w, "not now", http.StatusServiceUnavailable)
			return
		case "duplicate":
			fmt.Fprint(w, `{"status":"duplicate"}`)
			return
		case "foreign":
			hook = (hook + 1) % 4
		case "twice":
			times = 2
		case "replayed":
			job = "7"
		case "changed":
			data = bytes.Replace(data, []byte(`"bench":[`), []byte(`"bench":[1`), 1)
		}
	}
	for range times {
		req, err := http.NewRequest(http.MethodPost, f.urls[hook], bytes.NewReader(data))
		if err != nil {
			panic(err)
		}
		if job != "" {
			req.Header.Set("Webhook-Replay", job)
		}
		resp, err := http.DefaultClient.Do(req)
		if err == nil {
			_ = resp.Body.Close()
		}
	}
	fmt.Fprint(w, `{"status":"accepted"}`)
}

// TestLoad shows that what is wrong is found, and makes the run fail.
func TestLoad(t *testing.T) {
	t.Parallel()
	tests := []struct{ wrong, want string }{
		{"", ""},
		{"twice", ""},
		{"status", "status 503"},
		{"duplicate", "duplicate"},
		{"foreign", "which was never sent to it"},
		{"changed", "which was never sent to it"},
		{"replayed", "a delivery of replay 7, want 0"},
	}
	for _, tt := range tests {
		t.Run(tt.wrong, func(t *testing.T) {
			t.Parallel()
			f := &fake{wrong: tt.wrong}
			server := httptest.NewServer(f)
			defer server.Close()
			defer http.DefaultClient.CloseIdleConnections()
			r := &rig{book: newBook()}
			r.receiver = newReceiver(r.book)
			defer func() {
				if err := r.receiver.close(); err != nil {
					t.Error(err)
				}
			}()
			r.client = &client{address: server.Listener.Addr().String(), book: r.book, payload: 100}
			defer r.client.close()
			hooks, err := r.organizations(2, 2)
			if err != nil {
				t.Fatal(err)
			}
			r.client.closedLoop(t.Context(), 4, 0, count(hooks, 40))
			mark := r.book.mark()
			late := r.client.openLoop(t.Context(), 1000, 40*time.Millisecond, lasting(hooks, forever))
			if len(late) != 40 {
				t.Errorf("%d events in the open loop, want 40", len(late))
			}
			err = r.settle(t.Context(), hooks)
			if tt.want != "" {
				if err == nil || !strings.Contains(err.Error(), tt.want) {
					t.Errorf("%v, want %q", err, tt.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			records := r.book.since(mark, anyHook)
			begun, answered, got := span(records)
			if len(records) != 40 || begun <= 0 || answered <= begun || got <= begun || r.book.waiting() != 0 {
				t.Errorf("%d records from %v, answered until %v, got until %v, %d wait", len(records), begun, answered, got, r.book.waiting())
			}
			if again := r.book.again(); (again == 1) != (tt.wrong == "twice") {
				t.Errorf("%d came again", again)
			}
		})
	}
}

func TestReport(t *testing.T) {
	t.Parallel()
	r := &report{}
	b := &bench{}
	b.Database = "sqlite"
	for _, value := range []float64{4, 7, 6} {
		var got outcome
		got.add("p50", "ms", value, atMost(5))
		got.add("rate", "events/s", 1000*value, atLeast(5000))
		r.add(b, "latency", got, nil)
	}
	var lost outcome
	lost.add("p50", "ms", 0.001, atMost(5))
	r.add(b, "latency", lost, fmt.Errorf("an event was lost"))
	r.summarize()
	var out bytes.Buffer
	r.writeTable(&out)
	text := strings.Join(strings.Fields(out.String()), " ")
	for _, want := range []string{
		"sqlite latency p50 6 4 .. 7 ms <= 5 missed", "sqlite latency rate 6000 4000 .. 7000 events/s >= 5000 ok",
		"FAILED: latency on sqlite: an event was lost",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in %s", want, text)
		}
	}
	if !r.failed() {
		t.Error("a failed run does not count as one")
	}
}

func TestChoose(t *testing.T) {
	t.Parallel()
	valid := settings{Runs: 1, Seconds: 1, Clients: 1, Backlog: 100}
	valid.growthFlags = growthFlags{Pending: 100, Due: 100, Snapshot: time.Second}
	tests := []struct {
		only []string
		want int // cases; 0: an error
	}{
		{nil, len(cases())},
		{[]string{"outage", "latency"}, 2},
		{[]string{"latency", "nothing"}, 0},
		{[]string{"latency", "latency"}, 0},
	}
	for _, tt := range tests {
		set := valid
		set.Only = tt.only
		chosen, err := set.choose()
		if len(chosen) != tt.want && err == nil || (err == nil) != (tt.want > 0) {
			t.Errorf("%q: %d cases, %v, want %d", tt.only, len(chosen), err, tt.want)
		}
	}
	if _, err := (&settings{}).choose(); err == nil {
		t.Error("no runs, and no error")
	}
}
