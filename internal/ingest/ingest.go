// Package ingest accepts events. A request queues its events in the [Writer] and
// waits. One loop commits the events that queued up during the last commit. So
// an idle server adds no delay, and a busy one needs one sync for many events.
// If enough events for another commit queue up, two run at a time. Only
// committed events are answered, put into the dedup cache, and passed to the
// engine.
package ingest

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"triggerd/internal/fair"
	"triggerd/internal/store"
	"triggerd/internal/telemetry"
	"triggerd/internal/trigger"
)

// Bounds of one commit.
const (
	maxBatchEvents     = 1000
	maxBatchBytes      = 1 << 20
	maxBatchDeliveries = 1000
)

// While one commit runs, another begins if at least worthCommit events wait for
// it. Fewer wait until the first ends, and share the cost of one commit.
const (
	commitsAtOnce = 2
	worthCommit   = 300
)

const (
	// patience is how long a batch is retried when the database fails.
	patience = 3 * time.Second
	// maxWait is how long a request waits for its answer. After that the event
	// may be committed all the same: its outcome is unknown.
	maxWait = 5 * time.Second
	// retryAfter is the Retry-After of a full queue.
	retryAfter = time.Second
)

// Dispatcher takes fresh deliveries in memory, without a query. The delivery engine
// implements it.
type Dispatcher interface {
	// Reserve reserves room for one delivery of size bytes and reports whether
	// there was any. Dispatch or Unreserve must use each reservation
	// exactly once.
	Reserve(key trigger.DeliveryKey, size int) bool
	Unreserve(key trigger.DeliveryKey, size int)
	// Dispatch takes a committed delivery that was claimed at the given time of the
	// process's clock.
	Dispatch(d trigger.Delivery, e *trigger.Event, w *trigger.Webhook, claimedAt time.Time)
	// Expect announces a committed delivery of an active webhook that is not
	// claimed, for lack of room or because it is for later. The webhook was read
	// at the given time.
	Expect(d trigger.Delivery, w *trigger.Webhook, readAt time.Time)
}

// Config is the configuration of a Writer.
type Config struct {
	Store      *store.Store
	Dispatcher Dispatcher
	Arrived    func(orgID int64) // called when an organization's inbox has something new; may be nil
	Cache      *Cache
	Lease      func(*trigger.Webhook) time.Duration // of deliveries that are handed off
	Now        func() time.Time                     // the process's clock, with its monotonic reading
	Metrics    *telemetry.Metrics
	Turns      *fair.Turns // for work that takes long, in steps of [fair.Millisecond]; nil: [fair.ForProcessors]
}

// New returns a Writer. Its Run must be called.
func New(c Config) *Writer {
	if c.Turns == nil {
		c.Turns = fair.ForProcessors()
	}
	return &Writer{Config: c, ready: make(chan struct{}, 1)}
}

// Writer commits events in groups.
type Writer struct {
	Config

	mu     sync.Mutex
	queue  queue
	away   int           // goroutines that will queue events again
	closed bool          // new events are refused
	ready  chan struct{} // has a token when there is something to do

	lastID time.Time // the last time in the ids of a batch
}

// Result is the outcome of an accepted event.
type Result struct {
	EventID   trigger.ID // of the event, or of the first one with its dedup id
	Duplicate bool
	first     seen
}

// Differs reports whether the payload of a duplicate differs from the first
// event with its dedup id. If known is false, only the store knows.
func (r *Result) Differs(e *trigger.Event) (differs, known bool) {
	return r.first.known && r.first.payload != e.PayloadHash(), r.first.known
}

// pending is an event whose request waits for the answer.
type pending struct {
	event     *trigger.Event
	done      chan answer
	cost      int64       // its cost when it was taken from the queue
	abandoned atomic.Bool // the request has given up: the queue drops the event

	webhooks []*trigger.Webhook   // its webhooks, if matched is not nil
	matched  *trigger.Subscribers // the subscribers that webhooks was computed from
}

type answer struct {
	result Result
	err    error
}

// Add commits an event, or finds the first one with its dedup id, and returns
// when that is durable. The error is Invalid if the database can never store the
// event. It is Unavailable if the queue is full or the answer did not come in
// time; then the event may be stored or not. It is also Unavailable while the
// store is not intact, even for a known dedup id, because the first event may be
// lost.
func (w *Writer) Add(ctx context.Context, e *trigger.Event) (Result, error) {
	if err := w.Store.Intact(); err != nil {
		return Result{}, err
	}
	if r, ok := w.known(e); ok {
		return r, nil
	}
	wait := &pending{event: e, done: make(chan answer, 1)}
	if _, err := w.match(ctx, wait); err != nil {
		return Result{}, err
	}
	if err := w.enqueue(wait); err != nil {
		return Result{}, err
	}
	timer := time.NewTimer(maxWait)
	defer timer.Stop()
	a := wait.wait(ctx, timer)
	return a.result, a.err
}

// Verdict is the outcome of one event of several.
type Verdict struct {
	Result
	Err error // nil if the event was accepted or is a duplicate
}

// AddAll commits events and returns a verdict for each when all are known, or
// when the time is over. Events of one commit keep their order. If the queue has
// too little room for all of them, it takes none.
func (w *Writer) AddAll(ctx context.Context, events []*trigger.Event) []Verdict {
	verdicts := make([]Verdict, len(events))
	if err := w.Store.Intact(); err != nil {
		for i := range verdicts {
			verdicts[i].Err = err
		}
		return verdicts
	}
	list, places := make([]*pending, 0, len(events)), make([]int, 0, len(events))
	for i, e := range events {
		var ok bool
		if verdicts[i].Result, ok = w.known(e); !ok {
			list, places = append(list, &pending{event: e, done: make(chan answer, 1)}), append(places, i)
		}
	}
	matched, late := w.match(ctx, list...)
	err := w.enqueue(list[:matched]...)
	timer := time.NewTimer(maxWait)
	defer timer.Stop()
	for n, wait := range list {
		a := answer{err: err}
		switch {
		case n >= matched:
			a.err = late
		case err == nil:
			a = wait.wait(ctx, timer)
		}
		verdicts[places[n]] = Verdict{a.result, a.err}
	}
	return verdicts
}

// Known returns the result of Add if memory alone tells that an event is a
// duplicate.
func (w *Writer) Known(e *trigger.Event) (r Result, ok bool) {
	if w.Store.Intact() != nil {
		return Result{}, false
	}
	first, ok := w.Cache.peek(e, w.Store.Now())
	return Result{first.id, ok, first}, ok
}

// known looks up an event's dedup id in memory.
func (w *Writer) known(e *trigger.Event) (r Result, ok bool) {
	first, ok := w.Cache.find(e, w.Store.Now())
	if ok {
		w.Metrics.Duplicates.WithLabelValues("cache").Inc()
	}
	return Result{first.id, ok, first}, ok
}

// wait waits for the answer until the timer fires. It then resets the timer to
// 0, so that the next wait on it does not block either.
func (wait *pending) wait(ctx context.Context, timer *time.Timer) answer {
	var err error
	select {
	case a := <-wait.done: // an answer counts even if the time is over
		return a
	default:
	}
	select {
	case a := <-wait.done:
		return a
	case <-timer.C:
		timer.Reset(0)
		err = errors.New("commit timed out")
	case <-ctx.Done():
		err = ctx.Err()
	}
	wait.abandoned.Store(true)
	return answer{err: trigger.NewUnavailable(err, retryAfter)}
}

func (w *Writer) enqueue(list ...*pending) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return trigger.NewUnavailable(errors.New("stopping"), retryAfter)
	}
	if err := w.queue.add(list); err != nil {
		return err
	}
	w.signal()
	return nil
}

// signal tells the loop that there is something to do. The caller must hold mu.
func (w *Writer) signal() {
	select {
	case w.ready <- struct{}{}:
	default:
	}
}

// Run commits events until ctx ends, then commits the queued ones and returns.
func (w *Writer) Run(ctx context.Context) error {
	work, ended := context.WithoutCancel(ctx), ctx.Done()
	running, done := 0, make(chan struct{}, commitsAtOnce)
	for {
		if running == 0 || running < commitsAtOnce && w.queued() >= worthCommit {
			if group := w.take(); len(group) > 0 {
				running++
				go func() {
					w.flush(work, group)
					done <- struct{}{}
				}()
				continue
			}
			if ended == nil && running == 0 && !w.isAway() {
				return nil
			}
		}
		select {
		case <-w.ready:
		case <-done:
			running--
		case <-ended:
			w.close()
			ended = nil
		}
	}
}

// queued returns how many events wait for a commit.
func (w *Writer) queued() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.queue.waiting
}

// isAway reports whether events are queued, or will be queued again.
func (w *Writer) isAway() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.away > 0 || w.queue.waiting > 0
}

// close makes the Writer refuse new events.
func (w *Writer) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
}

// take removes the next group from the queue.
func (w *Writer) take() []*pending {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.queue.take()
}

// putBack queues events again, before the others of their organizations, because
// they have no outcome yet or would make a batch too large.
func (w *Writer) putBack(group []*pending) {
	if len(group) == 0 {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.queue.putBack(group)
	w.signal()
}

// charge records how many deliveries a taken event has.
func (w *Writer) charge(wait *pending, deliveries int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.queue.charge(wait, deliveries)
}

func (w *Writer) reply(wait *pending, a answer) {
	w.mu.Lock()
	w.queue.answered(wait.event)
	w.mu.Unlock()
	wait.done <- a
}

// stamp returns the time for the ids of a batch: now, but later than for any
// earlier batch. So the ids of a node increase even if the clock goes back a
// little, and are ahead of it by at most MaxClockSkew. If it goes back further,
// the ids follow. Otherwise lists, cursors and the retention would take new
// events for future ones until the clock has caught up. Until then, events that
// were accepted ahead of the clock stay the newest. The random bits keep ids
// unique in any case.
func (w *Writer) stamp(now time.Time) time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !now.After(w.lastID) && w.lastID.Sub(now) < trigger.MaxClockSkew {
		now = w.lastID.Add(time.Microsecond)
	}
	w.lastID = now
	return now
}

// QueuedBytes returns the size of the events that are not yet answered.
func (w *Writer) QueuedBytes() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.queue.held.bytes
}
