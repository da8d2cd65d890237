package api

import (
	"context"
	"time"
)

// noteEvery is how often the use of keys is stored.
const noteEvery = 30 * time.Second

// Run does the work outside of requests until ctx ends: it stores which keys
// were used, and cuts bodies that arrive too slowly. Then it ends the requests
// that wait on purpose.
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

// stopGrace is how long a long request continues when the server begins to stop,
// so that it can still answer.
const stopGrace = 4 * time.Second

// untilStopped returns a context that ends stopGrace after the server began to
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

// noteKeys stores when keys were used. No promise depends on it: if it fails, a
// key looks unused for longer.
func (a *API) noteKeys(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	if err := a.keys.write(ctx); err != nil {
		a.Log.Warn("cannot record when API keys were used", "error", err)
	}
}

// Arrived announces that an organization's inbox has something new.
func (a *API) Arrived(orgID int64) { a.inboxes.notify(orgID) }
