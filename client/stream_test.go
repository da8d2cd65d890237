package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// feed is a server whose connections are told one by one.
type feed struct {
	conns [][]any // each what comes on it: texts, pauses, and an error at its end; or an error or a reply's head alone
	from  []string
	at    []time.Time
}

func (f *feed) client() *Client { return fake(f.serve).client() }

func (f *feed) serve(r *http.Request) (*http.Response, error) {
	conn := f.conns[min(len(f.from), len(f.conns)-1)]
	f.from = append(f.from, r.Header.Get("Last-Event-ID"))
	f.at = append(f.at, time.Now())
	switch step := conn[0].(type) {
	case error:
		return nil, step
	case string:
		if step[0] >= '1' && step[0] <= '9' {
			return reply(step, problem(CodeInternal, "")), nil
		}
	}
	pr, pw := io.Pipe()
	context.AfterFunc(r.Context(), func() { pw.CloseWithError(r.Context().Err()) })
	go func() {
		for _, step := range conn {
			switch step := step.(type) {
			case string:
				if _, err := io.WriteString(pw, step); err != nil {
					return
				}
			case time.Duration:
				select {
				case <-time.After(step):
				case <-r.Context().Done():
					return
				}
			case error:
				pw.CloseWithError(step)
				return
			}
		}
		<-r.Context().Done() // silent from now on
	}()
	res := reply("200 text/event-stream;charset=utf-8", "")
	res.Body = pr
	return res, nil
}

func sse(id string) string { return fmt.Sprintf("id: %s\ndata: {\"id\":%q}\n\n", id, id) }

const beat = ": heartbeat\n\n"

// gather runs a stream for a while, or until an event with the id "end".
func gather(t *testing.T, f *feed, last string) (ids string, err error) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	for event, e := range f.client().StreamInbox(ctx, last) {
		if err = e; err != nil {
			continue // nothing may follow
		}
		if ids += event.ID; event.ID == "end" {
			break
		}
		ids += " "
	}
	return ids, err
}

func TestStreamGoesOn(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name        string
		conns       [][]any
		events, ids string // what comes, and where connections began
		err         error
	}{
		{"one connection", [][]any{{sse("a"), beat, sse("b"), sse("end")}}, "a b end", "[0]", nil},
		{"cut", [][]any{{sse("a"), sse("b"), errCut}, {sse("end")}}, "a b end", "[0 b]", nil},
		{"cut in an event", [][]any{{sse("a"), sse("b")[:9], errCut}, {sse("end")}}, "a end", "[0 a]", nil},
		{"the server stops", [][]any{{sse("a"), io.EOF}, {errDial}, {errDial}, {"503"}, {"502 text/html"}, {"429"}, {errDial}, {errDial}, {sse("end")}}, "a end", "[0 a a a a a a a a]", nil},
		{"beats keep it", [][]any{{40 * time.Second, beat, 40 * time.Second, beat, 40 * time.Second, sse("a"), 44 * time.Second, sse("end")}}, "a end", "[0]", nil},
		{"silence", [][]any{{sse("a")}, {sse("b"), 46 * time.Second, sse("c")}, {sse("end")}}, "a b end", "[0 a b]", nil},
		{"other events", [][]any{{"event: other\ndata: x\n\n", "event: message\nid: a\ndata: {\"id\":\"a\"}\n\n", sse("end")}}, "a end", "[0]", nil},
		{"not JSON", [][]any{{sse("a"), "data: x\n\n"}}, "a ", "[0]", errMalformed},
		{"not an event", [][]any{{sse("a"), "data: {\"ok\":true}\n\n"}}, "a ", "[0]", errMalformed},
		{"not a stream", [][]any{{"200 text/html"}}, "", "[0]", errMalformed},
		{"refused", [][]any{{"401 application/problem+json"}}, "", "[0]", &Error{}},
		{"refused later", [][]any{{sse("a"), errCut}, {"404 application/problem+json"}}, "a ", "[0 a]", &Error{}},
		{"never reached", [][]any{{errDial}}, "", "[0 0 0 0 0]", errDial},
		{"reached at last", [][]any{{errDial}, {"503"}, {errDial}, {errDial}, {sse("end")}}, "end", "[0 0 0 0 0]", nil},
		{"the context ends", [][]any{{sse("a"), errCut}, {errDial}}, "a ", "", context.DeadlineExceeded},
		{"the context ends a connection", [][]any{{sse("a"), errCut}, append([]any{sse("b")}, beats()...)}, "a b ", "[0 a]", context.DeadlineExceeded},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := &feed{conns: tt.conns}
				ids, err := gather(t, f, "0")
				diff(t, "events", ids, tt.events)
				if tt.ids != "" {
					diff(t, "connections", fmt.Sprint(f.from), tt.ids)
				}
				if _, ok := tt.err.(*Error); ok {
					diff(t, "code", IsCode(err, CodeInternal), true)
				} else if !errors.Is(err, tt.err) {
					t.Errorf("%v, want %v", err, tt.err)
				}
			})
		})
	}
}

func beats() (beats []any) {
	for range 400 {
		beats = append(beats, 15*time.Second, beat)
	}
	return beats
}

// A loop that takes its time is not silence of the server.
func TestSlowLoop(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := &feed{conns: [][]any{{sse("a"), sse("end")}}}
		for event, err := range f.client().StreamInbox(t.Context(), "") {
			if err != nil {
				t.Fatal(err)
			}
			<-time.After(time.Hour)
			if event.ID == "end" {
				break
			}
		}
		diff(t, "connections", fmt.Sprint(f.from), "[]")
		diff(t, "connections", len(f.from), 1)
	})
}

// While a server is away, it is asked less and less often; when it was there,
// soon again.
func TestStreamPauses(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cut := []any{sse("a"), errCut}
		f := &feed{conns: [][]any{cut, {errDial}, {errDial}, {errDial}, cut, cut, {"503 Retry-After=30"}, {"retry: 3000\n\n", sse("b"), errCut}, {sse("end")}}}
		if _, err := gather(t, f, ""); err != nil {
			t.Fatal(err)
		}
		for i, longest := range []time.Duration{minPause, 2 * minPause, 4 * minPause, 8 * minPause, minPause, minPause, 31 * time.Second, 3 * time.Second} {
			if wait := f.at[i+1].Sub(f.at[i]); wait < longest/2 || wait > longest+1 {
				t.Errorf("pause %d: %v, not up to %v", i, wait, longest)
			}
		}
	})
}

// Over a real connection.
func TestStreamOverHTTP(t *testing.T) {
	t.Parallel()
	n := 0
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		diff(t, "request", r.Method+" "+r.URL.String()+" "+r.Header.Get("Accept"), "GET /v1/inbox/stream text/event-stream")
		w.Header().Set("Content-Type", "text/event-stream")
		n++
		_, _ = io.WriteString(w, sse(strings.Repeat("a", n))+"data: {")
		_ = http.NewResponseController(w).Flush()
		if n < 3 {
			panic(http.ErrAbortHandler)
		}
		<-r.Context().Done()
	}))
	defer srv.Close()
	c := &Client{BaseURL: srv.URL}
	defer c.CloseIdleConnections()
	got := ""
	for event, err := range c.StreamInbox(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		if got += event.ID + " "; event.ID == "aaa" {
			break
		}
	}
	diff(t, "events", got, "a aa aaa ")
}
