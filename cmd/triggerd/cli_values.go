package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"triggerd/client"
)

// moment is a time flag: RFC 3339, or a span of time, from now on or back from
// now, depending on the flag.
type moment struct {
	at   time.Time
	span time.Duration
}

// UnmarshalText parses 2026-01-02T03:04:05Z, 2026-01-02, 30d, 10m.
func (m *moment) UnmarshalText(text []byte) error {
	s := string(text)
	if at, err := time.Parse(time.RFC3339, s); err == nil {
		*m = moment{at: at}
		return nil
	}
	if at, err := time.ParseInLocation(time.DateOnly, s, time.Local); err == nil {
		*m = moment{at: at}
		return nil
	}
	var span days
	if err := span.UnmarshalText(text); err != nil {
		return fmt.Errorf("must be a time, for example 2026-01-02T15:04:05Z or 2026-01-02, or a span, for example 30d, 2h or 10m; got %q", s)
	}
	*m = moment{span: span.Duration}
	return nil
}

// before returns the time, a span counting back from now; zero if the flag is
// not set.
func (m *moment) before(now time.Time) time.Time {
	switch {
	case m == nil:
		return time.Time{}
	case m.at.IsZero():
		return now.Add(-m.span)
	}
	return m.at
}

// after returns the time, a span counting from now on; zero if the flag is not
// set.
func (m *moment) after(now time.Time) time.Time {
	if m != nil && m.at.IsZero() {
		return now.Add(m.span)
	}
	return m.before(now)
}

// pauses are the retries of a webhook: 5s,1m,1h, or none.
type pauses struct{ seconds []float64 }

// UnmarshalText parses durations separated by commas.
func (p *pauses) UnmarshalText(text []byte) error {
	p.seconds = []float64{}
	if string(text) == "none" {
		return nil
	}
	for part := range strings.SplitSeq(string(text), ",") {
		d, err := time.ParseDuration(strings.TrimSpace(part))
		if err != nil {
			return fmt.Errorf("must be a list of pauses, for example 5s,1m,1h, or none; got %q", text)
		}
		p.seconds = append(p.seconds, d.Seconds())
	}
	return nil
}

// secondsOf returns a span in seconds; nil if the flag is not set.
func secondsOf(d *days) *float64 {
	if d == nil {
		return nil
	}
	seconds := d.Seconds()
	return &seconds
}

// text returns the text of an argument: itself, the content of the file for
// @file, or standard input for -. The last two may begin with a byte order
// mark, which is removed.
func (s *session) text(ctx context.Context, argument string) ([]byte, error) {
	if name, ok := strings.CutPrefix(argument, "@"); ok {
		text, err := os.ReadFile(name)
		return bytes.TrimPrefix(text, []byte(byteOrderMark)), err
	}
	if argument != "-" {
		return []byte(argument), nil
	}
	type content struct {
		text []byte
		err  error
	}
	read := make(chan content, 1)
	go func() { // a read cannot be cancelled
		text, err := io.ReadAll(s.in)
		read <- content{text, err}
	}()
	select {
	case all := <-read:
		return bytes.TrimPrefix(all.text, []byte(byteOrderMark)), all.err
	case <-ctx.Done():
		return nil, &failure{"interrupted", ctx.Err()}
	}
}

// value returns the text of an argument that must be JSON; nil if it is empty.
func (s *session) value(ctx context.Context, what, argument string) (json.RawMessage, error) {
	if argument == "" {
		return nil, nil
	}
	text, err := s.text(ctx, argument)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	if err := checkText(what, string(text)); err != nil {
		return nil, err
	}
	if !json.Valid(text) {
		return nil, fmt.Errorf("%s must be JSON: %s", what, wrongAt(text))
	}
	return text, nil
}

// wrongAt describes where a text stops being JSON.
func wrongAt(text []byte) string {
	err := json.Unmarshal(text, new(json.RawMessage))
	if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
		return fmt.Sprintf("%v, at byte %d", err, syntax.Offset)
	}
	return fmt.Sprint(err)
}

// resets are the settings to reset to their defaults.
type resets struct {
	Reset []string `help:"Settings to reset to their defaults, by the names of their flags, separated by commas." placeholder:"NAME"`
}

// check returns an error for names that have no default, or whose flag is also
// set.
func (r *resets) check(allowed map[string]bool) error {
	for _, name := range r.Reset {
		given, ok := allowed[name]
		switch {
		case !ok:
			names := make([]string, 0, len(allowed))
			for name := range allowed {
				names = append(names, name)
			}
			slices.Sort(names)
			return fmt.Errorf("--reset must be one of %s; got %q", strings.Join(names, ", "), name)
		case given:
			return fmt.Errorf("--%s and --reset %s cannot be used together", name, name)
		}
	}
	return nil
}

// change returns the effect of a flag on a setting: nothing, a value, or its
// default.
func change[T any](r *resets, name string, value *T) client.Opt[T] {
	switch {
	case slices.Contains(r.Reset, name):
		return client.Null[T]()
	case value != nil:
		return client.Set(*value)
	}
	return client.Opt[T]{}
}
