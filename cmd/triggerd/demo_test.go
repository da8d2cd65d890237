package main

import (
	"bytes"
	"context"
	"io"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func noEnvironment(string) string { return "" }

func TestDemo(t *testing.T) {
	temporary := t.TempDir()
	t.Setenv("TMPDIR", temporary)
	var out, errOut bytes.Buffer
	if err := run(t.Context(), []string{"demo", "--rate", "0"}, noEnvironment, &out, &errOut); err != nil {
		t.Error(err)
	}
	for what, want := range map[string]string{
		"accepted": "726", "duplicates": "37", "delivered": "726",
		missing: "0", changed: "0", badlySigned: "0", unknown: "0", wronglyAnswered: "0",
	} {
		row := regexp.MustCompile(`(?m)^` + what + ` +(\d+)$`).FindStringSubmatch(out.String())
		if len(row) != 2 || row[1] != want {
			t.Errorf("%s: %q, want %s", what, row, want)
		}
	}
	arrival := regexp.MustCompile(`(?m)^\d\d:\d\d:\d\d\.\d{3}  github\.\S+ +[0-9a-f-]{18} +\d+ bytes +\d+\.\d ms$`)
	if n := len(arrival.FindAllString(out.String(), -1)); n != 726 {
		t.Errorf("%d lines of arrivals, want 726, in:\n%.1000s", n, out.String())
	}
	if errOut.Len() > 0 {
		t.Errorf("on the error output: %s", errOut.String())
	}
	wantEmpty(t, temporary)
}

// onArrival is an output that calls a function for each line of an arrival.
type onArrival func() error

func (o onArrival) Write(b []byte) (int, error) {
	if bytes.Contains(b, []byte(" bytes ")) {
		return 0, o()
	}
	return len(b), nil
}

func TestDemoInterrupted(t *testing.T) {
	temporary := t.TempDir()
	t.Setenv("TMPDIR", temporary)
	for name, arrival := range map[string]func(interrupt func()) error{
		"nobody reads": func(func()) error { return io.ErrClosedPipe },
		"a signal":     func(interrupt func()) error { interrupt(); return nil },
	} {
		ctx, interrupt := context.WithCancel(t.Context())
		defer interrupt()
		out := onArrival(func() error { return arrival(interrupt) })
		err := run(ctx, []string{"demo", "--count", "100000"}, noEnvironment, out, t.Output())
		if err == nil || !strings.HasPrefix(err.Error(), "interrupted, after ") {
			t.Errorf("%s: error %v, want it to say that it was interrupted", name, err)
		}
		wantEmpty(t, temporary)
	}
}

func wantEmpty(t *testing.T, dir string) {
	t.Helper()
	left, err := os.ReadDir(dir)
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// TestDemoFlags shows that the environment of a server does not reach the
// demo, and that --count and --verbose do what they say.
func TestDemoFlags(t *testing.T) {
	t.Parallel()
	env := func(name string) string {
		return map[string]string{"COUNT": "x", "RATE": "x", "VERBOSE": "x", "DATABASE_URL": "postgres://127.0.0.1:1/none"}[name]
	}
	var out, errOut bytes.Buffer
	if err := run(t.Context(), []string{"demo", "--count", "3", "--rate", "0", "--verbose"}, env, &out, &errOut); err != nil {
		t.Error(err)
	}
	if !strings.Contains(out.String(), "accepted              3\nduplicates            1\ndelivered             3\n") {
		t.Errorf("summary:\n%s", out.String())
	}
	if !strings.Contains(errOut.String(), "msg=attempt") {
		t.Errorf("the server's log:\n%s", errOut.String())
	}
	for _, flag := range []string{"--count=-1", "--rate=-1"} {
		if err := run(t.Context(), []string{"demo", flag}, noEnvironment, &out, &errOut); err == nil {
			t.Errorf("%s is taken", flag)
		}
	}
}

func TestDemoTellsTrouble(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	l := newLedger(func(p posting, a arrival, trouble string) { writeArrival(&out, p, a, trouble) })
	for i := range 30 {
		id := string(rune('a' + i))
		l.answered(posting{dedupID: id, eventID: id, status: "accepted", example: example{Type: "t", Payload: []byte("1")}})
	}
	l.arrived(arrival{eventID: "a", eventType: "t", data: []byte("2")})
	writeSummary(&out, l.tally(), 0)
	for _, want := range []string{
		"0.0 ms  CHANGED\n", "missing              29\n", "changed               1\n", "\nCHANGED: t a\nMISSING: t b\n", "\nand 10 more\n",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not in:\n%s", want, out.String())
		}
	}
	if diff := cmp.Diff("the demo failed: 29 missing, 1 changed", l.tally().err().Error()); diff != "" {
		t.Error(diff)
	}
}
