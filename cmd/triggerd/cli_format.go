package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// clean replaces characters that could control a terminal, for example move the
// cursor, because much of the output comes from senders and receivers.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if isObeyed(r) {
			return '\uFFFD'
		}
		return r
	}, s)
}

// cleanLines is clean for a text of several lines.
func cleanLines(s string) string {
	lines := strings.Split(strings.ReplaceAll(strings.TrimSpace(s), "\r\n", "\n"), "\n")
	for i, line := range lines {
		lines[i] = clean(strings.ReplaceAll(line, "\t", "    "))
	}
	return strings.Join(lines, "\n")
}

// localTime formats a time to the second, in the local zone; "" for the zero
// time.
func localTime(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.Local().Format(time.RFC3339)
}

// duration formats seconds, for example 1.5s or 2m; "" for 0.
func duration(seconds float64) string {
	d := time.Duration(seconds * float64(time.Second))
	switch {
	case d == 0:
		return ""
	case d < time.Second:
		return strconv.FormatFloat(float64(d.Round(100*time.Microsecond))/float64(time.Millisecond), 'f', -1, 64) + "ms"
	}
	d = d.Round(time.Millisecond)
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

// number formats a number; "" for 0.
func number[N int | int64 | float64](n N) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprint(n)
}

// id formats an id.
func id(n int64) string { return strconv.FormatInt(n, 10) }

// webhookID formats the id of a webhook.
func webhookID(n int64) string {
	if n == 0 {
		return "inbox"
	}
	return id(n)
}

func yesNo(is bool) string {
	if is {
		return "yes"
	}
	return "no"
}

// examples formats commands as the examples of a help text.
func examples(commands ...string) string {
	return "Examples:\n\n    " + strings.Join(commands, "\n    ")
}
