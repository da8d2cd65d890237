package main

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"triggerd/internal/store"
)

// brokenAfter is an output whose first writes succeed.
type brokenAfter struct {
	writes int
	err    error
	got    bytes.Buffer
}

func (b *brokenAfter) Write(p []byte) (int, error) {
	if b.writes--; b.writes < 0 {
		return 0, b.err
	}
	return b.got.Write(p)
}

// answerAll is enough of the API for each command to succeed.
func answerAll(request string) (int, string) {
	const events = `[{"id":"a","payload":1},{"id":"b","payload":2},{"id":"c","payload":3}]`
	begins := func(with string) bool { return strings.HasPrefix(request, with) }
	switch {
	case begins("POST /v1/inbox/claim"):
		return 200, `{"claim":"k","leased_until":"2026-03-01T12:01:00Z","data":` + events + `}`
	case begins("POST /v1/inbox/"):
		return 200, `{"data":[{"id":"a","status":"acknowledged"}]}`
	case begins("DELETE"):
		return 204, ""
	case begins("POST /v1/events "):
		return 201, `{"status":"accepted","id":"a"}`
	case begins("POST /v1/keys"):
		return 201, `{"id":1,"key":"sk_made"}`
	case begins("GET /v1/samples"):
		return 200, `[{"id":"a"}]`
	case begins("GET /v1/me"):
		return 200, `{"organization":{"id":1}}`
	case begins("GET /v1/events"), begins("GET /v1/inbox"):
		return 200, `{"data":` + events + `,"next_cursor":null}`
	}
	return 200, `{"data":[{}],"next_cursor":null}`
}

// Each command that writes to standard output fails if it cannot.
func TestUnwrittenOutput(t *testing.T) {
	t.Parallel()
	api := newFakeAPI(t, answerAll)
	env := map[string]string{"TRIGGERD_URL": api.URL, "TRIGGERD_KEY": "sk_test"}
	folder := t.TempDir()
	s, err := store.Open(t.Context(), store.Options{DataDir: folder, Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		"--help", "--version", "event list --help", "me", "me --json", "send t", "send t --json", "event list", "event list --json", "event samples",
		"event samples --json", "event delete a", "inbox list --json", "inbox claim", "inbox claim --json", "inbox ack k a --json",
		"inbox consume", "inbox consume --drain", "webhook list", "webhook delete 1", "key create --only-key", "key create", "listen --forward http://127.0.0.1:1/ --inbox",
		"delivery list --json", "replay list --json", "type list --json", "check --data-dir " + folder,
	} {
		s := &session{in: strings.NewReader(""), out: &brokenAfter{err: syscall.ENOSPC}, errOut: io.Discard, now: cliNow}
		err := runWith(t.Context(), strings.Fields(line), func(name string) string { return env[name] }, s)
		if err == nil || oneLine(err) != "standard output cannot be written: no space left on device" {
			t.Errorf("%s: %v", line, err)
		}
	}
}

// What a command has claimed and could not write is given back, and not
// acknowledged. If nobody reads any more, that is all of it.
func TestClaimsThatAreNotWritten(t *testing.T) {
	t.Parallel()
	const claim, ack, release = `POST /v1/inbox/claim {"limit":10}`, `POST /v1/inbox/ack {"claim":"k","ids":`, `POST /v1/inbox/release {"claim":"k","ids":`
	for _, tt := range []struct {
		args   string
		writes int
		err    error
		want   []string
	}{
		{"inbox consume --drain", 0, syscall.ENOSPC, []string{claim, release + `["a","b","c"]}`}},
		{"inbox consume --drain", 2, syscall.ENOSPC, []string{claim, ack + `["a","b"]}`, release + `["c"]}`}},
		{"inbox consume --drain", 2, syscall.EPIPE, []string{claim, release + `["a","b","c"]}`}},
		{"inbox claim", 0, syscall.EPIPE, []string{claim, release + `["a","b","c"]}`}},
		{"inbox claim --json", 0, syscall.ENOSPC, []string{claim, release + `["a","b","c"]}`}},
		{"inbox claim --json", 1, nil, []string{claim}},
	} {
		api := newFakeAPI(t, answerAll)
		env := map[string]string{"TRIGGERD_URL": api.URL, "TRIGGERD_KEY": "sk_test"}
		s := &session{out: &brokenAfter{writes: tt.writes, err: tt.err}, errOut: io.Discard, now: cliNow}
		err := runWith(t.Context(), strings.Fields(tt.args), func(name string) string { return env[name] }, s)
		if !errors.Is(err, tt.err) {
			t.Errorf("%s: %v", tt.args, err)
		}
		if diff := cmp.Diff(tt.want, api.requests()); diff != "" {
			t.Errorf("%s, %d writes, %v: %s", tt.args, tt.writes, tt.err, diff)
		}
	}
}

// If what was claimed cannot be given back either, the error says both.
func TestClaimsThatAreLost(t *testing.T) {
	t.Parallel()
	for _, args := range []string{"inbox consume", "inbox claim"} {
		api := newFakeAPI(t, func(request string) (int, string) {
			if strings.Contains(request, "/release") {
				return 404, `{"code":"not_found","title":"Not found","status":404}`
			}
			return answerAll(request)
		})
		env := map[string]string{"TRIGGERD_URL": api.URL, "TRIGGERD_KEY": "sk_test"}
		s := &session{out: &brokenAfter{err: syscall.ENOSPC}, errOut: io.Discard, now: cliNow}
		err := runWith(t.Context(), strings.Fields(args), func(name string) string { return env[name] }, s)
		if err == nil || !strings.Contains(err.Error(), "cannot be released") || !strings.Contains(err.Error(), "standard output cannot be written") {
			t.Errorf("%s: %v", args, err)
		}
	}
}

// The program itself ends with exit code 1 and one line, and by no signal.
func TestProgramWithoutOutput(t *testing.T) {
	t.Parallel()
	api := newFakeAPI(t, answerAll)
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	read, closed, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer closed.Close()
	read.Close()
	for _, args := range []string{"event list", "event list --json", "inbox claim", "inbox consume", "--help", "--version"} {
		for out, want := range map[*os.File]string{full: "no space left on device", closed: "broken pipe"} {
			cmd := endWithTest(exec.CommandContext(t.Context(), os.Args[0], strings.Fields(args)...))
			cmd.Env = append(os.Environ(), asProgram+"=1", "TRIGGERD_URL="+api.URL, "TRIGGERD_KEY=sk_test")
			said := &bytes.Buffer{}
			cmd.Stdout, cmd.Stderr = out, said
			err := cmd.Run()
			if want := "triggerd: standard output cannot be written: " + want + "\n"; cmd.ProcessState.ExitCode() != 1 || said.String() != want {
				t.Errorf("%s: %v, %q, want exit code 1 and %q", args, err, said, want)
			}
		}
	}
	for _, request := range api.requests() {
		if strings.Contains(request, "/ack") {
			t.Errorf("it sent %s", request)
		}
	}
}

// A program that is started without standard output does not take what it
// cannot write, and does not say that it has written what it was asked for. To
// throw its output away remains possible.
func TestProgramWithClosedOutput(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		args, redirect string
		code           int
		requests       int
	}{
		{"inbox consume --drain", ">&-", 1, 0},
		{"inbox consume --drain", "1<>/dev/null", 1, 0},
		{"inbox claim", ">&-", 1, 0},
		{"inbox claim", ">/dev/null", 0, 1},
		{"send t --json", ">&-", 1, 0},
		{"send t --json", ">/dev/null", 0, 1},
		{"send t", ">&-", 0, 1}, // as if it were thrown away: some programs open /dev/null as the runtime does
		{"key create", ">&-", 1, 0},
		{"key create --only-key", ">/dev/null", 0, 1},
		{"event list --json", ">&-", 1, 0},
	} {
		asked := 0
		api := newFakeAPI(t, func(request string) (int, string) {
			if asked++; asked > 2 { // a claim that was acknowledged is followed by another one
				return 403, `{"title":"Enough","code":"missing_scope","status":403}`
			}
			return answerAll(request)
		})
		cmd := endWithTest(exec.CommandContext(t.Context(), "/bin/sh", "-c", `exec "$0" "$@" `+tt.redirect))
		cmd.Args = append(append(cmd.Args, os.Args[0]), strings.Fields(tt.args)...)
		cmd.Env = append(os.Environ(), asProgram+"=1", "TRIGGERD_URL="+api.URL, "TRIGGERD_KEY=sk_test")
		said := &bytes.Buffer{}
		cmd.Stderr = said
		err := cmd.Run()
		if code := cmd.ProcessState.ExitCode(); code != tt.code || len(api.requests()) != tt.requests || code != 0 && !strings.HasPrefix(said.String(), "triggerd: standard output is closed") {
			t.Errorf("%s %s: %v, %q, it asked for %q", tt.args, tt.redirect, err, said, api.requests())
		}
	}
}
