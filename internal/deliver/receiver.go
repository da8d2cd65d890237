package deliver

import (
	"slices"
	"time"

	"golang.org/x/time/rate"

	"triggerd/internal/trigger"
)

// receiver is what the engine knows of one webhook: how it is set, as of a
// moment ago, and what it bears. All its lanes share it. It is remembered for
// a while after the last of them is gone. The engine's mutex guards all of it.
type receiver struct {
	id             int64
	organizationID int64            // 0: not known yet
	webhook        *trigger.Webhook // as it was at seen; nil: not known yet
	seen           time.Time        // by the process's clock, before it was read
	used           time.Time        // when a lane last had work, by the same
	lanes          []*lane          // that exist; what was owed at acceptance first
	running        int              // attempts under way, in all lanes
	pace           aimd
	waited         time.Duration // for a slot, the longest of late: it comes down slowly
	limiter        *rate.Limiter // nil: no limit

	since       int64     // [trigger.Webhook.AsOf] of when it became what it is: active, with this URL
	absent      bool      // the store has no such webhook: its organization was erased
	stopped     bool      // it has asked for no more, and the store is about to know
	failures    int       // what has strained it since an event last got through
	through     time.Time // when that was, by the process's clock
	openUntil   time.Time // the breaker is open until then, in the database's time; zero: closed
	timesOpened int       // how often in a row it has opened
	unstored    bool      // the store is about to know of that
	asked       bool      // it has asked for it itself
	openedAt    time.Time // by the process's clock: what was read before is older
	wary        int       // how many have to get through until claims take what was due first again
	probe       time.Time // what held is while this node makes the probe; zero: it does not
	probeLane   *lane     // that has the rooms for it

	probeItems []*item        // deliveries of the probe, as far as they have not ended
	failed     trigger.Strain // what those that failed have said
	passed     bool           // one of them got through
	lastStrain trigger.Strain // what opened the breaker last
}

const (
	// freshFor is how old what is known of a webhook may be when an attempt
	// begins: a change of it takes effect that soon, on every node.
	freshFor = 1500 * time.Millisecond
	// refreshEvery is how often webhooks with work are read again.
	refreshEvery = 500 * time.Millisecond
	// idleAfter is for how long open breakers are read though there is no work.
	idleAfter = time.Minute
	// memory is for how long a receiver is remembered.
	memory = 10 * time.Minute
	// wariness is how many claimed deliveries have to get through after a breaker
	// was open until what was due first comes first: it may be what opened it.
	wariness = laneQueue
)

// receiver finds or makes the receiver of a webhook.
func (e *Engine) receiver(webhookID int64) *receiver {
	r := e.receivers[webhookID]
	if r == nil {
		r = &receiver{id: webhookID, pace: newAIMD()}
		e.receivers[webhookID] = r
	}
	return r
}

// updateConfig takes what a webhook is, read at the given time or later. What is
// older than what is known changes nothing.
func (e *Engine) updateConfig(r *receiver, w *trigger.Webhook, seen time.Time) {
	r.organizationID = w.OrganizationID
	if !seen.After(r.seen) {
		return
	}
	if old := r.webhook; old != nil && (old.URL != w.URL || old.State != trigger.Active && w.State == trigger.Active) {
		e.renew(r, w.AsOf)
	}
	r.webhook, r.seen, r.absent = w, seen, false
	r.pace.most = concurrency
	if w.Concurrency > 0 {
		r.pace.most = w.Concurrency
	}
	e.limit(r, w)
	if w.State != trigger.Active {
		e.evict(r)
	}
}

// renew forgets how a receiver has fared: its owner has given it another URL,
// or has resumed it. Answers to what was sent before say nothing of it.
func (e *Engine) renew(r *receiver, asOf int64) {
	r.since, r.stopped, r.failures, r.through, r.lastStrain = asOf, false, 0, time.Time{}, trigger.NoStrain
	if e.breakers[r.id].AsOf < asOf { // the store would not take it
		delete(e.breakers, r.id)
		r.unstored = false
	}
}

// asOf is that of the webhook as it is known now.
func (r *receiver) asOf() int64 {
	if r.webhook == nil {
		return 0
	}
	return r.webhook.AsOf
}

// isAbout reports whether an attempt tells of the receiver as it is now.
func (r *receiver) isAbout(a *trigger.Attempt) bool { return a.AsOf >= r.since }

// markAbsent takes that the store has no such webhook, read without an error
// at the given time or later. Nothing is sent to it, and nothing else follows.
func (e *Engine) markAbsent(r *receiver, seen time.Time) {
	if seen.After(r.seen) {
		r.seen, r.absent = seen, true
		e.evict(r)
	}
}

// limit keeps the webhook's rate: this node's share of it.
func (e *Engine) limit(r *receiver, w *trigger.Webhook) {
	if w.Rate == 0 {
		r.limiter = nil
		return
	}
	share := rate.Limit(w.Rate / float64(e.Store.Nodes()))
	if r.limiter == nil {
		r.limiter = rate.NewLimiter(share, 1)
	}
	if r.limiter.Limit() != share {
		r.limiter.SetLimitAt(e.Now(), share)
	}
}

// isFresh reports whether what is known of the webhook and its breaker is young
// enough to send by it.
func (e *Engine) isFresh(r *receiver) bool {
	return r.webhook != nil && elapsed(e.Now(), r.seen) <= freshFor && e.knowsBreakers()
}

// isIdle reports that there was no work for a while.
func (e *Engine) isIdle() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.lanes) == 0 && elapsed(e.Now(), e.worked) > idleAfter
}

// knowsBreakers reports whether this node knows which breakers are open. Where it
// could not read them for a while, other nodes could not store theirs, and do so
// with their next look.
func (e *Engine) knowsBreakers() bool {
	now := e.Now()
	return elapsed(now, e.breakersSeen) <= freshFor && (e.breakersBack.IsZero() || elapsed(now, e.breakersBack) > 2*pollEvery)
}

// wants reports whether the webhook wants attempts.
func (r *receiver) wants() bool {
	return !r.stopped && !r.absent && (r.webhook == nil || r.webhook.State == trigger.Active && r.webhook.Broken == nil)
}

// isOpen reports whether attempts may begin: the webhook wants them, and its
// breaker is closed, or this node makes the probe.
func (r *receiver) isOpen() bool { return r.wants() && (r.openUntil.IsZero() || !r.probe.IsZero()) }

// setOpenUntil changes the breaker, as this node has it.
func (r *receiver) setOpenUntil(until, probe time.Time) {
	if !until.IsZero() {
		r.wary = wariness
	}
	r.openUntil, r.probe, r.probeLane = until, probe, nil
	r.probeItems, r.failed, r.passed = nil, trigger.NoStrain, false
}

// isProbeItem reports whether a delivery is a part of the probe.
func (r *receiver) isProbeItem(it *item) bool { return slices.Contains(r.probeItems, it) }

// admits reports whether an attempt at this delivery may begin.
func (r *receiver) admits(it *item) bool {
	return r.wants() && (r.openUntil.IsZero() || r.isProbeItem(it))
}

// probeSize is how many deliveries a probe takes: one where there was no
// connection; several where there was, since the one may be at fault itself.
func (r *receiver) probeSize() int {
	if r.lastStrain == trigger.Overloaded {
		return min(firstWorkers, r.pace.most)
	}
	return 1
}

// places is how many attempts may run at a time, with those that began before
// the probe: they must not hold it up.
func (r *receiver) places() int {
	if !r.probe.IsZero() {
		return r.pace.most
	}
	return r.pace.workers()
}

// workers is how many attempts are to run at a time.
func (r *receiver) workers() int {
	if !r.probe.IsZero() {
		return r.probeSize()
	}
	return r.pace.workers()
}

// share is how many attempts of a lane may run: all that the receiver bears,
// a quarter of that for a replay, unless for a probe.
func (l *lane) share() int {
	r := l.receiver
	switch most := r.places(); {
	case !r.probe.IsZero():
		return most
	case l.job != 0:
		return max(1, most/4)
	default:
		return most
	}
}

// timeoutOf is that of one attempt at a webhook.
func (c *Config) timeoutOf(w *trigger.Webhook) time.Duration {
	if w == nil || w.Timeout == 0 {
		return c.Timeout
	}
	return w.Timeout
}

// scheduleOf is when a webhook's deliveries are tried again.
func (c *Config) scheduleOf(w *trigger.Webhook) trigger.Schedule {
	if w == nil || w.Schedule == nil {
		return c.Schedule
	}
	return w.Schedule
}

// allowed is how many more attempts the lane's limits let begin within a time
// from now on, laneQueue at most.
func (l *lane) allowed(within time.Duration, now time.Time) int {
	n := float64(laneQueue)
	for _, limiter := range []*rate.Limiter{l.limiter, l.receiver.limiter} {
		if limiter != nil {
			n = min(n, limiter.TokensAt(now)+float64(limiter.Limit())*within.Seconds())
		}
	}
	return max(0, int(n))
}

// elapsed is how long ago a reading of the process's clock is: by the wall
// clock and by the monotonic one, whichever has gone further, since a
// suspended machine's monotonic clock may stand still.
func elapsed(now, since time.Time) time.Duration {
	return max(now.Sub(since), now.Round(0).Sub(since.Round(0)))
}
