package store

// Effects of a step back of the database's clock on each stored time. The clock
// was ahead for a while, by an hour or a day, and goes back. A time taken in
// between lies ahead of now by the step, and so do the times that nodes write
// in the seconds until they have confirmed the step.
//
//	column                        effect of the step                      repaired by
//	deliveries.due_at             due, or free again, later by the step   PullBack, row by row
//	webhook_health.held_until,    the breaker is open for longer, and     PullBack
//	lift_at                       no success closes it
//	webhook_health.since, last_at the webhook counts as failing for       PullBack
//	                              longer, or never
//	permits.step                  every permit of the time ahead counts   PullBack: those of the last minute
//	                              in each window until it is over         ahead count as taken now
//	nodes.seen_at                 a dead node counts as alive             PullBack
//	idempotency.at                a request is remembered for longer      PullBack
//	organizations.deleted_at      a deleted organization is erased later  PullBack
//	replays.until                 a replay waits for its end              FeedReplay reads on to it at once
//	events.id, dedup.event_id     the event is listed first and kept for  nothing: ids never change
//	                              longer, by the step; a replay by time
//	                              reaches it only once the clock has
//	                              caught up
//	events.extra: deliver_at      none: the sender's own time             -
//	attempts.at, took             only shown
//	replays.since, cursor,        shown; a replay is removed later        nothing
//	created_at
//	api_keys.expires_at           a key that was rotated in between is    nothing: it may be the owner's
//	                              valid for longer, by the step           own time; revoke it
//	webhooks: secrets that end    the former secret signs for longer      nothing, for the same reason
//	api_keys.revoked_at,          none: set or not
//	organizations.suspended_at
//	webhooks.gone_at              a gone webhook, and a tombstone, is     nothing
//	                              kept for longer
//	webhooks.secrets_until        a secret that has ended is kept for     nothing
//	                              longer
//	*.created_at, updated_at,     only shown
//	last_used_at, webhook_versions.at
//
// The ids of new events follow the clock back (package ingest). So cursors and
// Last-Event-IDs can lie ahead: their readers start again, and get some events
// twice. The polls of the engine, the sweeper and streams start again, too.

import (
	"context"
	"errors"
	"fmt"
	"time"

	"triggerd/internal/trigger"
)

const (
	// pullPage is how many deliveries are read, and changed, at once.
	pullPage = 1000
	// pullLanes is how many webhooks, replays and organizations are read at
	// once.
	pullLanes = 1000
)

// PullBack moves back times that lie further ahead than they can, because the
// database's clock went back since they were set: see the table above. It
// returns how many it has moved. usual is the schedule of webhooks without
// their own.
//
// It reads the index ranges beyond a lease, in pages. Each page is a short
// transaction that skips rows that others have locked, so any number of nodes
// may call it at a time, and a second call moves the rest. An error in one part
// does not stop the others. The clock must be trusted.
func (s *Store) PullBack(ctx context.Context, usual trigger.Schedule) (n int, err error) {
	var errs []error
	for _, part := range []func(context.Context, trigger.Schedule) (int, error){
		s.pullWebhooks, s.pullReplays, s.pullInboxes, s.pullHealth, s.pullPermits, s.pullPlainTimes,
	} {
		moved, err := part(ctx, usual)
		n += moved
		errs = append(errs, err)
	}
	return n, wrap("pull back due times", errors.Join(errs...))
}

// pullLane is the open deliveries of a webhook, of a replay, or of an inbox.
type pullLane struct {
	organizationID int64
	webhookID      int64
	job            int64
	schedule       trigger.Schedule
	text           string // lists the deliveries: sqlAheadOf…
}

// sqlAheadOf… list deliveries of a lane after a position, in the order in which
// they become due. Each uses its own index.
const (
	sqlAhead   = `SELECT event_id, attempts, due_at, claim FROM deliveries WHERE bucket = $1 AND organization_id = $2 AND `
	sqlAheadTo = ` AND due_at >= $5 AND (due_at, event_id) > ($5, $6) ORDER BY due_at, event_id LIMIT $7`

	sqlAheadOfWebhook = sqlAhead + `state = 0 AND webhook_id > 0 AND webhook_id = $3 AND job = $4` + sqlAheadTo
	sqlAheadOfReplay  = sqlAhead + `state = 3 AND webhook_id = $3 AND job = $4` + sqlAheadTo
	sqlAheadOfInbox   = sqlAhead + `state = 0 AND webhook_id = 0 AND webhook_id = $3 AND job = $4` + sqlAheadTo
)

// pullWebhooks pulls back the open deliveries of webhooks.
func (s *Store) pullWebhooks(ctx context.Context, usual trigger.Schedule) (n int, err error) {
	for after := (Lane{}); ; {
		lanes, err := s.Lanes(ctx, after, pullLanes)
		if err != nil || len(lanes) == 0 {
			return n, err
		}
		after = lanes[len(lanes)-1]
		ahead, err := s.DueLanes(ctx, lanes, s.Now().Add(trigger.MaxLease+time.Microsecond), farthest())
		if err != nil {
			return n, err
		}
		ids := make([]int64, len(ahead))
		for i, l := range ahead {
			ids[i] = l.WebhookID
		}
		moved, err := s.pullOf(ctx, usual, ids, func(w *trigger.Webhook) pullLane {
			return pullLane{organizationID: w.OrganizationID, webhookID: w.ID, text: sqlAheadOfWebhook}
		})
		if n += moved; err != nil {
			return n, err
		}
	}
}

// farthest returns a time later than any stored time.
func farthest() time.Time { return time.UnixMicro(1<<62 - 1) }

// pullOf pulls back the lanes of some webhooks.
func (s *Store) pullOf(ctx context.Context, usual trigger.Schedule, ids []int64, lane func(*trigger.Webhook) pullLane) (n int, err error) {
	if len(ids) == 0 {
		return 0, nil
	}
	hooks, err := s.WebhooksByID(ctx, ids)
	if err != nil {
		return 0, err
	}
	for _, id := range ids {
		w := hooks[id]
		if w == nil {
			continue
		}
		l := lane(w)
		if l.schedule = w.Schedule; l.schedule == nil {
			l.schedule = usual
		}
		moved, err := s.pullLane(ctx, &l)
		if n += moved; err != nil {
			return n, err
		}
	}
	return n, nil
}

// pullReplays pulls back the open deliveries of replays that have not ended.
func (s *Store) pullReplays(ctx context.Context, usual trigger.Schedule) (n int, err error) {
	type job struct{ id, webhookID int64 }
	for after := int64(0); ; {
		jobs, err := rowsOf(ctx, s.read, func(r row) (j job, err error) {
			return j, r.Scan(&j.id, &j.webhookID)
		}, `SELECT id, webhook_id FROM replays WHERE state IN ('running', 'paused', 'cancelling') AND id > $1
			ORDER BY id LIMIT $2`, after, pullLanes)
		if err != nil || len(jobs) == 0 {
			return n, err
		}
		for _, j := range jobs {
			moved, err := s.pullOf(ctx, usual, []int64{j.webhookID}, func(w *trigger.Webhook) pullLane {
				return pullLane{organizationID: w.OrganizationID, webhookID: w.ID, job: j.id, text: sqlAheadOfReplay}
			})
			if n += moved; err != nil {
				return n, err
			}
			after = j.id
		}
	}
}

// pullInboxes pulls back the open deliveries of inboxes.
func (s *Store) pullInboxes(ctx context.Context, _ trigger.Schedule) (n int, err error) {
	for after := int64(0); ; {
		ids, err := s.organizationIDs(ctx, after)
		if err != nil || len(ids) == 0 {
			return n, err
		}
		for _, id := range ids {
			moved, err := s.pullLane(ctx, &pullLane{organizationID: id, webhookID: trigger.InboxID, text: sqlAheadOfInbox})
			if n += moved; err != nil {
				return n, err
			}
			after = id
		}
	}
}

// pullLane pulls back the deliveries of a lane that lie too far ahead, a page
// at a time.
func (s *Store) pullLane(ctx context.Context, l *pullLane) (n int, err error) {
	from := Due{At: s.Now().Add(trigger.MaxLease), ID: lastID()}
	for {
		page, err := s.aheadOf(ctx, l, from)
		if err != nil || len(page) == 0 {
			return n, err
		}
		last := page[len(page)-1]
		from = Due{last.DueAt, last.EventID}
		groups, err := s.groupPulled(ctx, l, page)
		if err == nil && len(groups) > 0 {
			var moved int
			moved, err = s.moveDue(ctx, l, groups)
			n += moved
		}
		if err != nil || len(page) < pullPage {
			return n, err
		}
	}
}

// aheadOf lists deliveries of a lane after a position.
func (s *Store) aheadOf(ctx context.Context, l *pullLane, from Due) ([]trigger.Delivery, error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	return rowsOf(ctx, s.read, func(r row) (d trigger.Delivery, err error) {
		var due int64
		err = r.Scan((*dbID)(&d.EventID), &d.Attempts, &due, (*dbID)(&d.Claim))
		d.OrganizationID, d.WebhookID, d.Job, d.DueAt = l.organizationID, l.webhookID, l.job, fromMicros(due)
		return d, err
	}, l.text, trigger.Bucket(l.organizationID), l.organizationID, l.webhookID, l.job, micros(from.At), from.ID[:], pullPage)
}

// pulled is the key of deliveries that are pulled back to one time, if they
// have not changed since they were read.
type pulled struct {
	due      int64
	attempts int
	claim    trigger.ID
}

// groupPulled finds deliveries that lie too far ahead, and when they are due
// instead. It reads the events and attempts only of deliveries that may be.
func (s *Store) groupPulled(ctx context.Context, l *pullLane, page []trigger.Delivery) (map[pulled][]trigger.ID, error) {
	now := s.Now()
	var far []trigger.Delivery
	var ids []trigger.ID
	for _, d := range page {
		if !d.PulledBack(l.schedule, time.Time{}, time.Time{}, now).Equal(d.DueAt) {
			far, ids = append(far, d), append(ids, d.EventID)
		}
	}
	if len(far) == 0 {
		return nil, nil
	}
	ctx, cancel := bounded(ctx)
	defer cancel()
	deliverAt, err := s.deliverAtOf(ctx, l, ids)
	if err != nil {
		return nil, err
	}
	tried, err := s.lastTried(ctx, l, ids)
	if err != nil {
		return nil, err
	}
	groups := make(map[pulled][]trigger.ID)
	for _, d := range far {
		due := d.PulledBack(l.schedule, deliverAt[d.EventID], tried[d.EventID], now)
		if due.Before(d.DueAt) {
			key := pulled{micros(due), d.Attempts, d.Claim}
			groups[key] = append(groups[key], d.EventID)
		}
	}
	return groups, nil
}

// idTime is a time that belongs to an event.
type idTime struct {
	id trigger.ID
	at time.Time
}

func timesOf(list []idTime) map[trigger.ID]time.Time {
	times := make(map[trigger.ID]time.Time, len(list))
	for _, t := range list {
		times[t.id] = t.at
	}
	return times
}

// deliverAtOf reads the DeliverAt of events that have one.
func (s *Store) deliverAtOf(ctx context.Context, l *pullLane, ids []trigger.ID) (map[trigger.ID]time.Time, error) {
	list, err := rowsAmong(ctx, s, byIDs{s.read, l.organizationID, ids}, func(r row) (t idTime, err error) {
		var extra string
		var e trigger.Event
		if err = r.Scan((*dbID)(&t.id), &extra); err == nil {
			err = applyExtra(&e, extra)
		}
		t.at = e.DeliverAt
		return t, err
	}, `SELECT id, extra FROM events WHERE bucket = $1`+s.among("id")+` AND extra <> ''`)
	return timesOf(list), err
}

// lastTried reads when the last attempts of deliveries ended.
func (s *Store) lastTried(ctx context.Context, l *pullLane, ids []trigger.ID) (map[trigger.ID]time.Time, error) {
	list, err := rowsAmong(ctx, s, byIDs{s.read, l.organizationID, ids}, func(r row) (t idTime, err error) {
		var at int64
		err = r.Scan((*dbID)(&t.id), &at)
		t.at = fromMicros(at)
		return t, err
	}, `SELECT event_id, max(at + took) FROM attempts WHERE bucket = $1`+s.among("event_id")+`
		AND webhook_id = $6 AND job = $7 GROUP BY event_id`, l.webhookID, l.job)
	return timesOf(list), err
}

// moveDue moves groups of deliveries back, in one transaction. It does not move
// deliveries that were claimed, tried or released since they were read.
func (s *Store) moveDue(ctx context.Context, l *pullLane, groups map[pulled][]trigger.ID) (n int, err error) {
	state := trigger.DeliveryState(openState(l.job))
	text := `UPDATE deliveries SET due_at = $8` + s.dialect.sliceOf(fmt.Sprintf(`deliveries
		WHERE bucket = $1 AND organization_id = $2 AND state = %d AND webhook_id = $3 AND job = $4
		AND attempts = $6 AND claim = $7 AND due_at > $8 AND `, state)+s.in("event_id", "$5", listOfIDs), state)
	return s.move(ctx, func(ctx context.Context, q querier) (n int, err error) {
		for key, ids := range groups {
			moved, err := count(q.ExecContext(ctx, text, trigger.Bucket(l.organizationID), l.organizationID, l.webhookID, l.job,
				s.dialect.ids(ids), key.attempts, key.claim[:], key.due))
			if err != nil {
				return 0, err
			}
			n += moved
		}
		return n, nil
	})
}

// move runs one short transaction, and returns how many rows it has moved.
func (s *Store) move(ctx context.Context, some func(context.Context, querier) (int, error)) (n int, err error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	err = s.dialect.writeQuietly(ctx, func(q querier) (err error) {
		n, err = some(ctx, q)
		return err
	})
	return orZero(n, err)
}
