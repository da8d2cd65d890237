package api

import (
	"context"
	"sync"
	"time"
)

// noteEvery is how often the use of keys is written down.
const noteEvery = 30 * time.Second

// Run does what belongs to no request until ctx ends: it notes which keys are
// used, and cuts bodies that come too slowly. Then requests that wait on purpose
// are ended.
func (a *API) Run(ctx context.Context) error {
	tick := time.NewTicker(noteEvery)
	defer tick.Stop()
	pace := time.NewTicker(paceCheck)
	defer pace.Stop()
	for {
		select {
		case <-ctx.Done():
			a.stopped.Do(func() { close(a.stopping) })
			a.bell.close()
			a.noteKeys(context.WithoutCancel(ctx))
			return nil
		case <-tick.C:
			a.noteKeys(ctx)
		case <-pace.C:
			a.used.cutSlow(a.Now())
		}
	}
}

// stopGrace is for how long a request that takes long goes on when the server
// begins to stop: its answer still comes.
const stopGrace = 4 * time.Second

// untilStopped returns a context that ends stopGrace after the server has begun to
// stop.
func (a *API) untilStopped(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		select {
		case <-ctx.Done():
			return
		case <-a.stopping:
		}
		timer := time.NewTimer(stopGrace)
		defer timer.Stop()
		select {
		case <-ctx.Done():
		case <-timer.C:
			cancel()
		}
	}()
	return ctx, cancel
}

// noteKeys is no part of any promise: where it fails, a key looks unused for a
// while longer.
func (a *API) noteKeys(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	if err := a.keys.write(ctx); err != nil {
		a.Log.Warn("cannot record when API keys were used", "error", err)
	}
}

// Arrived says that an organization's inbox has something new.
func (a *API) Arrived(orgID int64) { a.bell.ring(orgID) }

// bell wakes requests that wait for an organization's inbox.
type bell struct {
	mu      sync.Mutex
	waiting map[int64]chan struct{} // by organization; closed to wake all that wait
	closed  bool                    // nobody is to wait any more
}

// wait gives a channel that is closed when the organization's inbox has
// something new, or nobody is to wait any more, which open tells.
func (b *bell) wait(orgID int64) (rung <-chan struct{}, open bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil, false
	}
	c := b.waiting[orgID]
	if c == nil {
		if b.waiting == nil {
			b.waiting = map[int64]chan struct{}{}
		}
		c = make(chan struct{})
		b.waiting[orgID] = c
	}
	return c, true
}

func (b *bell) ring(orgID int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if c := b.waiting[orgID]; c != nil {
		close(c)
		delete(b.waiting, orgID)
	}
}

func (b *bell) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	for orgID, c := range b.waiting {
		close(c)
		delete(b.waiting, orgID)
	}
}
