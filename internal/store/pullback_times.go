package store

import (
	"context"
	"time"

	"triggerd/internal/trigger"
)

// healthTimes are the times of a row of webhook_health.
type healthTimes struct {
	webhookID         int64
	since, last, held int64
}

// pullHealth pulls back open breakers and the times of failing webhooks.
func (s *Store) pullHealth(ctx context.Context, _ trigger.Schedule) (n int, err error) {
	for after := int64(0); ; {
		now := s.Now()
		page, err := rowsOf(ctx, s.read, func(r row) (h healthTimes, err error) {
			return h, r.Scan(&h.webhookID, &h.since, &h.last, &h.held)
		}, `SELECT webhook_id, since, last_at, held_until FROM webhook_health WHERE webhook_id > $1
			AND (held_until > $2 OR since > $3 OR last_at > $3) ORDER BY webhook_id LIMIT $4`,
			after, micros(now.Add(trigger.MaxBreakerOpen)), micros(now.Add(trigger.MaxClockSkew)), pullLanes)
		if err != nil || len(page) == 0 {
			return n, err
		}
		moved, err := s.moveHealth(ctx, page, now)
		if n += moved; err != nil {
			return n, err
		}
		after = page[len(page)-1].webhookID
	}
}

// moveHealth moves the times of rows that have not changed since they were
// read, in the order in which all transactions lock them.
func (s *Store) moveHealth(ctx context.Context, page []healthTimes, now time.Time) (n int, err error) {
	return s.move(ctx, func(ctx context.Context, q querier) (n int, err error) {
		for _, h := range page {
			known, held := trigger.Health{Since: fromMicros(h.since), LastAt: fromMicros(h.last)}.PulledBack(fromMicros(h.held), now)
			moved, err := count(q.ExecContext(ctx, `UPDATE webhook_health SET since = $5, last_at = $6, held_until = $7,
				lift_at = CASE WHEN lift_at > CAST($7 AS bigint) THEN CAST($7 AS bigint) ELSE lift_at END
				WHERE webhook_id = $1 AND since = $2 AND last_at = $3 AND held_until = $4`,
				h.webhookID, h.since, h.last, h.held, micros(known.Since), micros(known.LastAt), micros(held)))
			if err != nil {
				return 0, err
			}
			n += moved
		}
		return n, nil
	})
}

// pullPermits pulls back permits of the rate limits, one organization at a
// time: permits of the last minute ahead count as taken now, and the others as
// over. So the limit holds, and is free again in a minute.
func (s *Store) pullPermits(ctx context.Context, _ trigger.Schedule) (n int, err error) {
	ahead := s.Now().Add(trigger.MaxClockSkew).Unix()
	ids, err := rowsOf(ctx, s.read, scanInt, `SELECT DISTINCT organization_id FROM permits WHERE step > $1 ORDER BY organization_id`, ahead)
	if err != nil {
		return 0, err
	}
	for _, id := range ids {
		moved, err := s.movePermits(ctx, id)
		if n += moved; err != nil {
			return n, err
		}
	}
	return n, nil
}

func (s *Store) movePermits(ctx context.Context, orgID int64) (n int, err error) {
	now := s.Now()
	step, ahead := now.Unix(), now.Add(trigger.MaxClockSkew).Unix()
	return s.move(ctx, func(ctx context.Context, q querier) (int, error) {
		if err := lockPermits(ctx, q, orgID); err != nil {
			return 0, err
		}
		if _, err := q.ExecContext(ctx, `
			INSERT INTO permits (organization_id, step, used)
			SELECT CAST($1 AS bigint), CAST($2 AS bigint), sum(used) FROM permits WHERE organization_id = $1 AND step > $3
			AND step > (SELECT max(step) FROM permits WHERE organization_id = $1) - 61
			HAVING count(*) > 0
			ON CONFLICT (organization_id, step) DO UPDATE SET used = permits.used + excluded.used`, orgID, step, ahead); err != nil {
			return 0, err
		}
		return count(q.ExecContext(ctx, `DELETE FROM permits WHERE organization_id = $1 AND step > $2`, orgID, ahead))
	})
}

// pullPlainTimes sets times of past events that lie ahead to now. Each
// statement is short, because it uses an index, or a small table.
func (s *Store) pullPlainTimes(ctx context.Context, _ trigger.Schedule) (n int, err error) {
	for _, text := range []string{
		`UPDATE nodes SET seen_at = $1 WHERE seen_at > $2`,
		`UPDATE idempotency SET at = $1 WHERE at > $2`,
		`UPDATE organizations SET deleted_at = $1 WHERE deleted_at > 0 AND deleted_at > $2`,
	} {
		moved, err := s.pullTime(ctx, text)
		if n += moved; err != nil {
			return n, err
		}
	}
	return n, nil
}

func (s *Store) pullTime(ctx context.Context, text string) (int, error) {
	now := s.Now()
	return s.move(ctx, func(ctx context.Context, q querier) (int, error) {
		return count(q.ExecContext(ctx, text, micros(now), micros(now.Add(trigger.MaxClockSkew))))
	})
}
