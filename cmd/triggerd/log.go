package main

import (
	"io"
	"log"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// Bounds of the lines that wait to be written to the log, and of the time that
// a stop waits for them.
const (
	logLines    = 4096
	logPatience = time.Second
)

// lineWriter writes lines to another writer, in their order, and never blocks
// its caller. If the other writer is too slow, or blocked because its pipe is
// not read, lines are dropped and counted. A line reports them as soon as there
// is room. Close it to write the waiting lines.
type lineWriter struct {
	out     io.Writer
	tell    *slog.Logger // writes to out, about dropped lines
	lines   chan []byte
	dropped atomic.Int64 // total number
	closed  sync.Once
	closing chan struct{}
	done    chan struct{}
}

func newLineWriter(out io.Writer, tell *slog.Logger) *lineWriter {
	w := &lineWriter{out: out, tell: tell, lines: make(chan []byte, logLines), closing: make(chan struct{}), done: make(chan struct{})}
	go w.run()
	return w
}

// Write implements [io.Writer]. It takes one line.
func (w *lineWriter) Write(line []byte) (int, error) {
	select {
	case w.lines <- append([]byte(nil), line...):
	default:
		w.dropped.Add(1)
	}
	return len(line), nil
}

func (w *lineWriter) run() {
	defer close(w.done)
	told := int64(0)
	write := func(line []byte) {
		_, _ = w.out.Write(line) // an error cannot be reported anywhere
		if dropped := w.dropped.Load(); dropped > told {
			w.tell.Warn("log lines were dropped, because they were not read in time", "lines", dropped-told)
			told = dropped
		}
	}
	for {
		select {
		case line := <-w.lines:
			write(line)
			continue
		case <-w.closing:
		}
		for {
			select {
			case line := <-w.lines:
				write(line)
				continue
			default:
			}
			return
		}
	}
}

// close writes the waiting lines, for at most logPatience. Later lines, for
// example of a part that hangs, are lost.
func (w *lineWriter) close() {
	w.closed.Do(func() { close(w.closing) })
	timer := time.NewTimer(logPatience)
	defer timer.Stop()
	select {
	case <-w.done:
	case <-timer.C:
	}
}

// quietPackages redirects the output of the log package, for example of
// net/http about receivers that break its rules, to the log at its lowest
// level, so that standard error has only our own lines.
func quietPackages(l *slog.Logger) {
	bridge := slog.NewLogLogger(l.Handler(), slog.LevelDebug)
	log.SetFlags(0)
	log.SetOutput(bridge.Writer())
}
