package deliver

import (
	"slices"
	"time"

	"golang.org/x/time/rate"

	"triggerd/internal/trigger"
)

// receiver is what the engine knows of one webhook: its recent settings and how
// many attempts it can take. All its lanes share it. It is kept for a while
// after its last lane was removed. The engine's mutex guards all of it.
type receiver struct {
	id             int64
	organizationID int64            // 0: not yet known
	webhook        *trigger.Webhook // as read at seen; nil: not yet known
	seen           time.Time        // by the process's clock, before it was read
	used           time.Time        // when a lane last had work, by the process's clock
	lanes          []*lane          // the live one first
	running        int              // attempts under way, in all lanes
	pace           aimd
	waited         time.Duration // for a slot, the recent maximum; it decreases slowly
	limiter        *rate.Limiter // nil: no limit

	since       int64     // [trigger.Webhook.AsOf] of its last change of URL or resumption
	absent      bool      // the store has no such webhook, because its organization was erased
	stopped     bool      // by its own answer, which is not yet stored
	failures    int       // attempts that strained it since the last one that got through
	through     time.Time // when that was, by the process's clock
	openUntil   time.Time // the breaker is open until then, in the database's time; zero: closed
	timesOpened int       // how often in a row it has opened
	unstored    bool      // the state of the breaker is not yet stored
	asked       bool      // the receiver itself requested it, by Retry-After
	openedAt    time.Time // by the process's clock; older reads of the breaker are ignored
	wary        int       // how many must get through until claims take the first due again
	probe       time.Time // until when this node has the probe; zero: it does not
	probeLane   *lane     // the lane with the room for it

	probeItems []*item        // deliveries of the probe that have not ended
	failed     trigger.Strain // the strain of its failed deliveries
	passed     bool           // one of them got through
	lastStrain trigger.Strain // why the breaker opened last
}

const (
	// freshFor is how old the settings of a webhook may be when an attempt
	// begins. A change takes effect that soon, on every node.
	freshFor = 1500 * time.Millisecond
	// refreshEvery is how often webhooks with work are read again.
	refreshEvery = 500 * time.Millisecond
	// idleAfter is how long open breakers are read without work.
	idleAfter = time.Minute
	// memory is how long a receiver without work is kept.
	memory = 10 * time.Minute
	// wariness is how many claimed deliveries must get through after a breaker
	// was open until the first due comes first, because it may have opened the
	// breaker.
	wariness = laneQueue
)

// receiver returns the receiver of a webhook. It creates it if needed.
func (e *Engine) receiver(webhookID int64) *receiver {
	r := e.receivers[webhookID]
	if r == nil {
		r = &receiver{id: webhookID, pace: newAIMD()}
		e.receivers[webhookID] = r
	}
	return r
}

// updateConfig sets the settings of a webhook, read at seen or later. It
// ignores settings older than the known ones.
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

// renew resets the health of a receiver whose owner has changed its URL or has
// resumed it. Answers to earlier requests do not count for it.
func (e *Engine) renew(r *receiver, asOf int64) {
	r.since, r.stopped, r.failures, r.through, r.lastStrain = asOf, false, 0, time.Time{}, trigger.NoStrain
	if e.breakers[r.id].AsOf < asOf { // the store would refuse it
		delete(e.breakers, r.id)
		r.unstored = false
	}
}

// asOf returns the AsOf of the known settings.
func (r *receiver) asOf() int64 {
	if r.webhook == nil {
		return 0
	}
	return r.webhook.AsOf
}

// isAbout reports whether an attempt was sent after the last renew.
func (r *receiver) isAbout(a *trigger.Attempt) bool { return a.AsOf >= r.since }

// markAbsent notes that the store has no such webhook, read without an error at
// seen or later. The engine stops sending to it and does nothing else.
func (e *Engine) markAbsent(r *receiver, seen time.Time) {
	if seen.After(r.seen) {
		r.seen, r.absent = seen, true
		e.evict(r)
	}
}

// limit sets the webhook's rate: this node's share of it.
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

// isFresh reports whether the settings of the webhook and its breaker are
// recent enough to send.
func (e *Engine) isFresh(r *receiver) bool {
	return r.webhook != nil && elapsed(e.Now(), r.seen) <= freshFor && e.knowsBreakers()
}

// isIdle reports whether idleAfter has passed without work.
func (e *Engine) isIdle() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.lanes) == 0 && elapsed(e.Now(), e.worked) > idleAfter
}

// knowsBreakers reports whether this node knows which breakers are open. If it
// could not read them for a while, other nodes could not store theirs either,
// and do so with their next poll.
func (e *Engine) knowsBreakers() bool {
	now := e.Now()
	return elapsed(now, e.breakersSeen) <= freshFor && (e.breakersBack.IsZero() || elapsed(now, e.breakersBack) > 2*pollEvery)
}

// wants reports whether the webhook may get attempts: it is not known to be
// stopped, absent, inactive or broken.
func (r *receiver) wants() bool {
	return !r.stopped && !r.absent && (r.webhook == nil || r.webhook.State == trigger.Active && r.webhook.Broken == nil)
}

// isOpen reports whether attempts may begin: the webhook wants them, and
// its breaker is closed or this node has the probe.
func (r *receiver) isOpen() bool { return r.wants() && (r.openUntil.IsZero() || !r.probe.IsZero()) }

// setOpenUntil sets this node's copy of the breaker.
func (r *receiver) setOpenUntil(until, probe time.Time) {
	if !until.IsZero() {
		r.wary = wariness
	}
	r.openUntil, r.probe, r.probeLane = until, probe, nil
	r.probeItems, r.failed, r.passed = nil, trigger.NoStrain, false
}

// isProbeItem reports whether a delivery is part of the probe.
func (r *receiver) isProbeItem(it *item) bool { return slices.Contains(r.probeItems, it) }

// admits reports whether an attempt at this delivery may begin.
func (r *receiver) admits(it *item) bool {
	return r.wants() && (r.openUntil.IsZero() || r.isProbeItem(it))
}

// probeSize returns the number of deliveries of a probe: one after a failed
// connection, otherwise several, because a single event may itself be the
// cause.
func (r *receiver) probeSize() int {
	if r.lastStrain == trigger.Overloaded {
		return min(firstWorkers, r.pace.most)
	}
	return 1
}

// places returns how many attempts may run at a time, including older ones
// during a probe, because they must not delay it.
func (r *receiver) places() int {
	if !r.probe.IsZero() {
		return r.pace.most
	}
	return r.pace.workers()
}

// workers returns how many attempts should run at a time.
func (r *receiver) workers() int {
	if !r.probe.IsZero() {
		return r.probeSize()
	}
	return r.pace.workers()
}

// share returns how many attempts of a lane may run: all places of the
// receiver, or a quarter of them for a replay, except during a probe.
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

// timeoutOf returns the timeout of one attempt at a webhook.
func (c *Config) timeoutOf(w *trigger.Webhook) time.Duration {
	if w == nil || w.Timeout == 0 {
		return c.Timeout
	}
	return w.Timeout
}

// scheduleOf returns the retry schedule of a webhook.
func (c *Config) scheduleOf(w *trigger.Webhook) trigger.Schedule {
	if w == nil || w.Schedule == nil {
		return c.Schedule
	}
	return w.Schedule
}

// allowed returns how many more attempts the lane's rate limits allow within a
// time from now, at most laneQueue.
func (l *lane) allowed(within time.Duration, now time.Time) int {
	n := float64(laneQueue)
	for _, limiter := range []*rate.Limiter{l.limiter, l.receiver.limiter} {
		if limiter != nil {
			n = min(n, limiter.TokensAt(now)+float64(limiter.Limit())*within.Seconds())
		}
	}
	return max(0, int(n))
}

// elapsed returns the time since a reading of the process's clock: the larger
// of the wall and the monotonic time, because the monotonic clock of a
// suspended machine may stop.
func elapsed(now, since time.Time) time.Duration {
	return max(now.Sub(since), now.Round(0).Sub(since.Round(0)))
}
