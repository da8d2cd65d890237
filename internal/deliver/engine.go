// Package deliver brings committed events to webhooks. The [Engine] takes
// fresh deliveries from ingest in memory and claims due ones, retries, orphans
// and overflow, from the store; sorts them into lanes, one for each webhook,
// so that a slow receiver fills its own lane and nothing else; sends; lets
// [trigger.Delivery.After] decide; and records results in groups.
//
// A claim is a lease. Just before it sends, the engine judges whether enough
// of the lease is left for the whole attempt, and drops the delivery
// otherwise: it comes due when the lease ends, for any node to claim.
//
// The [Guard] judges which addresses may be reached. The [Sweeper] ends and
// removes what is too old.
package deliver

import (
	"context"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"triggerd/internal/store"
	"triggerd/internal/telemetry"
	"triggerd/internal/trigger"
)

// Bounds of what is in memory at once.
const (
	laneQueue    = 256      // deliveries of one webhook that wait for their turn
	maxAttempts  = 3072     // attempts at a time in all
	maxPending   = 1536     // results that wait to be recorded
	maxItems     = 30_000   // deliveries in all lanes
	maxItemBytes = 96 << 20 // their events
)

// sharePart: an organization takes of what is bounded at most as much as one part
// of so many of what is free.
const sharePart = 2

// margin is what a lease must hold beside the timeout of an attempt: time to
// record its result, and the error of clocks.
const margin = 2 * time.Second

// drainTime is for how long attempts under way may go on when the engine
// stops; then they are cut, and their deliveries given back.
const drainTime = 6 * time.Second

// tellTime bounds each last word of a stop to the store.
const tellTime = 2 * time.Second

// Config is what an Engine works with.
type Config struct {
	Store     Store
	Guard     *Guard
	Schedule  trigger.Schedule
	Timeout   time.Duration     // of one attempt, from dial to the end of the answer
	Now       func() time.Time  // the process's clock, with its monotonic reading
	Endurance trigger.Endurance // of webhooks that do nothing but fail
	UserAgent string
	Transport http.RoundTripper // that sends; nil: the network, by way of the Guard
	Metrics   *telemetry.Metrics
	Log       *slog.Logger
}

// Engine delivers. Make one with [New]; its Run does the work.
type Engine struct {
	Config
	slots   *slots
	results chan store.Result
	pending *slots        // one for each result that is not taken from results yet
	woken   chan struct{} // holds one token when a look at the store is worth it
	again   chan struct{} // the same for a look at replays
	workers sync.WaitGroup
	backlog atomic.Pointer[store.Backlog]

	mu           sync.Mutex
	lanes        map[laneKey]*lane
	receivers    map[int64]*receiver           // by webhook
	breakersSeen time.Time                     // when all open breakers were read, by the process's clock
	blind        time.Time                     // when there was last no room because they were not known, or Run had not begun, by the process's clock
	breakersLost bool                          // they could not be read the last time, or it took long
	breakersBack time.Time                     // when they were read again after it was long in vain; zero: it was not
	worked       time.Time                     // when there was something to send, or to be asked for, by the same
	paces        map[int64]*rate.Limiter       // of replays that have one
	total        load                          // in all lanes, promised ones included
	of           map[int64]load                // the same by organization; those that have some
	ending       map[int64]ending              // webhooks that want no more
	breakers     map[int64]store.BreakerChange // that the store does not know of yet
	unsent       []trigger.Delivery            // claimed, and to be given back
	fewer        int                           // how often the size of claims was halved
	turn         int                           // where among the due webhooks the last small claim began
	closed       bool                          // nothing new is taken
	closing      chan struct{}                 // is closed when that begins
	abort        context.Context               // ends when attempts under way are cut
}

// New makes an Engine.
func New(c Config) *Engine {
	if c.Transport == nil {
		c.Transport = newTransport(c.Guard)
	}
	return &Engine{
		Config:  c,
		slots:   newSlots(maxAttempts),
		results: make(chan store.Result, maxPending),
		pending: newSlots(maxPending),
		woken:   make(chan struct{}, 1),
		again:   make(chan struct{}, 1),
		closing: make(chan struct{}),
		lanes:   map[laneKey]*lane{}, receivers: map[int64]*receiver{}, paces: map[int64]*rate.Limiter{},
		of: map[int64]load{}, ending: map[int64]ending{}, breakers: map[int64]store.BreakerChange{},
		closed: true, // until Run opens it
	}
}

// Lease is for how long a delivery is claimed: so that an attempt which begins
// when half of it is over still ends and is recorded within it.
func (c *Config) Lease() time.Duration { return 2*c.Timeout + margin }

// LeaseOf is that of a webhook's deliveries, whose timeout may be longer.
func (c *Config) LeaseOf(w *trigger.Webhook) time.Duration {
	own := c.timeoutOf(w) + time.Second - 1 // in whole seconds: what is claimed together has one lease
	return 2*max(c.Timeout, own.Truncate(time.Second)) + margin
}

// Run delivers. When claiming ends, nothing more is claimed or handed off;
// when working ends, attempts under way get six seconds, results are
// recorded, what was not sent is given back, and Run returns. claiming must
// end first, or both together.
func (e *Engine) Run(claiming, working context.Context) error {
	abort, cut := context.WithCancel(context.WithoutCancel(working))
	defer cut()
	e.mu.Lock()
	e.abort, e.closed = abort, false
	e.mu.Unlock()

	telling, told := context.WithCancel(context.WithoutCancel(working))
	defer told()
	var recording, looking, last sync.WaitGroup
	recording.Go(func() { e.record(abort) })
	last.Go(func() {
		e.poll(claiming)
		e.tellOn(telling)
	})
	looking.Go(func() { e.measure(claiming) })
	looking.Go(func() { e.refresh(working) })
	looking.Go(func() { e.healthLoop(claiming) })
	looking.Go(func() { e.replay(claiming) })
	<-working.Done()
	e.close()

	drained := make(chan struct{})
	go func() {
		defer close(drained)
		looking.Wait()
		e.workers.Wait()
	}()
	timer := time.NewTimer(drainTime)
	defer timer.Stop()
	select {
	case <-drained:
	case <-timer.C:
		cut()
		<-drained
	}
	cut() // nothing is under way any more; results get one last try each
	close(e.results)
	recording.Wait()
	told()
	last.Wait()
	e.closeIdle()
	ctx, end := context.WithTimeout(context.WithoutCancel(working), tellTime)
	defer end()
	e.tell(ctx)
	return nil
}

// tell brings the store what receivers have said to this node, so that all nodes
// follow it, and gives back what was claimed and is not sent. more says that the
// deliveries of some webhook have not all ended yet.
func (e *Engine) tell(ctx context.Context) (more bool) {
	more = e.endSome(ctx)
	e.storeBreakers(ctx)
	e.giveBack(ctx)
	return more
}

// tellOn tells the store while a stop waits for attempts under way: other nodes,
// and this one when it is back, follow their answers.
func (e *Engine) tellOn(ctx context.Context) {
	for ctx.Err() == nil {
		e.tell(ctx)
		e.wait(ctx, pollEvery)
	}
}

// closeIdle closes the connections that no attempt uses.
func (e *Engine) closeIdle() {
	if t, ok := e.Transport.(interface{ CloseIdleConnections() }); ok {
		t.CloseIdleConnections()
	}
}

// close refuses everything new and takes what waits out of the lanes.
func (e *Engine) close() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.closed = true
	close(e.closing)
	for _, r := range e.receivers {
		e.evict(r)
	}
}

// giveBack releases what was claimed and not sent: our stop is not its failed
// attempt. Where that fails, the leases run out.
func (e *Engine) giveBack(ctx context.Context) {
	e.mu.Lock()
	unsent := e.unsent
	e.unsent = nil
	e.mu.Unlock()
	if len(unsent) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, tellTime)
	defer cancel()
	if err := e.Store.Release(ctx, unsent); err != nil {
		e.Log.Warn("cannot release claimed deliveries; they wait until their leases end", "deliveries", len(unsent), "error", err)
	}
}

// Wake says that a look at the store is worth it.
func (e *Engine) Wake() {
	select {
	case e.woken <- struct{}{}:
	default:
	}
}

// wakeFor is Wake for what a lane needs.
func (e *Engine) wakeFor(l *lane) {
	if l.job == 0 {
		e.Wake()
		return
	}
	select {
	case e.again <- struct{}{}:
	default:
	}
}

// Load is what the engine has in memory.
type Load struct {
	Queued  int // deliveries in lanes, those under way included
	Waiting int // of them, those whose turn has come, and that wait for others' attempts
	Lanes   int
}

// Load is that of this moment.
func (e *Engine) Load() Load {
	e.mu.Lock()
	defer e.mu.Unlock()
	return Load{Queued: e.total.items, Waiting: e.slots.waits(), Lanes: len(e.lanes)}
}

// Backlog is the work in the store that waits for webhooks, as it was some
// seconds ago.
func (e *Engine) Backlog() store.Backlog {
	if b := e.backlog.Load(); b != nil {
		return *b
	}
	return store.Backlog{}
}

// backlogEvery is how often the backlog is measured.
const backlogEvery = 5 * time.Second

// measure keeps the backlog until ctx ends. It is for the metrics alone; and it
// reads what a look at all webhooks reads, with the same bound on the cost.
func (e *Engine) measure(ctx context.Context) {
	timer := time.NewTimer(backlogEvery)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		begun := e.Now()
		if b, err := e.Store.Backlog(ctx); err == nil {
			e.backlog.Store(&b)
		}
		timer.Reset(max(backlogEvery, restAfter(elapsed(e.Now(), begun))))
	}
}

// every does something at intervals until ctx ends.
func every(ctx context.Context, interval time.Duration, do func()) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			do()
		}
	}
}
