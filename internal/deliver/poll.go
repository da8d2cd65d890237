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
	pollEvery = time.Second           // at the longest, while no delivery is known to be due
	pollGap   = 10 * time.Millisecond // at the shortest
	pollLanes = 1000                  // webhooks in one poll
	// pollShare: polls of all webhooks get 1/pollShare of the time.
	pollShare = 20
	// overdue is how long after its due time a delivery may become visible,
	// because its commit was slow, and still be found by a poll of due ones.
	overdue = 3 * time.Second
	// quickPoll is how long the parts of a poll of all webhooks run without a
	// pause.
	quickPoll = 200 * time.Millisecond
)

// poll claims due deliveries until ctx ends: when woken, when the next one
// becomes due, and every second, because other nodes release deliveries and
// die.
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

// wait sleeps for d or until woken, but at least for pollGap.
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

// pollState is what the polls have seen. A poll of all webhooks is cheap,
// unless a transaction in PostgreSQL has an old snapshot: then it reads past
// every delivery that has ended since. So it runs no more often than pollShare
// allows, but at least each minute. Between two of them, only webhooks that had
// work, or have work on this node, are polled for deliveries that have become
// due.
type pollState struct {
	after store.Lane           // where the next poll of all webhooks continues
	begun time.Time            // when its first part began, in the database's time
	next  time.Time            // when it may continue, by the process's clock
	spent time.Duration        // on its parts since the last rest
	lanes map[int64]store.Lane // by webhook; DueAt: when the first delivery was due, zero if it was claimed
	until time.Time            // deliveries due by then have been seen, in the database's time
}

// restAfter returns how long after its beginning a poll of all webhooks may
// begin again if it took so long.
func restAfter(took time.Duration) time.Duration { return min(pollShare*took, time.Minute) }

// rest sets when the poll of all webhooks continues, after a part from begun to
// now. more reports whether it continues at once.
func (v *pollState) rest(now, begun time.Time) (more bool) {
	v.spent += elapsed(now, begun)
	if v.after != (store.Lane{}) && v.spent < quickPoll {
		return true
	}
	v.next, v.spent = begun.Add(restAfter(v.spent)), 0
	return v.after != store.Lane{}
}

// pollOnce polls up to 1000 webhooks with open deliveries and claims due ones
// as far as there is room. It returns when to poll again.
func (e *Engine) pollOnce(ctx context.Context, v *pollState) (next time.Duration, err error) {
	more := e.tell(ctx)
	now, begun := e.Store.Now(), e.Now()
	if now.Before(v.until.Add(-overdue)) { // the clock went back, so nothing counts as seen
		*v = pollState{lanes: map[int64]store.Lane{}}
	}
	var lanes []store.Lane
	all := false // lanes has all webhooks
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

// pollAll polls the next webhooks with open deliveries, due or not.
func (e *Engine) pollAll(ctx context.Context, v *pollState, now time.Time) ([]store.Lane, error) {
	lanes, err := e.Store.Lanes(ctx, v.after, pollLanes)
	if err != nil {
		return nil, err
	}
	if v.after == (store.Lane{}) {
		v.begun = now
	}
	last := len(lanes) < pollLanes
	maps.DeleteFunc(v.lanes, func(_ int64, l store.Lane) bool { // without open deliveries
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

// compareLanes orders lanes as the store does.
func compareLanes(a, b store.Lane) int {
	return cmp.Or(cmp.Compare(a.Bucket, b.Bucket), cmp.Compare(a.WebhookID, b.WebhookID))
}

// pollDue polls up to 1000 of the webhooks that are known to have work for
// deliveries that have become due since the last poll. Deliveries that were due
// then and were not claimed are still due. It skips webhooks that are paused or
// whose breaker is open, because many of them would delay the others; a poll of
// all webhooks finds them when that changes. The lanes in seen come first and
// are not polled again.
func (e *Engine) pollDue(ctx context.Context, v *pollState, now time.Time, seen []store.Lane) (lanes []store.Lane, err error) {
	serves := e.serving(v, now)
	known := make(map[int64]bool, len(seen))
	for _, l := range seen {
		known[l.WebhookID] = true
	}
	from := v.until.Add(-overdue)
	var ask []store.Lane
	whole := true
	for id, l := range v.lanes { // map order, so that others come first the next time
		switch {
		case known[id]:
			continue
		case !serves[id]:
			if l.DueAt.IsZero() || l.DueAt.After(now) { // any delivery may become due until the next poll
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

// anyTime is the due time of unknown deliveries. It is so early that a claim
// skips none.
func anyTime() time.Time { return time.UnixMicro(1) }

// serving adds the webhooks that this node knows to v. It returns which of all
// webhooks get attempts now, or may before the next poll.
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
