package deliver_test

import (
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"triggerd/internal/store"
	"triggerd/internal/trigger"
)

// The rules of the simulation: what must hold at each request, each result and
// at the end. The world's mutex is held where a debt is judged.

// slack is what times may differ by, since the database keeps microseconds.
const slack = time.Millisecond

// startMargin is what must be left of a lease beside the timeout when a
// request begins.
const startMargin = time.Second

// begin judges a request as it leaves the server: it needs a lease, with time
// enough for all of the attempt, that made no other request.
func (s *server) begin(req *http.Request) *sending {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	if s.killed {
		return nil
	}
	now := time.Now()
	id, _ := trigger.ParseID(req.Header.Get("Webhook-Id"))
	number, _ := strconv.ParseInt(strings.TrimPrefix(req.URL.Host, "hook"), 10, 64)
	h := s.w.byID[number]
	job, _ := strconv.ParseInt(req.Header.Get("Webhook-Replay"), 10, 64)
	d := s.w.debts[trigger.DeliveryKey{OrganizationID: h.OrganizationID, EventID: id, WebhookID: h.ID, Job: job}]
	if d == nil {
		s.w.wrong(nil, "webhook %d gets event %s, which it is not owed", h.ID, id)
		return nil
	}
	snd := &sending{debt: d, server: s, url: req.URL.String(), nth: uint64(len(d.sends) + 1), start: now, ahead: s.ahead()}
	for _, c := range slices.Backward(d.claims) {
		if c.server != s || c.lost {
			continue
		}
		if snd.claim == nil {
			snd.claim = c
		}
		if c.sent == nil || !s.w.unsteady(now) {
			snd.claim = c
			break
		}
	}
	d.sends = append(d.sends, snd)
	s.running[h.ID]++
	c := snd.claim
	switch {
	case s.stopped:
		s.w.wrong(d, "a request of a server that has stopped")
	case c == nil:
		s.w.wrong(d, "a request without a claim")
	case c.sent != nil:
		s.w.wrong(d, "a second request of one claim")
	case c.result != nil || c.released:
		s.w.wrong(d, "a request of a claim that was given up")
	case c.until.Sub(now) < s.w.timeoutOf(h)+startMargin-slack && !s.awake.After(now):
		s.w.wrong(d, "a request begins %v before its lease ends", c.until.Sub(now))
	}
	if c != nil {
		c.sent = snd
	}
	s.judgeWebhook(snd, now)
	s.w.weather.strike(s, snd)
	return snd
}

// arrive judges a request as its receiver sees it, which answers.
func (s *server) arrive(snd *sending) {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	d, now := snd.debt, time.Now()
	snd.arrived = now
	snd.answer = d.hook.plan.at(now.Sub(s.w.begun)).answerTo(s.w.dice(d.number, snd.nth), snd.start)
	if d.poison {
		snd.answer = d.hook.poison.answerTo(s.w.dice(d.number, snd.nth), snd.start)
	}
	if snd.ahead != 0 { // dates are further in the past for the server
		snd.retryAfter = trigger.ParseRetryAfter(snd.header, snd.start.Add(snd.ahead))
	}
	if snd.status == http.StatusGone || snd.directive == trigger.Disable {
		d.hook.wishes++
	}
	for _, other := range d.sends {
		if other != snd && !s.w.unsteady(now) && other.end.IsZero() && !snd.late() && other.server.awake.Before(other.start) {
			s.w.wrong(d, "two requests at a time")
		}
	}
	if slices.ContainsFunc(d.sends, func(other *sending) bool { return other.truth() == trigger.Success }) {
		s.w.met[again]++
	}
	if snd.late() {
		s.w.met[late]++
		return // may be one too many, and nothing more
	}
	switch d.state {
	case trigger.DeliveryOpen:
		if snd.claim != nil && d.claim != snd.claim.id && !s.w.unsteady(now) {
			s.w.wrong(d, "a request of a claim that is not the newest")
		}
	case trigger.DeliveryFailed:
		if d.reason != trigger.ReasonGone && d.reason != trigger.ReasonExpired && d.reason != reasonCancelled {
			s.w.wrong(d, "a request after it failed")
		}
	case trigger.DeliveryEnded:
		if s.w.calm {
			s.w.wrong(d, "a request after it was delivered")
		}
	}
	if n := len(d.records); n > 0 && now.Before(d.records[n-1].earliest.Add(-slack)) && !s.w.claimedAhead(snd) {
		s.w.wrong(d, "a request %v too early", d.records[n-1].earliest.Sub(now))
	}
	if s.w.calm && slices.ContainsFunc(d.sends, func(other *sending) bool { return other.truth() == trigger.Success }) {
		s.w.wrong(d, "sent again after a success")
	}
	if wait := now.Sub(d.created); s.w.calm && d.hook.plan.quick() && !d.hook.troubled && d.hook.unbound() && d.Job == 0 && len(d.sends) == 1 {
		s.w.slowest = max(s.w.slowest, wait)
		if wait > 20*time.Second+time.Duration(len(d.hook.open))*50*time.Millisecond {
			s.w.wrong(d, "a quick receiver waited for %v", wait)
		}
	}
}

// late says that the server was held up with the request in its hands.
func (snd *sending) late() bool { return snd.arrived.After(snd.start) }

// done notes when the receiver was done with a request, over when the server
// was.
func (s *server) done(snd *sending) {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	if snd.end.IsZero() {
		snd.end = time.Now()
	}
}

func (s *server) over(snd *sending) {
	s.done(snd)
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	if snd.back.IsZero() {
		s.running[snd.WebhookID]--
	}
	snd.back, snd.ahead = time.Now(), s.ahead()
	if h := snd.hook; snd.wish() && snd.url == h.URL {
		if h.wished.Before(snd.start) {
			h.wished = snd.start
		}
		if snd.start.Sub(h.changed) > freshness+slack { // the server knew of the change
			h.left[s] = snd.back
		}
	}
	if took := snd.back.Sub(snd.start); took > s.w.timeoutOf(snd.hook) && s.awake.Before(snd.start) {
		s.w.wrong(snd.debt, "a request takes %v", took)
	}
}

// judge judges a result that a server wants recorded.
func (s *server) judge(r store.Result) {
	a, next := r.Attempt, r.Next
	d := s.w.debts[a.DeliveryKey]
	if d == nil {
		if !s.w.forgetful {
			s.w.wrong(nil, "a result of what nobody is owed: %+v", a)
		}
		return
	}
	c := d.find(a.Claim)
	switch {
	case c == nil || c.server != s || c.lost:
		s.w.wrong(d, "a result of a claim that the server does not have: %s", a.Claim)
		return
	case c.released:
		s.w.wrong(d, "a result of a claim that was given back")
		return
	case c.result != nil:
		if !reflect.DeepEqual(*c.result, r) {
			s.w.wrong(d, "another result of one claim: %+v and %+v", *c.result, r)
		}
		return
	}
	c.result = &r
	if s.w.unsteady(time.Now()) {
		d.swapSent(c)
	}
	if a.Error == trigger.ReasonNoEvent {
		if s.w.events[d.EventID] != nil {
			s.w.wrong(d, "its event is there, and was not found")
		}
		return
	}
	snd := c.sent
	if snd == nil || snd.back.IsZero() {
		s.w.wrong(d, "a result without a request that ended")
		return
	}
	status := 0
	if snd.got {
		status = snd.status
	}
	if snd.cut && a.Outcome == trigger.Transient {
		s.w.wrong(d, "our stop is recorded as its failed attempt")
	}
	if failed := next.State == trigger.DeliveryFailed && a.Outcome != trigger.ReceiverGone; failed != (r.Notice != nil) {
		s.w.wrong(d, "its notice is %+v", r.Notice)
	}
	if a.Outcome != snd.truth() || a.Status != status {
		s.w.wrong(d, "recorded as %s with status %d, and was %s with %d", a.Outcome, a.Status, snd.truth(), status)
	}
	if n := c.attempts + 1; a.Number != n || next.Attempts != n || !next.Claim.IsZero() || next.DeliveryKey != a.DeliveryKey {
		s.w.wrong(d, "attempt %d is recorded as %+v, and leads to %+v", n, a, next)
	}
	s.judgeNext(d, snd, next)
}

// judgeNext judges what follows from an attempt.
func (s *server) judgeNext(d *debt, snd *sending, next trigger.Delivery) {
	n, state, reason := snd.claim.attempts+1, trigger.DeliveryOpen, ""
	switch outcome := snd.truth(); {
	case outcome == trigger.Success:
		state = trigger.DeliveryEnded
	case outcome == trigger.ReceiverGone && n > len(s.w.scheduleOf(d.hook)):
		state, reason = trigger.DeliveryFailed, trigger.ReasonGone
	case outcome == trigger.Permanent:
		state, reason = trigger.DeliveryFailed, trigger.ReasonAborted
	case n > len(s.w.scheduleOf(d.hook)):
		state, reason = trigger.DeliveryFailed, trigger.ReasonExhausted
	default:
		from, to := s.w.pause(snd, 0.8).Add(snd.ahead), s.w.pause(snd, 1.2).Add(snd.ahead)
		if next.DueAt.Before(from.Add(-slack)) || next.DueAt.After(to.Add(slack)) {
			s.w.wrong(d, "due at %v, not from %v to %v", next.DueAt, from, to)
		}
	}
	if next.State != state || next.Reason != reason {
		s.w.wrong(d, "becomes %d %q, not %d %q", next.State, next.Reason, state, reason)
	}
}

// pause is until when to wait after an attempt, with the schedule's pause
// times a factor.
func (w *world) pause(snd *sending, factor float64) time.Time {
	scheduled := time.Duration(float64(w.scheduleOf(snd.hook)[snd.claim.attempts]) * factor)
	asked := snd.retryAfter
	if !snd.got {
		asked = 0
	}
	return snd.back.Add(max(scheduled, asked))
}

// judgeRelease judges what a server gives back: nothing that came to an end.
func (s *server) judgeRelease(given trigger.Delivery) {
	d := s.w.debts[given.DeliveryKey]
	if d == nil {
		if !s.w.forgetful {
			s.w.wrong(nil, "given back, and owed to nobody: %+v", given)
		}
		return
	}
	c := d.find(given.Claim)
	switch {
	case c == nil || c.server != s || c.lost:
		s.w.wrong(d, "gives back a claim that the server does not have: %s", given.Claim)
		return
	case c.result != nil || c.released:
		s.w.wrong(d, "gives back a claim that was given up")
	case c.sent != nil && c.sent.truth() != trigger.Transient:
		s.w.wrong(d, "gives back what came to an end: %s", c.sent.truth())
	case given.Attempts != c.attempts:
		s.w.wrong(d, "gives back %d attempts of %d", given.Attempts, c.attempts)
	}
	c.released = true
	if s.w.met[givenBack]++; c.sent != nil {
		s.w.met[cut]++
	}
}

// settled notes that the database has an answer to results.
func (s *server) settled(results []store.Result) {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	for _, r := range results {
		if d := s.w.debts[r.Attempt.DeliveryKey]; d != nil && d.find(r.Attempt.Claim) != nil {
			d.find(r.Attempt.Claim).settled = true
		}
	}
}

// recorded judges a delivery to which a result was applied.
func (s *server) recorded(d *debt, r store.Result, now time.Time) {
	a := r.Attempt
	rec := record{at: now, claim: a.Claim, outcome: a.Outcome}
	if c := d.find(a.Claim); c != nil && c.sent != nil && r.Next.State == trigger.DeliveryOpen {
		rec.earliest = s.w.pause(c.sent, 0.8)
	}
	if slices.ContainsFunc(d.records, func(old record) bool { return old.claim == a.Claim }) {
		s.w.wrong(d, "one claim is recorded twice")
	}
	d.records = append(d.records, rec)
	most := len(s.w.scheduleOf(d.hook)) + 1
	switch {
	case len(d.records) > most:
		s.w.wrong(d, "%d attempts, of %d", len(d.records), most)
	case d.state == trigger.DeliveryEnded && !slices.ContainsFunc(d.sends, func(snd *sending) bool { return snd.truth() == trigger.Success }):
		s.w.wrong(d, "delivered without a success")
	case d.reason == trigger.ReasonExhausted && len(d.records) < most:
		s.w.wrong(d, "exhausted after %d attempts of %d", len(d.records), most)
	}
}

// judgeEnd judges a delivery when everything has settled.
func (w *world) judgeEnd(d *debt) {
	switch {
	case d.state == trigger.DeliveryOpen:
		w.wrong(d, "is still open")
	case d.state == trigger.DeliveryFailed && !slices.Contains(w.reasons(d), d.reason):
		w.wrong(d, "failed for a reason that cannot be: %q", d.reason)
	}
	if d.state == trigger.DeliveryFailed {
		w.met[d.reason]++
	}
	for _, c := range d.claims {
		if c.sent == nil && c.result == nil && !c.released && !c.lost && !c.server.killed {
			w.met[dropped]++
		}
		if c.lost {
			w.met[lost]++
		}
		w.judgeClaim(d, c)
	}
	for _, snd := range d.sends {
		c := snd.claim
		w.met["outcome "+string(snd.truth())]++
		switch {
		case c == nil || snd.server.killed:
		case c.result == nil && !c.released:
			w.wrong(d, "what came of a request was forgotten")
		case w.calm && snd.truth() == trigger.Success && d.state != trigger.DeliveryEnded && d.reason != trigger.ReasonGone && d.reason != trigger.ReasonExpired:
			w.wrong(d, "failed after a success")
		}
	}
	if w.calm && w.retention == 0 && len(d.records) != len(slices.DeleteFunc(slices.Clone(d.sends), func(snd *sending) bool {
		return snd.claim != nil && snd.claim.released
	})) && d.reason != trigger.ReasonGone && d.reason != reasonCancelled {
		w.wrong(d, "%d attempts are recorded, %d were made", len(d.records), len(d.sends))
	}
}

// judgeClaim judges a claim when everything has settled: what a server does
// not send it gives back, unless the lease ran short, and a result is tried
// until the database has it.
func (w *world) judgeClaim(d *debt, c *claim) {
	s := c.server
	short := c.until.Add(-w.timeoutOf(d.hook) - startMargin - time.Second) // the lease was short while it ran
	switch {
	case s.killed || c.lost:
	case c.unread && !c.released:
		w.wrong(d, "its event could not be read, and it was not given back")
	case c.result != nil && !c.settled && !s.stopping:
		w.wrong(d, "a result was given up")
	case w.calm && c.sent == nil && c.result == nil && !c.released && s.stopping && s.stoppedAt.Before(short) && d.hook.wishes == 0:
		w.wrong(d, "it was not given back by a server that stopped at %v", s.stoppedAt.Sub(w.begun))
	}
}

// reasons are why a delivery may have failed.
func (w *world) reasons(d *debt) []string {
	reasons := []string{trigger.ReasonExhausted, trigger.ReasonAborted}
	if d.Job != 0 {
		reasons = append(reasons, reasonCancelled)
	}
	if d.hook.ended {
		reasons = append(reasons, trigger.ReasonGone)
	}
	if w.retention > 0 {
		reasons = append(reasons, trigger.ReasonExpired)
	}
	return reasons
}
