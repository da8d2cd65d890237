package store

import (
	"context"
	"fmt"
	"strings"

	"triggerd/internal/trigger"
)

// DeliveryQuery selects open and failed deliveries.
type DeliveryQuery struct {
	State     trigger.DeliveryState // Open or Failed
	AnyState  bool                  // both states
	WebhookID int64
	OfWebhook bool // whether to filter by WebhookID; 0 is the inbox
	After     trigger.DeliveryKey
	Limit     int
}

// ListDeliveries lists the open and failed deliveries of an organization,
// newest events first, after a delivery unless it is zero.
func (s *Store) ListDeliveries(ctx context.Context, orgID int64, q DeliveryQuery) (page []trigger.Delivery, err error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	states := []int16{int16(trigger.DeliveryOpen), int16(trigger.DeliveryFailed), stateReplayed}
	switch {
	case q.AnyState:
	case q.State == trigger.DeliveryFailed:
		states = states[1:2]
	default:
		states = []int16{states[0], states[2]}
	}
	if q.After.EventID.IsZero() {
		q.After.EventID = lastID()
	}
	if page, err = s.deliveriesOf(ctx, orgID, &q, states); err != nil {
		return nil, wrap("list deliveries", err)
	}
	return page, nil
}

// deliveriesOf lists deliveries of some states in one snapshot. Each state is a
// range of the key.
func (s *Store) deliveriesOf(ctx context.Context, orgID int64, q *DeliveryQuery, states []int16) ([]trigger.Delivery, error) {
	const order = ` ORDER BY event_id DESC, webhook_id DESC, job DESC LIMIT $6`
	webhook := ""
	args := []any{trigger.Bucket(orgID), orgID, q.After.EventID[:], q.After.WebhookID, q.After.Job, q.Limit}
	if q.OfWebhook {
		webhook = "AND webhook_id = $7"
		args = append(args, q.WebhookID)
	}
	ranges := make([]string, len(states))
	for i, state := range states {
		ranges[i] = fmt.Sprintf(`SELECT * FROM (SELECT event_id, webhook_id, job, state, attempts, due_at, claim, reason FROM deliveries
			WHERE bucket = $1 AND organization_id = $2 AND state = %d AND event_id <= $3
			AND (event_id, webhook_id, job) < ($3, $4, $5) %s %s) AS range%d`, state, webhook, order, i)
	}
	return rowsOf(ctx, s.read, func(r row) (trigger.Delivery, error) {
		d := trigger.Delivery{DeliveryKey: trigger.DeliveryKey{OrganizationID: orgID}}
		var due int64
		err := r.Scan((*dbID)(&d.EventID), &d.WebhookID, &d.Job, &d.State, &d.Attempts, &due, (*dbID)(&d.Claim), &d.Reason)
		if d.State == stateReplayed {
			d.State = trigger.DeliveryOpen
		}
		d.DueAt = fromMicros(due)
		return d, err
	}, strings.Join(ranges, ` UNION ALL `)+order, args...)
}

// InboxVerdict explains what happened to an event at the inbox. owed is false
// if the event had no delivery to it.
func (s *Store) InboxVerdict(ctx context.Context, orgID int64, eventID trigger.ID) (v trigger.Verdict, owed bool, err error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	left, err := s.owedTo(ctx, orgID, eventID)
	if err != nil {
		return v, false, wrap("explain an event", err)
	}
	last, _, err := s.lastAttempts(ctx, orgID, eventID)
	if err != nil || left[trigger.InboxID] == nil && last[trigger.InboxID] == nil {
		return v, false, wrap("explain an event", err)
	}
	c := trigger.Case{Now: trigger.Webhook{State: trigger.Active}, Owed: left[trigger.InboxID], Last: last[trigger.InboxID]}
	return c.Verdict(), true, nil
}
