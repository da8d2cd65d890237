package ingest

import (
	"cmp"
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"time"

	"triggerd/internal/store"
	"triggerd/internal/trigger"
)

// entry is an event on its way through one commit.
type entry struct {
	*pending
	followers  []*pending // events of the same group with the same dedup id
	webhooks   []*trigger.Webhook
	deliveries []trigger.Delivery // to the webhooks, or to the inbox
	settled    bool
	verdict    trigger.ID
	err        error
}

// flush commits a group and answers its requests. If the process dies after
// commit, leases run out, and others claim the deliveries.
func (w *Writer) flush(ctx context.Context, group []*pending) {
	entries := w.groupByDedup(group)
	claimedAt := w.Now() // the webhooks are read after this time
	subs, err := w.subscribers(ctx, entries)
	if err != nil {
		w.refuse(entries, err)
		return
	}
	if entries = w.decide(ctx, w.knownOrganizations(entries, subs), subs); len(entries) == 0 {
		return
	}
	view := w.Cache.view()
	w.commit(ctx, entries)
	var unjudged []*pending
	for _, e := range entries {
		unjudged = append(unjudged, w.conclude(e, view)...)
	}
	for _, e := range entries {
		if e.isAccepted() {
			w.dispatch(e, claimedAt)
		}
	}
	w.putBack(unjudged)
}

// groupByDedup returns an entry for each event. Events with the same dedup id share the
// entry of the first.
func (w *Writer) groupByDedup(group []*pending) []*entry {
	entries := make([]*entry, 0, len(group))
	first := make(map[dedupKey]*entry, len(group))
	for _, wait := range group {
		key := dedupKey{wait.event.OrganizationID, wait.event.DedupID}
		if leader := first[key]; leader != nil {
			leader.followers = append(leader.followers, wait)
			continue
		}
		e := &entry{pending: wait}
		if key.dedupID != "" {
			first[key] = e
		}
		entries = append(entries, e)
	}
	return entries
}

// subscribers returns the organizations' webhooks as this node remembers them.
// The commit checks that they were current when the requests came in, because an
// event must reach every webhook that existed before it.
func (w *Writer) subscribers(ctx context.Context, entries []*entry) (subs map[int64]*trigger.Subscribers, err error) {
	var orgs []int64
	for _, e := range entries {
		if !slices.Contains(orgs, e.event.OrganizationID) {
			orgs = append(orgs, e.event.OrganizationID)
		}
	}
	var refused error
	err = store.RunBatch(ctx, w.Now, patience, [][]int64{orgs}, func(_ [][]int64, _ bool) (err error) {
		subs, err = w.Store.RememberedSubscribers(ctx, orgs)
		return err
	}, func(_ []int64, err error) { refused = err })
	return subs, cmp.Or(err, refused)
}

// knownOrganizations refuses the events of organizations whose webhooks cannot
// be read, and returns the others.
func (w *Writer) knownOrganizations(entries []*entry, subs map[int64]*trigger.Subscribers) []*entry {
	var unknown []*entry
	entries = slices.DeleteFunc(entries, func(e *entry) bool {
		if subs[e.event.OrganizationID] != nil {
			return false
		}
		unknown = append(unknown, e)
		return true
	})
	w.refuse(unknown, errors.New("cannot read the organization's webhooks"))
	return entries
}

// decide sets the ids of the events and makes their deliveries, which are final.
// Events that would make the batch too large are queued again, and so are events
// that must be compared with content filters again.
func (w *Writer) decide(ctx context.Context, entries []*entry, subs map[int64]*trigger.Subscribers) (decided []*entry) {
	now := w.Store.Now()
	at, claim := w.stamp(now), w.Store.NewClaim()
	total := 0
	var late, stale []*pending
	for i, e := range entries {
		s := subs[e.event.OrganizationID]
		webhooks, ok := e.webhooksOf(s)
		if !ok {
			stale = append(append(stale, e.pending), e.followers...)
			continue
		}
		if total > 0 && total+len(webhooks) > maxBatchDeliveries {
			for _, e := range entries[i:] {
				late = append(append(late, e.pending), e.followers...)
			}
			break
		}
		e.event.ID = trigger.NewID(at, uint16(i), rand.Uint64())
		e.event.Version = s.Version
		e.webhooks = webhooks
		e.deliveries = w.makeDeliveries(e, s.Inbox, claim, now)
		total += len(e.deliveries)
		w.charge(e.pending, len(e.deliveries))
		decided = append(decided, e)
	}
	w.putBack(late)
	w.matchAgain(ctx, stale)
	return decided
}

// makeDeliveries returns the deliveries of an event, those to webhooks first. Each is
// claimed if the engine has room for it; otherwise it is due now, or at the
// event's DeliverAt. now is the time of the clock, because the ids may be ahead
// of it.
func (w *Writer) makeDeliveries(e *entry, inbox trigger.InboxMode, claim trigger.ID, now time.Time) []trigger.Delivery {
	key := trigger.DeliveryKey{OrganizationID: e.event.OrganizationID, EventID: e.event.ID}
	due, atOnce := now, true
	if e.event.DeliverAt.After(now) {
		due, atOnce = e.event.DeliverAt, false
	}
	owed := make([]trigger.Delivery, len(e.webhooks), len(e.webhooks)+1)
	for i, hook := range e.webhooks {
		key.WebhookID = hook.ID
		owed[i] = trigger.Delivery{DeliveryKey: key, DueAt: due}
		if atOnce && hook.State == trigger.Active && w.Dispatcher.Reserve(key, e.event.Size()) {
			owed[i].Claim, owed[i].DueAt = claim, now.Add(w.Lease(hook))
		}
	}
	if len(e.webhooks) == 0 || inbox == trigger.Everything {
		key.WebhookID = trigger.InboxID
		owed = append(owed, trigger.Delivery{DeliveryKey: key, DueAt: due})
	}
	return owed
}

// commit stores the entries and sets the outcome of each.
func (w *Writer) commit(ctx context.Context, entries []*entry) {
	begun := w.Now()
	err := store.RunBatch(ctx, w.Now, patience, entries, func(part []*entry, again bool) error {
		batch := &store.Batch{
			Events:     make([]*trigger.Event, len(part)),
			Deliveries: make([][]trigger.Delivery, len(part)),
			IfCurrent:  true,
		}
		for i, e := range part {
			batch.Events[i], batch.Deliveries[i] = e.event, e.deliveries
		}
		verdicts, err := w.Store.AddEvents(ctx, batch, again)
		if err != nil {
			return err
		}
		for i, e := range part {
			e.settled, e.verdict = true, verdicts[i]
		}
		return nil
	}, func(e *entry, err error) {
		e.settled = true
		e.err = &trigger.Error{Kind: trigger.Invalid, Message: "The event cannot be stored", Cause: err}
	})
	for _, e := range entries {
		if !e.settled {
			e.err = trigger.NewUnavailable(err, retryAfter)
		}
	}
	w.Metrics.BatchEvents.Observe(float64(len(entries)))
	w.Metrics.CommitSeconds.Observe(w.Now().Sub(begun).Seconds())
}

// conclude answers the requests of an entry. It returns the events that have no
// outcome yet and need another batch.
func (w *Writer) conclude(e *entry, view seenView) (unjudged []*pending) {
	if !e.isAccepted() {
		w.giveBack(e)
	}
	switch {
	case e.err != nil:
		w.reply(e.pending, answer{err: e.err})
		if trigger.KindOf(e.err) == trigger.Invalid {
			return e.followers // the error concerns only the first event
		}
		for _, f := range e.followers {
			w.reply(f, answer{err: e.err})
		}
		return nil
	case e.verdict.IsZero():
		return append([]*pending{e.pending}, e.followers...)
	}
	duplicate := e.verdict != e.event.ID
	first := seen{id: e.verdict}
	if !duplicate && e.event.DedupID != "" {
		first.payload, first.known = e.event.PayloadHash(), true
	}
	view.add(e.event, first)
	if duplicate {
		w.Metrics.Duplicates.WithLabelValues("store").Inc()
	} else {
		w.Metrics.Accepted.Inc()
	}
	w.reply(e.pending, answer{result: Result{e.verdict, duplicate, first}})
	for _, f := range e.followers {
		w.Metrics.Duplicates.WithLabelValues("store").Inc()
		w.reply(f, answer{result: Result{e.verdict, true, first}})
	}
	return nil
}

func (e *entry) isAccepted() bool { return e.err == nil && e.verdict == e.event.ID }

// dispatch passes the claimed deliveries of an accepted event to the engine,
// which checks that their lease still suffices. It announces the unclaimed ones.
func (w *Writer) dispatch(e *entry, claimedAt time.Time) {
	for i, d := range e.deliveries {
		switch {
		case !d.Claim.IsZero():
			w.Dispatcher.Dispatch(d, e.event, e.webhooks[i], claimedAt)
		case i < len(e.webhooks) && e.webhooks[i].State == trigger.Active:
			w.Dispatcher.Expect(d, e.webhooks[i], claimedAt)
		}
		if d.WebhookID == trigger.InboxID && w.Arrived != nil {
			w.Arrived(d.OrganizationID)
		}
	}
}

// giveBack releases the room that was reserved for an event that is not
// accepted.
func (w *Writer) giveBack(e *entry) {
	for _, d := range e.deliveries {
		if !d.Claim.IsZero() {
			w.Dispatcher.Unreserve(d.DeliveryKey, e.event.Size())
		}
	}
}

func (w *Writer) refuse(entries []*entry, err error) {
	for _, e := range entries {
		e.err = trigger.NewUnavailable(err, retryAfter)
		w.conclude(e, w.Cache.view())
	}
}
