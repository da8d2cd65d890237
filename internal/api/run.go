package api

import (
	"context"
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
			a.inboxes.close()
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
func (a *API) Arrived(orgID int64) { a.inboxes.notify(orgID) }
