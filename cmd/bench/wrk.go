package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// driver makes the load: wrk, which leaves more of the processors to the
// server, or the built-in loop.
type driver struct {
	program string // path of wrk; "": the built-in loop
	version string
}

// newDriver returns the driver of --driver.
func newDriver(ctx context.Context, name string) (driver, error) {
	if name == "go" {
		return driver{}, nil
	}
	program, err := exec.LookPath("wrk")
	if err != nil && name == "auto" {
		return driver{}, nil
	}
	if err != nil {
		return driver{}, fmt.Errorf("--driver wrk: %w", err)
	}
	said, _ := exec.CommandContext(ctx, program, "-v").Output() // it exits with 1
	d := driver{program: program, version: "of an unknown version"}
	if words := strings.Fields(string(said)); len(words) > 1 && words[0] == "wrk" {
		d.version = words[1]
	}
	return d, nil
}

func (d driver) String() string {
	if d.program == "" {
		return "the Go client"
	}
	return "wrk " + d.version + ", one thread"
}

// unanswered returns how many requests may be accepted but not counted by the
// driver: wrk stops at the end of its time without waiting for answers.
func (d driver) unanswered(conns int) int {
	if d.program == "" {
		return 0
	}
	return conns
}

// drive makes a load over a number of connections for a time. It writes its
// script into dir.
func (d driver) drive(ctx context.Context, dir string, l *load, conns int, lasting time.Duration) (t tally, err error) {
	if d.program == "" {
		return l.loop(ctx, conns, within(lasting)), ctx.Err()
	}
	script := filepath.Join(dir, "wrk.lua")
	if err := os.WriteFile(script, []byte(l.lua()), 0o600); err != nil {
		return t, err
	}
	seconds := max(1, int(lasting.Round(time.Second).Seconds())) // wrk needs whole seconds
	args := []string{
		"-t", "1", "-c", strconv.Itoa(conns), "-d", strconv.Itoa(seconds) + "s",
		"--timeout", strconv.Itoa(int(answerPatience.Seconds())) + "s", "--latency", "-s", script, "http://" + l.address + "/",
	}
	var complaint bytes.Buffer
	cmd := exec.CommandContext(ctx, d.program, args...)
	cmd.Stderr = &complaint
	said, err := cmd.Output()
	if err != nil {
		return t, fmt.Errorf("wrk: %w: %.300s %.300s", err, complaint.Bytes(), said)
	}
	return parseWrk(string(said))
}

// mark begins the lines that the script prints.
const mark = "bench "

// lua returns the script of a load: the same requests as in loop.
func (l *load) lua() string {
	return fmt.Sprintf(`local parts = {%s}
local ids, between, tail, from, of = %d, %s, %s, %d, %d
for i = 1, ids do
  parts[2 * i] = ""
  parts[2 * i + 1] = i < ids and between or tail
end
local size, n = 2 * ids + 1, 0
request = function()
  for i = 2, size, 2 do
    local id = from + n
    if of > 0 then id = id %% of end
    parts[i] = string.format("%%0%d.0f", id * %d %% %d)
    n = n + 1
  end
  return table.concat(parts)
end
done = function(summary, latency)
  local e = summary.errors
  local say = function(name, value) io.write(string.format(%s, name, value)) end
  say("requests", summary.requests)
  say("us", summary.duration)
  say("status", e.status)
  say("connect", e.connect)
  say("read", e.read)
  say("write", e.write)
  say("timeout", e.timeout)
  say("p50", latency:percentile(50))
  say("p99", latency:percentile(99))
  say("p99.9", latency:percentile(99.9))
end
`, luaString(l.head), l.ids, luaString(l.between), luaString(l.tail), l.from, l.of, idDigits, idStep, int64(idSpace), luaString(mark+"%s %.0f\n"))
}

// luaString quotes a text for Lua.
func luaString(text string) string {
	quoted := append(make([]byte, 0, len(text)+2), '"')
	for _, c := range []byte(text) {
		if c < ' ' || c > '~' || c == '"' || c == '\\' {
			quoted = fmt.Appendf(quoted, `\%03d`, c)
			continue
		}
		quoted = append(quoted, c)
	}
	return string(append(quoted, '"'))
}

// parseWrk parses the output of the script. wrk counts answers from 400 on as
// bad ones. It silently reopens a connection that the server has closed; the
// ledger must show the requests missed by that.
func parseWrk(said string) (t tally, err error) {
	values := map[string]int{}
	for line := range strings.Lines(said) {
		fields := strings.Fields(strings.TrimPrefix(line, mark))
		if !strings.HasPrefix(line, mark) || len(fields) != 2 {
			continue
		}
		if values[fields[0]], err = strconv.Atoi(fields[1]); err != nil {
			return t, fmt.Errorf("wrk said %q: %w", line, err)
		}
	}
	for _, name := range []string{"requests", "us", "status", "connect", "read", "write", "timeout", "p50", "p99", "p99.9"} {
		if _, ok := values[name]; !ok {
			return t, fmt.Errorf("wrk did not say %s: %.300q", name, said)
		}
	}
	micros := func(name string) time.Duration { return time.Duration(values[name]) * time.Microsecond }
	t = tally{others: values["status"], took: micros("us"), p50: micros("p50"), p99: micros("p99"), p999: micros("p99.9")}
	if t.ok = values["requests"] - t.others; t.ok < 0 {
		return t, errors.New("wrk counts more bad answers than answers")
	}
	for _, name := range []string{"connect", "read", "write", "timeout"} {
		t.broken += values[name]
	}
	if t.others+t.broken > 0 {
		t.first = fmt.Sprintf("%d statuses of 400 or above; failed to connect %d, to read %d, to write %d; too late %d",
			t.others, values["connect"], values["read"], values["write"], values["timeout"])
	}
	return t, nil
}
