package deliver

import (
	"context"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"triggerd/internal/store"
	"triggerd/internal/trigger"
)

// ending is the stop of a webhook, as its receiver has answered.
type ending struct {
	organizationID int64
	asOf           int64                // [trigger.Webhook.AsOf] in the answered request
	state          trigger.WebhookState // gone or paused
	stored         bool                 // the store has it; only open deliveries remain to be ended
}

// weight orders the endings of one webhook; the heaviest is kept. An answer
// weighs more than a stored state, because the webhook may have been resumed
// since.
func (e ending) weight() int {
	switch {
	case e.state == "":
		return 0
	case e.stored:
		return 1
	case e.state == trigger.Paused:
		return 2
	}
	return 3
}

// outweighs reports whether an ending replaces another. Of two answers, the one
// to the later request wins; otherwise the weight decides.
func (e ending) outweighs(other ending) bool {
	if !e.stored && !other.stored && e.asOf != other.asOf {
		return e.asOf > other.asOf
	}
	return e.weight() >= other.weight()
}

// done notes the end of an attempt, or of an item that was not sent (a is nil).
func (e *Engine) done(l *lane, it *item, a *trigger.Attempt) {
	e.mu.Lock()
	defer e.mu.Unlock()
	r := l.receiver
	probe := r.isProbeItem(it)
	r.probeItems = slices.DeleteFunc(r.probeItems, func(other *item) bool { return other == it })
	if a == nil {
		if probe {
			e.endProbe(r, r.asOf())
		}
		return
	}
	e.forget(it.event)
	if !r.isAbout(a) {
		e.startAllWorkers(r)
		return
	}
	strain, wait := r.strainBy(a, e.timeoutOf(r.webhook)), a.AskedToWait()
	r.pace.note(a.Took, a.Outcome == trigger.Success, r.pressure(strain, a.Status))
	switch {
	case r.stopped, r.absent:
	case wait > 0:
		e.leaveAlone(r, wait, a.AsOf)
	case strain != trigger.NoStrain && probe:
		r.failed = strain
		e.endProbe(r, a.AsOf)
	case strain != trigger.NoStrain:
		if r.openUntil.IsZero() && r.trips(strain, e.timeoutOf(r.webhook), e.Now()) {
			e.trip(r, strain, a.AsOf)
		}
	case probe && a.Outcome != trigger.Success:
		e.openBreaker(r, store.BreakerChange{AsOf: a.AsOf})
	case probe:
		r.passed = true // the breaker closes when the store has recorded it
	}
	if strain == trigger.NoStrain {
		r.through, r.wary = e.Now(), max(0, r.wary-1)
	}
	e.startAllWorkers(r)
}

// strainBy counts an attempt's strain on the receiver and returns it.
func (r *receiver) strainBy(a *trigger.Attempt, timeout time.Duration) trigger.Strain {
	strain := a.Strain()
	switch {
	case strain == trigger.NoStrain:
		r.failures = 0
	case a.Status == 0 && a.Took >= timeout:
		r.failures += 2
	default:
		r.failures++
	}
	return strain
}

// pressure returns the effect of an attempt on the pace. A missing answer may
// be the fault of the event alone, as long as others get through.
func (r *receiver) pressure(strain trigger.Strain, status int) pressure {
	switch {
	case strain == trigger.NoStrain, status == 0 && r.failures < r.pace.workers():
		return noPressure
	case status == 0:
		return noAnswer
	}
	return asksForLess
}

// trips reports whether the breaker must open after an attempt that has
// strained the receiver, whose attempts take up to a timeout.
func (r *receiver) trips(strain trigger.Strain, timeout time.Duration, now time.Time) bool {
	if r.failures < tripAt {
		return false
	}
	window := max(throughWindow, 2*timeout)
	return strain == trigger.Unreachable || r.through.IsZero() || elapsed(now, r.through) > window
}

// applyDirective stops sending to a receiver that answered 410 or "disable",
// before the store has recorded it.
func (e *Engine) applyDirective(r *receiver, a *trigger.Attempt) {
	if a.Outcome == trigger.ReceiverGone || a.Directive == trigger.Disable {
		e.mu.Lock()
		defer e.mu.Unlock()
		if r.isAbout(a) {
			r.stopped = true
			e.evict(r)
		}
	}
}

// trip opens the breaker, for longer each time a probe has failed. asOf is the
// AsOf of the last attempt.
func (e *Engine) trip(r *receiver, strain trigger.Strain, asOf int64) {
	n, most := 0, maxOpen
	if !r.probe.IsZero() {
		n = r.timesOpened
	}
	if strain == trigger.Overloaded {
		most = maxConnected
	}
	now := e.Store.Now()
	r.lastStrain = strain
	r.pace.restart(r.probeSize())
	e.openBreaker(r, store.BreakerChange{AsOf: asOf, Until: now.Add(openFor(n, most, 2*rand.Float64()-1)), LiftAt: now})
	e.Metrics.Trips.Inc()
}

// leaveAlone opens the breaker for as long as the receiver requests. Successes
// of attempts under way do not close it.
func (e *Engine) leaveAlone(r *receiver, wait time.Duration, asOf int64) {
	until := e.Store.Now().Add(wait)
	if r.probe.IsZero() && r.openUntil.After(until) {
		if until = r.openUntil; r.asked {
			return
		}
	}
	r.pace.restart(1)
	e.openBreaker(r, store.BreakerChange{AsOf: asOf, Until: until, LiftAt: until, Asked: true})
}

// openBreaker changes the breaker on this node and notes it for the store. A
// zero Until closes it.
func (e *Engine) openBreaker(r *receiver, c store.BreakerChange) {
	if r.webhook == nil || r.absent {
		return
	}
	c.Until, c.LiftAt = c.Until.Truncate(time.Microsecond), c.LiftAt.Truncate(time.Microsecond) // at the precision of the store
	c.OrganizationID, c.WebhookID, c.Seen = r.webhook.OrganizationID, r.id, r.probe
	e.breakers[r.id] = c
	r.setOpenUntil(c.Until, time.Time{})
	r.unstored, r.asked = true, c.Asked
	if !c.Until.IsZero() {
		e.evict(r)
	}
	e.Wake()
}

// endProbe ends a probe if none of its deliveries got through. The breaker
// opens again; or, if nothing was sent, any node may acquire the probe at once.
func (e *Engine) endProbe(r *receiver, asOf int64) {
	switch {
	case len(r.probeItems) > 0 || r.passed || r.probeLane != nil && r.probeLane.reserved > 0:
	case r.failed != trigger.NoStrain:
		e.trip(r, r.failed, asOf)
	default:
		e.openBreaker(r, store.BreakerChange{AsOf: asOf, Until: e.Store.Now()})
	}
}

// storeBreakers stores the changes of breakers. It retries failed ones with the
// next poll; until then only this node knows them.
func (e *Engine) storeBreakers(ctx context.Context) {
	e.mu.Lock()
	changes := e.breakers
	e.breakers = map[int64]store.BreakerChange{}
	e.mu.Unlock()
	failed, failure := 0, error(nil)
	for id, c := range changes {
		err := e.Store.SetBreaker(ctx, c)
		if err != nil {
			failed, failure = failed+1, err
		}
		e.mu.Lock()
		if r := e.receiver(id); e.breakers[id] == (store.BreakerChange{}) && r.unstored {
			if err != nil {
				e.breakers[id] = c
			} else {
				r.unstored, r.openedAt = false, e.Now()
			}
		}
		e.mu.Unlock()
	}
	if failed > 0 {
		e.Log.Warn("cannot store the states of breakers; will retry", "webhooks", failed, "error", failure)
	}
}

// breakerOf returns the breaker of a webhook.
func breakerOf(w *trigger.Webhook) store.Hold {
	return store.Hold{WebhookID: w.ID, Until: w.HeldUntil, Holds: w.Holds}
}

// updateBreaker sets the state of a breaker that was read from the store at
// seen or later. With a zero Until it is closed.
func (e *Engine) updateBreaker(r *receiver, h store.Hold, seen time.Time) {
	if r.unstored || !seen.After(r.openedAt) || h.Until.Equal(r.openUntil) {
		return
	}
	r.setOpenUntil(h.Until, time.Time{})
	r.timesOpened, r.asked = h.Holds, false
	if r.openUntil.IsZero() {
		r.failures = 0
		r.pace.restart(r.probeSize())
		e.Wake()
		return
	}
	e.evict(r)
}

// isProbing reports whether this node has the probe of a webhook.
func (e *Engine) isProbing(webhookID int64) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	r := e.receivers[webhookID]
	return r != nil && !r.probe.IsZero()
}

// acquireProbe reports whether this node got the probe after the breaker's
// time.
func (e *Engine) acquireProbe(ctx context.Context, w *trigger.Webhook) bool {
	until := e.Store.Now().Add(e.LeaseOf(w)).Truncate(time.Microsecond) // at the precision of the store
	ok, err := e.Store.Probe(ctx, w.ID, w.HeldUntil, until)
	if err != nil {
		e.Log.Warn("cannot probe a webhook", "webhook_id", w.ID, "error", err)
		return false
	}
	if !ok {
		return false
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	r := e.receiver(w.ID)
	r.setOpenUntil(until, until)
	r.timesOpened, r.openedAt = w.Holds, e.Now()
	return true
}

// inTime reports whether an attempt is not part of a probe, or will end while
// this node has the probe. After a slow claim another node may have it.
func (e *Engine) inTime(r *receiver, it *item) bool {
	return !r.isProbeItem(it) || !e.Store.Now().Add(e.timeoutOf(r.webhook)+margin/2).After(r.probe)
}

// releaseProbe releases the probe if the lane has no delivery for it, so that
// any node may acquire it at once.
func (e *Engine) releaseProbe(key laneKey) {
	e.mu.Lock()
	defer e.mu.Unlock()
	r := e.receivers[key.webhookID]
	if r != nil && !r.probe.IsZero() && (r.probeLane == nil || r.probeLane.job == key.job) {
		e.endProbe(r, r.asOf())
	}
}

// endWebhook notes a webhook that must stop, by its receiver's answer.
func (e *Engine) endWebhook(webhookID int64, end ending) {
	e.mu.Lock()
	if end.outweighs(e.ending[webhookID]) {
		e.ending[webhookID] = end
	}
	e.mu.Unlock()
	e.Wake()
}

// Ending the open deliveries of webhooks takes endTime in one round, and then rests
// for endRest times as long: many at a time would delay all other writes.
const (
	endTime = 20 * time.Millisecond
	endRest = 3
)

// endSome stops the noted webhooks, and ends some of the open deliveries of
// gone ones. If the process dies in between, the next attempt or claim
// continues. It retries failed ones later; they do not delay the others.
func (e *Engine) endSome(ctx context.Context) (more bool) {
	e.mu.Lock()
	noted := maps.Clone(e.ending)
	e.mu.Unlock()
	begun := e.Now()
	resting := begun.Before(e.endAgain)
	for id, end := range noted {
		if end.stored && (resting || elapsed(e.Now(), begun) > endTime) {
			more = true
			continue
		}
		done, err := e.end(ctx, id, end)
		if err != nil {
			e.Log.Error("cannot stop a webhook", "webhook_id", id, "error", err)
			continue
		}
		if !done {
			more = true
			continue
		}
		e.mu.Lock()
		if e.ending[id].stored { // else its receiver has answered so again
			delete(e.ending, id)
		}
		e.mu.Unlock()
	}
	if !resting {
		now := e.Now()
		e.endAgain = now.Add(endRest * elapsed(now, begun))
	}
	return more
}

// end stops a webhook, once, and ends some open deliveries of a gone one.
// Its owner may resume it meanwhile.
func (e *Engine) end(ctx context.Context, webhookID int64, end ending) (done bool, err error) {
	if !end.stored {
		stopped, err := e.Store.StopWebhook(ctx, store.Stop{
			OrganizationID: end.organizationID, WebhookID: webhookID, AsOf: end.asOf, State: end.state,
		})
		if err != nil {
			return false, err
		}
		if e.noteStored(webhookID, end, stopped); !stopped {
			return true, nil
		}
	}
	if end.state != trigger.Gone {
		return true, nil
	}
	n, done, err := e.Store.FailWebhook(ctx, end.organizationID, webhookID, trigger.ReasonGone)
	if err != nil {
		return false, err
	}
	e.Metrics.Ended.WithLabelValues("failed").Add(float64(n))
	return done, nil
}

// noteStored notes the stored state of a webhook's end: it has stopped, or its
// owner has changed it, so that it continues.
func (e *Engine) noteStored(webhookID int64, end ending, stopped bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.ending[webhookID] == end {
		if end.stored = true; stopped {
			e.ending[webhookID] = end
		} else {
			delete(e.ending, webhookID)
		}
	}
	r := e.receivers[webhookID]
	switch {
	case r == nil || r.webhook == nil:
	case !stopped:
		r.seen, r.stopped = time.Time{}, false // it is read before the next attempt
	default: // earlier reads are older
		w := *r.webhook
		w.State = end.state
		r.webhook, r.seen, r.stopped = &w, e.Now(), false
	}
}
