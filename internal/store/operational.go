package store

import (
	"context"
	"math/rand/v2"
	"slices"

	"triggerd/internal/trigger"
)

// postNotice adds an operational event to a transaction, if a webhook
// subscribes to it, so that the change and its notice are one commit. It adds
// the same notice only once.
func (s *Store) postNotice(ctx context.Context, q querier, orgID int64, n *trigger.Notice) error {
	subs, err := s.readSubscribers(ctx, q, orgID)
	if err != nil {
		return err
	}
	e := n.Event(orgID)
	owed := subs.MatchNotice(n, e)
	if len(owed) == 0 {
		return nil
	}
	now := s.Now()
	e.ID, e.Version = trigger.NewID(now, uint16(rand.Uint32()), rand.Uint64()), subs.Version
	deliveries := make([]trigger.Delivery, len(owed))
	for i, w := range owed {
		deliveries[i] = trigger.Delivery{
			DeliveryKey: trigger.DeliveryKey{OrganizationID: orgID, EventID: e.ID, WebhookID: w.ID},
			DueAt:       now,
		}
	}
	var verdict trigger.ID
	return addEvent(ctx, q, e, deliveries, &verdict)
}

// postExpired posts a notice of open deliveries that the retention has ended,
// except deliveries of notices.
func (s *Store) postExpired(ctx context.Context, q querier, orgID int64, expired []trigger.Lost) error {
	subs, err := s.readSubscribers(ctx, q, orgID)
	if err != nil || !subs.Wants(trigger.DeliveryExpired) {
		return err
	}
	notices, err := s.noticesAmong(ctx, q, orgID, expired)
	if err != nil {
		return err
	}
	expired = slices.DeleteFunc(expired, func(l trigger.Lost) bool { return notices[l.EventID] })
	if len(expired) == 0 {
		return nil
	}
	return s.postNotice(ctx, q, orgID, &trigger.Notice{
		Type: trigger.DeliveryExpired, Expired: expired,
		Once: s.NewClaim().String(), // a resent event may expire again, and no expiry is committed twice
	})
}

// noticesAmong returns which of the events are notices themselves.
func (s *Store) noticesAmong(ctx context.Context, q querier, orgID int64, lost []trigger.Lost) (map[trigger.ID]bool, error) {
	ids := make([]trigger.ID, len(lost))
	for i, l := range lost {
		ids[i] = l.EventID
	}
	list, err := rowsAmong(ctx, s, byIDs{q, orgID, ids}, func(r row) (id trigger.ID, err error) {
		var e trigger.Event
		if err = r.Scan((*dbID)(&e.ID), &e.Type, &e.DedupID); err == nil && !e.IsNotice() {
			err = errSkip
		}
		return e.ID, err
	}, `SELECT id, type, dedup_id FROM events WHERE bucket = $1`+s.among("id"))
	if err != nil {
		return nil, err
	}
	return setOf(list), nil
}
