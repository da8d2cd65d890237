package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/alecthomas/kong"
)

// parsed are the settings that a command line makes.
func parsed(t *testing.T, args ...string) (s settings, err error) {
	t.Helper()
	parser, err := kong.New(&s, kong.Vars{"cases": ""})
	if err != nil {
		t.Fatal(err)
	}
	_, err = parser.Parse(args)
	return s, err
}

// measuredBy runs the program, and returns its report.
func measuredBy(t *testing.T, args ...string) (r report, text string, err error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "report.json")
	s, err := parsed(t, append(args, "--runs", "1", "--seconds", "1", "--json", file, "--dir", t.TempDir())...)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	err = run(t.Context(), s, &out, io.Discard)
	written, readErr := os.ReadFile(file)
	if readErr != nil {
		t.Fatal(readErr, err)
	}
	if err := json.Unmarshal(written, &r); err != nil {
		t.Fatal(err)
	}
	return r, out.String(), err
}

// value is a figure of a report, which must be there once.
func value(t *testing.T, r report, name, figure string) float64 {
	t.Helper()
	var found []float64
	for _, row := range r.Rows {
		if row.Case == name && row.Figure == figure {
			found = append(found, row.Median)
		}
	}
	if len(found) != 1 {
		t.Errorf("%s: %q is there %d times", name, figure, len(found))
		return 0
	}
	return found[0]
}

func TestAgainstFlags(t *testing.T) {
	t.Parallel()
	const here = "--against=http://127.0.0.1:7001"
	tests := []struct {
		args  string
		want  string // of the error; "": none
		cases int
	}{
		{here, "", 1},
		{here + " --against-path=/v1/events", "", 2},
		{here + " --against-path=/v1/events --only=batches", "", 1},
		{here + " --only=batches", "not all of these are cases", 0},
		{here + " --only=latency", "not all of these are cases", 0},
		{"--against=http://[::1]:7001", "", 1},
		{"--against=http://localhost:7001/", "", 1},
		{"--against=http://10.1.2.3:7001", "loopback", 0},
		{"--against=http://example.com", "loopback", 0},
		{"--against=http://127.0.0.1.example.com", "loopback", 0},
		{"--against=http://example.com --against-anywhere", "", 1},
		{"--against=https://127.0.0.1:7001", "http://HOST:PORT", 0},
		{"--against=127.0.0.1:7001", "http://HOST:PORT", 0},
		{here + "/v1/events", "--against-path", 0},
		{"--against=http://user@127.0.0.1:7001", "http://HOST:PORT", 0},
		{here + " --against-path=events", "--against-path", 0},
		{here + " --against-path=", "--against-path", 0},
		{here + " --against-noop=livez", "--against-noop", 0},
		{here + " --against-header=", "--against-header", 0},
		{here + " --against-header=a:b", "--against-header", 0},
		{here + " --against-key=a\nb", "--against-key", 0},
		{here + " --stored=100", "--stored", 0},
		{"--against-key=k", "need --against", 0},
		{"--against-anywhere", "need --against", 0},
		{"--driver=ab", "--driver", 0},
	}
	for _, tt := range tests {
		var chosen []measurement
		s, err := parsed(t, strings.Split(tt.args, " ")...)
		if err == nil {
			chosen, err = s.choose()
		}
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) || len(chosen) != tt.cases {
			t.Errorf("%s: %d cases, %v; want %d, %q", tt.args, len(chosen), err, tt.cases, tt.want)
		}
	}
}

// other is a server that is none of ours.
type other struct {
	requests atomic.Int64
	refuses  int64 // the request of this number, and all that follow; 0: none
	strange  atomic.Int64
}

func (o *other) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	n := o.requests.Add(1)
	switch {
	case o.refuses > 0 && n >= o.refuses:
		http.Error(w, "not now", http.StatusServiceUnavailable)
	case r.Header.Get("Authorization") != "Bearer k":
		o.strange.Add(1)
	case r.URL.Path == "/nothing" && r.Method == http.MethodGet:
	case r.URL.Path != "/other/v1/events" || r.Method != http.MethodPost:
		o.strange.Add(1)
	case r.Header.Get("Content-Type") == "application/x-ndjson":
		for range bytes.Lines(body) {
			fmt.Fprintln(w, `{"status":"accepted"}`)
		}
	default:
		w.WriteHeader(http.StatusAccepted)
	}
}

func TestAgainst(t *testing.T) {
	t.Parallel()
	o := &other{}
	server := httptest.NewServer(o)
	defer server.Close()
	r, text, err := measuredBy(t, "--against", server.URL, "--against-path=/other/v1/events", "--against-header=Authorization",
		"--against-key=Bearer k", "--against-noop=/nothing", "--driver=go")
	if err != nil || o.strange.Load() > 0 {
		t.Fatalf("%v, %d strange requests; %s", err, o.strange.Load(), text)
	}
	for _, name := range []string{"16 connections", "64 connections", "256 connections", "duplicates"} {
		if value(t, r, "posts", name) <= 0 || value(t, r, "posts", name+": of the no-op route") <= 0 ||
			value(t, r, "posts", name+": answers 2xx") <= 0 || value(t, r, "posts", name+": other answers") != 0 {
			t.Errorf("%s: %s", name, text)
		}
	}
	if value(t, r, "batches", "100 a request") <= 0 || value(t, r, "batches", "1000 a request: answers 2xx") <= 0 {
		t.Error(text)
	}
	if !strings.Contains(text, "the Go client") || r.Driver != "the Go client" {
		t.Errorf("the driver is not told: %s", text)
	}
}

// Answers that are no 2xx make the run fail, and are told.
func TestAgainstErrors(t *testing.T) {
	t.Parallel()
	o := &other{refuses: 50}
	server := httptest.NewServer(o)
	defer server.Close()
	r, text, err := measuredBy(t, "--against", server.URL, "--against-path=/other/v1/events", "--against-header=Authorization",
		"--against-key=Bearer k", "--driver=go")
	if err == nil || len(r.Rows) > 0 {
		t.Errorf("%v, %d figures", err, len(r.Rows))
	}
	for _, want := range []string{"FAILED: posts on against", "answers were 2xx", "were not", "status 503", "FAILED: batches on against"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in %s", want, text)
		}
	}
}
