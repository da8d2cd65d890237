package store

import (
	"bytes"
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"slices"
	"time"

	"triggerd/internal/trigger"
)

// Lane is a webhook with open deliveries, or a replay to one, and when its
// first delivery is due.
type Lane struct {
	Bucket    int16
	WebhookID int64
	Job       int64 // the replay; 0: the deliveries made at acceptance
	DueAt     time.Time
}

// laneKey packs bucket and webhook into one number with the same order.
const laneKey = 1 << 48

// Lanes lists up to limit webhooks with open deliveries, after the given one,
// ordered by bucket and id. A claimed delivery is due at the end of its lease.
// It is a loose scan of the index deliveries_due: one probe for each webhook,
// however many deliveries it has. But on PostgreSQL, while any transaction
// holds an old snapshot, a probe reads past all deliveries that have ended
// since.
func (s *Store) Lanes(ctx context.Context, after Lane, limit int) (lanes []Lane, err error) {
	all, _ := s.dialect.lanes()
	lanes, err = s.scanLanes(ctx, all, int64(after.Bucket)*laneKey+after.WebhookID, limit)
	return wrapped("list lanes", lanes, err)
}

// DueLanes lists the given webhooks that have open deliveries due between from
// and until. It reads only that part of the index.
func (s *Store) DueLanes(ctx context.Context, of []Lane, from, until time.Time) (lanes []Lane, err error) {
	keys := make([]int64, len(of))
	for i, l := range of {
		keys[i] = int64(l.Bucket)*laneKey + l.WebhookID
	}
	_, due := s.dialect.lanes()
	lanes, err = s.scanLanes(ctx, due, s.dialect.ints(keys), micros(from), micros(until))
	return wrapped("list due lanes", lanes, err)
}

// sqlDueLanes must be followed by the keys, as a table of one column.
const sqlDueLanes = `
	SELECT key / 281474976710656, key % 281474976710656, (SELECT d.due_at FROM deliveries d
		WHERE d.state = 0 AND d.webhook_id > 0
		AND d.bucket = key / 281474976710656 AND d.webhook_id = key % 281474976710656 AND d.due_at >= $2 AND d.due_at <= $3
		ORDER BY d.due_at LIMIT 1)
	FROM `

func (s *Store) scanLanes(ctx context.Context, text string, args ...any) ([]Lane, error) {
	return rowsOf(ctx, s.hot, func(r row) (l Lane, err error) {
		var due sql.NullInt64 // null if nothing is due, or if it ended since the scan passed it
		if err = r.Scan(&l.Bucket, &l.WebhookID, &due); err == nil && !due.Valid {
			err = errSkip
		}
		l.DueAt = fromMicros(due.Int64)
		return l, err
	}, text, args...)
}

// Want requests up to Room due deliveries of one webhook, or of a replay.
type Want struct {
	Bucket    int16
	WebhookID int64
	Job       int64 // the replay; 0: the deliveries made at acceptance
	Room      int
	From      time.Time // deliveries due earlier are left; zero: none are
	Order     Order     // which ones are claimed if there are more
}

// Order selects which due deliveries of a webhook a claim takes. The orders
// after ByDue consider only the hundred that were due first and the hundred
// that were due last.
type Order int

// The orders.
const (
	ByDue      Order = iota // due first
	ByFailures              // fewest failures, then due first
	ForProbe                // fewest failures, in random order
)

// Claim claims due deliveries for this node: they get the claim's id, and no
// one else can claim them until the lease ends. It takes each webhook's
// deliveries in the order they are due, unless Want has another Order. It skips
// deliveries that another node is claiming.
func (s *Store) Claim(ctx context.Context, wants []Want, claim trigger.ID, now, lease time.Time) ([]trigger.Delivery, error) {
	taken, err := s.dialect.claim(ctx, wants, claim, now, lease)
	if err != nil {
		s.noteFailure(err)
		return nil, wrap("claim", err)
	}
	slices.SortFunc(taken, func(a, b trigger.Delivery) int { // oldest first; EventsOf reads them by organization
		return cmp.Or(cmp.Compare(a.OrganizationID, b.OrganizationID), bytes.Compare(a.EventID[:], b.EventID[:]))
	})
	return taken, nil
}

// EventsOf reads the events of deliveries, for the engine. It is fast if the
// deliveries of an organization are adjacent. It leaves out events that no
// longer exist. It stops after about maxBytes: rest are the deliveries whose
// events were not read. It also stops if a read fails after others; then the
// next call returns the error.
func (s *Store) EventsOf(ctx context.Context, ds []trigger.Delivery, maxBytes int) (found map[trigger.ID]*trigger.Event, rest []trigger.Delivery, err error) {
	const step = 16 // events of one organization in one read
	found = make(map[trigger.ID]*trigger.Event, len(ds))
	for len(ds) > 0 && maxBytes > 0 {
		n := 1
		for n < min(len(ds), step) && ds[n].OrganizationID == ds[0].OrganizationID {
			n++
		}
		ids := make([]trigger.ID, n)
		for i := range ids {
			ids[i] = ds[i].EventID
		}
		events, err := s.readEvents(ctx, s.hotDays, ds[0].OrganizationID, ids)
		if err != nil && len(found) > 0 {
			return found, ds, nil
		}
		if err != nil {
			return nil, nil, wrap("read claimed events", err)
		}
		for id, e := range events {
			found[id] = e
			maxBytes -= e.Size()
		}
		ds = ds[n:]
	}
	return found, ds, nil
}

// Release releases claimed deliveries that were not sent. Any node can claim
// them at once.
func (s *Store) Release(ctx context.Context, ds []trigger.Delivery) error {
	const step = 1000
	now := s.Now()
	for len(ds) > 0 {
		n := min(len(ds), step)
		results := make([]Result, n)
		for i, d := range ds[:n] {
			results[i].Attempt = trigger.Attempt{DeliveryKey: d.DeliveryKey, Claim: d.Claim}
			d.DueAt = now
			results[i].Next = d
		}
		if err := s.Finish(ctx, results); err != nil {
			return wrap("release", err)
		}
		ds = ds[n:]
	}
	return nil
}

// slice is the most deliveries that one transaction ends or removes, if there
// may be any number.
const slice = 500

// sqlFail ends deliveries as failed; $5 is the zero claim, $6 the reason.
// sqlRemove removes them.
const (
	sqlFail   = `UPDATE deliveries SET state = 1, claim = $5, reason = $6`
	sqlRemove = `DELETE FROM deliveries`
)

// FailWebhook marks the open deliveries of a gone or deleted webhook as failed,
// some hundreds at a time, and removes its deliveries of replays. done is false
// if there are more. It does nothing if the webhook receives events, because a
// gone webhook may have been resumed a moment ago.
func (s *Store) FailWebhook(ctx context.Context, orgID, webhookID int64, reason string) (n int, done bool, err error) {
	const notReceiving = `AND (SELECT w.state FROM webhooks w WHERE w.id = $3) IN ('gone', 'ended')`
	which := sliceOf{trigger.DeliveryOpen, `AND webhook_id > 0 AND webhook_id = $3 ` + notReceiving + ` ORDER BY due_at`}
	n, done, err = s.changeSlice(ctx, orgID, sqlFail, which, nil, webhookID, nobody(), reason)
	if err != nil || !done {
		return n, false, err
	}
	which = sliceOf{stateReplayed, `AND webhook_id = $3 ` + notReceiving}
	_, done, err = s.changeSlice(ctx, orgID, sqlRemove, which, nil, webhookID)
	return n, done, err
}

// expireBefore marks open deliveries of events below an id as failed, and posts
// a notice if the organization subscribes to it. It removes deliveries of
// replays.
func (s *Store) expireBefore(ctx context.Context, orgID int64, before trigger.ID) (n int, done bool, err error) {
	which := sliceOf{trigger.DeliveryOpen, `AND event_id < $3 ORDER BY event_id`}
	n, done, err = s.changeSlice(ctx, orgID, sqlFail, which, s.postExpired, before[:], nobody(), trigger.ReasonExpired)
	if err != nil || !done {
		return n, false, err
	}
	which.state = stateReplayed
	_, done, err = s.changeSlice(ctx, orgID, sqlRemove, which, nil, before[:])
	return n, done, err
}

// deleteFailed removes failed deliveries of events below an id.
func (s *Store) deleteFailed(ctx context.Context, orgID int64, before trigger.ID) (n int, done bool, err error) {
	which := sliceOf{trigger.DeliveryFailed, `AND event_id < $3 ORDER BY event_id`}
	return s.changeSlice(ctx, orgID, sqlRemove, which, nil, before[:])
}

// sliceOf selects the first hundreds of an organization's deliveries of a
// state, by a condition on $3 and an order.
type sliceOf struct {
	state     trigger.DeliveryState
	condition string
}

// changeSlice changes a slice of an organization's deliveries in a transaction,
// and then calls then in it, if not nil, with the changed deliveries. It skips
// rows that others are changing, so done is true only if nothing was left to
// change. params are the parameters from $3 on, without $4, the length of the
// slice.
func (s *Store) changeSlice(ctx context.Context, orgID int64, change string, which sliceOf,
	then func(ctx context.Context, q querier, orgID int64, changed []trigger.Lost) error, params ...any,
) (n int, done bool, err error) {
	text := change + s.dialect.sliceOf(fmt.Sprintf(
		`deliveries WHERE bucket = $1 AND organization_id = $2 AND state = %d %s LIMIT $4`, which.state, which.condition), which.state) +
		` RETURNING event_id, webhook_id`
	args := append([]any{trigger.Bucket(orgID), orgID, params[0], slice}, params[1:]...)
	ctx, cancel := bounded(ctx)
	defer cancel()
	err = s.dialect.writeQuietly(ctx, func(q querier) error {
		changed, err := rowsOf(ctx, q, func(r row) (l trigger.Lost, err error) {
			err = r.Scan((*dbID)(&l.EventID), &l.WebhookID)
			return l, err
		}, text, args...)
		if err != nil {
			return err
		}
		if n = len(changed); n == 0 || then == nil {
			return nil
		}
		return then(ctx, q, orgID, changed)
	})
	if err != nil {
		return 0, false, wrap("change deliveries", err)
	}
	return n, n == 0, nil
}

// Backlog describes the open deliveries to webhooks.
type Backlog struct {
	Open   int           // open deliveries, counted up to 100,000
	Oldest time.Duration // how long the first has been due, without paused webhooks and open breakers; 0 if under a second
}

// Backlog measures the open deliveries to webhooks. It reads the index, not the
// rows, so it can be called every few seconds.
func (s *Store) Backlog(ctx context.Context) (Backlog, error) {
	open, err := rowOf(ctx, s.hot, scanInt, `SELECT count(*) FROM (SELECT 1 FROM deliveries
		WHERE state = 0 AND webhook_id > 0 LIMIT 100000) AS open`)
	if err != nil {
		return Backlog{}, wrap("count deliveries", err)
	}
	oldest, err := s.oldestDue(ctx)
	if err != nil {
		return Backlog{}, err
	}
	return Backlog{Open: int(open), Oldest: oldest}, nil
}

// oldestDue measures Backlog.Oldest.
func (s *Store) oldestDue(ctx context.Context) (oldest time.Duration, err error) {
	lanes, err := s.Lanes(ctx, Lane{}, 10_000)
	if err != nil {
		return 0, err
	}
	var late []Lane
	var ids []int64
	for _, l := range lanes {
		if s.Now().Sub(l.DueAt) > time.Second {
			late, ids = append(late, l), append(ids, l.WebhookID)
		}
	}
	if len(late) == 0 {
		return 0, nil
	}
	hooks, err := s.WebhooksByID(ctx, ids)
	if err != nil {
		return 0, err
	}
	for _, l := range late {
		if w := hooks[l.WebhookID]; w != nil && w.State == trigger.Active && w.HeldUntil.IsZero() {
			oldest = max(oldest, s.Now().Sub(l.DueAt))
		}
	}
	return oldest, nil
}
