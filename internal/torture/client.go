package torture

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// client posts events, consumes inboxes and changes webhooks.
type client struct {
	*run
	http *http.Client

	mu     sync.Mutex
	tenant *tenant // of the next event

	hushed atomic.Bool // clients must not post, except clients of a fault

	times sync.Mutex
	took  []time.Duration // by acknowledged POSTs of single events
}

func newClient(r *run) *client {
	transport := &http.Transport{MaxConnsPerHost: 4 * r.Clients, MaxIdleConnsPerHost: r.Clients}
	return &client{run: r, http: &http.Client{Transport: transport, Timeout: 12 * time.Second}}
}

// load posts events, at the configured rate, until ctx ends. It waits for the
// answers to requests under way.
func (c *client) load(ctx context.Context) error {
	work := context.WithoutCancel(ctx)
	group, _ := errgroup.WithContext(work)
	due := make(chan struct{}, c.Rate)
	group.Go(func() error {
		defer close(due)
		every := time.NewTicker(time.Second / time.Duration(c.Rate))
		defer every.Stop()
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-every.C:
			}
			select {
			case due <- struct{}{}:
			default: // all clients are busy or wait
			}
		}
	})
	for i := range c.Clients {
		random := c.random(forClients + uint64(i))
		group.Go(func() error {
			for range due {
				if random.IntN(12) == 0 {
					c.oneBatch(ctx, random)
				} else {
					c.one(ctx, random)
				}
			}
			return nil
		})
	}
	return group.Wait()
}

// one posts an event like different clients: once; by two at the same time; and
// again, at once after no answer or later after a good one. It deletes some of
// the scheduled events.
func (c *client) one(ctx context.Context, random *rand.Rand) {
	e, err := c.newEvent(ctx, random)
	if err != nil {
		return // without an organization: faults, or the end of the run
	}
	x := random.IntN(100)
	if x < 5 && e.dedupID != "" {
		var twin sync.WaitGroup
		other := rand.New(rand.NewPCG(random.Uint64(), 0))
		twin.Go(func() { c.insist(ctx, e, other) })
		c.insist(ctx, e, random)
		twin.Wait()
		return
	}
	c.insist(ctx, e, random)
	if !e.deliverAt.IsZero() && x < 40 {
		c.takeBack(ctx, e, random)
	}
	if x < 10 && e.dedupID != "" && pause(ctx, time.Duration(random.IntN(5000))*time.Millisecond) == nil {
		c.insist(ctx, e, random)
	}
}

// hush returns when clients may post or ctx ends.
func (c *client) hush(ctx context.Context) {
	for c.hushed.Load() && pause(ctx, retryPause) == nil {
	}
}

// takeBack deletes a scheduled event. From the first request to its answer the
// event may exist or not.
func (c *client) takeBack(ctx context.Context, e *event, random *rand.Rand) {
	id := c.book.deleting(e)
	if id == "" {
		return
	}
	good := []int{http.StatusNoContent}
	for {
		a, err := c.ask(ctx, c.nodes[random.IntN(len(c.nodes))], request{method: http.MethodDelete, path: "/v1/events/" + id, key: e.tenant.key}, good...)
		if err == nil {
			c.book.deleted(e, a.ended)
			return
		}
		good = []int{http.StatusNoContent, http.StatusNotFound} // an earlier request may have deleted it
		if pause(ctx, retryPause) != nil {
			return
		}
	}
}

// newEvent returns the next event. It creates a tenant if the last one is full.
func (c *client) newEvent(ctx context.Context, random *rand.Rand) (*event, error) {
	list, err := c.newEvents(ctx, random, 1)
	if err != nil {
		return nil, err
	}
	e := list[0]
	switch x := random.IntN(200); {
	case x < 2:
		e.refused = true
	case x < 12:
	case x < 100:
		e.dedupID = fmt.Sprintf("d%d-größe", e.n)
	default:
		e.dedupID = fmt.Sprintf("%s %d", cloudSource, e.n)
	}
	if !e.refused && random.IntN(40) == 0 && !c.receiver.ahead.Load() {
		e.deliverAt = c.later(random)
	}
	return e, nil
}

// later returns a time some seconds ahead.
func (c *client) later(random *rand.Rand) time.Time {
	return c.Now().Add(time.Duration(1000+random.IntN(int(latest/time.Millisecond)-1000)) * time.Millisecond).Round(time.Millisecond)
}

// latest is how far ahead scheduled events are due, at most.
const latest = 5 * time.Second

// newEvents returns at least one and at most n events of one tenant, as many as
// the tenant has room for. The caller must set their kind.
func (c *client) newEvents(ctx context.Context, random *rand.Rand, n int) (list []*event, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.tenant == nil || len(c.tenant.events) >= c.tenant.size {
		if c.tenant, err = c.newTenant(ctx, random); err != nil {
			return nil, err
		}
	}
	for range min(n, c.tenant.size-len(c.tenant.events)) {
		e := &event{tenant: c.tenant, eventType: types()[random.IntN(len(types()))]}
		c.book.addEvent(e)
		list = append(list, e)
	}
	return list, nil
}

// oneBatch posts several events at once, of all kinds, and some of them twice.
func (c *client) oneBatch(ctx context.Context, random *rand.Rand) {
	list, err := c.newEvents(ctx, random, 1+random.IntN(2<<random.IntN(5)))
	if err != nil {
		return
	}
	b := &batch{form: manyForm(random.IntN(3))}
	b.cut = b.form != lines && random.IntN(30) == 0
	if random.IntN(2) == 0 && b.form != cloudBatch {
		b.key = fmt.Sprintf("batch %d", list[0].n)
	}
	named := b.form == cloudBatch || random.IntN(4) > 0 // else some have no dedup id, and the batch is posted once
	for _, e := range list {
		if len(b.events) > 0 && random.IntN(10) == 0 { // an earlier one
			if earlier := b.events[random.IntN(len(b.events))]; earlier.dedupID != "" {
				b.events = append(b.events, earlier)
			}
		}
		b.add(e, named || random.IntN(2) == 0, random.IntN(100))
		if !e.refused && b.form != cloudBatch && random.IntN(100) == 0 && !c.receiver.ahead.Load() {
			e.deliverAt = c.later(random)
		}
	}
	c.many(ctx, b, random)
}

// add adds a new event to a batch. A few must be refused. Without an
// Idempotency-Key, an event has a dedup id if it is named.
func (b *batch) add(e *event, named bool, x int) {
	switch {
	case b.cut || x < 5:
		e.refused = true
	case b.key != "":
		e.dedupID = placeID(b.key, len(b.events))
	case named:
		e.dedupID = fmt.Sprintf("%s %d", cloudSource, e.n)
	}
	b.events = append(b.events, e)
}
