package deliver

import (
	"slices"
	"time"

	"golang.org/x/time/rate"

	"triggerd/internal/trigger"
)

// lane holds the deliveries of one webhook that were owed at acceptance, or
// those of one replay. It exists while there are some. All of it is guarded by
// the engine's mutex.
type lane struct {
	receiver  *receiver
	job       int64 // the replay; 0: none
	reserved  int   // room given and not yet used
	queue     []*item
	running   int
	limiter   *rate.Limiter // of the replay; nil: no limit
	starved   bool          // it had no room for all it was asked for
	cancelled bool          // the replay was stopped
}

// laneKey names a lane.
type laneKey struct{ webhookID, job int64 }

// item is a claimed delivery in memory.
type item struct {
	delivery  trigger.Delivery
	event     *trigger.Event
	claimedAt time.Time // by the process's clock, taken before the claim
	lease     time.Duration
}

// limit is how many deliveries the lane takes: as many as it can start within
// the leases, by how long its attempts take and how many it may make.
func (l *lane) limit(timeout time.Duration, now time.Time) int {
	workers := min(l.share(), l.receiver.workers())
	queue := laneQueue
	if l.receiver.wary > 0 { // what has failed least is asked for often
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

// held is how many deliveries the lane has taken or promised to take.
func (l *lane) held() int { return l.reserved + len(l.queue) + l.running }

// lane finds or makes a lane.
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

// tidy removes a lane without work.
func (e *Engine) tidy(l *lane) {
	if l.held() != 0 {
		return
	}
	r := l.receiver
	delete(e.lanes, laneKey{r.id, l.job})
	r.lanes = slices.DeleteFunc(r.lanes, func(other *lane) bool { return other == l })
	r.used = e.Now()
}

// Reserve implements ingest's hand-off: room for one delivery.
func (e *Engine) Reserve(key trigger.DeliveryKey, size int) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.receiver(key.WebhookID).organizationID = key.OrganizationID
	return e.reserve(laneKey{webhookID: key.WebhookID}, 1, size, false) == 1
}

// reserve gives room for up to n deliveries of size bytes together, and
// returns for how many. While the breaker is open there is none, but for a
// probe. The caller holds mu.
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

// room is how many more deliveries a lane may take: at most as many as its
// organization could take besides, so that there is room for its others.
func (e *Engine) room(l *lane) int {
	spare := e.spare(l.receiver.organizationID)
	if spare.bytes < 0 {
		return 0
	}
	return max(0, min(l.limit(e.Timeout, e.Now())-l.held(), spare.items-l.held()))
}

// load is what deliveries take of a node's memory.
type load struct{ items, bytes int }

// spare is what an organization may take besides, by the rule of [slots].
func (e *Engine) spare(organizationID int64) load {
	has := e.of[organizationID]
	return load{(maxItems-e.total.items)/sharePart - has.items, (maxItemBytes-e.total.bytes)/sharePart - has.bytes}
}

// hold counts what an organization takes more; less, where that is negative.
func (e *Engine) hold(organizationID int64, more load) {
	e.total = load{e.total.items + more.items, e.total.bytes + more.bytes}
	has := e.of[organizationID]
	if has = (load{has.items + more.items, has.bytes + more.bytes}); has == (load{}) {
		delete(e.of, organizationID)
		return
	}
	e.of[organizationID] = has
}

// isHalfEmpty reports whether a lane has no more than half of what it may take,
// so that a claim is worth it.
func (e *Engine) isHalfEmpty(key laneKey) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	l := e.lane(key)
	defer e.tidy(l)
	return l.held() <= l.limit(e.Timeout, e.Now())/2
}

// hasRoom reports whether a lane may take one more.
func (e *Engine) hasRoom(key laneKey) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	l := e.lane(key)
	defer e.tidy(l)
	return !e.closed && l.receiver.wants() && e.room(l) > 0
}

// Return implements ingest's hand-off: the room was not needed.
func (e *Engine) Return(key trigger.DeliveryKey, size int) {
	e.giveRoom(laneKey{webhookID: key.WebhookID}, size)
}

func (e *Engine) giveRoom(key laneKey, size int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	l := e.lane(key)
	l.reserved--
	e.hold(l.receiver.organizationID, load{-1, -size})
	e.tidy(l)
}

// Take implements ingest's hand-off: a committed delivery uses its room. The
// webhook was read after claimedAt.
func (e *Engine) Take(d trigger.Delivery, event *trigger.Event, w *trigger.Webhook, claimedAt time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	l := e.lane(laneKey{webhookID: w.ID})
	e.updateConfig(l.receiver, w, claimedAt)
	e.add(l, &item{d, event, claimedAt, e.LeaseOf(w)}, false)
}

// Expect implements ingest's hand-off: an unclaimed delivery of a webhook, which
// was read at the given time, is in the store. The webhook is looked at when it
// comes due, however long a look at all webhooks takes; at once, if there was no
// room only because the engine has just started, or did not know which breakers
// are open.
func (e *Engine) Expect(d trigger.Delivery, w *trigger.Webhook, readAt time.Time) {
	e.mu.Lock()
	e.updateConfig(e.receiver(w.ID), w, readAt)
	blind := !e.blind.IsZero() && elapsed(e.Now(), e.blind) <= overdue
	e.mu.Unlock()
	if wait := d.DueAt.Sub(e.Store.Now()); wait < pollEvery && (wait > 0 || blind) {
		e.Wake()
	}
}

// add puts a delivery, whose room was promised, into its lane. While the
// breaker is open it must be one that the probe has found.
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

// requeue gives up a claimed delivery that was not sent: the store gets it
// back with the next look, or at the end.
func (e *Engine) requeue(d trigger.Delivery, event *trigger.Event) {
	e.forget(event)
	e.unsent = append(e.unsent, d)
	if !e.closed {
		e.Wake()
	}
}

// evict gives up what waits in the lanes of a receiver.
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

// startWorkers starts workers, as many as the lane has work and leave for.
func (e *Engine) startWorkers(l *lane) {
	r := l.receiver
	if e.closed || !r.isOpen() || !e.isFresh(r) {
		return // the next refresh comes back to it
	}
	abort := e.abort
	for n := min(len(l.queue), l.share()-l.running, r.places()-r.running); n > 0; n-- {
		l.running++
		r.running++
		e.workers.Go(func() { e.work(abort, l) })
	}
}

// startAllWorkers starts workers for all lanes of a receiver.
func (e *Engine) startAllWorkers(r *receiver) {
	for _, l := range r.lanes {
		e.startWorkers(l)
	}
}

// next takes the lane's next item, or notes that a worker ended.
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
		e.wakeFor(l) // more waits in the store
	}
	return it
}

// isOver reports whether a worker of the lane has to end for others: more run
// than the receiver bears, or a replay's takes the last place of what is live.
func (l *lane) isOver() bool {
	r, most := l.receiver, l.receiver.places()
	if l.running > l.share() || r.running > most {
		return true
	}
	live := r.lanes[0]
	return l.job != 0 && live.job == 0 && len(live.queue) > 0 && r.running == most
}

// forget frees the memory of an item that is done.
func (e *Engine) forget(event *trigger.Event) {
	e.hold(event.OrganizationID, load{-1, -event.Size()})
}
