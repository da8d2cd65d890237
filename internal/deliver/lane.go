package deliver

import (
	"slices"
	"time"

	"golang.org/x/time/rate"

	"triggerd/internal/trigger"
)

// lane holds the live deliveries of one webhook, those made at acceptance, or
// the deliveries of one replay. It exists while it has some. The engine's mutex
// guards all of it.
type lane struct {
	receiver  *receiver
	job       int64 // the replay; 0: live deliveries
	reserved  int   // room reserved but not yet used
	queue     []*item
	running   int
	limiter   *rate.Limiter // of the replay; nil: no limit
	starved   bool          // it had less room than was requested
	cancelled bool          // the replay was stopped
}

// laneKey identifies a lane.
type laneKey struct{ webhookID, job int64 }

// item is a claimed delivery in memory.
type item struct {
	delivery  trigger.Delivery
	event     *trigger.Event
	claimedAt time.Time // by the process's clock, read before the claim
	lease     time.Duration
}

// limit returns how many deliveries the lane may hold: as many as it can start
// within their leases, by the time of its attempts and the number allowed.
func (l *lane) limit(timeout time.Duration, now time.Time) int {
	workers := min(l.share(), l.receiver.workers())
	queue := laneQueue
	if l.receiver.wary > 0 { // few at a time, because claims must often choose the deliveries with the fewest failures
		queue = min(queue, workers)
	}
	if took := l.receiver.pace.slowest + l.receiver.waited; took > 0 {
		queue = min(queue, int(time.Duration(workers)*timeout/took))
	}
	if allowed := l.allowed(timeout, now); allowed < queue {
		return l.running + allowed
	}
	return workers + queue
}

// held returns how many deliveries the lane has, including reserved room.
func (l *lane) held() int { return l.reserved + len(l.queue) + l.running }

// lane returns a lane. It creates it if needed.
func (e *Engine) lane(key laneKey) *lane {
	l := e.lanes[key]
	if l != nil {
		return l
	}
	r := e.receiver(key.webhookID)
	l = &lane{receiver: r, job: key.job, limiter: e.paces[key.job]}
	e.lanes[key] = l
	if key.job == 0 {
		r.lanes = slices.Insert(r.lanes, 0, l)
	} else {
		r.lanes = append(r.lanes, l)
	}
	return l
}

// tidy removes a lane without deliveries.
func (e *Engine) tidy(l *lane) {
	if l.held() != 0 {
		return
	}
	r := l.receiver
	delete(e.lanes, laneKey{r.id, l.job})
	r.lanes = slices.DeleteFunc(r.lanes, func(other *lane) bool { return other == l })
	r.used = e.Now()
}

// Reserve implements ingest's Dispatcher: it reserves room for one delivery.
func (e *Engine) Reserve(key trigger.DeliveryKey, size int) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.receiver(key.WebhookID).organizationID = key.OrganizationID
	return e.reserve(laneKey{webhookID: key.WebhookID}, 1, size, false) == 1
}

// reserve reserves room for up to n deliveries of size bytes together, and
// returns for how many. While the breaker is open, it reserves room only for a
// probe. The caller must hold mu.
func (e *Engine) reserve(key laneKey, n, size int, probe bool) int {
	if !e.Store.ClockTrusted() {
		return 0
	}
	e.worked = e.Now()
	if e.closed || !e.knowsBreakers() {
		e.blind = e.worked
		return 0
	}
	l := e.lane(key)
	given := 0
	if l.receiver.wants() && (probe || l.receiver.openUntil.IsZero()) {
		if given = min(n, e.room(l)); size > e.spare(l.receiver.organizationID).bytes {
			given = 0
		}
		l.starved = l.starved || given < n
	}
	if given > 0 {
		if probe {
			l.receiver.probeLane = l
		}
		l.reserved += given
		e.hold(l.receiver.organizationID, load{given, size})
	}
	e.tidy(l)
	return given
}

// room returns how many more deliveries a lane may take. A lane holds at most
// as many as its organization may still take, so that its other lanes have
// room.
func (e *Engine) room(l *lane) int {
	spare := e.spare(l.receiver.organizationID)
	if spare.bytes < 0 {
		return 0
	}
	return max(0, min(l.limit(e.Timeout, e.Now())-l.held(), spare.items-l.held()))
}

// load is what deliveries use of a node's memory.
type load struct{ items, bytes int }

// spare returns what an organization may still take, by the rule of [slots].
func (e *Engine) spare(organizationID int64) load {
	has := e.of[organizationID]
	return load{(maxItems-e.total.items)/sharePart - has.items, (maxItemBytes-e.total.bytes)/sharePart - has.bytes}
}

// hold adds more, which may be negative, to what an organization uses.
func (e *Engine) hold(organizationID int64, more load) {
	e.total = load{e.total.items + more.items, e.total.bytes + more.bytes}
	has := e.of[organizationID]
	if has = (load{has.items + more.items, has.bytes + more.bytes}); has == (load{}) {
		delete(e.of, organizationID)
		return
	}
	e.of[organizationID] = has
}

// isHalfEmpty reports whether a lane has at most half of what it may hold, so
// that a claim is worth its cost.
func (e *Engine) isHalfEmpty(key laneKey) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	l := e.lane(key)
	defer e.tidy(l)
	return l.held() <= l.limit(e.Timeout, e.Now())/2
}

// hasRoom reports whether a lane may take one more delivery.
func (e *Engine) hasRoom(key laneKey) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	l := e.lane(key)
	defer e.tidy(l)
	return !e.closed && l.receiver.wants() && e.room(l) > 0
}

// Unreserve implements ingest's Dispatcher: it frees reserved room.
func (e *Engine) Unreserve(key trigger.DeliveryKey, size int) {
	e.unreserve(laneKey{webhookID: key.WebhookID}, size)
}

func (e *Engine) unreserve(key laneKey, size int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	l := e.lane(key)
	l.reserved--
	e.hold(l.receiver.organizationID, load{-1, -size})
	e.tidy(l)
}

// Dispatch implements ingest's Dispatcher: a committed delivery uses its reserved
// room. The webhook was read after claimedAt.
func (e *Engine) Dispatch(d trigger.Delivery, event *trigger.Event, w *trigger.Webhook, claimedAt time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	l := e.lane(laneKey{webhookID: w.ID})
	e.updateConfig(l.receiver, w, claimedAt)
	e.add(l, &item{d, event, claimedAt, e.LeaseOf(w)}, false)
}

// Expect implements ingest's Dispatcher: the store has an unclaimed delivery of a
// webhook, which was read at readAt. The webhook is polled when the delivery
// becomes due, however long a poll of all webhooks takes. It is polled at once
// if it got no room only because the engine had just started or did not know
// the open breakers.
func (e *Engine) Expect(d trigger.Delivery, w *trigger.Webhook, readAt time.Time) {
	e.mu.Lock()
	e.updateConfig(e.receiver(w.ID), w, readAt)
	blind := !e.blind.IsZero() && elapsed(e.Now(), e.blind) <= overdue
	e.mu.Unlock()
	if wait := d.DueAt.Sub(e.Store.Now()); wait < pollEvery && (wait > 0 || blind) {
		e.Wake()
	}
}

// add puts a delivery with reserved room into its lane. While the breaker is
// open, it accepts only deliveries that were claimed for the probe; found
// reports whether a claim found it.
func (e *Engine) add(l *lane, it *item, found bool) {
	l.reserved--
	r := l.receiver
	trial := found && r.probeLane == l
	if e.closed || !r.wants() || !r.openUntil.IsZero() && !trial {
		e.requeue(it.delivery, it.event)
		e.tidy(l)
		return
	}
	if trial {
		r.probeItems = append(r.probeItems, it)
	}
	l.queue = append(l.queue, it)
	e.startWorkers(l)
}

// requeue returns a claimed delivery that was not sent. The next poll, or the
// stop, releases it to the store.
func (e *Engine) requeue(d trigger.Delivery, event *trigger.Event) {
	e.forget(event)
	e.unsent = append(e.unsent, d)
	if !e.closed {
		e.Wake()
	}
}

// evict requeues what waits in the lanes of a receiver.
func (e *Engine) evict(r *receiver) {
	for _, l := range slices.Clone(r.lanes) {
		e.evictLane(l)
	}
}

func (e *Engine) evictLane(l *lane) {
	for _, it := range l.queue {
		e.requeue(it.delivery, it.event)
	}
	l.queue = nil
	e.tidy(l)
}

// startWorkers starts as many workers as the lane's queue and limits allow.
func (e *Engine) startWorkers(l *lane) {
	r := l.receiver
	if e.closed || !r.isOpen() || !e.isFresh(r) {
		return // the next refresh starts them
	}
	abort := e.abort
	for n := min(len(l.queue), l.share()-l.running, r.places()-r.running); n > 0; n-- {
		l.running++
		r.running++
		e.workers.Go(func() { e.work(abort, l) })
	}
}

// startAllWorkers calls startWorkers for all lanes of a receiver.
func (e *Engine) startAllWorkers(r *receiver) {
	for _, l := range r.lanes {
		e.startWorkers(l)
	}
}

// next returns the lane's next item, or nil if the worker must end.
func (e *Engine) next(l *lane) *item {
	e.mu.Lock()
	defer e.mu.Unlock()
	r := l.receiver
	if len(l.queue) == 0 || l.isOver() || !r.isOpen() || !e.isFresh(r) {
		l.running--
		r.running--
		e.startAllWorkers(r)
		e.tidy(l)
		return nil
	}
	it := l.queue[0]
	l.queue[0] = nil
	l.queue = l.queue[1:]
	if l.starved && l.reserved+len(l.queue) <= l.limit(e.Timeout, e.Now())/2 {
		l.starved = false
		e.wakeFor(l) // the store has more
	}
	return it
}

// isOver reports whether a worker of the lane must end: too many run for the
// receiver, or a replay's worker has the last place while live deliveries wait.
func (l *lane) isOver() bool {
	r, most := l.receiver, l.receiver.places()
	if l.running > l.share() || r.running > most {
		return true
	}
	live := r.lanes[0]
	return l.job != 0 && live.job == 0 && len(live.queue) > 0 && r.running == most
}

// forget frees the memory of a finished item.
func (e *Engine) forget(event *trigger.Event) {
	e.hold(event.OrganizationID, load{-1, -event.Size()})
}
