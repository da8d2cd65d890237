package main

import (
	"io"
	"log"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// Bounds of what waits to be written to the log, and of how long a stop waits
// for it.
const (
	logLines    = 4096
	logPatience = time.Second
)

// lineWriter writes lines to another writer, in their order, and never makes its
// caller wait: where the other one is too slow, or stuck, because nobody reads
// the pipe behind it, lines are dropped and counted. A line says so as soon as
// there is room. Close it to have written what waits.
type lineWriter struct {
	out     io.Writer
	tell    *slog.Logger // writes to out, of what was dropped
	lines   chan []byte
	dropped atomic.Int64 // all of them
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
		_, _ = w.out.Write(line) // there is nobody left to tell
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

// close writes what waits, for as long as logPatience. A line that comes after
// it, for example of a part that hangs, is lost.
func (w *lineWriter) close() {
	w.closed.Do(func() { close(w.closing) })
	timer := time.NewTimer(logPatience)
	defer timer.Stop()
	select {
	case <-w.done:
	case <-timer.C:
	}
}

// quietPackages sends what packages print by the log package, as net/http does
// of receivers that break its rules, to the log at its lowest level: standard
// error has our own lines alone.
func quietPackages(l *slog.Logger) {
	bridge := slog.NewLogLogger(l.Handler(), slog.LevelDebug)
	log.SetFlags(0)
	log.SetOutput(bridge.Writer())
}
