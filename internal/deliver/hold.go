package deliver

import (
	"context"
	"maps"
	"math/rand/v2"
	"time"

	"triggerd/internal/trigger"
)

// ending is a webhook that wants no more, as its receiver has answered.
type ending struct {
	organizationID int64
	state          trigger.WebhookState // gone or paused
	stored         bool                 // the store knows, and what is owed is left to end
}

// weight orders the endings of one webhook: the heaviest is kept. An answer
// counts more than what the store knows, because the webhook may have been
// resumed since.
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

// hold is a change of a breaker: from what it was seen to be, to what it
// becomes; zero is closed.
type hold struct {
	organizationID int64
	seen, until    time.Time
}

// done notes the end of an attempt, or of an item that was not sent.
func (e *Engine) done(l *lane, it *item, a *trigger.Attempt) {
	e.mu.Lock()
	defer e.mu.Unlock()
	r := l.receiver
	probe := r.trial == it
	if a == nil {
		if probe {
			e.hold(r, e.Store.Now())
		}
		return
	}
	e.forget(it.event)
	timedOut := a.Took >= e.timeoutOf(r.webhook)
	strained := a.Strained() || a.Outcome == trigger.Transient && timedOut
	r.pace.note(a.Took, a.Outcome == trigger.Success, strained)
	switch {
	case r.stopped:
	case strained:
		r.strain++
		if timedOut {
			r.strain++
		}
		if r.strain >= tripAt && r.held.IsZero() || probe {
			e.trip(r)
		}
	default:
		r.strain = 0
		if probe && a.Outcome != trigger.Success { // after a success, the store knows
			e.hold(r, time.Time{})
		}
	}
	e.staffAll(r)
}

// heed follows an answer that wants no more, before the store can know of it.
func (e *Engine) heed(r *receiver, a *trigger.Attempt) {
	if a.Outcome == trigger.ReceiverGone || a.Directive == trigger.Disable {
		e.mu.Lock()
		defer e.mu.Unlock()
		r.stopped = true
		e.shed(r)
	}
}

// trip opens the breaker, for longer each time a probe has failed.
func (e *Engine) trip(r *receiver) {
	n := 0
	if !r.probe.IsZero() {
		n = r.holds
	}
	until := e.Store.Now().Add(holdFor(n, 2*rand.Float64()-1)).Truncate(time.Microsecond) // as it is stored
	r.pace.restart()
	e.hold(r, until)
	e.Metrics.Trips.Inc()
}

// hold changes the breaker here, and notes it for the store. until is zero for
// closed.
func (e *Engine) hold(r *receiver, until time.Time) {
	if r.webhook == nil {
		return
	}
	e.holds[r.id] = hold{r.webhook.OrganizationID, r.probe, until}
	r.setHeld(until, time.Time{})
	r.holding = true
	if !until.IsZero() {
		e.shed(r)
	}
	e.Wake()
}

// holdSome tells the store of breakers that have changed. What fails is not
// tried again: this node goes by what the store says with the next look.
func (e *Engine) holdSome(ctx context.Context) {
	e.mu.Lock()
	holds := e.holds
	e.holds = map[int64]hold{}
	e.mu.Unlock()
	for id, h := range holds {
		if err := e.Store.Hold(ctx, h.organizationID, id, h.seen, h.until); err != nil {
			e.Log.Warn("a breaker's state is not stored", "webhook_id", id, "error", err)
		}
		e.mu.Lock()
		if r := e.receiver(id); e.holds[id] == (hold{}) {
			r.holding, r.heldAt = false, e.Now()
		}
		e.mu.Unlock()
	}
}

// learnHold takes what the store says of a breaker, read at the given time or
// later.
func (e *Engine) learnHold(r *receiver, w *trigger.Webhook, seen time.Time) {
	if r.holding || !seen.After(r.heldAt) || w.HeldUntil.Equal(r.held) {
		return
	}
	r.setHeld(w.HeldUntil, time.Time{})
	r.holds = w.Holds
	if r.held.IsZero() {
		r.strain = 0
		r.pace.restart()
		return
	}
	e.shed(r)
}

// reopen closes the breaker of a webhook after a success that the store knows
// of.
func (e *Engine) reopen(webhookID int64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if r := e.receivers[webhookID]; r != nil && !r.probe.IsZero() {
		r.setHeld(time.Time{}, time.Time{})
		r.heldAt, r.strain = e.Now(), 0
		e.Wake()
	}
}

// mayProbe asks for the one attempt after a breaker was open.
func (e *Engine) mayProbe(ctx context.Context, w *trigger.Webhook) bool {
	until := e.Store.Now().Add(e.LeaseOf(w)).Truncate(time.Microsecond) // as it is stored
	ok, err := e.Store.Probe(ctx, w.ID, w.HeldUntil, until)
	if err != nil {
		e.Log.Warn("a webhook cannot be probed", "webhook_id", w.ID, "error", err)
	}
	if !ok {
		return false
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	r := e.receiver(w.ID)
	r.setHeld(until, until)
	r.holds, r.heldAt = w.Holds, e.Now()
	return true
}

// inTime reports whether an attempt is no probe, or ends while it is this
// node's to make: what was granted before a slow claim may be another's by now.
func (e *Engine) inTime(r *receiver, it *item) bool {
	return r.trial != it || !e.Store.Now().Add(e.timeoutOf(r.webhook)+margin/2).After(r.probe)
}

// leaveProbe is for a lane that has no delivery for the probe: somebody else
// may make it, at once.
func (e *Engine) leaveProbe(key laneKey) {
	e.mu.Lock()
	defer e.mu.Unlock()
	r := e.receivers[key.webhookID]
	if r != nil && !r.probe.IsZero() && r.trial == nil && (r.prober == nil || r.prober.job == key.job) {
		e.hold(r, e.Store.Now())
	}
}

// endWebhook notes a webhook whose receiver wants no more.
func (e *Engine) endWebhook(webhookID int64, end ending) {
	e.mu.Lock()
	if end.weight() >= e.ending[webhookID].weight() {
		e.ending[webhookID] = end
	}
	e.mu.Unlock()
	e.Wake()
}

// endSome stops the noted webhooks, and ends some of what those are owed that
// are gone. If the process dies in between, the next attempt or claim goes on.
// What fails is tried again, and holds up nothing else.
func (e *Engine) endSome(ctx context.Context) (more bool) {
	e.mu.Lock()
	noted := maps.Clone(e.ending)
	e.mu.Unlock()
	for id, end := range noted {
		done, err := e.end(ctx, id, end)
		if err != nil {
			e.Log.Error("a webhook cannot be stopped", "webhook_id", id, "error", err)
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
	return more
}

// end stops a webhook, once, and ends some of what a gone one is owed. Its owner
// may resume it meanwhile.
func (e *Engine) end(ctx context.Context, webhookID int64, end ending) (done bool, err error) {
	if !end.stored {
		if err := e.Store.StopWebhook(ctx, end.organizationID, webhookID, end.state); err != nil {
			return false, err
		}
		e.noteStored(webhookID, end)
	}
	if end.state != trigger.Gone {
		return true, nil
	}
	n, done, err := e.Store.FailWebhook(ctx, end.organizationID, webhookID, trigger.ReasonGone)
	e.Metrics.Ended.WithLabelValues("failed").Add(float64(n))
	return done, err
}

// noteStored notes that the store knows of a webhook's end.
func (e *Engine) noteStored(webhookID int64, end ending) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.ending[webhookID] == end {
		e.ending[webhookID] = ending{end.organizationID, end.state, true}
	}
	if r := e.receivers[webhookID]; r != nil && r.webhook != nil { // what was read before is older
		w := *r.webhook
		w.State = end.state
		r.webhook, r.seen, r.stopped = &w, e.Now(), false
	}
}
