package store

import (
	"context"
	"fmt"
	"slices"
	"time"

	"triggerd/internal/trigger"
)

// EventQuery selects events; zero values select all.
type EventQuery struct {
	Status       trigger.Status
	Types        []trigger.Pattern // empty: every type
	Since, Until time.Time         // accepted at or after Since, and before Until
	DedupID      string
	WebhookID    int64 // events with a delivery or a replay to it
	OfWebhook    bool  // whether to filter by WebhookID; 0 is the inbox
	Oldest       bool  // oldest first, up to 30 s ago
	After        trigger.ID
	Limit        int
}

// Bounds of the work for one page, if a filter selects few events.
const (
	queryStep = 500
	queryTime = time.Second
)

// FindEvents lists events of an organization in the order of their ids, after
// q.After, with their current status. next is the id to continue after, zero at
// the end. A page may have fewer than Limit events, or even none, if the filter
// selects few.
func (s *Store) FindEvents(ctx context.Context, orgID int64, q EventQuery) (page []EventStatus, next trigger.ID, err error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	page, next, err = s.findEvents(ctx, orgID, &q)
	if err != nil {
		return nil, trigger.ID{}, wrap("find events", err)
	}
	return page, next, nil
}

func (s *Store) findEvents(ctx context.Context, orgID int64, q *EventQuery) (page []EventStatus, next trigger.ID, err error) {
	w := dayWalk{orgID: orgID, table: "events", left: s.rangeOf(q), newest: !q.Oldest, until: s.clock.monotonic().Add(queryTime)}
	if q.DedupID != "" {
		return s.findDedup(ctx, orgID, q, w.left)
	}
	step := queryStep
	if q.isPlain() {
		step = q.Limit + 1
	}
	for !w.isOver() {
		ids, err := s.candidates(ctx, q, &w, step)
		if err != nil {
			return nil, next, err
		}
		picked, err := s.pickEvents(ctx, orgID, q, ids)
		if err != nil {
			return nil, next, err
		}
		for i, e := range picked {
			if page = append(page, e); len(page) == q.Limit {
				if last := ids[len(ids)-1]; i < len(picked)-1 || e.ID != last || !w.isOver() {
					next = e.ID
				}
				return page, next, nil
			}
		}
		if !w.isOver() && s.isLate(&w) {
			return page, w.place(), nil
		}
	}
	return page, trigger.ID{}, nil
}

// isPlain reports whether every event of the range is selected.
func (q *EventQuery) isPlain() bool {
	return q.Status == "" && !q.OfWebhook && len(q.Types) == 0
}

// rangeOf returns the range of ids for a page.
func (s *Store) rangeOf(q *EventQuery) idRange {
	ids := allIDs()
	if !q.Since.IsZero() {
		ids.from = trigger.MinID(q.Since)
	}
	if !q.Until.IsZero() {
		ids.before = trigger.MinID(q.Until)
	}
	if q.Oldest {
		ids.before = minID(ids.before, trigger.MinID(s.Now().Add(-settleTime)))
	}
	switch {
	case q.After.IsZero() || q.Oldest && s.IsAhead(q.After):
	case q.Oldest:
		ids.from = maxID(ids.from, nextID(q.After))
	default:
		ids.before = minID(ids.before, q.After)
	}
	return ids
}

// findDedup finds the one event that has a dedup id.
func (s *Store) findDedup(ctx context.Context, orgID int64, q *EventQuery, in idRange) (page []EventStatus, next trigger.ID, err error) {
	found, err := idSet(ctx, s.read, `SELECT event_id FROM dedup WHERE bucket = $1 AND organization_id = $2 AND dedup_id = $3
		AND event_id >= $4 AND event_id < $5`, trigger.Bucket(orgID), orgID, q.DedupID, in.from[:], in.before[:])
	if err != nil {
		return nil, next, err
	}
	for id := range found {
		events, err := s.readEvents(ctx, s.read, orgID, []trigger.ID{id})
		if err != nil || events[id] == nil { // deleted
			return nil, next, err
		}
		page, err = s.pickEvents(ctx, orgID, q, []trigger.ID{id})
		if err != nil {
			return nil, next, err
		}
	}
	return page, next, nil
}

// candidates lists the next ids that may be selected, up to limit, in the order
// of the query.
func (s *Store) candidates(ctx context.Context, q *EventQuery, w *dayWalk, limit int) (ids []trigger.ID, err error) {
	if q.Status != trigger.Pending && q.Status != trigger.Failed {
		return s.nextIDs(ctx, w, min(q.Limit, limit), limit)
	}
	state := trigger.DeliveryOpen
	if q.Status == trigger.Failed {
		state = trigger.DeliveryFailed
	}
	ids, err = rowsOf(ctx, s.read, scanID, fmt.Sprintf(`SELECT DISTINCT event_id FROM deliveries WHERE bucket = $1 AND organization_id = $2 AND state = %d
		AND event_id >= $3 AND event_id < $4 AND job = 0 ORDER BY event_id %s LIMIT $5`, state, w.order()),
		trigger.Bucket(w.orgID), w.orgID, w.left.from[:], w.left.before[:], limit)
	switch {
	case err != nil:
		return nil, err
	case len(ids) == limit:
		w.goOnAfter(ids[limit-1])
	default:
		w.end()
	}
	return ids, nil
}

// pickEvents returns which of the ids, given in order, the query selects.
func (s *Store) pickEvents(ctx context.Context, orgID int64, q *EventQuery, ids []trigger.ID) (page []EventStatus, err error) {
	if len(ids) == 0 {
		return nil, nil
	}
	from, to := ids[0], ids[len(ids)-1]
	if q.Oldest {
		from, to = to, from
	}
	states, err := s.statuses(ctx, orgID, minID(from, to), maxID(from, to))
	if err != nil {
		return nil, err
	}
	if len(q.Types) > 0 {
		if ids, err = s.ofType(ctx, orgID, trigger.Filter{Types: q.Types}, ids); err != nil {
			return nil, err
		}
	}
	if q.OfWebhook && len(ids) > 0 {
		if ids, err = s.ofWebhook(ctx, orgID, q.WebhookID, ids); err != nil {
			return nil, err
		}
	}
	for _, id := range ids {
		status, owed := states[id]
		if !owed {
			status = trigger.Delivered
		}
		if q.Status == "" || q.Status == status {
			page = append(page, EventStatus{id, status})
		}
	}
	return page, nil
}

func (s *Store) ofType(ctx context.Context, orgID int64, f trigger.Filter, ids []trigger.ID) ([]trigger.ID, error) {
	list, err := rowsAmong(ctx, s, byIDs{s.read, orgID, ids}, func(r row) (id trigger.ID, err error) {
		var eventType string
		if err = r.Scan((*dbID)(&id), &eventType); err == nil && !f.Match(eventType, nil) {
			err = errSkip
		}
		return id, err
	}, `SELECT id, type FROM events WHERE bucket = $1`+s.among("id"))
	if err != nil {
		return nil, err
	}
	matches := setOf(list)
	return slices.DeleteFunc(slices.Clone(ids), func(id trigger.ID) bool { return !matches[id] }), nil
}

// ofWebhook returns the events that have a delivery to a webhook, or had an
// attempt.
func (s *Store) ofWebhook(ctx context.Context, orgID, webhookID int64, ids []trigger.ID) ([]trigger.ID, error) {
	owed, err := idSet(ctx, s.read, `SELECT event_id FROM deliveries WHERE bucket = $1`+s.among("event_id")+
		` AND state IN (0, 1, 3) AND webhook_id = $6`, s.amongArgs(orgID, ids, webhookID)...)
	if err != nil {
		return nil, err
	}
	list, err := rowsAmong(ctx, s, byIDs{s.read, orgID, ids}, scanID,
		`SELECT event_id FROM attempts WHERE bucket = $1`+s.among("event_id")+` AND webhook_id = $6`, webhookID)
	if err != nil {
		return nil, err
	}
	tried := setOf(list)
	return slices.DeleteFunc(slices.Clone(ids), func(id trigger.ID) bool { return !owed[id] && !tried[id] }), nil
}
