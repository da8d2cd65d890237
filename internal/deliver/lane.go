package deliver

import (
	"time"

	"triggerd/internal/trigger"
)

// lane holds the deliveries of one webhook. It exists while there are some.
// All of it is guarded by the engine's mutex.
type lane struct {
	webhookID int64
	promised  int // room given and not yet used
	queue     []*item
	running   int
	workers   int           // how many may run: grows by successes, halves by timeouts
	took      time.Duration // a moving average of its attempts; 0: none yet
	gone      bool          // the receiver has answered 410
	hungry    bool          // it had no room for all it was asked for
}

// item is a claimed delivery in memory.
type item struct {
	delivery  trigger.Delivery
	event     *trigger.Event
	webhook   *trigger.Webhook
	claimedAt time.Time // by the process's clock, taken before the claim
}

// limit is how many deliveries the lane takes: as many as it can start within
// the leases, by how long its attempts take.
func (l *lane) limit(timeout time.Duration) int {
	if l.took == 0 {
		return l.workers + laneQueue
	}
	return l.workers + min(laneQueue, int(time.Duration(l.workers)*timeout/l.took))
}

// held is how many deliveries the lane has taken or promised to take.
func (l *lane) held() int { return l.promised + len(l.queue) + l.running }

// lane finds or makes the lane of a webhook.
func (e *Engine) lane(webhookID int64) *lane {
	l := e.lanes[webhookID]
	if l == nil {
		l = &lane{webhookID: webhookID, workers: firstWorkers}
		e.lanes[webhookID] = l
	}
	return l
}

// Reserve implements ingest's hand-off: room for one delivery of a webhook.
func (e *Engine) Reserve(webhookID int64, size int) bool {
	return e.reserve(webhookID, 1, size) == 1
}

// reserve gives room for up to n deliveries of size bytes together, and
// returns for how many.
func (e *Engine) reserve(webhookID int64, n, size int) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed || e.bytes+size > maxItemBytes || !e.Store.ClockTrusted() {
		return 0
	}
	l := e.lane(webhookID)
	given := max(0, min(n, l.limit(e.Timeout)-l.held(), maxItems-e.items))
	l.hungry = l.hungry || given < n
	if given > 0 {
		l.promised += given
		e.items += given
		e.bytes += size
	}
	e.tidy(l)
	return given
}

// Return implements ingest's hand-off: the room was not needed.
func (e *Engine) Return(webhookID int64, size int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	l := e.lane(webhookID)
	l.promised--
	e.items--
	e.bytes -= size
	e.tidy(l)
}

// Take implements ingest's hand-off: a committed delivery uses its room.
func (e *Engine) Take(d trigger.Delivery, event *trigger.Event, w *trigger.Webhook, claimedAt time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	l := e.lane(w.ID)
	l.promised--
	if e.closed {
		e.forget(event)
		e.unsent = append(e.unsent, d)
		e.tidy(l)
		return
	}
	l.queue = append(l.queue, &item{d, event, w, claimedAt})
	e.staff(l)
}

// staff starts workers, as many as the lane has work and leave for.
func (e *Engine) staff(l *lane) {
	abort := e.abort
	for n := min(len(l.queue), l.workers-l.running); n > 0; n-- {
		l.running++
		e.workers.Go(func() { e.work(abort, l) })
	}
}

// next takes the lane's next item, or notes that a worker ended.
func (e *Engine) next(l *lane) *item {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(l.queue) == 0 || l.running > l.workers {
		l.running--
		e.tidy(l)
		return nil
	}
	it := l.queue[0]
	l.queue[0] = nil
	l.queue = l.queue[1:]
	if l.hungry && l.promised+len(l.queue) <= l.limit(e.Timeout)/2 {
		l.hungry = false
		e.Wake() // more waits in the store
	}
	return it
}

// forget frees the memory of an item that is done.
func (e *Engine) forget(event *trigger.Event) {
	e.items--
	e.bytes -= event.Size()
}

// tidy removes a lane without work.
func (e *Engine) tidy(l *lane) {
	if l.promised == 0 && len(l.queue) == 0 && l.running == 0 {
		delete(e.lanes, l.webhookID)
	}
}

// done notes the end of an item and how long its attempt took.
func (e *Engine) done(l *lane, it *item, a *trigger.Attempt) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.forget(it.event)
	if a == nil {
		return
	}
	if l.took == 0 {
		l.took = a.Took
	}
	l.took += (a.Took - l.took) / 8
	l.gone = l.gone || a.Outcome == trigger.ReceiverGone
	switch {
	case a.Outcome == trigger.Success:
		l.workers = min(l.workers+1, concurrency)
		e.staff(l)
	case a.Took >= e.Timeout: // it hangs
		l.workers = max(1, l.workers/2)
	}
}
