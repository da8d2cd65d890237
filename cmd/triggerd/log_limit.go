package main

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Limits of the lines at level WARN and above with the same cause: a burst,
// then one per second. The number of suppressed lines is reported with the next
// one, or after logQuiet.
const (
	logBurst  = 10
	logPerSec = 1
	logQuiet  = 10 * time.Second
	logCauses = 1000 // maximum number that is remembered
	logCause  = 160  // bytes of an error that identify a cause
)

// limitedHandler is a [slog.Handler] that limits lines with the same cause. For
// example, while a database is down, each request and each webhook would have
// its own line.
type limitedHandler struct {
	slog.Handler
	causes *causes
}

// newLimitedHandler returns a handler that limits the records passed to h.
func newLimitedHandler(h slog.Handler) *limitedHandler {
	return &limitedHandler{h, &causes{seen: map[cause]*causeLines{}}}
}

// Handle implements [slog.Handler].
func (h *limitedHandler) Handle(ctx context.Context, r slog.Record) error {
	if r.Level < slog.LevelWarn {
		return h.Handler.Handle(ctx, r)
	}
	leftOut, ok, quiet := h.causes.admit(causeOf(r), r.Time)
	for c, n := range quiet {
		last := slog.NewRecord(r.Time, c.level, "more lines like this were suppressed", 0)
		last.AddAttrs(slog.String("like", c.message), slog.String("error", c.err), slog.Int("left_out", n))
		_ = h.Handler.Handle(ctx, last) // like any line that cannot be written
	}
	if !ok {
		return nil
	}
	if leftOut > 0 {
		r = r.Clone()
		r.AddAttrs(slog.Int("left_out", leftOut))
	}
	return h.Handler.Handle(ctx, r)
}

// WithAttrs implements [slog.Handler].
func (h *limitedHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &limitedHandler{h.Handler.WithAttrs(attrs), h.causes}
}

// WithGroup implements [slog.Handler].
func (h *limitedHandler) WithGroup(name string) slog.Handler {
	return &limitedHandler{h.Handler.WithGroup(name), h.causes}
}

// cause is what identifies similar lines: the message, the error without its
// numbers, and the webhook.
type cause struct {
	level        slog.Level
	message, err string
	webhook      int64
}

func causeOf(r slog.Record) cause {
	c := cause{level: r.Level, message: r.Message}
	r.Attrs(func(a slog.Attr) bool {
		switch a.Key {
		case "error":
			c.err = withoutNumbers(a.Value.String())
		case "webhook_id":
			if a.Value.Kind() == slog.KindInt64 {
				c.webhook = a.Value.Int64()
			}
		}
		return true
	})
	return c
}

// withoutNumbers returns the beginning of a text with # in place of each
// number.
func withoutNumbers(text string) string {
	var out strings.Builder
	number := false
	for _, r := range strings.ToValidUTF8(text[:min(len(text), logCause)], "") {
		if '0' <= r && r <= '9' {
			if !number {
				out.WriteByte('#')
			}
			number = true
			continue
		}
		out.WriteRune(r)
		number = false
	}
	return out.String()
}

// causeLines are the lines of one cause.
type causeLines struct {
	limiter *rate.Limiter
	leftOut int
	last    time.Time
}

// causes are the recent causes.
type causes struct {
	mu     sync.Mutex
	seen   map[cause]*causeLines
	looked time.Time // last sweep
}

// admit reports whether a line is to be written, and how many lines of its
// cause were suppressed before it. quiet has the causes without recent lines
// and the number of their suppressed lines; they are forgotten.
func (c *causes) admit(of cause, at time.Time) (leftOut int, ok bool, quiet map[cause]int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if at.Sub(c.looked) >= logQuiet || len(c.seen) >= logCauses {
		quiet = c.sweep(of, at)
	}
	lines := c.seen[of]
	if lines == nil {
		lines = &causeLines{limiter: rate.NewLimiter(logPerSec, logBurst)}
		c.seen[of] = lines
	}
	lines.last = at
	if !lines.limiter.AllowN(at, 1) {
		lines.leftOut++
		return 0, false, quiet
	}
	leftOut, lines.leftOut = lines.leftOut, 0
	return leftOut, true, quiet
}

// sweep forgets quiet causes, or all others if there are too many.
func (c *causes) sweep(but cause, at time.Time) map[cause]int {
	c.looked = at
	quiet, all := map[cause]int{}, len(c.seen) >= logCauses
	for of, lines := range c.seen {
		if of == but || !all && at.Sub(lines.last) < logQuiet {
			continue
		}
		if lines.leftOut > 0 {
			quiet[of] = lines.leftOut
		}
		delete(c.seen, of)
	}
	return quiet
}
