package torture

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
)

// judge compares the book with the server.
func (r *run) judge(ctx context.Context) {
	fmt.Fprintln(r.Out, "judging")
	ctx, cancel := context.WithTimeout(ctx, judgePatience)
	defer cancel()
	r.judgeAttempts(ctx)
	r.judgeMissed(ctx)
	r.judgeArrivals()
	r.judgeInboxes()
	r.judgeReplays(ctx)
	group, judging := errgroup.WithContext(ctx)
	group.SetLimit(8)
	for _, t := range r.book.tenants {
		group.Go(func() error {
			r.judgeTenant(judging, t)
			return nil
		})
	}
	_ = group.Wait() // no goroutine returns an error
	if !r.mute.Load() {
		r.askAgain(ctx)
	}
	r.judgeResources(ctx)
	for _, n := range r.nodes {
		if code, err := n.end(syscall.SIGTERM); code != 0 || err != nil {
			r.report.breach(stoppedBadly, "node %d at the end: exit code %d, %v", n.n, code, err)
		}
	}
	r.judgeLogs()
	r.judgeDatabase(ctx)
	r.sumUp()
	if ctx.Err() != nil {
		r.report.breach(notHealed, "the checks did not end within %v", judgePatience)
	}
}

// judgeMissed checks for deliveries that did not come to the receiver.
func (r *run) judgeMissed(ctx context.Context) {
	for _, e := range r.book.events {
		r.book.mu.Lock()
		first, again := r.book.missingOf(e)
		r.book.mu.Unlock()
		for _, h := range first {
			if !r.failedAhead(ctx, e, h) {
				r.report.breach(lostDeliveries, "%s to %q", e, h.filter)
			}
		}
		for _, h := range again {
			if !r.failedAhead(ctx, e, h) {
				r.report.breach(badReplay, "%s again to %q", e, h.filter)
			}
		}
	}
}

// judgeArrivals checks the requests to the receiver.
func (r *run) judgeArrivals() {
	for _, stray := range r.book.strays {
		promise, _, known := strings.Cut(stray, ": ")
		if !known || !slices.Contains(Promises(), promise) {
			promise = neverSent
		}
		r.report.breach(promise, "%s", stray)
	}
	if n := r.receiver.followed.Load(); n > 0 {
		r.report.breach(redirects, "%d", n)
	}
	unreasoned := &r.report.Unreasoned
	for _, e := range r.book.events {
		if len(e.ids) > 1 || e.accepted > 1 {
			r.report.breach(twoEvents, "%s: %d times accepted", e, e.accepted)
		}
		for n, came := range e.came {
			*unreasoned += r.judgeRepeats(e, n, came)
			for _, a := range came {
				r.judgeTime(e, a.at, "delivered")
			}
		}
	}
	for _, h := range r.book.hooks {
		r.judgeSettings(h)
	}
	if allowed := r.allowedRepeats(); *unreasoned > allowed {
		r.report.breach(tooOften, "%d, and at most %d can be explained", *unreasoned, allowed)
	}
}

// judgeRepeats counts the 2xx of one delivery after the first one, without
// resends. It returns how many of them no fault explains, because no earlier
// request fell into a time in which results can be lost.
func (r *run) judgeRepeats(e *event, n int, came []arrival) (unreasoned int) {
	explained, before, asked := false, false, len(e.resent[n])
	for _, a := range came {
		if e.dedupID != "" && a.id != came[0].id {
			r.report.breach(twoEvents, "%s came to webhook %d as %s and %s", e, n, came[0].id, a.id)
		}
		switch {
		case !a.answered || !before:
		case asked > 0:
			asked--
		default:
			r.report.Again++
			if !explained {
				unreasoned++
			}
		}
		before = before || a.answered
		explained = explained || r.windows.blind(a.at)
	}
	return unreasoned
}

// allowedRepeats returns how many repeats without a reason are allowed: 0
// without faults. A process that is suspended between its last check of the
// lease and its request sends late; this happens once or twice in many runs.
func (r *run) allowedRepeats() int {
	const atATime = 2
	others := 0
	for name, n := range r.report.Faults {
		if name != faultPause {
			others += n
		}
	}
	if others > 0 {
		return 1 << 30 // most of the time is blind, so the repeats are only reported
	}
	return atATime * r.report.Faults[faultPause]
}

// maxAsked is how many dedup ids are posted once more at the end.
const maxAsked = 20_000

// askAgain posts acknowledged dedup ids once more. Each must be a duplicate of
// the acknowledged event.
func (r *run) askAgain(ctx context.Context) {
	var asked []*event
	for _, e := range r.book.events {
		if e.acknowledged() && e.dedupID != "" {
			asked = append(asked, e)
		}
	}
	asked = asked[max(0, len(asked)-maxAsked):]
	r.report.Sampled = len(asked)
	group, asking := errgroup.WithContext(ctx)
	group.SetLimit(16)
	for i, e := range asked {
		group.Go(func() error {
			a := r.client.post(asking, r.nodes[i%len(r.nodes)], e, original)
			if a.kind == acknowledgment && (a.status != "duplicate" || a.eventID != e.ids[0]) {
				r.report.breach(lostEvents, "%s was acknowledged, and now is %s as %s", e, a.status, a.eventID)
			}
			return nil
		})
	}
	_ = group.Wait() // no goroutine returns an error
}

// judgeLogs checks the logs for panics and the like.
func (r *run) judgeLogs() {
	for _, n := range r.nodes {
		text, err := os.ReadFile(n.logFile)
		if err != nil {
			r.report.breach(panics, "the log of node %d cannot be read: %v", n.n, err)
			continue
		}
		for line := range bytes.Lines(text) {
			for _, word := range []string{"panic", "fatal error", "DATA RACE"} {
				if bytes.Contains(line, []byte(word)) {
					r.report.breach(panics, "node %d: %.300s", n.n, line)
				}
			}
		}
	}
}

// judgeDatabase runs the program's own check of the database.
func (r *run) judgeDatabase(ctx context.Context) {
	n := r.nodes[0]
	cmd := exec.CommandContext(ctx, n.Program, "check")
	cmd.Env = n.env
	if out, err := cmd.CombinedOutput(); err != nil {
		r.report.breach(inconsistent, "%v: %s", err, strings.TrimSpace(string(out)))
	}
}

// sumUp sets the figures of the report.
func (r *run) sumUp() {
	b, rep := r.book, r.report
	if r.db != nil {
		for _, p := range r.db.fronts {
			rep.ReadsCut += p.countCuts()
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	rep.Counts, rep.Tenants, rep.Webhooks, rep.Events = b.counts, len(b.tenants), len(b.hooks), len(b.events)
	slices.Sort(r.client.took)
	rep.P50, rep.P99 = percentile(r.client.took, 50), percentile(r.client.took, 99)
	_ = b.ledger.Flush()
}

// percentile returns a percentile by the nearest rank; the times must be
// sorted.
func percentile(sorted []time.Duration, percent int) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[(len(sorted)*percent+99)/100-1]
}
