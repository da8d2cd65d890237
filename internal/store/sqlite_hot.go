package store

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"time"

	"triggerd/internal/trigger"
)

// In one process a statement costs microseconds, so the three hot statements
// are loops over prepared statements in the writer's transaction; see rows.go.

func (e *embedded) addEvents(ctx context.Context, b *Batch, _ bool) (verdicts []trigger.ID, err error) {
	err = e.writer.do(ctx, e.writer.hot, func(q querier) error {
		verdicts = make([]trigger.ID, len(b.Events))
		changed, err := changedSince(ctx, q, b)
		for i, event := range b.Events {
			switch {
			case err != nil:
				return err
			case changed[event.OrganizationID]:
				err = addedBefore(ctx, q, event, &verdicts[i])
			default:
				err = addEvent(ctx, q, event, b.Deliveries[i], &verdicts[i])
			}
		}
		return err
	})
	return orZero(verdicts, err)
}

// changedSince is sqlChanged for SQLite.
func changedSince(ctx context.Context, q querier, b *Batch) (changed map[int64]bool, err error) {
	orgs, versions := b.versions()
	for i, id := range orgs {
		var is int64
		err := q.QueryRowContext(ctx, `SELECT version FROM organizations WHERE id = ? AND deleted_at = 0`, id).Scan(&is)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return nil, err
		}
		if err != nil || is != versions[i] {
			if changed == nil {
				changed = make(map[int64]bool)
			}
			changed[id] = true
		}
	}
	return changed, nil
}

// addedBefore finds an event that an earlier try of its batch has stored.
func addedBefore(ctx context.Context, q querier, e *trigger.Event, verdict *trigger.ID) error {
	err := q.QueryRowContext(ctx, `SELECT id FROM events WHERE bucket = ? AND organization_id = ? AND id = ?`,
		trigger.Bucket(e.OrganizationID), e.OrganizationID, e.ID[:]).Scan((*dbID)(verdict))
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	return err
}

// Parts of the statements of dueText. ?1 to ?5 are the bucket, the webhook or
// the replay, the bounds of the due time, and the number of rows.
const (
	sqlDueColumns = `SELECT organization_id, event_id, webhook_id, job, attempts FROM `
	sqlDueFrom    = `deliveries WHERE bucket = ?1 AND `
	sqlDueTo      = ` AND due_at >= ?3 AND due_at <= ?4 ORDER BY due_at `

	sqlDueOpen     = sqlDueFrom + `state = 0 AND webhook_id > 0 AND webhook_id = ?2` + sqlDueTo
	sqlDueReplayed = sqlDueFrom + `state = 3 AND job = ?2` + sqlDueTo
)

// dueText is claimText for SQLite.
func dueText(w Want) string {
	which := sqlDueOpen
	if w.Job != 0 {
		which = sqlDueReplayed
	}
	order := "due_at"
	switch w.Order {
	case ByDue:
		return sqlDueColumns + which + `LIMIT ?5`
	case ForProbe:
		order = "substr(event_id, 11)"
	}
	return sqlDueColumns + `(
		SELECT * FROM (SELECT * FROM ` + which + `LIMIT 100)
		UNION SELECT * FROM (SELECT * FROM ` + which + `DESC LIMIT 100)
	) ORDER BY attempts, ` + order + ` LIMIT ?5`
}

func (e *embedded) claim(ctx context.Context, wants []Want, claim trigger.ID, now, lease time.Time) (taken []trigger.Delivery, err error) {
	err = e.writer.do(ctx, e.writer.hot, func(q querier) error {
		for _, want := range wants {
			part, err := rowsOf(ctx, q, func(r row) (trigger.Delivery, error) {
				d := trigger.Delivery{Claim: claim, DueAt: lease}
				err := r.Scan(&d.OrganizationID, (*dbID)(&d.EventID), &d.WebhookID, &d.Job, &d.Attempts)
				return d, err
			}, dueText(want), want.Bucket, cmp.Or(want.Job, want.WebhookID), micros(want.From), micros(now), want.Room)
			if err != nil {
				return err
			}
			taken = append(taken, part...)
		}
		for _, d := range taken {
			if _, err := q.ExecContext(ctx, `UPDATE deliveries SET claim = ?, due_at = ?
				WHERE bucket = ? AND organization_id = ? AND state = ? AND event_id = ? AND webhook_id = ? AND job = ?`,
				claim[:], micros(lease), trigger.Bucket(d.OrganizationID), d.OrganizationID, openState(d.Job),
				d.EventID[:], d.WebhookID, d.Job); err != nil {
				return err
			}
		}
		return nil
	})
	return orZero(taken, err)
}

func (e *embedded) finish(ctx context.Context, results []Result, _ bool) error {
	return e.writer.do(ctx, e.writer.hot, func(q querier) error {
		for i := range results {
			if _, err := finishOne(ctx, q, &results[i]); err != nil {
				return err
			}
		}
		return markHealth(ctx, q, results)
	})
}

// In SQLite a subquery has one column, so there are two probes.
const sqlLanes = `
	WITH RECURSIVE lane(key) AS (
		SELECT CAST($1 AS bigint)
		UNION ALL
		SELECT (SELECT d.bucket * 281474976710656 + d.webhook_id FROM deliveries d
			WHERE d.state = 0 AND d.webhook_id > 0
			AND (d.bucket, d.webhook_id) > (lane.key / 281474976710656, lane.key % 281474976710656)
			ORDER BY d.bucket, d.webhook_id LIMIT 1)
		FROM lane WHERE lane.key IS NOT NULL
	)
	SELECT key / 281474976710656, key % 281474976710656, (SELECT d.due_at FROM deliveries d
		WHERE d.state = 0 AND d.webhook_id > 0
		AND d.bucket = key / 281474976710656 AND d.webhook_id = key % 281474976710656
		ORDER BY d.due_at LIMIT 1)
	FROM lane WHERE key > $1 LIMIT $2`

func (e *embedded) lanes() (all, due string) {
	return sqlLanes, sqlDueLanes + `(SELECT value AS key FROM json_each($1)) AS k`
}
