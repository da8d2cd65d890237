package store

import (
	"context"
	"time"

	"triggerd/internal/trigger"
)

// Conditions for the states of webhooks: those that receive events, and those
// whose receiver answered 410. SQLite uses their indexes only for exactly these
// texts.
const (
	sqlReceiving = `w.state IN ('active', 'paused')`
	sqlEnded     = `w.state = 'ended'`
)

// sqlDeleteGone turns gone webhooks into tombstones at $1, as their owner's
// DELETE does. $2 must be an empty byte string; a query of their ids follows.
// It adds no version, so at an event's version the webhook is still one whose
// receiver answered 410.
const sqlDeleteGone = sqlTombstone + ` WHERE state = 'ended' AND id IN `

// checkRoom returns an error of the given kind if the organization has as many
// webhooks that receive events as allowed.
func checkRoom(ctx context.Context, q querier, orgID int64, kind trigger.Kind) error {
	var count int
	if err := q.QueryRowContext(ctx, `SELECT count(*) FROM webhooks w WHERE w.organization_id = $1 AND `+sqlReceiving,
		orgID).Scan(&count); err != nil {
		return err
	}
	if count < trigger.MaxWebhooks {
		return nil
	}
	full := trigger.Errorf(kind, "an organization can have at most %d webhooks", trigger.MaxWebhooks)
	full.Code = "conflict" // for programs; the original contract has one answer for all Invalid errors
	return full
}

// goneError returns the Conflict of an action on a gone webhook that must first
// be resumed.
func goneError(webhookID int64) error {
	return trigger.Errorf(trigger.Conflict, "webhook %d is gone, because %s: resume it first", webhookID, trigger.GoneByReceiver)
}

// checkChange checks a change of a webhook's state. It returns Conflict if a
// gone webhook would be paused, or resumed though the organization has as many
// as allowed.
func checkChange(ctx context.Context, q querier, w *trigger.Webhook, before trigger.WebhookState) error {
	switch {
	case before != trigger.Gone:
		return nil
	case w.State == trigger.Paused:
		return goneError(w.ID)
	case w.State == trigger.Active:
		return checkRoom(ctx, q, w.OrganizationID, trigger.Conflict)
	}
	return nil
}

// limitGone deletes the webhooks of an organization that have been gone
// longest, if more than MaxGone are gone. The caller must hold the
// organization's row.
func (s *Store) limitGone(ctx context.Context, q querier, orgID int64) error {
	deleted, err := affected(q.ExecContext(ctx, sqlDeleteGone+`(SELECT w.id FROM webhooks w WHERE w.organization_id = $3 AND `+sqlEnded+`
		ORDER BY w.gone_at DESC, w.id DESC LIMIT $4 OFFSET $5)`, micros(s.Now()), []byte{}, orgID, slice, trigger.MaxGone))
	if err != nil || !deleted {
		return err
	}
	return s.limitTombstones(ctx, q, orgID)
}

// DropGone deletes webhooks that were gone before the given time, some hundreds
// in one transaction. It also removes data that no webhook needs: secrets that
// have ended, and remains of deleted webhooks and former URLs from older
// programs, which may still run.
func (s *Store) DropGone(ctx context.Context, before time.Time) error {
	if err := s.clearLeftovers(ctx); err != nil {
		return wrap("clear webhooks", err)
	}
	for more := true; more; {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := s.dialect.writeQuietly(ctx, func(q querier) (err error) {
			more, err = affected(q.ExecContext(ctx, sqlDeleteGone+`(SELECT w.id FROM webhooks w WHERE `+sqlEnded+`
				AND w.gone_at < $3 ORDER BY w.gone_at LIMIT $4)`, micros(s.Now()), []byte{}, micros(before), slice))
			return err
		}); err != nil {
			return wrap("delete gone webhooks", err)
		}
	}
	return nil
}
