package store

import (
	"context"
	"time"
)

// TouchNode records that this node is alive, removes nodes not seen for an
// hour, and counts the live ones.
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

// Leave removes this node from the live ones, if it can within a second.
func (s *Store) Leave(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	return s.dialect.writeQuietly(ctx, func(q querier) error {
		_, err := q.ExecContext(ctx, `DELETE FROM nodes WHERE id = $1`, s.NodeID[:])
		return err
	})
}

// Nodes returns how many nodes, including this one, were alive in the last 15
// s, as counted some seconds ago; at least 1.
func (s *Store) Nodes() int { return int(max(1, s.nodes.Load())) }

// rateWindow is how many one-second steps a sliding window of a minute can
// touch.
const rateWindow = 61

// TakePermits takes n permits of an organization that all nodes share, so that
// at most limit are taken in any minute. Otherwise it takes none, and returns
// when n will be free if no others are taken.
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
		for _, t := range steps { // newest first, while they leave room
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

// lockPermits locks the permits of an organization until the commit, by the row
// of step 0, so that two nodes do not see the same sum.
func lockPermits(ctx context.Context, q querier, orgID int64) error {
	_, err := q.ExecContext(ctx, `INSERT INTO permits (organization_id, step, used) VALUES ($1, 0, 0)
		ON CONFLICT (organization_id, step) DO UPDATE SET used = 0`, orgID)
	return err
}

// DropPermits removes permits that no window touches any more.
func (s *Store) DropPermits(ctx context.Context) error {
	return wrap("drop permits", s.eraseSlices(ctx, `DELETE FROM permits WHERE step > 0 AND step < $1 AND (organization_id, step) IN
		(SELECT organization_id, step FROM permits WHERE step > 0 AND step < $1 ORDER BY organization_id, step LIMIT $2)`,
		s.Now().Unix()-2*rateWindow, slice))
}
