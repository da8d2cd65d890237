package deliver

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"time"

	"triggerd/internal/store"
	"triggerd/internal/trigger"
)

const (
	claimRows  = 1000    // deliveries in one claim, or one for each webhook; fewer if claims are slow
	claimLeast = 8       // deliveries in one claim, however slow it is
	loadStep   = 64      // deliveries whose events are read at once
	claimSize  = 1 << 20 // bytes of events that a claim may read, even if memory is full
)

// claim claims due deliveries of these webhooks and replays and puts them into
// their lanes. full reports whether one may have more, and room for them, or
// some were left out this time. drained are the lanes that had no more.
func (e *Engine) claim(ctx context.Context, due []store.Lane) (full bool, drained []laneKey, err error) {
	e.awake(ctx)
	hooks, err := e.activeWebhooks(ctx, due)
	if err != nil {
		return false, nil, err
	}
	part, most := e.rotate(due)
	full = len(part) < len(due)
	wants := e.reserveShares(ctx, part, hooks, most)
	for len(wants) > 0 { // one lease at a time; nearly always there is only one
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
		empty, err := e.claimWants(ctx, same, lease)
		if err != nil {
			for _, w := range rest {
				e.unreserveAll(w, w.Room)
			}
			return false, nil, err
		}
		full, wants, drained = full || len(empty) < len(same), rest, append(drained, empty...)
	}
	return full, drained, nil
}

// awake notes that there is work, and reads open breakers if this node was
// idle.
func (e *Engine) awake(ctx context.Context) {
	e.mu.Lock()
	e.worked = e.Now()
	known := e.knowsBreakers()
	e.mu.Unlock()
	if !known {
		e.readBreakers(ctx)
	}
}

// claimWants claims deliveries for the wanted lanes, which have reserved room.
// drained are the lanes that got fewer than wanted.
func (e *Engine) claimWants(ctx context.Context, wants []store.Want, lease time.Duration) (drained []laneKey, err error) {
	unused := make(map[laneKey]int, len(wants)) // rooms
	for _, w := range wants {
		unused[laneKey{w.WebhookID, w.Job}] = w.Room
	}
	defer func() {
		for _, w := range wants {
			e.unreserveAll(w, unused[laneKey{w.WebhookID, w.Job}])
		}
	}()
	claimedAt, now := e.Now(), e.Store.Now()
	defer func() { e.measureClaim(elapsed(e.Now(), claimedAt), lease) }()
	taken, err := e.Store.Claim(ctx, wants, e.Store.NewClaim(), now, now.Add(lease))
	if err != nil {
		return nil, err
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
		e.hold(event.OrganizationID, load{bytes: event.Size()}) // the room was reserved without it
		e.add(e.lane(key), &item{d, event, claimedAt, lease}, true)
	})
	if err != nil {
		return nil, err
	}
	for _, w := range wants {
		if key := (laneKey{w.WebhookID, w.Job}); unused[key] > 0 {
			drained = append(drained, key)
		}
	}
	return drained, nil
}

// unreserveAll frees room that was not needed, and releases the probe if the lane
// had it.
func (e *Engine) unreserveAll(w store.Want, n int) {
	for range n {
		e.unreserve(laneKey{w.WebhookID, w.Job}, 0)
	}
	if n > 0 {
		e.releaseProbe(laneKey{w.WebhookID, w.Job})
	}
}

// load reads the events of claimed deliveries and calls take for each, with nil
// if the event was removed. It reads some at a time, so that the first are sent
// even if reading is slow; otherwise no lease would be long enough. It releases
// deliveries that cannot be read now, even if the engine is stopping.
func (e *Engine) load(ctx context.Context, taken []trigger.Delivery, take func(trigger.Delivery, *trigger.Event)) error {
	reading, cancel := context.WithTimeout(ctx, e.Timeout/2)
	defer cancel()
	var failed error
	for full := false; !full && len(taken) > 0; {
		part, free := taken[:min(len(taken), loadStep)], e.freeBytes()
		events, rest, err := e.Store.EventsOf(reading, part, free)
		if err != nil {
			failed = err
			break
		}
		for _, event := range events {
			free -= event.Size()
		}
		read := len(part) - len(rest)
		for _, d := range part[:read] {
			take(d, events[d.EventID])
		}
		taken, full = taken[read:], read == 0 || len(rest) > 0 && free <= 0
	}
	releasing, done := context.WithTimeout(ctx, e.Timeout)
	defer done()
	return errors.Join(failed, e.Store.Release(releasing, taken))
}

// activeWebhooks reads the webhooks of lanes and returns the active ones. It
// notes gone ones, whose deliveries must end.
func (e *Engine) activeWebhooks(ctx context.Context, due []store.Lane) (map[int64]*trigger.Webhook, error) {
	ids := make([]int64, len(due))
	for i, l := range due {
		ids[i] = l.WebhookID
	}
	seen := e.Now()
	hooks, err := e.Store.WebhooksByID(ctx, ids)
	if err != nil {
		return nil, err
	}
	e.mu.Lock()
	for id, w := range hooks {
		r := e.receiver(id)
		e.updateConfig(r, w, seen)
		e.updateBreaker(r, breakerOf(w), seen)
	}
	e.mu.Unlock()
	for id, w := range hooks {
		if w.Broken != nil {
			e.Log.Error("cannot read a webhook; its deliveries wait", "webhook_id", id, "error", w.Broken)
			delete(hooks, id)
		}
		if w.State == trigger.Gone {
			e.endWebhook(id, ending{organizationID: w.OrganizationID, state: trigger.Gone, stored: true})
		}
		if w.State != trigger.Active {
			delete(hooks, id)
		}
	}
	return hooks, nil
}

// reserveShares reserves room in the lanes of active webhooks. Each
// organization gets the same share of most, the number of deliveries in all,
// and so does each lane within an organization, at most as many as it can start
// within a lease. If the breaker has been open until its time, it reserves room
// for a probe.
func (e *Engine) reserveShares(ctx context.Context, due []store.Lane, hooks map[int64]*trigger.Webhook, most int) (wants []store.Want) {
	due = slices.DeleteFunc(slices.Clone(due), func(l store.Lane) bool { return hooks[l.WebhookID] == nil })
	// If there is room only for some, the first must not be the same each time.
	rand.Shuffle(len(due), func(i, j int) { due[i], due[j] = due[j], due[i] })
	shares := e.claimShares(due, hooks, most)
	for _, l := range due {
		w := hooks[l.WebhookID]
		share, probe := shares[w.OrganizationID], !w.HeldUntil.IsZero()
		if probe {
			if w.HeldUntil.After(e.Store.Now()) || !e.hasRoom(laneKey{l.WebhookID, l.Job}) || !e.acquireProbe(ctx, w) {
				continue
			}
			share = e.probeSize(l.WebhookID)
		}
		if room := e.reserveRows(laneKey{l.WebhookID, l.Job}, share, probe); room > 0 {
			wants = append(wants, store.Want{Bucket: l.Bucket, WebhookID: l.WebhookID, Job: l.Job, Room: room, From: l.DueAt, Order: e.orderOf(l.WebhookID)})
		} else if probe {
			e.releaseProbe(laneKey{l.WebhookID, l.Job})
		}
	}
	return wants
}

// claimShares returns how many deliveries each lane may get at most, by
// organization.
func (e *Engine) claimShares(due []store.Lane, hooks map[int64]*trigger.Webhook, most int) map[int64]int {
	shares := make(map[int64]int) // first the number of lanes
	for _, l := range due {
		shares[hooks[l.WebhookID].OrganizationID]++
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for id, lanes := range shares {
		shares[id] = max(1, min(most/len(shares), e.spare(id).items)/lanes)
	}
	return shares
}

// reserveRows reserves room for up to n deliveries to claim, whose sizes are
// not yet known.
func (e *Engine) reserveRows(key laneKey, n int, probe bool) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.reserve(key, n, 0, probe)
}

// orderOf returns the order of a webhook's claims: fewest failures first if its
// breaker is open or recently was.
func (e *Engine) orderOf(webhookID int64) store.Order {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch r := e.receiver(webhookID); {
	case !r.probe.IsZero():
		return store.ForProbe
	case r.wary > 0:
		return store.ByFailures
	}
	return store.ByDue
}

// probeSize returns the probeSize of a webhook's receiver.
func (e *Engine) probeSize(webhookID int64) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.receiver(webhookID).probeSize()
}

// rotate returns which of the due webhooks and replays to claim, and how many
// deliveries: all of them, unless claims are small. Then it returns a different
// part of them each time.
func (e *Engine) rotate(due []store.Lane) (part []store.Lane, most int) {
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

// measureClaim makes claims smaller if they take a large part of a lease, until
// claimed deliveries can be sent within it, however slow the database or this
// machine is. It makes them larger again when claims are fast.
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

// freeBytes returns how many bytes of events a claim may read. All of them may
// belong to one organization.
func (e *Engine) freeBytes() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return max(claimSize, (maxItemBytes-e.total.bytes)/sharePart)
}
