package store

import (
	"context"
	"time"
)

// TouchNode notes that this node lives, forgets nodes long silent, and counts
// those that are there.
func (s *Store) TouchNode(ctx context.Context) error {
	var n int
	err := s.dialect.writeQuietly(ctx, func(q querier) error {
		now := s.Now()
		if _, err := q.ExecContext(ctx, `INSERT INTO nodes (id, seen_at) VALUES ($1, $2)
			ON CONFLICT (id) DO UPDATE SET seen_at = excluded.seen_at`, s.NodeID[:], micros(now)); err != nil {
			return err
		}
		if _, err := q.ExecContext(ctx, `DELETE FROM nodes WHERE seen_at < $1`, micros(now.Add(-time.Hour))); err != nil {
			return err
		}
		return q.QueryRowContext(ctx, `SELECT count(*) FROM nodes WHERE seen_at >= $1`,
			micros(now.Add(-3*clockEvery))).Scan(&n)
	})
	if err == nil {
		s.nodes.Store(int64(n))
	}
	return wrap("record that this node is alive", err)
}

// Leave notes that this node is gone, as far as that can be said.
func (s *Store) Leave(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	return s.dialect.writeQuietly(ctx, func(q querier) error {
		_, err := q.ExecContext(ctx, `DELETE FROM nodes WHERE id = $1`, s.NodeID[:])
		return err
	})
}

// Nodes is how many nodes were alive in the last 15 s, this one included, as
// it was counted some seconds ago; at least 1.
func (s *Store) Nodes() int { return int(max(1, s.nodes.Load())) }

// rateWindow is how many one-second steps a sliding window of a minute can
// touch.
const rateWindow = 61

// TakePermits takes n permits of an organization from what all nodes share, so
// that in any minute no more than limit are taken. Otherwise it takes none,
// and says when that many will be free if nobody else comes.
func (s *Store) TakePermits(ctx context.Context, orgID int64, limit, n int) (ok bool, retryAfter time.Duration, err error) {
	step := s.Now().Unix()
	err = s.dialect.writeQuietly(ctx, func(q querier) error {
		if err := lockPermits(ctx, q, orgID); err != nil {
			return err
		}
		result, err := q.ExecContext(ctx, `
			INSERT INTO permits (organization_id, step, used)
			SELECT CAST($1 AS bigint), CAST($2 AS bigint), CAST($3 AS bigint)
			WHERE (SELECT coalesce(sum(used), 0) FROM permits WHERE organization_id = $1 AND step > $2 - 61) + $3 <= $4
			ON CONFLICT (organization_id, step) DO UPDATE SET used = permits.used + excluded.used`,
			orgID, step, n, limit)
		if ok, err = affected(result, err); err != nil || ok {
			return err
		}
		used := 0
		retryAfter = rateWindow * time.Second
		type taken struct {
			step int64
			used int
		}
		steps, err := rowsOf(ctx, q, func(r row) (t taken, err error) {
			err = r.Scan(&t.step, &t.used)
			return t, err
		}, `SELECT step, used FROM permits WHERE organization_id = $1 AND step > $2 - 61 ORDER BY step DESC`, orgID, step)
		if err != nil {
			return err
		}
		for _, t := range steps { // newest first, for as long as they leave room
			if used += t.used; used+n > limit {
				retryAfter = time.Duration(t.step+rateWindow-step) * time.Second
				break
			}
		}
		return nil
	})
	if err != nil {
		return false, 0, wrap("take permits", err)
	}
	return ok, max(retryAfter, time.Second), nil
}

// lockPermits keeps others of an organization out until the commit, by the row
// of step 0, so that several nodes do not see the same sum.
func lockPermits(ctx context.Context, q querier, orgID int64) error {
	_, err := q.ExecContext(ctx, `INSERT INTO permits (organization_id, step, used) VALUES ($1, 0, 0)
		ON CONFLICT (organization_id, step) DO UPDATE SET used = 0`, orgID)
	return err
}

// DropPermits forgets what no window touches any more.
func (s *Store) DropPermits(ctx context.Context) error {
	return wrap("drop permits", s.eraseSlices(ctx, `DELETE FROM permits WHERE step > 0 AND step < $1 AND (organization_id, step) IN
		(SELECT organization_id, step FROM permits WHERE step > 0 AND step < $1 ORDER BY organization_id, step LIMIT $2)`,
		s.Now().Unix()-2*rateWindow, slice))
}
