package deliver_test

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// story tells all that is known about a delivery, in the order in which it
// happened.
func (d *debt) story(begun time.Time) string {
	type line struct {
		at   time.Time
		text string
	}
	lines := []line{{d.created, "owed"}}
	note := func(at time.Time, format string, args ...any) {
		if !at.IsZero() {
			lines = append(lines, line{at, fmt.Sprintf(format, args...)})
		}
	}
	for _, c := range d.claims {
		note(c.at, "server %d claims it until %v, lost %v, released %v: %s", c.server.number, c.lease.Sub(begun), c.lost, c.released, c.id)
	}
	for i, snd := range d.sends {
		note(snd.start, "request %d by server %d", i, snd.server.number)
		note(snd.arrived, "request %d arrives: %+v", i, snd.answer)
		note(snd.end, "request %d ends", i)
		note(snd.back, "request %d is back as %s", i, snd.truth())
	}
	for _, r := range d.records {
		note(r.at, "recorded as %s of %s", r.outcome, r.claim)
	}
	note(d.endedAt, "is in state %d %q", d.state, d.reason)
	slices.SortStableFunc(lines, func(a, b line) int { return a.at.Compare(b.at) })
	var text strings.Builder
	fmt.Fprintf(&text, "delivery of %s to webhook %d, plan %v\n", d.EventID, d.WebhookID, d.hook.plan)
	for _, l := range lines {
		fmt.Fprintf(&text, "\t%v %s\n", l.at.Sub(begun), l.text)
	}
	return text.String()
}
