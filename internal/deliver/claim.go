package deliver

import (
	"context"
	"errors"
	"slices"
	"time"

	"triggerd/internal/store"
	"triggerd/internal/trigger"
)

const (
	lookEvery  = time.Second           // at the longest, while nothing is known to be due
	lookGap    = 10 * time.Millisecond // at the shortest
	lookLanes  = 1000                  // webhooks looked at in one round
	claimRows  = 2000                  // deliveries claimed at once, or one for each webhook; fewer where that takes long
	claimLeast = 8                     // deliveries claimed at once, however long it takes
	loadStep   = 64                    // deliveries whose events are read at once
	claimSize  = 1 << 20               // bytes kept free for each claim before its events are read
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
	e.holdSome(ctx)
	e.giveBack(ctx)
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

// claim takes due deliveries of these webhooks and replays and puts them into
// their lanes. full says that one may have more, and room for them, or that
// some have not had their turn.
func (e *Engine) claim(ctx context.Context, due []store.Lane) (full bool, err error) {
	hooks, err := e.activeWebhooks(ctx, due)
	if err != nil {
		return false, err
	}
	part, most := e.turned(due)
	full = len(part) < len(due)
	wants := e.wants(ctx, part, hooks, most)
	for len(wants) > 0 && err == nil { // those of one lease at a time: nearly always all
		lease := e.LeaseOf(hooks[wants[0].WebhookID])
		same := make([]store.Want, 0, len(wants))
		rest := wants[:0:0]
		for _, w := range wants {
			if e.LeaseOf(hooks[w.WebhookID]) == lease {
				same = append(same, w)
			} else {
				rest = append(rest, w)
			}
		}
		var more bool
		more, err = e.claimWants(ctx, same, lease)
		full, wants = full || more, rest
	}
	for _, w := range wants {
		e.giveRooms(w, w.Room)
	}
	return full && err == nil, err
}

// claimWants claims, and fills lanes in which there is room for it.
func (e *Engine) claimWants(ctx context.Context, wants []store.Want, lease time.Duration) (full bool, err error) {
	unused := make(map[laneKey]int, len(wants)) // rooms
	for _, w := range wants {
		unused[laneKey{w.WebhookID, w.Job}] = w.Room
	}
	defer func() {
		for _, w := range wants {
			e.giveRooms(w, unused[laneKey{w.WebhookID, w.Job}])
		}
	}()
	claimedAt, now := e.Now(), e.Store.Now()
	defer func() { e.measureClaim(elapsed(e.Now(), claimedAt), lease) }()
	taken, err := e.Store.Claim(ctx, wants, e.Store.NewClaim(), now, now.Add(lease))
	if err != nil || len(taken) == 0 {
		return false, err
	}
	err = e.load(context.WithoutCancel(ctx), taken, func(d trigger.Delivery, event *trigger.Event) {
		if event == nil {
			e.conclude(d, trigger.Attempt{At: now, Outcome: trigger.Permanent, Error: trigger.ReasonNoEvent}, nil, nil)
			return
		}
		key := laneKey{d.WebhookID, d.Job}
		unused[key]--
		e.mu.Lock()
		defer e.mu.Unlock()
		e.bytes += event.Size() // the room was reserved without it
		e.add(e.lane(key), &item{d, event, claimedAt, lease}, true)
	})
	for _, w := range wants {
		full = full || unused[laneKey{w.WebhookID, w.Job}] == 0
	}
	return full, err
}

// giveRooms returns rooms that were not needed; and a probe, if that was it.
func (e *Engine) giveRooms(w store.Want, n int) {
	for range n {
		e.giveRoom(laneKey{w.WebhookID, w.Job}, 0)
	}
	if n > 0 {
		e.leaveProbe(laneKey{w.WebhookID, w.Job})
	}
}

// load reads the events of what was claimed and hands each to take, nil for an
// event that is gone: some at a time, so that the first are on their way
// however slow reading is, or no lease would be long enough for any. What
// cannot be read now is given back, though the engine may be stopping.
func (e *Engine) load(ctx context.Context, taken []trigger.Delivery, take func(trigger.Delivery, *trigger.Event)) error {
	reading, cancel := context.WithTimeout(ctx, e.Timeout/2)
	defer cancel()
	var err error
	for whole := true; whole && err == nil && len(taken) > 0; {
		part := taken[:min(len(taken), loadStep)]
		var events map[trigger.ID]*trigger.Event
		var rest []trigger.Delivery
		events, rest, err = e.Store.EventsOf(reading, part, e.freeBytes())
		for _, d := range part[:len(part)-len(rest)] {
			take(d, events[d.EventID])
		}
		taken, whole = taken[len(part)-len(rest):], len(rest) == 0
	}
	releasing, done := context.WithTimeout(ctx, e.Timeout)
	defer done()
	return errors.Join(err, e.Store.Release(releasing, taken))
}

// activeWebhooks reads the webhooks of lanes and keeps the active ones. Those
// that are gone are noted, to be ended.
func (e *Engine) activeWebhooks(ctx context.Context, due []store.Lane) (map[int64]*trigger.Webhook, error) {
	ids := make([]int64, len(due))
	for i, l := range due {
		ids[i] = l.WebhookID
	}
	seen := e.Now()
	hooks, err := e.Store.WebhooksByID(ctx, ids)
	e.mu.Lock()
	for id, w := range hooks {
		r := e.receiver(id)
		e.learn(r, w, seen)
		e.learnHold(r, w, seen)
	}
	e.mu.Unlock()
	for id, w := range hooks {
		if w.Broken != nil {
			e.Log.Error("a webhook gets nothing until it can be read", "webhook_id", id, "error", w.Broken)
			delete(hooks, id)
		}
		if w.State == trigger.Gone {
			e.endWebhook(w.OrganizationID, id, trigger.Gone)
		}
		if w.State != trigger.Active {
			delete(hooks, id)
		}
	}
	return hooks, err
}

// wants reserves room in the lanes of active webhooks, of what is free the
// same share for each organization, and within it for each of its lanes; at
// most what a lane can start within a lease. Where a breaker is open there is
// room for one probe, once it has been open for long enough. most is how many
// deliveries there is to be room for in all.
func (e *Engine) wants(ctx context.Context, due []store.Lane, hooks map[int64]*trigger.Webhook, most int) (wants []store.Want) {
	lanesOf := make(map[int64]int)
	for _, l := range due {
		if w := hooks[l.WebhookID]; w != nil {
			lanesOf[w.OrganizationID]++
		}
	}
	free := min(maxItems-e.Load().Queued, most)
	for _, l := range due {
		w := hooks[l.WebhookID]
		if w == nil {
			continue
		}
		share, probe := max(1, free/len(lanesOf)/lanesOf[w.OrganizationID]), !w.HeldUntil.IsZero()
		if probe {
			if share = 1; w.HeldUntil.After(e.Store.Now()) || !e.hasRoom(laneKey{l.WebhookID, l.Job}) || !e.mayProbe(ctx, w) {
				continue
			}
		}
		if room := e.reserve(laneKey{l.WebhookID, l.Job}, share, 0, probe); room > 0 {
			wants = append(wants, store.Want{Bucket: l.Bucket, WebhookID: l.WebhookID, Job: l.Job, Room: room})
		} else if probe {
			e.leaveProbe(laneKey{l.WebhookID, l.Job})
		}
	}
	return wants
}

// turned says how many deliveries to claim, and of which of the due webhooks
// and replays: of all, unless claims are small; then of another part of them
// each time.
func (e *Engine) turned(due []store.Lane) (part []store.Lane, most int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	most = claimRows >> e.fewer
	if e.fewer == 0 || len(due) <= most {
		return due, most
	}
	e.turn = (e.turn + most) % len(due)
	part = append(slices.Clone(due[e.turn:]), due[:e.turn]...)[:most]
	return part, most
}

// measureClaim makes claims smaller where they take a good part of a lease,
// until what is claimed can be sent within it, however slow the database or
// this machine is; and larger again.
func (e *Engine) measureClaim(took, lease time.Duration) {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case took > lease/8 && claimRows>>(e.fewer+1) >= claimLeast:
		e.fewer++
	case took < lease/32 && e.fewer > 0:
		e.fewer--
	}
}

// freeBytes is how many bytes of events a claim may read.
func (e *Engine) freeBytes() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return max(claimSize, maxItemBytes-e.bytes)
}
