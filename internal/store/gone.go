package store

import (
	"context"
	"time"

	"triggerd/internal/trigger"
)

// The states of webhooks in statements: those that receive events, and those
// whose receiver answered 410. SQLite uses their indexes only for these words.
const (
	sqlReceiving = `w.state IN ('active', 'paused')`
	sqlEnded     = `w.state = 'ended'`
)

// sqlDeleteGone makes gone webhooks into tombstones at $1, as their owner's
// DELETE does; $2 is no bytes, and the ids of a part of them follow. It leaves no
// version: what a webhook was at an event's version is still that its receiver
// had answered 410.
const sqlDeleteGone = sqlTombstone + ` WHERE state = 'ended' AND id IN `

// checkRoom fails with the given kind if the organization has as many webhooks
// that receive events as it may have.
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
	full.Code = "conflict" // for programs; the original contract has one answer to all that is Invalid
	return full
}

// goneError is the Conflict of what a gone webhook must be resumed for.
func goneError(webhookID int64) error {
	return trigger.Errorf(trigger.Conflict, "webhook %d is gone, because %s: resume it first", webhookID, trigger.GoneByReceiver)
}

// checkChange checks that a webhook may go from one state to another. Conflict
// if a gone webhook is to be paused, or resumed where there is no room for it.
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

// limitGone deletes the webhooks of an organization that have been gone for the
// longest, if more than MaxGone are gone. The caller holds the organization's
// row.
func (s *Store) limitGone(ctx context.Context, q querier, orgID int64) error {
	deleted, err := affected(q.ExecContext(ctx, sqlDeleteGone+`(SELECT w.id FROM webhooks w WHERE w.organization_id = $3 AND `+sqlEnded+`
		ORDER BY w.gone_at DESC, w.id DESC LIMIT $4 OFFSET $5)`, micros(s.Now()), []byte{}, orgID, slice, trigger.MaxGone))
	if err != nil || !deleted {
		return err
	}
	return s.limitTombstones(ctx, q, orgID)
}

// DropGone deletes webhooks that have been gone since before the given time,
// some hundreds in one transaction. It also removes what no webhook needs any
// more: secrets that have ended, and what older programs, which may run beside
// this one, have left of deleted webhooks and of former URLs.
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
