package deliver

import (
	"context"
	"errors"
	"maps"
	"time"

	"triggerd/internal/store"
	"triggerd/internal/trigger"
)

const (
	lookEvery = time.Second           // at the longest, while nothing is known to be due
	lookGap   = 10 * time.Millisecond // at the shortest
	lookLanes = 1000                  // webhooks looked at in one round
	claimRows = 2000                  // deliveries claimed at once, or one for each webhook
	claimSize = 1 << 20               // bytes kept free for each claim before its events are read
)

// look claims due deliveries until ctx ends: when woken, when the next one
// comes due, and every second, since other nodes give back and die.
func (e *Engine) look(ctx context.Context) {
	var cursor store.Lane
	for ctx.Err() == nil {
		wait := lookEvery
		if e.Store.ClockTrusted() {
			next, err := e.round(ctx, &cursor)
			if err == nil {
				wait = next
			} else if ctx.Err() == nil {
				e.Log.Error("due deliveries cannot be claimed", "error", err)
			}
		}
		e.wait(ctx, wait)
	}
}

// wait sleeps until it is time or somebody wakes it, but never shorter than
// lookGap.
func (e *Engine) wait(ctx context.Context, d time.Duration) {
	gap := time.NewTimer(lookGap)
	defer gap.Stop()
	select {
	case <-ctx.Done():
		return
	case <-gap.C:
	}
	if d <= lookGap {
		return
	}
	timer := time.NewTimer(d - lookGap)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	case <-e.woken:
	}
}

// round looks once at up to 1000 webhooks that have open deliveries, those
// after the cursor, and claims what is due and what there is room for. It
// returns when to look again.
func (e *Engine) round(ctx context.Context, cursor *store.Lane) (next time.Duration, err error) {
	more := e.endSome(ctx)
	lanes, err := e.Store.Lanes(ctx, *cursor, lookLanes)
	if err != nil {
		return 0, err
	}
	next, *cursor = lookEvery, store.Lane{}
	if more {
		next = 0
	}
	if len(lanes) == lookLanes {
		next, *cursor = 0, lanes[len(lanes)-1]
	}
	now := e.Store.Now()
	var due []store.Lane
	for _, l := range lanes {
		if wait := l.DueAt.Sub(now); wait > 0 {
			next = min(next, wait)
		} else {
			due = append(due, l)
		}
	}
	if len(due) == 0 {
		return next, nil
	}
	full, err := e.claim(ctx, due)
	if full {
		next = 0
	}
	return next, err
}

// claim takes due deliveries of these webhooks and puts them into their lanes.
// full says that a webhook may have more, and room for them.
func (e *Engine) claim(ctx context.Context, due []store.Lane) (full bool, err error) {
	hooks, err := e.activeWebhooks(ctx, due)
	if err != nil {
		return false, err
	}
	wants := e.wants(due, hooks)
	if len(wants) == 0 {
		return false, nil
	}
	unused := make(map[int64]int, len(wants)) // rooms by webhook
	for _, w := range wants {
		unused[w.WebhookID] = w.Room
	}
	defer func() {
		for id, n := range unused {
			for range n {
				e.Return(id, 0)
			}
		}
	}()
	claimedAt, now := e.Now(), e.Store.Now()
	taken, err := e.Store.Claim(ctx, wants, e.Store.NewClaim(), now, now.Add(e.Lease()))
	if err != nil || len(taken) == 0 {
		return false, err
	}
	err = e.load(context.WithoutCancel(ctx), taken, func(d trigger.Delivery, event *trigger.Event) {
		if event == nil {
			e.conclude(d, trigger.Attempt{At: now, Outcome: trigger.Permanent, Error: trigger.ReasonNoEvent})
			return
		}
		unused[d.WebhookID]--
		e.hold(event)
		e.Take(d, event, hooks[d.WebhookID], claimedAt)
	})
	for _, w := range wants {
		full = full || unused[w.WebhookID] == 0
	}
	return full && err == nil, err
}

// load reads the events of what was claimed and hands each to take, nil for an
// event that is gone. What cannot be read now is given back, though the engine
// may be stopping.
func (e *Engine) load(ctx context.Context, taken []trigger.Delivery, take func(trigger.Delivery, *trigger.Event)) error {
	reading, cancel := context.WithTimeout(ctx, e.Timeout)
	defer cancel()
	events, rest, err := e.Store.EventsOf(reading, taken, e.freeBytes())
	for _, d := range taken[:len(taken)-len(rest)] {
		take(d, events[d.EventID])
	}
	releasing, done := context.WithTimeout(ctx, e.Timeout)
	defer done()
	return errors.Join(err, e.Store.Release(releasing, rest))
}

// activeWebhooks reads the webhooks of lanes and keeps the active ones. Those
// that are gone are noted, to be ended.
func (e *Engine) activeWebhooks(ctx context.Context, due []store.Lane) (map[int64]*trigger.Webhook, error) {
	ids := make([]int64, len(due))
	for i, l := range due {
		ids[i] = l.WebhookID
	}
	hooks, err := e.Store.WebhooksByID(ctx, ids)
	for id, w := range hooks {
		if w.State == trigger.Gone {
			e.endWebhook(w.OrganizationID, id)
		}
		if w.State != trigger.Active {
			delete(hooks, id)
		}
	}
	return hooks, err
}

// endWebhook notes a webhook whose receiver wants no more.
func (e *Engine) endWebhook(orgID, webhookID int64) {
	e.mu.Lock()
	e.ending[webhookID] = orgID
	e.mu.Unlock()
	e.Wake()
}

// endSome makes the noted webhooks gone and ends some of what they are owed.
// If the process dies in between, the next attempt or claim goes on. What
// fails is tried again, and holds up nothing else.
func (e *Engine) endSome(ctx context.Context) (more bool) {
	e.mu.Lock()
	ending := maps.Clone(e.ending)
	e.mu.Unlock()
	for id, orgID := range ending {
		done, err := e.end(ctx, orgID, id)
		if err != nil {
			e.Log.Error("a webhook that is gone cannot be ended", "webhook_id", id, "error", err)
			continue
		}
		if !done {
			more = true
			continue
		}
		e.mu.Lock()
		delete(e.ending, id)
		e.mu.Unlock()
	}
	return more
}

func (e *Engine) end(ctx context.Context, orgID, webhookID int64) (done bool, err error) {
	err = e.Store.SetWebhookState(ctx, orgID, webhookID, trigger.Gone)
	if err != nil && trigger.KindOf(err) != trigger.NotFound { // which says that it is gone already
		return false, err
	}
	n, done, err := e.Store.FailWebhook(ctx, orgID, webhookID, trigger.ReasonGone)
	e.Metrics.Ended.WithLabelValues("failed").Add(float64(n))
	return done, err
}

// wants reserves room in the lanes of active webhooks: each gets the same
// share of what is free, and at most what its lane can start within a lease.
func (e *Engine) wants(due []store.Lane, hooks map[int64]*trigger.Webhook) (wants []store.Want) {
	share := max(1, min(maxItems-e.Load().Queued, claimRows)/len(due))
	for _, l := range due {
		if hooks[l.WebhookID] == nil {
			continue
		}
		if room := e.reserve(l.WebhookID, share, 0); room > 0 {
			wants = append(wants, store.Want{Bucket: l.Bucket, WebhookID: l.WebhookID, Room: room})
		}
	}
	return wants
}

// freeBytes is how many bytes of events a claim may read.
func (e *Engine) freeBytes() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return max(claimSize, maxItemBytes-e.bytes)
}

// hold counts the memory of an event whose room was reserved without it.
func (e *Engine) hold(event *trigger.Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.bytes += event.Size()
}
