package store

import (
	"context"
	"errors"
	"time"

	"triggerd/internal/trigger"
)

// MakeDays prepares the partitions from yesterday to daysAhead days from now.
func (s *Store) MakeDays(ctx context.Context) error {
	now := s.Now()
	return wrap("make days", s.dialect.makeDays(ctx, now.Add(-24*time.Hour), now.Add(daysAhead*24*time.Hour)))
}

// Expire marks the open deliveries of events before the given time as failed,
// so that they stay visible. It returns their number, even beside an error.
// Each step is a short transaction.
func (s *Store) Expire(ctx context.Context, before time.Time) (expired int, err error) {
	err = s.eachOrganization(ctx, func(orgID int64) (bool, error) {
		n, done, err := s.expireBefore(ctx, orgID, trigger.MinID(before))
		if err != nil {
			return false, err
		}
		expired += n
		return done, nil
	})
	return expired, err
}

// DropBefore removes data older than the given time: first the events with
// their attempts, then the failed deliveries, because an event without its
// failed delivery would look delivered. Open deliveries do not keep their
// events, so call Expire before. On PostgreSQL it removes whole days, when all
// of a day is older. Finally it removes the tombstones, versions of webhooks
// and ended keys that no remaining event needs.
func (s *Store) DropBefore(ctx context.Context, before time.Time) error {
	before = s.dialect.cutoff(before)
	for done := false; !done; {
		var err error
		if done, err = s.dialect.dropDays(ctx, before); errors.Is(err, errElsewhere) {
			return nil // that node, or the next sweep, continues
		}
		if err != nil {
			return wrap("drop days", err)
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	if err := s.dropReplays(ctx, before); err != nil {
		return err
	}
	if err := s.eachOrganization(ctx, func(orgID int64) (bool, error) {
		_, done, err := s.deleteFailed(ctx, orgID, trigger.MinID(before))
		return done, err
	}); err != nil {
		return err
	}
	return wrap("drop what was deleted", s.dropDeleted(ctx, before))
}

// dropReplays removes ended replays that were created before the given time.
func (s *Store) dropReplays(ctx context.Context, before time.Time) error {
	return wrap("drop replays", s.dialect.writeQuietly(ctx, func(q querier) error {
		_, err := q.ExecContext(ctx, `DELETE FROM replays WHERE id IN (SELECT id FROM replays
			WHERE created_at < $1 AND state IN ('done', 'cancelled') ORDER BY id LIMIT 1000)`, micros(before))
		return err
	}))
}

// eachOrganization calls step for each organization until it is done. An error
// does not stop the other organizations.
func (s *Store) eachOrganization(ctx context.Context, step func(orgID int64) (done bool, err error)) error {
	var failed error
	for after := int64(0); ; {
		ids, err := s.organizationIDs(ctx, after)
		if err != nil || len(ids) == 0 {
			return errors.Join(failed, err)
		}
		for _, id := range ids {
			for done := false; !done; {
				if err := ctx.Err(); err != nil {
					return err
				}
				if done, err = step(id); err != nil {
					failed, done = err, true
				}
			}
			after = id
		}
	}
}

// DropDedup removes dedup ids of events before the given time. It walks the
// whole table, one page and short transaction at a time.
func (s *Store) DropDedup(ctx context.Context, before time.Time) error {
	return wrap("drop dedup ids", s.eachOrganization(ctx, func() func(int64) (bool, error) {
		var last string
		return func(orgID int64) (bool, error) {
			next, done, err := s.dropDedupPage(ctx, orgID, last, trigger.MinID(before))
			if err != nil || done {
				next = ""
			}
			last = next
			return done, err
		}
	}()))
}

func (s *Store) dropDedupPage(ctx context.Context, orgID int64, after string, before trigger.ID) (last string, done bool, err error) {
	const page = 1000
	type taken struct {
		dedupID string
		eventID trigger.ID
	}
	rows, err := rowsOf(ctx, s.hot, func(r row) (t taken, err error) {
		err = r.Scan(&t.dedupID, (*dbID)(&t.eventID))
		return t, err
	}, `SELECT dedup_id, event_id FROM dedup WHERE bucket = $1 AND organization_id = $2 AND dedup_id > $3
		ORDER BY dedup_id LIMIT $4`, trigger.Bucket(orgID), orgID, after, page)
	if err != nil {
		return "", false, err
	}
	var old []string
	for _, t := range rows {
		if last = t.dedupID; t.eventID == minID(t.eventID, before) {
			old = append(old, last)
		}
	}
	if len(old) == 0 {
		return last, len(rows) < page, nil
	}
	err = s.dialect.writeQuietly(ctx, func(q querier) error {
		for _, id := range old {
			if _, err := q.ExecContext(ctx, `DELETE FROM dedup
				WHERE bucket = $1 AND organization_id = $2 AND dedup_id = $3 AND event_id < $4`,
				trigger.Bucket(orgID), orgID, id, before[:]); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return "", false, err
	}
	return last, len(rows) < page, nil
}
