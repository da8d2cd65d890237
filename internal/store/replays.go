package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"time"

	"triggerd/internal/trigger"
)

const replayColumns = `id, organization_id, webhook_id, state, since, until, types, status, pace, cursor,
	queued, delivered, failed, created_at`

// MaxReplays is how many replays of an organization may be under way at a time,
// including resends of single events.
const MaxReplays = 1000

// MaxEndedReplays is how many replays of an organization are kept, including
// those under way. Each new one removes the oldest ended ones.
const MaxEndedReplays = 10_000

// AddReplay starts a replay and returns its id. It does not include events that
// are accepted later. It returns NotFound if the organization does not have the
// webhook, or it was deleted, Invalid if the settings are invalid, and Conflict
// if the webhook is gone, or too many replays are under way.
func (s *Store) AddReplay(ctx context.Context, orgID int64, r trigger.Replay, o Once) (id int64, err error) {
	if err := s.beginReplay(orgID, &r); err != nil {
		return 0, err
	}
	err = s.dialect.write(ctx, func(q querier) error {
		if err := lockOrganization(ctx, q, orgID); err != nil {
			return err
		}
		id, err = s.once(ctx, q, orgID, o, func() (int64, error) {
			if err := s.checkReceives(ctx, q, orgID, r.WebhookID); err != nil {
				return 0, err
			}
			return addReplay(ctx, q, &r)
		})
		return err
	})
	return wrapped("add replay", id, err)
}

// beginReplay sets the defaults of a replay, and checks its settings.
func (s *Store) beginReplay(orgID int64, r *trigger.Replay) error {
	now := s.Now()
	if r.Until.IsZero() || r.Until.After(now) {
		r.Until = now
	}
	if r.Since.IsZero() {
		r.Since = time.Unix(0, 0)
	}
	if err := r.Check(); err != nil {
		return err
	}
	r.OrganizationID, r.State, r.CreatedAt = orgID, trigger.ReplayRunning, now
	r.Cursor = trigger.MinID(r.Since)
	return nil
}

// webhookThere reads a webhook that is not deleted.
func (s *Store) webhookThere(ctx context.Context, q querier, orgID, webhookID int64) (trigger.Webhook, error) {
	w, err := s.webhook(ctx, q, orgID, webhookID)
	if err == nil && w.State == trigger.Deleted {
		err = sql.ErrNoRows
	}
	return orZero(w, err)
}

// checkReceives returns Conflict if a webhook is gone, and NotFound if it was
// deleted or does not exist, because nothing can be sent to it again.
func (s *Store) checkReceives(ctx context.Context, q querier, orgID, webhookID int64) error {
	w, err := s.webhookThere(ctx, q, orgID, webhookID)
	if err == nil && w.State == trigger.Gone {
		err = goneError(webhookID)
	}
	return err
}

func addReplay(ctx context.Context, q querier, r *trigger.Replay) (id int64, err error) {
	var under int
	if err := q.QueryRowContext(ctx, `SELECT count(*) FROM replays
		WHERE organization_id = $1 AND state IN ('running', 'paused', 'cancelling')`, r.OrganizationID).Scan(&under); err != nil {
		return 0, err
	}
	if under >= MaxReplays {
		return 0, trigger.Errorf(trigger.Conflict, "an organization can have at most %d replays under way", MaxReplays)
	}
	types, err := json.Marshal((&trigger.Filter{Types: r.Types}).TypeStrings())
	if err != nil {
		return 0, err
	}
	if _, err := q.ExecContext(ctx, `DELETE FROM replays WHERE id IN (SELECT id FROM replays WHERE organization_id = $1
		AND id <= (SELECT id FROM replays WHERE organization_id = $1 ORDER BY id DESC LIMIT 1 OFFSET $2)
		AND state IN ('done', 'cancelled') ORDER BY id LIMIT $3)`, r.OrganizationID, MaxEndedReplays-1, slice); err != nil {
		return 0, err
	}
	return rowOf(ctx, q, scanInt, `
		INSERT INTO replays (organization_id, webhook_id, state, since, until, types, status, pace, cursor, queued, delivered, failed, created_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, 0, 0, $11) RETURNING id`,
		r.OrganizationID, r.WebhookID, string(r.State), micros(r.Since), micros(r.Until), string(types), string(r.Status),
		r.Pace, r.Cursor[:], r.Queued, micros(r.CreatedAt))
}

func scanReplay(sc row) (r trigger.Replay, err error) {
	var since, until, created int64
	var types string
	err = sc.Scan(&r.ID, &r.OrganizationID, &r.WebhookID, &r.State, &since, &until, &types, &r.Status, &r.Pace,
		(*dbID)(&r.Cursor), &r.Queued, &r.Delivered, &r.Failed, &created)
	if err != nil {
		return r, err
	}
	r.Since, r.Until, r.CreatedAt = fromMicros(since), fromMicros(until), fromMicros(created)
	var list []string
	err = json.Unmarshal([]byte(types), &list)
	for _, text := range list {
		r.Types = append(r.Types, trigger.StoredPattern(text))
	}
	return r, err
}

// Replay reads one replay of an organization. It returns NotFound if the
// organization does not have it.
func (s *Store) Replay(ctx context.Context, orgID, id int64) (trigger.Replay, error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	r, err := rowOf(ctx, s.read, scanReplay,
		`SELECT `+replayColumns+` FROM replays WHERE organization_id = $1 AND id = $2`, orgID, id)
	return wrapped("find replay", r, err)
}

// ListReplays lists replays of an organization, newest first, below an id
// unless it is 0.
func (s *Store) ListReplays(ctx context.Context, orgID, before int64, limit int) (page []trigger.Replay, err error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	page, err = rowsOf(ctx, s.read, scanReplay, `SELECT `+replayColumns+` FROM replays WHERE organization_id = $1 AND ($2 = 0 OR id < $2) ORDER BY id DESC LIMIT $3`,
		orgID, before, limit)
	return wrapped("list replays", page, err)
}

// SetReplayState pauses, resumes or cancels a replay. It does nothing if the
// replay already has that state, or if a cancelled replay is cancelled again.
// It returns Conflict if the replay has finished or is being cancelled, and
// NotFound if the organization does not have it.
func (s *Store) SetReplayState(ctx context.Context, orgID, id int64, state trigger.ReplayState) (r trigger.Replay, err error) {
	switch state {
	case trigger.ReplayRunning, trigger.ReplayPaused, trigger.ReplayCancelling:
	default:
		return r, trigger.Errorf(trigger.Invalid, "a replay can be made running, paused or cancelling; got %.60q", state)
	}
	err = s.dialect.write(ctx, func(q querier) error {
		if r, err = rowOf(ctx, q, scanReplay, `UPDATE replays SET state = state
			WHERE organization_id = $1 AND id = $2 RETURNING `+replayColumns, orgID, id); err != nil {
			return err
		}
		switch {
		case r.State == state, r.State == trigger.ReplayCancelled && state == trigger.ReplayCancelling:
			return nil
		case r.State != trigger.ReplayRunning && r.State != trigger.ReplayPaused:
			return trigger.Errorf(trigger.Conflict, "the replay cannot be made %s, because it is %s", state, r.State)
		}
		r.State = state
		_, err := q.ExecContext(ctx, `UPDATE replays SET state = $2 WHERE id = $1`, id, string(state))
		return err
	})
	return wrapped("set replay state", r, err)
}

// Resend sends an event to a webhook once more, now. It reopens a failed
// delivery with all attempts of its schedule, and makes a waiting delivery due.
// If the event was delivered, or an attempt is under way, it adds a replay of
// the event and returns its number, else 0. It returns NotFound if the event or
// the webhook does not exist, and Conflict if the webhook is gone, or too many
// replays are under way.
func (s *Store) Resend(ctx context.Context, orgID int64, eventID trigger.ID, webhookID int64, o Once) (job int64, err error) {
	err = s.dialect.write(ctx, func(q querier) (err error) {
		if err := lockOrganization(ctx, q, orgID); err != nil { // else concurrent transactions would count the same replays
			return err
		}
		job, err = s.once(ctx, q, orgID, o, func() (int64, error) { return s.resend(ctx, q, orgID, eventID, webhookID) })
		return err
	})
	return wrapped("resend", job, err)
}

func (s *Store) resend(ctx context.Context, q querier, orgID int64, eventID trigger.ID, webhookID int64) (job int64, err error) {
	now := s.Now()
	if err := s.checkReceives(ctx, q, orgID, webhookID); err != nil {
		return 0, err
	}
	events, err := s.readEvents(ctx, q, orgID, []trigger.ID{eventID})
	if err != nil {
		return 0, err
	}
	if events[eventID] == nil {
		return 0, sql.ErrNoRows
	}
	if moved, err := reopen(ctx, q, orgID, eventID, webhookID, micros(now)); err != nil || moved {
		return 0, err
	}
	job, err = addReplay(ctx, q, &trigger.Replay{
		OrganizationID: orgID, WebhookID: webhookID, State: trigger.ReplayRunning, Since: now, Until: now,
		Cursor: lastID(), Queued: 1, CreatedAt: now,
	})
	if err != nil {
		return 0, err
	}
	key := trigger.DeliveryKey{OrganizationID: orgID, EventID: eventID, WebhookID: webhookID, Job: job}
	return job, addDelivery(ctx, q, &trigger.Delivery{DeliveryKey: key, DueAt: now})
}

// reopen makes an original delivery due now, if it has failed or waits. It does
// not change a claimed delivery, which may fail, and then waits by its
// schedule.
func reopen(ctx context.Context, q querier, orgID int64, eventID trigger.ID, webhookID, now int64) (moved bool, err error) {
	bucket := trigger.Bucket(orgID)
	moved, err = affected(q.ExecContext(ctx, `UPDATE deliveries SET due_at = $5
		WHERE bucket = $1 AND organization_id = $2 AND state = 0 AND event_id = $3 AND webhook_id = $4 AND job = 0 AND claim = $6`,
		bucket, orgID, eventID[:], webhookID, now, nobody()))
	if err != nil || moved {
		return moved, err
	}
	return affected(q.ExecContext(ctx, `UPDATE deliveries SET state = 0, attempts = 0, due_at = $5, reason = '', claim = $6
		WHERE bucket = $1 AND organization_id = $2 AND state = 1 AND event_id = $3 AND webhook_id = $4 AND job = 0`,
		bucket, orgID, eventID[:], webhookID, now, nobody()))
}

// countReplayed counts the end of a replay's delivery. A success also removes a
// failed delivery of the same event to the same webhook, because the event was
// delivered.
func countReplayed(ctx context.Context, q querier, r *Result) error {
	a := &r.Attempt
	switch r.Next.State {
	case trigger.DeliveryEnded:
		_, err := q.ExecContext(ctx, `UPDATE replays SET delivered = delivered + 1 WHERE id = $1`, a.Job)
		_, err2 := q.ExecContext(ctx, `DELETE FROM deliveries
			WHERE bucket = $1 AND organization_id = $2 AND state = 1 AND event_id = $3 AND webhook_id = $4`,
			trigger.Bucket(a.OrganizationID), a.OrganizationID, a.EventID[:], a.WebhookID)
		return errors.Join(err, err2)
	case trigger.DeliveryFailed:
		_, err := q.ExecContext(ctx, `UPDATE replays SET failed = failed + 1 WHERE id = $1`, a.Job)
		return err
	}
	return nil
}
