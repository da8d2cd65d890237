package main

import (
	"net"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestLoadCases measures the program itself, for moments.
func TestLoadCases(t *testing.T) {
	t.Parallel()
	program := filepath.Join(t.TempDir(), "triggerd")
	said, err := exec.CommandContext(t.Context(), "go", "build", "-buildvcs=false", "-o", program, "triggerd/cmd/triggerd").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, said)
	}
	tests := []struct {
		name    string
		figures []string // that are not 0
	}{
		{"posts", []string{
			"16 connections", "64 connections", "256 connections: p99.9", "256 connections: of the no-op route",
			"256 connections: times the single insert", "64 connections: processors, server", "64 connections: allocations",
			"64 connections: allocated", "duplicates", "duplicates: of the no-op route", "memory of the server",
		}},
		{"batches", []string{"100 a request", "100 a request: p50", "1000 a request", "1000 a request: processors, server"}},
		{"footprint", []string{"start to ready", "memory, idle", "binary"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r, text, err := measuredBy(t, "--program", program, "--database=sqlite", "--driver=go", "--only", tt.name)
			if err != nil {
				t.Fatalf("%v: %s", err, text)
			}
			for _, figure := range tt.figures {
				if value(t, r, tt.name, figure) <= 0 {
					t.Errorf("%q is 0: %s", figure, text)
				}
			}
		})
	}
}

// TestText shows what a load sends.
func TestText(t *testing.T) {
	t.Parallel()
	to := aim{address: "host:1", path: "/p", header: "X-Api-Key: k"}
	plain, dedup := settings{Payload: 30}, settings{Payload: 30, Dedup: true}
	const payload = `{"bench":[0,0],"fill":"xxxxx"}`
	event := func(id string) string {
		if id == "" {
			return `{"type":"bench.load","payload":` + payload + `}`
		}
		return `{"type":"bench.load","dedup_id":"bench-` + id + `-p","payload":` + payload + `}`
	}
	tests := []struct {
		name   string
		load   load
		n      int64
		line   string
		body   string
		events int
	}{
		{"post", to.posts(&plain, "-p"), 7, "POST /p", event(""), 1},
		{"post with id", to.posts(&dedup, "-p"), 7, "POST /p", event("004326237923"), 1},
		{"no-op", to.noop(&plain, "/livez"), 7, "GET /livez", event(""), 1},
		{"duplicate", to.duplicates(&plain, "-p"), 2007, "POST /p", event("004326237923"), 1},
		{"batch", to.batches(&plain, "-p", 2), 7, "POST /p", event("") + "\n" + event("") + "\n", 2},
		{"batch with ids", to.batches(&dedup, "-p", 2), 7, "POST /p", event("008652475846") + "\n" + event("009270509835") + "\n", 2},
	}
	for _, tt := range tests {
		text := string(tt.load.text(nil, tt.n))
		head, body, _ := strings.Cut(text, "\r\n\r\n")
		if body != tt.body || !strings.HasPrefix(head, tt.line+" HTTP/1.1\r\nHost: host:1\r\n") || !strings.Contains(head, "\r\nX-Api-Key: k\r\n") ||
			tt.load.events() != tt.events {
			t.Errorf("%s: %d events, %s", tt.name, tt.load.events(), text)
		}
	}
}

// TestLoop shows what our own driver counts.
func TestLoop(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		handler http.HandlerFunc
		want    tally
		first   string
	}{
		{"all well", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }, tally{ok: 40}, ""},
		{"closing", func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Connection", "close") }, tally{ok: 40}, ""},
		{"moved", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusFound) }, tally{others: 40}, "status 302"},
		{"refusing", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", 500) }, tally{others: 40}, `status 500: "no`},
		{"breaking off", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, tally{broken: 4}, "EOF"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			server := httptest.NewServer(tt.handler)
			defer server.Close()
			l := aim{address: server.Listener.Addr().String(), path: "/"}.posts(&settings{Payload: 10}, "")
			got := l.loop(t.Context(), 4, times(40))
			if got.ok != tt.want.ok || got.others != tt.want.others || got.broken != tt.want.broken || !strings.Contains(got.first, tt.first) {
				t.Errorf("%+v, want %+v with %q", got, tt.want, tt.first)
			}
		})
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone := listener.Addr().String()
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	l := aim{address: gone, path: "/"}.posts(&settings{}, "")
	if got := l.loop(t.Context(), 2, within(time.Minute)); got.broken != 2 || got.err() == nil {
		t.Errorf("nobody listens: %+v", got)
	}
}
