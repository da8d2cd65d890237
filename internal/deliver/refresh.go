package deliver

import (
	"context"
	"time"

	"triggerd/internal/store"
)

// refresh rereads the webhooks with work and all open breakers until ctx ends,
// so that a change takes effect within freshFor. A node that cannot read them
// sends nothing.
func (e *Engine) refresh(ctx context.Context) {
	every(ctx, refreshEvery, func() {
		if !e.isIdle() {
			e.readBreakers(ctx)
		}
		for _, ids := range e.stale() {
			if err := e.readWebhooks(ctx, ids); err != nil && ctx.Err() == nil {
				e.Log.Warn("cannot read webhooks; their deliveries wait", "webhooks", len(ids), "error", err)
			}
		}
	})
}

// readBreakers reads all open breakers, also of webhooks without work, because
// each of them may get a fresh event.
func (e *Engine) readBreakers(ctx context.Context) {
	seen := e.Now()
	holds, err := e.Store.Holds(ctx)
	if err != nil {
		e.mu.Lock()
		e.breakersLost = true
		e.mu.Unlock()
		if ctx.Err() == nil {
			e.Log.Warn("cannot read open breakers; all deliveries wait", "error", err)
		}
		return
	}
	open := make(map[int64]bool, len(holds))
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.breakersLost && elapsed(seen, e.breakersSeen) > freshFor {
		e.breakersBack = seen
	}
	e.breakersSeen, e.breakersLost = seen, elapsed(e.Now(), seen) > freshFor // a slow read is old already
	for _, h := range holds {
		open[h.WebhookID] = true
		e.updateBreaker(e.receiver(h.WebhookID), h, seen)
	}
	for id, r := range e.receivers {
		if !open[id] {
			e.updateBreaker(r, store.Hold{}, seen)
		}
		e.startAllWorkers(r)
	}
}

// stale returns webhooks with work that were not read for a while, in lists of
// up to 1000. It forgets receivers without work that were neither used nor read
// for long.
func (e *Engine) stale() (lists [][]int64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := e.Now()
	var ids []int64
	for id, r := range e.receivers {
		switch {
		case len(r.lanes) == 0 && r.running == 0 && !r.unstored && r.openUntil.IsZero() && min(elapsed(now, r.used), elapsed(now, r.seen)) > memory:
			delete(e.receivers, id)
		case len(r.lanes) > 0 && elapsed(now, r.seen) >= refreshEvery/2:
			ids = append(ids, id)
		}
		if len(ids) == pollLanes {
			lists, ids = append(lists, ids), nil
		}
	}
	if len(ids) > 0 {
		lists = append(lists, ids)
	}
	return lists
}

// readWebhooks reads webhooks and starts workers for their lanes.
func (e *Engine) readWebhooks(ctx context.Context, ids []int64) error {
	seen := e.Now()
	hooks, err := e.Store.WebhooksByID(ctx, ids)
	if err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, id := range ids {
		r, w := e.receivers[id], hooks[id]
		switch {
		case r == nil:
		case w == nil:
			e.markAbsent(r, seen)
		default:
			e.updateConfig(r, w, seen)
			e.updateBreaker(r, breakerOf(w), seen)
			e.startAllWorkers(r)
		}
	}
	return nil
}

// WaitApplied returns when no node begins an attempt with settings from before
// the call: at once on a single node, else within 2 s, or when ctx ends.
func (e *Engine) WaitApplied(ctx context.Context, webhookID int64) error {
	if err := e.readWebhooks(ctx, []int64{webhookID}); err != nil || e.Store.Nodes() == 1 {
		return err
	}
	timer := time.NewTimer(freshFor)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
