// Package ingest accepts events. Requests hand their events to the [Writer]
// and wait; one loop commits whatever has gathered while the last commit ran,
// so that there is no added delay when the server is idle and one sync for
// many events under load. Where more than enough for a commit gathers, two run
// at a time. Only what is committed is answered, remembered as seen, and handed
// to the engine.
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
	maxBatchBytes      = 8 << 20
	maxBatchDeliveries = 1000
)

// While one commit runs, another one begins if so many events wait for it:
// fewer wait for the end of the first, and share what it takes to commit.
const (
	commitsAtOnce = 2
	worthCommit   = 300
)

const (
	// patience is for how long a batch is tried again when the database fails.
	patience = 3 * time.Second
	// maxWait is for how long a request waits for its answer. The event it
	// gave up on may be committed all the same: its answer is unknown.
	maxWait = 5 * time.Second
	// retryAfter is when a client may come back to a full queue.
	retryAfter = time.Second
)

// HandOff takes fresh deliveries without a detour over the database. The
// delivery engine is one.
type HandOff interface {
	// Reserve asks for room for one delivery of size bytes. Each room that was
	// given is used by Take or given back by Return, exactly once.
	Reserve(key trigger.DeliveryKey, size int) bool
	Return(key trigger.DeliveryKey, size int)
	// Take brings a committed delivery, claimed at the given time of the
	// process's clock.
	Take(d trigger.Delivery, e *trigger.Event, w *trigger.Webhook, claimedAt time.Time)
	// Expect tells of a committed delivery of an active webhook that is not
	// claimed: there was no room, or it is for later. The webhook was read at the
	// given time.
	Expect(d trigger.Delivery, w *trigger.Webhook, readAt time.Time)
}

// Config is what a Writer works with.
type Config struct {
	Store   *store.Store
	HandOff HandOff
	Arrived func(orgID int64) // an organization's inbox has something new; nil: nobody waits for that
	Cache   *Cache
	Lease   func(*trigger.Webhook) time.Duration // of deliveries that are handed off
	Now     func() time.Time                     // the process's clock, with its monotonic reading
	Metrics *telemetry.Metrics
	Turns   *fair.Turns // of work that takes long, in steps of [fair.Millisecond]; nil: those of [fair.ForProcessors]
}

// New makes a Writer; its Run does the work.
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
	closed bool          // nothing new is taken
	ready  chan struct{} // holds one token when there is something to do

	lastID time.Time // of any batch
}

// Result is what became of an accepted event.
type Result struct {
	EventID   trigger.ID // of the event, or of the first one with its dedup id
	Duplicate bool
	first     seen
}

// Differs reports whether a duplicate has another payload than the first event
// with its dedup id; known is false where only the store can tell.
func (r *Result) Differs(e *trigger.Event) (differs, known bool) {
	return r.first.known && r.first.payload != e.PayloadHash(), r.first.known
}

// waiting is an event and the request that waits for it.
type waiting struct {
	event     *trigger.Event
	done      chan answer
	cost      int64       // what it was counted with when it was taken from the queue
	abandoned atomic.Bool // the request has given up: not to be stored any more

	webhooks []*trigger.Webhook   // that get it, if matched is not nil
	matched  *trigger.Subscribers // by which webhooks was found
}

type answer struct {
	result Result
	err    error
}

// Add commits an event, or finds the one that has its dedup id, and returns
// when that is durable. Invalid if the database can never take the event,
// Unavailable if the queue is full or there was no answer in time; then the
// event may be stored or not. Unavailable too while the store is not intact, also
// for a known dedup id: a first event may be lost with it.
func (w *Writer) Add(ctx context.Context, e *trigger.Event) (Result, error) {
	if err := w.Store.Intact(); err != nil {
		return Result{}, err
	}
	if r, ok := w.known(e); ok {
		return r, nil
	}
	wait := &waiting{event: e, done: make(chan answer, 1)}
	if err := w.match(ctx, wait); err != nil {
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

// Verdict is what became of one event of several.
type Verdict struct {
	Result
	Err error // nil: accepted, or a duplicate
}

// AddAll commits events, in their order where they go into one commit, and
// returns when the fate of each is known, one verdict for each, or when there
// was no answer in time. Where the queue has no room for all of them, none is
// taken.
func (w *Writer) AddAll(ctx context.Context, events []*trigger.Event) []Verdict {
	verdicts := make([]Verdict, len(events))
	if err := w.Store.Intact(); err != nil {
		for i := range verdicts {
			verdicts[i].Err = err
		}
		return verdicts
	}
	list, places := make([]*waiting, 0, len(events)), make([]int, 0, len(events))
	for i, e := range events {
		var ok bool
		if verdicts[i].Result, ok = w.known(e); !ok {
			list, places = append(list, &waiting{event: e, done: make(chan answer, 1)}), append(places, i)
		}
	}
	err := w.match(ctx, list...)
	if err == nil {
		err = w.enqueue(list...)
	}
	timer := time.NewTimer(maxWait)
	defer timer.Stop()
	for n, wait := range list {
		a := answer{err: err}
		if err == nil {
			a = wait.wait(ctx, timer)
		}
		verdicts[places[n]] = Verdict{a.result, a.err}
	}
	return verdicts
}

// Known returns what Add would, if it is known by memory alone that an event is a
// duplicate.
func (w *Writer) Known(e *trigger.Event) (r Result, ok bool) {
	if w.Store.Intact() != nil {
		return Result{}, false
	}
	first, ok := w.Cache.peek(e, w.Store.Now())
	return Result{first.id, ok, first}, ok
}

// known finds an event's dedup id in memory.
func (w *Writer) known(e *trigger.Event) (r Result, ok bool) {
	first, ok := w.Cache.find(e, w.Store.Now())
	if ok {
		w.Metrics.Duplicates.WithLabelValues("cache").Inc()
	}
	return Result{first.id, ok, first}, ok
}

// wait waits for the answer, for as long as the timer runs: one that has run
// out is left so that whoever comes next does not wait either.
func (wait *waiting) wait(ctx context.Context, timer *time.Timer) answer {
	var err error
	select {
	case a := <-wait.done: // also where the time is over by now
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

func (w *Writer) enqueue(list ...*waiting) error {
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

// signal tells the loop that there is something to do. The caller holds mu.
func (w *Writer) signal() {
	select {
	case w.ready <- struct{}{}:
	default:
	}
}

// Run commits events until ctx ends, then those that are queued, then returns.
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

// queued is how many events wait for a commit.
func (w *Writer) queued() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.queue.waiting
}

// isAway reports whether events will be queued again.
func (w *Writer) isAway() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.away > 0 || w.queue.waiting > 0
}

// close refuses everything new.
func (w *Writer) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
}

// take cuts the next group from the queue.
func (w *Writer) take() []*waiting {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.queue.take()
}

// putBack queues again, before others of their organizations, what could not be
// judged, or would make a batch too large.
func (w *Writer) putBack(group []*waiting) {
	if len(group) == 0 {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.queue.putBack(group)
	w.signal()
}

// charge tells how many deliveries an event has that was taken.
func (w *Writer) charge(wait *waiting, deliveries int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.queue.charge(wait, deliveries)
}

func (w *Writer) reply(wait *waiting, a answer) {
	w.mu.Lock()
	w.queue.answered(wait.event)
	w.mu.Unlock()
	wait.done <- a
}

// stamp returns the time of a batch's ids: now, and later than that of any
// batch before. So the ids of a node grow when the clock goes back a little;
// they run ahead of it by MaxClockSkew at most. When it goes back by more, they
// follow it: else lists, cursors and the retention would take every new event
// for one of the future until the clock has caught up. The events that were
// accepted ahead of the clock stay the newest until then. Ids are unique by
// their random bits in any case.
func (w *Writer) stamp(now time.Time) time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !now.After(w.lastID) && w.lastID.Sub(now) < trigger.MaxClockSkew {
		now = w.lastID.Add(time.Microsecond)
	}
	w.lastID = now
	return now
}

// QueuedBytes is the size of the events that are not yet answered.
func (w *Writer) QueuedBytes() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.queue.held.bytes
}
