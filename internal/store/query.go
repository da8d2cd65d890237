package store

import (
	"context"
	"fmt"
	"slices"
	"time"

	"triggerd/internal/trigger"
)

// EventQuery picks events; zero values pick all.
type EventQuery struct {
	Status       trigger.Status
	Types        []trigger.Pattern // none: every type
	Since, Until time.Time         // accepted at or after, and before
	DedupID      string
	WebhookID    int64 // that they were owed to, or sent again to
	OfWebhook    bool  // whether WebhookID counts; 0 is the inbox
	Oldest       bool  // the oldest first, up to those of 30 s ago
	After        trigger.ID
	Limit        int
}

// Bounds of the work for one page, where a filter picks little.
const (
	queryStep = 500
	queryTime = time.Second
)

// FindEvents lists events of an organization in the order of their ids, those
// after q.After, with their status at that moment. next is the id to go on
// after, zero at the end: where the filter picks little, a page may have fewer
// than Limit, and even none.
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
	from, before := s.rangeOf(q)
	if q.DedupID != "" {
		return s.findDedup(ctx, orgID, q, from, before)
	}
	begun := s.clock.monotonic()
	step := queryStep
	if q.isPlain() {
		step = q.Limit + 1
	}
	for {
		ids, err := s.candidates(ctx, orgID, q, from, before, step)
		if err != nil {
			return nil, next, err
		}
		picked, err := s.pickEvents(ctx, orgID, q, ids)
		if err != nil {
			return nil, next, err
		}
		for i, e := range picked {
			if page = append(page, e); len(page) == q.Limit {
				if last := ids[len(ids)-1]; i < len(picked)-1 || e.ID != last || len(ids) == step {
					next = e.ID
				}
				return page, next, nil
			}
		}
		if len(ids) < step {
			return page, trigger.ID{}, nil
		}
		next = ids[len(ids)-1]
		if from, before = narrow(q, from, before, next); s.clock.monotonic().Sub(begun) > queryTime {
			return page, next, nil
		}
	}
}

// isPlain reports whether every event of the range is picked.
func (q *EventQuery) isPlain() bool {
	return q.Status == "" && !q.OfWebhook && len(q.Types) == 0
}

// rangeOf are the ids of a page: from, and before.
func (s *Store) rangeOf(q *EventQuery) (from, before trigger.ID) {
	before = lastID()
	if !q.Since.IsZero() {
		from = trigger.MinID(q.Since)
	}
	if !q.Until.IsZero() {
		before = trigger.MinID(q.Until)
	}
	if q.Oldest {
		before = minID(before, trigger.MinID(s.Now().Add(-settleTime)))
	}
	if !q.After.IsZero() && !(q.Oldest && s.IsAhead(q.After)) {
		from, before = narrow(q, from, before, q.After)
	}
	return from, before
}

// narrow leaves what comes after an id, in the order of the query.
func narrow(q *EventQuery, from, before, after trigger.ID) (trigger.ID, trigger.ID) {
	if !q.Oldest {
		return from, minID(before, after)
	}
	if least := nextID(after); minID(from, least) == from {
		from = least
	}
	return from, before
}

// nextID is the lowest id above an id.
func nextID(id trigger.ID) trigger.ID {
	for i := len(id) - 1; i >= 0; i-- {
		if id[i]++; id[i] != 0 {
			break
		}
	}
	return id
}

// findDedup looks for the one event that has a dedup id.
func (s *Store) findDedup(ctx context.Context, orgID int64, q *EventQuery, from, before trigger.ID) (page []EventStatus, next trigger.ID, err error) {
	found, err := idSet(ctx, s.read, `SELECT event_id FROM dedup WHERE bucket = $1 AND organization_id = $2 AND dedup_id = $3
		AND event_id >= $4 AND event_id < $5`, trigger.Bucket(orgID), orgID, q.DedupID, from[:], before[:])
	if err != nil {
		return nil, next, err
	}
	for id := range found {
		events, err := s.readEvents(ctx, s.read, orgID, []trigger.ID{id})
		if err != nil || events[id] == nil { // gone
			return nil, next, err
		}
		page, err = s.pickEvents(ctx, orgID, q, []trigger.ID{id})
		if err != nil {
			return nil, next, err
		}
	}
	return page, next, nil
}

// candidates lists the next ids that may be picked, in the order of the query.
func (s *Store) candidates(ctx context.Context, orgID int64, q *EventQuery, from, before trigger.ID, limit int) (ids []trigger.ID, err error) {
	order := "DESC"
	if q.Oldest {
		order = "ASC"
	}
	if q.Status != trigger.Pending && q.Status != trigger.Failed {
		if recent := trigger.MinID(s.Now().Add(-recentDays)); !q.Oldest && minID(from, recent) == from && minID(recent, before) == recent {
			if ids, err = s.idsBetween(ctx, orgID, recent, before, order, limit); err != nil || len(ids) == limit {
				return ids, err
			}
			before = recent
		}
		older, err := s.idsBetween(ctx, orgID, from, before, order, limit-len(ids))
		return orZero(append(ids, older...), err)
	}
	state := trigger.DeliveryOpen
	if q.Status == trigger.Failed {
		state = trigger.DeliveryFailed
	}
	return rowsOf(ctx, s.read, scanID, fmt.Sprintf(`SELECT DISTINCT event_id FROM deliveries WHERE bucket = $1 AND organization_id = $2 AND state = %d
		AND event_id >= $3 AND event_id < $4 AND job = 0 ORDER BY event_id %s LIMIT $5`, state, order),
		trigger.Bucket(orgID), orgID, from[:], before[:], limit)
}

// pickEvents keeps those of the ids, which stand in an order, that the query picks.
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

func maxID(a, b trigger.ID) trigger.ID {
	if minID(a, b) == a {
		return b
	}
	return a
}

// among is the condition that an id is one of some, with bounds for the
// planner, behind bucket = $1: $2 to $5 are organization, least, greatest, and
// all.
func (s *Store) among(column string) string {
	return ` AND organization_id = $2 AND ` + column + ` >= $3 AND ` + column + ` <= $4 AND ` + s.in(column, "$5", listOfIDs)
}

func (s *Store) amongArgs(orgID int64, ids []trigger.ID, more ...any) []any {
	from, to := minID(ids[0], ids[len(ids)-1]), maxID(ids[0], ids[len(ids)-1])
	return append([]any{trigger.Bucket(orgID), orgID, from[:], to[:], s.dialect.ids(ids)}, more...)
}

func (s *Store) ofType(ctx context.Context, orgID int64, f trigger.Filter, ids []trigger.ID) ([]trigger.ID, error) {
	list, err := rowsOf(ctx, s.read, func(r row) (id trigger.ID, err error) {
		var eventType string
		if err = r.Scan((*dbID)(&id), &eventType); err == nil && !f.Match(eventType, nil) {
			err = errSkip
		}
		return id, err
	}, `SELECT id, type FROM events WHERE bucket = $1`+s.among("id"), s.amongArgs(orgID, ids)...)
	if err != nil {
		return nil, err
	}
	matches := setOf(list)
	return slices.DeleteFunc(slices.Clone(ids), func(id trigger.ID) bool { return !matches[id] }), nil
}

// ofWebhook keeps the events that a webhook is owed, or was tried at.
func (s *Store) ofWebhook(ctx context.Context, orgID, webhookID int64, ids []trigger.ID) ([]trigger.ID, error) {
	owed, err := idSet(ctx, s.read, `SELECT event_id FROM deliveries WHERE bucket = $1`+s.among("event_id")+
		` AND state IN (0, 1, 3) AND webhook_id = $6`, s.amongArgs(orgID, ids, webhookID)...)
	if err != nil {
		return nil, err
	}
	tried, err := idSet(ctx, s.read, `SELECT event_id FROM attempts WHERE bucket = $1`+s.among("event_id")+` AND webhook_id = $6`,
		s.amongArgs(orgID, ids, webhookID)...)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(slices.Clone(ids), func(id trigger.ID) bool { return !owed[id] && !tried[id] }), nil
}
