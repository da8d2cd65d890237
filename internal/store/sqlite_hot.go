package store

import (
	"context"
	"database/sql"
	"time"

	"triggerd/internal/trigger"
)

// In one process a statement costs microseconds, so the hot three are loops
// over prepared statements, within the writer's transaction.

func (e *embedded) addEvents(ctx context.Context, b *Batch, _ bool) (verdicts []trigger.ID, err error) {
	err = e.write(ctx, func(q querier) error {
		verdicts = make([]trigger.ID, len(b.Events))
		for i, event := range b.Events {
			if err := addEvent(ctx, q, event, b.Deliveries[i], &verdicts[i]); err != nil {
				return err
			}
		}
		return nil
	})
	return verdicts, err
}

func addEvent(ctx context.Context, q querier, e *trigger.Event, owed []trigger.Delivery, verdict *trigger.ID) error {
	bucket := trigger.Bucket(e.OrganizationID)
	if e.DedupID != "" {
		hash := e.PayloadHash()
		added, err := affected(q.ExecContext(ctx, `INSERT INTO dedup (bucket, organization_id, dedup_id, event_id, payload_hash)
			VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`, bucket, e.OrganizationID, e.DedupID, e.ID[:], hash[:]))
		if err != nil {
			return err
		}
		if !added {
			return q.QueryRowContext(ctx, `SELECT event_id FROM dedup WHERE bucket = ? AND organization_id = ? AND dedup_id = ?`,
				bucket, e.OrganizationID, e.DedupID).Scan((*dbID)(verdict))
		}
	}
	*verdict = e.ID
	added, err := affected(q.ExecContext(ctx, `INSERT INTO events (bucket, organization_id, id, type, payload, dedup_id, version)
		VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`,
		bucket, e.OrganizationID, e.ID[:], e.Type, e.Payload, e.DedupID, e.Version))
	if err != nil || !added { // not added: by an earlier try of this batch, with its deliveries
		return err
	}
	for _, d := range owed {
		if _, err := q.ExecContext(ctx, `INSERT INTO deliveries
			(bucket, organization_id, state, event_id, webhook_id, job, attempts, due_at, claim, reason)
			VALUES (?, ?, 0, ?, ?, 0, 0, ?, ?, '')`,
			bucket, e.OrganizationID, e.ID[:], d.WebhookID, micros(d.DueAt), d.Claim[:]); err != nil {
			return err
		}
	}
	return nil
}

func affected(result sql.Result, err error) (bool, error) {
	if err != nil {
		return false, err
	}
	n, err := result.RowsAffected()
	return n > 0, err
}

func (e *embedded) claim(ctx context.Context, wants []Want, claim trigger.ID, now, lease time.Time) (taken []trigger.Delivery, err error) {
	err = e.write(ctx, func(q querier) error {
		for _, want := range wants {
			if err := query(ctx, q, func(rows *sql.Rows) error {
				d := trigger.Delivery{Claim: claim, DueAt: lease}
				err := rows.Scan(&d.OrganizationID, (*dbID)(&d.EventID), &d.WebhookID, &d.Job, &d.Attempts)
				taken = append(taken, d)
				return err
			}, `SELECT organization_id, event_id, webhook_id, job, attempts FROM deliveries
				WHERE bucket = ? AND state = 0 AND webhook_id > 0 AND webhook_id = ? AND due_at <= ?
				ORDER BY due_at LIMIT ?`, want.Bucket, want.WebhookID, micros(now), want.Room); err != nil {
				return err
			}
		}
		for _, d := range taken {
			if _, err := q.ExecContext(ctx, `UPDATE deliveries SET claim = ?, due_at = ?
				WHERE bucket = ? AND organization_id = ? AND state = 0 AND event_id = ? AND webhook_id = ? AND job = ?`,
				claim[:], micros(lease), trigger.Bucket(d.OrganizationID), d.OrganizationID,
				d.EventID[:], d.WebhookID, d.Job); err != nil {
				return err
			}
		}
		return nil
	})
	return taken, err
}

func (e *embedded) finish(ctx context.Context, results []Result) error {
	return e.write(ctx, func(q querier) error {
		for _, r := range results {
			moved, err := moveDelivery(ctx, q, r)
			if err != nil {
				return err
			}
			a := r.Attempt
			if !moved || a.Outcome == "" {
				continue
			}
			response := a.Response
			if response == nil {
				response = []byte{}
			}
			if _, err := q.ExecContext(ctx, `INSERT INTO attempts
				(bucket, organization_id, event_id, webhook_id, job, claim, number, at, took, outcome, status, error, response)
				VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`,
				trigger.Bucket(a.OrganizationID), a.OrganizationID, a.EventID[:], a.WebhookID, a.Job, a.Claim[:],
				r.Next.Attempts, micros(a.At), a.Took.Microseconds(), string(a.Outcome), a.Status, a.Error, response); err != nil {
				return err
			}
		}
		return nil
	})
}

// moveDelivery follows a result: a success ends an open delivery whoever has
// claimed it, everything else needs the claim.
func moveDelivery(ctx context.Context, q querier, r Result) (moved bool, err error) {
	a, next := r.Attempt, r.Next
	bucket := trigger.Bucket(a.OrganizationID)
	if next.State == trigger.DeliveryEnded {
		return affected(q.ExecContext(ctx, `DELETE FROM deliveries
			WHERE bucket = ? AND organization_id = ? AND state = 0 AND event_id = ? AND webhook_id = ? AND job = ?`,
			bucket, a.OrganizationID, a.EventID[:], a.WebhookID, a.Job))
	}
	return affected(q.ExecContext(ctx, `UPDATE deliveries SET state = ?, attempts = ?, due_at = ?, reason = ?, claim = ?
		WHERE bucket = ? AND organization_id = ? AND state = 0 AND event_id = ? AND webhook_id = ? AND job = ? AND claim = ?`,
		int(next.State), next.Attempts, micros(next.DueAt), next.Reason, nobody(),
		bucket, a.OrganizationID, a.EventID[:], a.WebhookID, a.Job, a.Claim[:]))
}
