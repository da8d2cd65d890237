package deliver

import (
	"cmp"
	"context"
	"maps"
	"time"

	"triggerd/internal/store"
	"triggerd/internal/trigger"
)

const (
	pollEvery = time.Second           // at the longest, while nothing is known to be due
	pollGap   = 10 * time.Millisecond // at the shortest
	pollLanes = 1000                  // webhooks looked at in one round
	// pollShare: looks at all webhooks get one part of so many of the time.
	pollShare = 20
	// overdue is how long after it is due a delivery may become visible, for
	// its commit took that long, and still be seen by a look at what is due.
	overdue = 3 * time.Second
	// quickPoll: parts of a look at all webhooks follow each other at once for so
	// long.
	quickPoll = 200 * time.Millisecond
)

// poll claims due deliveries until ctx ends: when woken, when the next one
// comes due, and every second, since other nodes give back and die.
func (e *Engine) poll(ctx context.Context) {
	v := pollState{lanes: map[int64]store.Lane{}}
	for ctx.Err() == nil {
		wait := pollEvery
		if e.Store.ClockTrusted() {
			next, err := e.pollOnce(ctx, &v)
			if err == nil {
				wait = next
			} else if ctx.Err() == nil {
				e.Log.Error("cannot claim due deliveries", "error", err)
			}
		}
		e.wait(ctx, wait)
	}
}

// wait sleeps until it is time or somebody wakes it, but never shorter than
// pollGap.
func (e *Engine) wait(ctx context.Context, d time.Duration) {
	gap := time.NewTimer(pollGap)
	defer gap.Stop()
	select {
	case <-ctx.Done():
		return
	case <-gap.C:
	}
	if d <= pollGap {
		return
	}
	timer := time.NewTimer(d - pollGap)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	case <-e.woken:
	}
}

// pollState is what the looks have seen. A look at all webhooks costs little,
// unless a transaction in PostgreSQL holds an old snapshot: then it reads past
// every delivery that has ended since. So it is made no more often than
// pollShare allows, but at least each minute; and between two of them only
// those webhooks are looked at that had work or have it on this node, for what
// has come due of late.
type pollState struct {
	after store.Lane           // where the next look at all goes on
	begun time.Time            // when the first part of it began, in the database's time
	next  time.Time            // when it may go on, by the process's clock
	spent time.Duration        // on its parts since the last rest
	lanes map[int64]store.Lane // by webhook; DueAt: what was due first, zero if that was claimed
	until time.Time            // what was due by then has been seen, in the database's time
}

// restAfter is how long after its beginning a look at all webhooks, which took
// so long, may begin again.
func restAfter(took time.Duration) time.Duration { return min(pollShare*took, time.Minute) }

// rest decides when the look at all webhooks goes on, of which a part began at
// some time and has ended now. more says that this is at once.
func (v *pollState) rest(now, begun time.Time) (more bool) {
	v.spent += elapsed(now, begun)
	if v.after != (store.Lane{}) && v.spent < quickPoll {
		return true
	}
	v.next, v.spent = begun.Add(restAfter(v.spent)), 0
	return v.after != store.Lane{}
}

// pollOnce looks once at up to 1000 webhooks that have open deliveries, and claims
// what is due and what there is room for. It returns when to look again.
func (e *Engine) pollOnce(ctx context.Context, v *pollState) (next time.Duration, err error) {
	more := e.tell(ctx)
	now, begun := e.Store.Now(), e.Now()
	if now.Before(v.until.Add(-overdue)) { // the clock went back: nothing is known to have been seen
		*v = pollState{lanes: map[int64]store.Lane{}}
	}
	var lanes []store.Lane
	all := false // of the webhooks are in lanes
	if !begun.Before(v.next) {
		first := v.after == store.Lane{}
		lanes, err = e.pollAll(ctx, v, now)
		all = first && v.after == store.Lane{}
		more = v.rest(e.Now(), begun) || more
	}
	if err == nil && !all {
		lanes, err = e.pollDue(ctx, v, now, lanes)
	}
	if err != nil {
		return 0, err
	}
	if next = pollEvery; more {
		next = 0
	}
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
	full, drained, err := e.claim(ctx, due)
	if err != nil {
		return 0, err
	}
	for _, key := range drained {
		l := v.lanes[key.webhookID]
		l.DueAt = time.Time{}
		v.lanes[key.webhookID] = l
	}
	if full {
		next = 0
	}
	return next, nil
}

// pollAll looks at the next webhooks with open deliveries, due or not.
func (e *Engine) pollAll(ctx context.Context, v *pollState, now time.Time) ([]store.Lane, error) {
	lanes, err := e.Store.Lanes(ctx, v.after, pollLanes)
	if err != nil {
		return nil, err
	}
	if v.after == (store.Lane{}) {
		v.begun = now
	}
	last := len(lanes) < pollLanes
	maps.DeleteFunc(v.lanes, func(_ int64, l store.Lane) bool { // nothing is open there
		return compareLanes(l, v.after) > 0 && (last || compareLanes(l, lanes[len(lanes)-1]) <= 0)
	})
	for _, l := range lanes {
		v.lanes[l.WebhookID] = l
	}
	if v.after = (store.Lane{}); !last {
		v.after = lanes[len(lanes)-1]
	} else if v.begun.After(v.until) {
		v.until = v.begun
	}
	return lanes, nil
}

// compareLanes orders lanes as the store lists them.
func compareLanes(a, b store.Lane) int {
	return cmp.Or(cmp.Compare(a.Bucket, b.Bucket), cmp.Compare(a.WebhookID, b.WebhookID))
}

// pollDue looks at up to 1000 of the webhooks that are known to have work: at
// what has come due since they were looked at. What was due then, and has not
// been claimed, still is. Webhooks that get nothing now, since they are paused or
// their breaker is open, are left out: many of them would hold up the others. A
// look at all finds them when that has changed. The lanes that have just been
// seen come first, and are not asked again.
func (e *Engine) pollDue(ctx context.Context, v *pollState, now time.Time, seen []store.Lane) (lanes []store.Lane, err error) {
	serves := e.serving(v, now)
	known := make(map[int64]bool, len(seen))
	for _, l := range seen {
		known[l.WebhookID] = true
	}
	from := v.until.Add(-overdue)
	var ask []store.Lane
	whole := true
	for id, l := range v.lanes { // others come first the next time
		switch {
		case known[id]:
			continue
		case !serves[id]:
			if l.DueAt.IsZero() || l.DueAt.After(now) { // until it is asked again, anything may come due
				l.DueAt = anyTime()
				v.lanes[id] = l
			}
			continue
		}
		if whole = len(lanes)+len(ask) < pollLanes; !whole {
			break
		}
		if !l.DueAt.IsZero() && l.DueAt.Before(from) {
			lanes = append(lanes, l)
		} else {
			ask = append(ask, l)
		}
	}
	found, err := e.Store.DueLanes(ctx, ask, from, now.Add(pollEvery))
	if err != nil {
		return nil, err
	}
	for _, l := range found {
		v.lanes[l.WebhookID] = l
	}
	if whole {
		v.until = now
	}
	return append(append(seen, lanes...), found...), nil
}

// anyTime is when a delivery may be due of which nothing is known: a claim leaves
// out nothing as too old.
func anyTime() time.Time { return time.UnixMicro(1) }

// serving adds the webhooks that this node knows to a view, and says which of
// all get something now, or may in a moment.
func (e *Engine) serving(v *pollState, now time.Time) map[int64]bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	for id, r := range e.receivers {
		if _, known := v.lanes[id]; !known && r.webhook != nil {
			v.lanes[id] = store.Lane{Bucket: trigger.Bucket(r.webhook.OrganizationID), WebhookID: id}
		}
	}
	serves := make(map[int64]bool, len(v.lanes))
	for id := range v.lanes {
		r := e.receivers[id]
		serves[id] = r == nil || r.wants() && !r.openUntil.After(now.Add(pollEvery))
	}
	return serves
}
