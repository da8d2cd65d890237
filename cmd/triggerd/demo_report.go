package main

import (
	"fmt"
	"io"
	"strings"
	"time"
)

const maxListed = 20 // maximum number of findings in the list

// writeArrival writes a delivery in one line: time, type, id, size, and time
// since the POST.
func writeArrival(out io.Writer, p posting, a arrival, trouble string) {
	id := p.eventID[:min(len(p.eventID), 18)]
	line := fmt.Sprintf("%s  %-42s  %s  %6d bytes  %7.1f ms", a.at.Format("15:04:05.000"), p.example.Type, id, a.size, ms(a.at.Sub(p.sent)))
	if trouble != "" {
		line += "  " + strings.ToUpper(trouble)
	}
	fmt.Fprintln(out, line)
}

// writeSummary writes the totals and the findings.
func writeSummary(out io.Writer, t tally, total time.Duration) {
	fmt.Fprintln(out)
	row := func(name string, n int) { fmt.Fprintf(out, "%-16s %6d\n", name, n) }
	row("accepted", t.Accepted)
	row("duplicates", t.Duplicates)
	row("delivered", t.Delivered)
	if t.Again > 0 {
		row("repeated", t.Again)
	}
	for _, what := range []string{missing, changed, badlySigned, unknown, wronglyAnswered} {
		row(what, t.count(what))
	}
	fmt.Fprintf(out, "%-16s p50 %.1f ms, p99 %.1f ms, from sending the POST to receiving the body of the delivery\n",
		"end to end", ms(t.P50), ms(t.P99))
	fmt.Fprintf(out, "%-16s %.1f s\n", "total", total.Seconds())
	for i, f := range t.Findings {
		if i == maxListed {
			fmt.Fprintf(out, "and %d more\n", len(t.Findings)-maxListed)
			break
		}
		fmt.Fprintf(out, "%s: %s %s\n", strings.ToUpper(f.What), f.Type, f.EventID)
	}
}

func (t tally) count(what string) (n int) {
	for _, f := range t.Findings {
		if f.What == what {
			n++
		}
	}
	return n
}

// err returns nil if there are no findings.
func (t tally) err() error {
	var parts []string
	for _, what := range []string{missing, changed, badlySigned, unknown, wronglyAnswered} {
		if n := t.count(what); n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, what))
		}
	}
	if len(parts) == 0 {
		return nil
	}
	return fmt.Errorf("the demo failed: %s", strings.Join(parts, ", "))
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
