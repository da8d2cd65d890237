package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestParseWrk(t *testing.T) {
	t.Parallel()
	const said = `Running 1s test @ http://127.0.0.1:1/
  1 threads and 16 connections
Requests/sec:  99.00
bench requests 4100
bench us 2050000
bench status 100
bench connect 1
bench read 2
bench write 3
bench timeout 4
bench p50 1500
bench p99 9000
bench p99.9 12345
`
	got, err := parseWrk(said)
	want := tally{
		ok: 4000, others: 100, broken: 10, took: 2050 * time.Millisecond, first: got.first,
		p50: 1500 * time.Microsecond, p99: 9 * time.Millisecond, p999: 12345 * time.Microsecond,
	}
	if err != nil || got != want || !strings.Contains(got.first, "to read 2") {
		t.Errorf("%+v, %v, want %+v", got, err, want)
	}
	if got, err := parseWrk(strings.NewReplacer("status 100", "status 0", "connect 1", "connect 0", "read 2", "read 0",
		"write 3", "write 0", "timeout 4", "timeout 0").Replace(said)); err != nil || got.ok != 4100 || got.err() != nil {
		t.Errorf("%+v, %v, want 4100 good answers", got, err)
	}
	tests := []struct{ name, from, to string }{
		{"nothing", said, ""},
		{"a line too few", "bench timeout 4\n", ""},
		{"no number", "bench p99 9000", "bench p99 many"},
		{"no value", "bench p99 9000", "bench p99"},
		{"not printed by the script", "bench read 2", "read 2"},
		{"more bad answers than answers", "status 100", "status 5000"},
	}
	for _, tt := range tests {
		if got, err := parseWrk(strings.Replace(said, tt.from, tt.to, 1)); err == nil {
			t.Errorf("%s: %+v, want an error", tt.name, got)
		}
	}
}

func TestTallyErr(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		is    tally
		fails bool
	}{
		{"all well", tally{ok: 1}, false},
		{"nothing", tally{}, true},
		{"a bad answer", tally{ok: 9, others: 1}, true},
		{"no answer", tally{ok: 9, broken: 1}, true},
	}
	for _, tt := range tests {
		if err := tt.is.err(); (err != nil) != tt.fails {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

// catcher is a server that keeps the bodies it gets.
type catcher struct {
	mu     sync.Mutex
	bodies []string
	faults []string
}

func (c *catcher) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil || r.Method != http.MethodPost || r.URL.Path != "/events" || r.Header.Get("X-Key") != `a"b\c` {
		c.faults = append(c.faults, r.Method+" "+r.URL.Path+" "+r.Header.Get("X-Key"))
	}
	c.bodies = append(c.bodies, string(body))
	w.WriteHeader(http.StatusCreated)
}

// Each driver sends the same requests, and counts what it was answered.
func TestDrivers(t *testing.T) {
	t.Parallel()
	drivers := []driver{{}}
	if d, err := newDriver(t.Context(), "auto"); err != nil {
		t.Fatal(err)
	} else if d.program != "" {
		drivers = append(drivers, d)
	}
	for _, d := range drivers {
		t.Run(d.String(), func(t *testing.T) {
			t.Parallel()
			c := &catcher{}
			server := httptest.NewServer(c)
			defer server.Close()
			to := aim{address: server.Listener.Addr().String(), path: "/events", header: `X-Key: a"b\c`}
			s := settings{Payload: 60, Dedup: true}
			l := to.batches(&s, "x-", 3)
			l.from = 41
			got, err := d.drive(t.Context(), t.TempDir(), &l, 4, 100*time.Millisecond)
			if err != nil || got.err() != nil || got.took <= 0 || got.p50 <= 0 || got.p999 < got.p50 {
				t.Fatalf("%+v, %v", got, err)
			}
			c.mu.Lock()
			defer c.mu.Unlock()
			if n := len(c.bodies); n < got.ok || n > got.ok+d.unanswered(4) || len(c.faults) > 0 {
				t.Fatalf("%d requests, %d answers, faults %.5q", n, got.ok, c.faults)
			}
			want := map[string]bool{}
			for n := range len(c.bodies) + 8 { // wrk makes one more at its start, and some that it does not send at its end
				_, body, _ := strings.Cut(string(l.text(nil, int64(n))), "\r\n\r\n")
				want[body] = true
			}
			for _, body := range c.bodies {
				if !want[body] {
					t.Fatalf("of %d requests one has wrong ids, or came twice: %s", len(c.bodies), body)
				}
				delete(want, body)
			}
		})
	}
}

func TestNewDriver(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	for name, fails := range map[string]bool{"go": false, "auto": false, "wrk": true} {
		d, err := newDriver(t.Context(), name)
		if (err != nil) != fails || d.program != "" {
			t.Errorf("%s without wrk: %+v, %v", name, d, err)
		}
	}
}
