// Package deliver delivers committed events to webhooks. The [Engine] takes
// fresh deliveries from ingest in memory. It claims due ones from the store:
// retries, orphans and overflow. It sorts them into lanes, one for each
// webhook, so that a slow receiver fills only its own lane. Then it sends them,
// lets [trigger.Delivery.After] decide what follows, and records results in
// groups.
//
// A claim is a lease. Just before it sends, the engine checks that the rest of
// the lease is long enough for the whole attempt. Otherwise it drops the
// delivery, which becomes due when the lease ends, for any node to claim.
//
// The [Guard] decides which addresses may be reached. The [Sweeper] ends and
// removes old events.
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

// Bounds of the memory of the engine.
const (
	laneQueue    = 256      // deliveries of one webhook that wait for a worker
	maxAttempts  = 3072     // attempts under way
	maxPending   = 1536     // results that wait to be recorded
	maxItems     = 30_000   // deliveries in all lanes
	maxItemBytes = 96 << 20 // their events
)

// sharePart is the divisor of shares: an organization may use at most as much
// of a bounded resource as 1/sharePart of what is free.
const sharePart = 2

// margin is the part of a lease beyond the timeout of an attempt. It is for
// recording the result and for the error of clocks.
const margin = 2 * time.Second

// drainTime is how long attempts under way may continue when the engine stops.
// Then they are cancelled and their deliveries are released.
const drainTime = 6 * time.Second

// tellTime bounds each last write of a stop to the store.
const tellTime = 2 * time.Second

// Config is the configuration of an Engine.
type Config struct {
	Store     Store
	Guard     *Guard
	Schedule  trigger.Schedule
	Timeout   time.Duration     // of one attempt, from dial to the end of the answer
	Now       func() time.Time  // the process's clock, with its monotonic reading
	Endurance trigger.Endurance // of webhooks that always fail
	UserAgent string
	Transport http.RoundTripper // nil: the network, through the Guard
	Metrics   *telemetry.Metrics
	Log       *slog.Logger
}

// Engine delivers events. Use [New] to create one; its Run does the work.
type Engine struct {
	Config
	slots   *slots
	results chan store.Result
	pending *slots        // one for each result that is not yet taken from results
	woken   chan struct{} // has one token if the store should be polled
	again   chan struct{} // the same for replays
	workers sync.WaitGroup
	backlog atomic.Pointer[store.Backlog]

	mu           sync.Mutex
	lanes        map[laneKey]*lane
	receivers    map[int64]*receiver           // by webhook
	breakersSeen time.Time                     // when all open breakers were last read, by the process's clock
	blind        time.Time                     // when room was last refused because breakers were unknown or Run had not begun, by the process's clock
	breakersLost bool                          // the last read of breakers failed or was slow
	breakersBack time.Time                     // when breakers were read again after reads had failed for long; zero: never
	worked       time.Time                     // when there was last something to send or to poll for, by the process's clock
	paces        map[int64]*rate.Limiter       // of replays that have a pace
	total        load                          // in all lanes, including reserved room
	of           map[int64]load                // the same by organization, without zero loads
	ending       map[int64]ending              // webhooks that must stop, by their receiver's answer
	breakers     map[int64]store.BreakerChange // breakers whose state is not yet stored
	unsent       []trigger.Delivery            // claimed deliveries to release
	fewer        int                           // how often the size of claims was halved
	turn         int                           // where among the due webhooks the last small claim began
	closed       bool                          // no new deliveries are taken
	closing      chan struct{}                 // closed when closed becomes true
	endAgain     time.Time                     // before it, endSome ends no open deliveries, by the process's clock; used by poll alone
	fed          map[int64]int64               // the replay that was fed last, by organization; used by replay alone
	abort        context.Context               // ends when attempts under way are cancelled
}

// New returns an Engine. It delivers nothing until Run is called.
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

// Lease returns how long a delivery is claimed. An attempt that begins when
// half of the lease is over still ends and is recorded within it.
func (c *Config) Lease() time.Duration { return 2*c.Timeout + margin }

// LeaseOf returns the lease of a webhook's deliveries, whose timeout may be
// longer.
func (c *Config) LeaseOf(w *trigger.Webhook) time.Duration {
	own := c.timeoutOf(w) + time.Second - 1 // in whole seconds, because a claim has one lease for all its deliveries
	return 2*max(c.Timeout, own.Truncate(time.Second)) + margin
}

// Run delivers. When claiming ends, the engine claims and takes nothing more.
// When working ends, attempts under way get six seconds, results are recorded,
// unsent deliveries are released, and Run returns. claiming must not end after
// working.
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
	cut() // no attempt is under way now; each result gets one last try
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

// tell stores what receivers have told this node, so that all nodes apply it,
// and releases claimed deliveries that were not sent. more reports whether a
// stopped webhook still has open deliveries.
func (e *Engine) tell(ctx context.Context) (more bool) {
	more = e.endSome(ctx)
	e.storeBreakers(ctx)
	e.giveBack(ctx)
	return more
}

// tellOn calls tell while a stop waits for attempts under way, because other
// nodes, and this one after a restart, must apply their answers.
func (e *Engine) tellOn(ctx context.Context) {
	for ctx.Err() == nil {
		e.tell(ctx)
		e.wait(ctx, pollEvery)
	}
}

// closeIdle closes connections without an attempt.
func (e *Engine) closeIdle() {
	if t, ok := e.Transport.(interface{ CloseIdleConnections() }); ok {
		t.CloseIdleConnections()
	}
}

// close refuses new deliveries and removes the queued ones from the lanes.
func (e *Engine) close() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.closed = true
	close(e.closing)
	for _, r := range e.receivers {
		e.evict(r)
	}
}

// giveBack releases deliveries that were claimed but not sent, because a stop
// of this node is not a failed attempt. If that fails, their leases run out.
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

// Wake makes the engine poll the store soon.
func (e *Engine) Wake() {
	select {
	case e.woken <- struct{}{}:
	default:
	}
}

// wakeFor wakes poll, or for the lane of a replay the replay loop.
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

// Load is the engine's work in memory.
type Load struct {
	Queued  int // deliveries in lanes, including those under way
	Waiting int // of them, those that wait for a slot
	Lanes   int
}

// Load returns the current load.
func (e *Engine) Load() Load {
	e.mu.Lock()
	defer e.mu.Unlock()
	return Load{Queued: e.total.items, Waiting: e.slots.waits(), Lanes: len(e.lanes)}
}

// Backlog returns the work in the store that waits for webhooks, as of some
// seconds ago.
func (e *Engine) Backlog() store.Backlog {
	if b := e.backlog.Load(); b != nil {
		return *b
	}
	return store.Backlog{}
}

// backlogEvery is how often the backlog is measured.
const backlogEvery = 5 * time.Second

// measure keeps the backlog current until ctx ends. Only the metrics need it.
// It reads as much as a poll of all webhooks, with the same bound on the cost.
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

// every calls do at intervals until ctx ends.
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
