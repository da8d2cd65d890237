package main

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"
)

// logAt writes a line of a time.
func logAt(t *testing.T, h slog.Handler, at time.Time, level slog.Level, message string, attrs ...slog.Attr) {
	t.Helper()
	r := slog.NewRecord(at, level, message, 0)
	r.AddAttrs(attrs...)
	if err := h.Handle(context.Background(), r); err != nil {
		t.Fatal(err)
	}
}

// Lines of one cause are limited, lines of others are not, and none are left out
// in silence.
func TestLogLimit(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	h := slog.Handler(newLimitedHandler(slog.NewTextHandler(&out, nil))).WithAttrs([]slog.Attr{slog.String("node", "a")})
	begun := time.Unix(1_800_000_000, 0)
	failed := func(n int) slog.Attr { return slog.String("error", fmt.Sprintf("port %d: refused", n)) }
	for i := range 1000 { // 100 a second
		at := begun.Add(time.Duration(i) * 10 * time.Millisecond)
		logAt(t, h, at, slog.LevelError, "request", failed(i), slog.Int("took", i))
		logAt(t, h, at, slog.LevelInfo, "attempt")
	}
	logAt(t, h, begun.Add(10*time.Second), slog.LevelError, "request", slog.String("error", "something else"))
	logAt(t, h, begun.Add(10*time.Second), slog.LevelWarn, "attempt", failed(1), slog.Int64("webhook_id", 1))
	logAt(t, h, begun.Add(10*time.Second), slog.LevelWarn, "attempt", failed(1), slog.Int64("webhook_id", 2))
	logAt(t, h, begun.Add(time.Minute), slog.LevelWarn, "attempt", failed(1), slog.Int64("webhook_id", 2))
	text, lines, told := out.String(), 0, 0
	for line := range strings.Lines(text) {
		var n int
		if strings.Contains(line, "refused") && strings.Contains(line, "msg=request") {
			lines++
		}
		if at := strings.Index(line, "left_out="); at >= 0 {
			if _, err := fmt.Sscanf(line[at:], "left_out=%d", &n); err != nil {
				t.Fatal(err)
			}
			told += n
		}
	}
	if lines != 19 { // 10 at once, and one each second of 0 to 9.99 s
		t.Errorf("%d lines of one cause, want 19", lines)
	}
	if lines+told != 1000 {
		t.Errorf("%d lines and %d that were left out, want 1000 in all", lines, told)
	}
	for part, want := range map[string]int{"level=INFO": 1000, "something else": 1, "webhook_id=1 ": 0, "webhook_id=1\n": 1, "webhook_id=2": 2, `like=request error="port #: refused"`: 1} {
		if got := strings.Count(text, part); got != want {
			t.Errorf("%d times %q, want %d", got, part, want)
		}
	}
}

// The causes that are remembered are bounded, and none is forgotten in silence.
func TestLogLimitIsBounded(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	h := newLimitedHandler(slog.NewTextHandler(&out, nil))
	at := time.Unix(1_800_000_000, 0)
	for i := range 3 * logCauses {
		for range logBurst + 1 {
			logAt(t, h, at, slog.LevelWarn, "a", slog.Int64("webhook_id", int64(i)))
		}
	}
	if n := len(h.causes.seen); n > logCauses {
		t.Errorf("%d causes are remembered, want %d at most", n, logCauses)
	}
	if got := strings.Count(out.String(), "left_out=1") + len(h.causes.seen); got != 3*logCauses {
		t.Errorf("%d lines are told of, or will be; want %d", got, 3*logCauses)
	}
}
