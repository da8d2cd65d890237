package torture

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
)

// settle heals everything and waits until all that was acknowledged has come,
// and nothing is pending any more.
func (r *run) settle(ctx context.Context) {
	r.receiver.healed.Store(true)
	r.book.note("settle", "")
	fmt.Fprintln(r.Out, "settling")
	begun := r.Now()
	if err := r.allReady(ctx); err != nil {
		r.report.breach(notHealed, "%v", err)
		return
	}
	least, since := math.MaxInt, begun
	_ = until(ctx, settlePatience, "", func(context.Context) bool {
		n, _ := r.book.missing()
		if n < least {
			least, since = n, r.Now()
		}
		return n == 0 || r.Now().Sub(since) > quietPatience
	})
	r.report.Settled = r.Now().Sub(begun)
	r.book.mu.Lock()
	tenants := slices.Clone(r.book.tenants)
	r.book.mu.Unlock()
	for _, t := range tenants { // results may still be on their way to the database
		if len(t.hooks) > 0 {
			if until(ctx, 2*lease, "", func(ctx context.Context) bool { return r.pendingOwed(ctx, t) == 0 }) != nil {
				return // one is enough
			}
		}
	}
}

// inboxEvent is an event as the API shows it.
type inboxEvent struct {
	ID      string
	Type    string
	Payload json.RawMessage
	Status  string
}

// inbox lists a tenant's events.
func (r *run) inbox(ctx context.Context, t *tenant, query string) ([]inboxEvent, error) {
	status, _, body, err := r.client.send(ctx, r.nodes[t.n%len(r.nodes)], http.MethodGet, t.key, "/api/inbox?limit=100"+query, nil)
	if err != nil || status != http.StatusOK {
		return nil, fmt.Errorf("GET /api/inbox: status %d: %.200s: %w", status, body, err)
	}
	var page struct{ Events []inboxEvent }
	return page.Events, json.Unmarshal(body, &page)
}

// pendingOwed counts a tenant's pending events that are owed to a webhook.
func (r *run) pendingOwed(ctx context.Context, t *tenant) (n int) {
	events, err := r.inbox(ctx, t, "&status=pending")
	if err != nil {
		return -1
	}
	for _, e := range events {
		for _, h := range t.hooks {
			if matches(h.filter, e.Type) {
				n++
				break
			}
		}
	}
	return n
}

// judge holds the book against the server.
func (r *run) judge(ctx context.Context) {
	fmt.Fprintln(r.Out, "judging")
	ctx, cancel := context.WithTimeout(ctx, judgePatience)
	defer cancel()
	r.judgeArrivals()
	group, judging := errgroup.WithContext(ctx)
	group.SetLimit(8)
	for _, t := range r.book.tenants {
		group.Go(func() error {
			r.judgeTenant(judging, t)
			return nil
		})
	}
	_ = group.Wait() // nobody fails
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
		r.report.breach(notHealed, "the judgement itself was not done within %v", judgePatience)
	}
}

// judgeArrivals looks at what the receiver got.
func (r *run) judgeArrivals() {
	if n, one := r.book.missing(); n > 0 {
		for range n - 1 {
			r.report.breach(lostDeliveries, "as this one: %s", one)
		}
		r.report.breach(lostDeliveries, "%s", one)
	}
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
		}
	}
	if allowed := r.allowedRepeats(); *unreasoned > allowed {
		r.report.breach(tooOften, "%d, and at most %d can be explained", *unreasoned, allowed)
	}
}

// judgeRepeats counts the 2xx of one delivery after its first, and of these
// those that nothing explains: no earlier one fell into the time in which
// results can be lost.
func (r *run) judgeRepeats(e *event, n int, came []arrival) (unreasoned int) {
	explained, before := false, false
	for _, a := range came {
		if e.dedupID != "" && a.id != came[0].id {
			r.report.breach(twoEvents, "%s came to webhook %d as %s and %s", e, n, came[0].id, a.id)
		}
		if a.answered && before {
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

// allowedRepeats is how many repeats may be without a reason: none without
// faults. A process that is suspended between its last look at the lease and
// its sending sends late; such are one or two in many runs.
func (r *run) allowedRepeats() int {
	const atATime = 2
	others := 0
	for name, n := range r.report.Faults {
		if name != faultPause {
			others += n
		}
	}
	if others > 0 {
		return 1 << 30 // most of the time is blind: the repeats are reported, not judged
	}
	return atATime * r.report.Faults[faultPause]
}

// judgeTenant holds a tenant's inbox against the book.
func (r *run) judgeTenant(ctx context.Context, t *tenant) {
	var listed []inboxEvent
	err := until(ctx, startPatience, "", func(ctx context.Context) bool {
		var err error
		listed, err = r.inbox(ctx, t, "")
		return err == nil || r.mute.Load()
	})
	if err != nil || listed == nil {
		r.mute.Store(true) // patience is for the first one
		r.report.breach(lostEvents, "the inbox of tenant %d cannot be read", t.n)
		return
	}
	there := map[string]bool{}
	first := map[int]string{} // event id by the event's number
	for _, shown := range listed {
		there[shown.ID] = true
		e := r.judgeListed(t, shown)
		if e == nil {
			continue
		}
		if first[e.n] != "" && e.dedupID != "" {
			r.report.breach(twoEvents, "%s is there as %s and %s", e, first[e.n], shown.ID)
		}
		first[e.n] = shown.ID
		if e.acknowledged() && e.dedupID != "" && !slices.Contains(e.ids, shown.ID) {
			r.report.breach(twoEvents, "%s is there as %s", e, shown.ID)
		}
		r.judgeStatus(e, shown)
	}
	for _, e := range t.events {
		for _, id := range e.ids {
			if !there[id] {
				r.report.breach(lostEvents, "%s: %s is not in the inbox of tenant %d", e, id, t.n)
			}
		}
	}
}

// judgeListed holds one event of an inbox against what was sent; nil if it is
// none of the tenant's.
func (r *run) judgeListed(t *tenant, shown inboxEvent) *event {
	c, intact := readPayload(shown.Payload)
	if !intact {
		r.report.breach(changed, "event %s of tenant %d: %.300q", shown.ID, t.n, shown.Payload)
		return nil
	}
	if c.Tenant != t.n {
		r.report.breach(foreign, "tenant %d sees event %s of tenant %d", t.n, shown.ID, c.Tenant)
		return nil
	}
	i := slices.IndexFunc(t.events, func(e *event) bool { return e.n == c.N })
	if i < 0 || c.Refused || t.events[i].eventType != shown.Type {
		r.report.breach(neverSent, "event %s of tenant %d, type %s, number %d", shown.ID, t.n, shown.Type, c.N)
		return nil
	}
	return t.events[i]
}

// judgeStatus: what webhooks wanted is delivered, the rest waits in the inbox.
func (r *run) judgeStatus(e *event, shown inboxEvent) {
	want := "delivered"
	if len(e.owedTo()) == 0 {
		want = "pending"
	}
	if shown.Status == want || e.tenant.doubtful {
		return
	}
	promise := stillPending
	if shown.Status == "failed" {
		promise = failedEvents
	}
	r.report.breach(promise, "%s is %s, as %s", e, shown.Status, shown.ID)
}

// maxAsked is how many dedup ids are posted once more at the end.
const maxAsked = 20_000

// askAgain posts acknowledged dedup ids once more: each is a duplicate, of the
// event that was named before.
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
			a := r.client.post(asking, r.nodes[i%len(r.nodes)], e)
			if a.kind == acknowledgment && (a.status != "duplicate" || a.eventID != e.ids[0]) {
				r.report.breach(lostEvents, "%s was acknowledged, and now is %s as %s", e, a.status, a.eventID)
			}
			return nil
		})
	}
	_ = group.Wait() // nobody fails
}

// judgeLogs looks for what no server should say.
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

// judgeDatabase has the program itself look for what contradicts itself.
func (r *run) judgeDatabase(ctx context.Context) {
	n := r.nodes[0]
	cmd := exec.CommandContext(ctx, n.Program, "check")
	cmd.Env = n.env
	if out, err := cmd.CombinedOutput(); err != nil {
		r.report.breach(inconsistent, "%v: %s", err, strings.TrimSpace(string(out)))
	}
}

// sumUp fills in the figures.
func (r *run) sumUp() {
	b, rep := r.book, r.report
	b.mu.Lock()
	defer b.mu.Unlock()
	rep.Counts, rep.Tenants, rep.Webhooks, rep.Events = b.counts, len(b.tenants), len(b.hooks), len(b.events)
	slices.Sort(r.client.took)
	rep.P50, rep.P99 = percentile(r.client.took, 50), percentile(r.client.took, 99)
	_ = b.ledger.Flush()
}

// percentile is by the nearest rank, of sorted times.
func percentile(sorted []time.Duration, percent int) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[(len(sorted)*percent+99)/100-1]
}
