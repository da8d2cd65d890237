package main

import (
	"bytes"
	"fmt"
	"log"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"testing"

	"triggerd/internal/store/storetest"
)

// stuckWriter is a pipe that nobody reads until it is opened.
type stuckWriter struct {
	open chan struct{}
	mu   sync.Mutex
	got  bytes.Buffer
}

func (w *stuckWriter) Write(b []byte) (int, error) {
	<-w.open
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.got.Write(b)
}

// A log that nobody reads holds up nobody who writes: lines are dropped, counted
// and told of when it is read again; those that were kept are in their order.
func TestLogThatIsNotRead(t *testing.T) {
	t.Parallel()
	out := &stuckWriter{open: make(chan struct{})}
	w := newLineWriter(out, slog.New(slog.NewTextHandler(out, nil)))
	const n = 3 * logLines
	for i := range n {
		fmt.Fprintf(w, "line %d\n", i)
	}
	dropped := w.dropped.Load()
	if least := int64(n - logLines - 1); dropped < least {
		t.Errorf("%d of %d lines were dropped, want %d or more", dropped, n, least)
	}
	close(out.open)
	w.close()
	text := out.got.String()
	if want := fmt.Sprintf(`level=WARN msg="log lines were dropped, because they were not read in time" lines=%d`, dropped); strings.Count(text, want) != 1 {
		t.Errorf("want %s once in a log of %d bytes", want, len(text))
	}
	last, lines := -1, int64(0)
	for line := range strings.Lines(text) {
		var i int
		if _, err := fmt.Sscanf(line, "line %d\n", &i); err == nil {
			if i <= last {
				t.Fatalf("line %d comes after line %d", i, last)
			}
			last, lines = i, lines+1
		}
	}
	if lines+dropped != n {
		t.Errorf("%d lines were written and %d dropped, of %d", lines, dropped, n)
	}
	fmt.Fprintln(w, "late, from a part that hangs") // is lost
	w.close()                                       // again is no mistake
}

// What packages print by the log package is no line of ours, unless it is asked
// for. This test runs beside no other.
func TestPackagesAreQuiet(t *testing.T) {
	before, flags := log.Writer(), log.Flags()
	t.Cleanup(func() { log.SetOutput(before); log.SetFlags(flags) })
	var out bytes.Buffer
	quietPackages(newLog(&out, settings{LogLevel: "info"}))
	log.Print("Unsolicited response received on idle HTTP channel")
	if out.Len() > 0 {
		t.Errorf("printed: %s", &out)
	}
	quietPackages(newLog(&out, settings{LogLevel: "debug"}))
	log.Print("Unsolicited response")
	if !strings.Contains(out.String(), `"msg":"Unsolicited response"`) {
		t.Errorf("with debug: %s", &out)
	}
}

// A server outlives whoever reads its log, and SIGHUP stops it as SIGTERM does.
func TestReaderOfLogGoesAway(t *testing.T) {
	t.Parallel()
	hangUps := make(chan os.Signal, 1)
	signal.Notify(hangUps, syscall.SIGHUP) // so that the process does not inherit that it is ignored
	t.Cleanup(func() { signal.Stop(hangUps) })
	db := storetest.SQLite(t)
	rec := newRecorder(t, nil)
	p := startProcess(t, db)
	key := p.newKey(t, "enterprise")
	p.register(t, key, rec.URL+"/hook", "")
	p.closeLog()
	const n = 50
	for i := range n {
		p.postEvent(t, key, "user.created", fmt.Sprint(i), "1")
	}
	rec.wait(t, n) // each attempt writes a line
	if code := p.end(t, syscall.SIGHUP); code != 0 {
		t.Errorf("exit code %d after SIGHUP", code)
	}
	p = startProcess(t, db)
	if code := p.end(t, syscall.SIGHUP); code != 0 || !strings.Contains(p.log.String(), "msg=stopped") {
		t.Errorf("exit code %d after SIGHUP:\n%s", code, p.log)
	}
}
