package store

import (
	"context"
	"time"

	"triggerd/internal/trigger"
)

// eraseAfter is the time for which the data of a deleted organization stays.
// Events accepted just before the deletion are committed by then.
const eraseAfter = time.Minute

// Erase removes the data of deleted organizations, some hundreds of rows at a
// time, and then the organizations.
func (s *Store) Erase(ctx context.Context) error {
	ids, err := rowsOf(ctx, s.hot, scanInt, `SELECT id FROM organizations WHERE deleted_at > 0 AND deleted_at < $1 ORDER BY id`,
		micros(s.Now().Add(-eraseAfter)))
	if err != nil {
		return wrap("erase organizations", err)
	}
	for _, id := range ids {
		if err := s.erase(ctx, id); err != nil {
			return wrap("erase organizations", err)
		}
	}
	return nil
}

func (s *Store) erase(ctx context.Context, orgID int64) error {
	if err := s.eraseEvents(ctx, orgID); err != nil {
		return err
	}
	if err := s.eraseAttempts(ctx, orgID); err != nil {
		return err
	}
	for _, text := range []string{ // the remains of events removed before
		`DELETE FROM deliveries WHERE bucket = $1 AND organization_id = $2 AND event_id IN (SELECT event_id FROM deliveries
			WHERE bucket = $1 AND organization_id = $2 LIMIT $3)`,
		`DELETE FROM dedup WHERE bucket = $1 AND organization_id = $2 AND dedup_id IN (SELECT dedup_id FROM dedup
			WHERE bucket = $1 AND organization_id = $2 LIMIT $3)`,
	} {
		if err := s.eraseSlices(ctx, text, trigger.Bucket(orgID), orgID, slice); err != nil {
			return err
		}
	}
	for _, text := range []string{
		`DELETE FROM idempotency WHERE organization_id = $1 AND key IN (SELECT key FROM idempotency WHERE organization_id = $1 LIMIT $2)`,
		`DELETE FROM permits WHERE organization_id = $1 AND step IN (SELECT step FROM permits WHERE organization_id = $1 LIMIT $2)`,
	} {
		if err := s.eraseSlices(ctx, text, orgID, slice); err != nil {
			return err
		}
	}
	return s.dialect.writeQuietly(ctx, func(q querier) error {
		for _, text := range []string{
			`DELETE FROM replays WHERE organization_id = $1`,
			`DELETE FROM webhook_health WHERE organization_id = $1`,
			`DELETE FROM webhook_versions WHERE webhook_id IN (SELECT id FROM webhooks WHERE organization_id = $1)`,
			`DELETE FROM webhooks WHERE organization_id = $1`,
			`DELETE FROM event_types WHERE organization_id = $1`,
			`DELETE FROM idempotency WHERE organization_id = $1`,
			`DELETE FROM permits WHERE organization_id = $1`,
			`DELETE FROM api_keys WHERE organization_id = $1`,
			`DELETE FROM organizations WHERE id = $1`,
		} {
			if _, err := q.ExecContext(ctx, text, orgID); err != nil {
				return err
			}
		}
		return nil
	})
}

// eraseSlices repeats a statement that deletes or changes some rows until it
// finds none.
func (s *Store) eraseSlices(ctx context.Context, text string, args ...any) error {
	for more := true; more; {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := s.dialect.writeQuietly(ctx, func(q querier) (err error) {
			more, err = affected(q.ExecContext(ctx, text, args...))
			return err
		}); err != nil {
			return err
		}
	}
	return nil
}

// eraseAttempts removes the remaining attempts of events removed before.
func (s *Store) eraseAttempts(ctx context.Context, orgID int64) error {
	for w := (dayWalk{orgID: orgID, table: "attempts", left: allIDs()}); !w.isOver(); {
		part, err := s.nextPart(ctx, s.read, &w)
		if err != nil {
			return err
		}
		if err := s.eraseSlices(ctx, `DELETE FROM attempts
			WHERE bucket = $1 AND organization_id = $2 AND event_id >= $4 AND event_id < $5 AND event_id IN (SELECT event_id FROM attempts
				WHERE bucket = $1 AND organization_id = $2 AND event_id >= $4 AND event_id < $5 LIMIT $3)`,
			trigger.Bucket(orgID), orgID, slice, part.from[:], part.before[:]); err != nil {
			return err
		}
	}
	return nil
}

// eraseEvents removes events, each with all its rows in one transaction, so
// that no event looks lost meanwhile. It repeats the walk until it finds no
// events.
func (s *Store) eraseEvents(ctx context.Context, orgID int64) error {
	for found := true; found; {
		found = false
		for w := (dayWalk{orgID: orgID, table: "events", left: allIDs()}); !w.isOver(); {
			ids, err := s.idsOfPart(ctx, &w, slice)
			if err != nil {
				return err
			}
			if len(ids) == 0 {
				continue
			}
			if err := s.eraseThese(ctx, orgID, ids); err != nil {
				return err
			}
			found = true
		}
	}
	return nil
}

// eraseThese removes events of a few days.
func (s *Store) eraseThese(ctx context.Context, orgID int64, ids []trigger.ID) error {
	of, is := s.among("event_id"), s.among("id")
	return s.dialect.writeQuietly(ctx, func(q querier) error {
		for _, text := range []string{
			`DELETE FROM deliveries WHERE bucket = $1` + of + ` AND state IN (0, 1, 3)`,
			`DELETE FROM attempts WHERE bucket = $1` + of,
			`DELETE FROM dedup WHERE bucket = $1 AND organization_id = $2 AND dedup_id IN (SELECT dedup_id FROM events
				WHERE bucket = $1` + is + ` AND dedup_id <> '')`,
			`DELETE FROM events WHERE bucket = $1` + is,
		} {
			if _, err := q.ExecContext(ctx, text, s.amongArgs(orgID, ids)...); err != nil {
				return err
			}
		}
		return nil
	})
}
