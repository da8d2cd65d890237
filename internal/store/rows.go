package store

import (
	"context"
	"database/sql"

	"triggerd/internal/trigger"
)

// The functions of this file change one row at a time, on both databases.
// SQLite's hot statements are loops over them, because a statement costs
// microseconds there. On PostgreSQL only rare work uses them.

// stateReplayed is the stored state of an open delivery of a replay.
const stateReplayed = 3

// openState returns the stored state of an open delivery.
func openState(job int64) int {
	if job != 0 {
		return stateReplayed
	}
	return int(trigger.DeliveryOpen)
}

// storedState returns the stored state of a delivery after a result.
func storedState(r *Result) int16 {
	if r.Next.State == trigger.DeliveryOpen {
		return int16(openState(r.Attempt.Job))
	}
	return int16(r.Next.State)
}

// addEvent adds an event with its deliveries, unless its dedup id is taken. It
// sets verdict to the id of the event that has the dedup id.
func addEvent(ctx context.Context, q querier, e *trigger.Event, owed []trigger.Delivery, verdict *trigger.ID) error {
	bucket := trigger.Bucket(e.OrganizationID)
	if e.DedupID != "" {
		hash := e.PayloadHash()
		added, err := affected(q.ExecContext(ctx, `INSERT INTO dedup (bucket, organization_id, dedup_id, event_id, payload_hash)
			VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING`, bucket, e.OrganizationID, e.DedupID, e.ID[:], hash[:]))
		if err != nil {
			return err
		}
		if !added {
			return q.QueryRowContext(ctx, `SELECT event_id FROM dedup WHERE bucket = $1 AND organization_id = $2 AND dedup_id = $3`,
				bucket, e.OrganizationID, e.DedupID).Scan((*dbID)(verdict))
		}
	}
	*verdict = e.ID
	added, err := affected(q.ExecContext(ctx, `INSERT INTO events (bucket, organization_id, id, type, payload, dedup_id, version, extra)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING`,
		bucket, e.OrganizationID, e.ID[:], e.Type, e.Payload, e.DedupID, e.Version, extraOf(e)))
	if err != nil || !added { // an earlier try of this batch added it, with its deliveries
		return err
	}
	for i := range owed {
		if err := addDelivery(ctx, q, &owed[i]); err != nil {
			return err
		}
	}
	return nil
}

func addDelivery(ctx context.Context, q querier, d *trigger.Delivery) error {
	_, err := q.ExecContext(ctx, `INSERT INTO deliveries
		(bucket, organization_id, state, event_id, webhook_id, job, attempts, due_at, claim, reason)
		VALUES ($1, $2, $3, $4, $5, $6, 0, $7, $8, '') ON CONFLICT DO NOTHING`,
		trigger.Bucket(d.OrganizationID), d.OrganizationID, openState(d.Job), d.EventID[:], d.WebhookID, d.Job,
		micros(d.DueAt), d.Claim[:])
	return err
}

func affected(result sql.Result, err error) (bool, error) {
	n, err := count(result, err)
	return n > 0, err
}

// count returns the number of rows that a statement has changed.
func count(result sql.Result, err error) (int, error) {
	if err != nil {
		return 0, err
	}
	n, err := result.RowsAffected()
	return int(n), err
}

// finishOne applies a result, appends its attempt, and counts it for its
// replay.
func finishOne(ctx context.Context, q querier, r *Result) (moved bool, err error) {
	if moved, err = moveDelivery(ctx, q, r); err == nil && moved && r.Attempt.Outcome != "" {
		err = addAttempt(ctx, q, r)
	}
	if err == nil && moved && r.Attempt.Job != 0 {
		err = countReplayed(ctx, q, r)
	}
	return moved, err
}

func addAttempt(ctx context.Context, q querier, r *Result) error {
	a, response := &r.Attempt, r.Attempt.Response
	if response == nil {
		response = []byte{}
	}
	_, err := q.ExecContext(ctx, `INSERT INTO attempts
		(bucket, organization_id, event_id, webhook_id, job, claim, number, at, took, outcome, status, error, response,
			dns, connect, tls, first_byte)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17) ON CONFLICT DO NOTHING`,
		trigger.Bucket(a.OrganizationID), a.OrganizationID, a.EventID[:], a.WebhookID, a.Job, a.Claim[:],
		r.Next.Attempts, micros(a.At), a.Took.Microseconds(), string(a.Outcome), a.Status, a.Error, response,
		a.Timing.DNS.Microseconds(), a.Timing.Connect.Microseconds(), a.Timing.TLS.Microseconds(), a.Timing.FirstByte.Microseconds())
	return err
}

// moveDelivery applies the next state of a delivery. A success ends an open
// delivery with any claim; all other results need their claim.
func moveDelivery(ctx context.Context, q querier, r *Result) (moved bool, err error) {
	a, next := &r.Attempt, &r.Next
	bucket, open := trigger.Bucket(a.OrganizationID), openState(a.Job)
	if next.State == trigger.DeliveryEnded {
		return affected(q.ExecContext(ctx, `DELETE FROM deliveries
			WHERE bucket = $1 AND organization_id = $2 AND state = $3 AND event_id = $4 AND webhook_id = $5 AND job = $6`,
			bucket, a.OrganizationID, open, a.EventID[:], a.WebhookID, a.Job))
	}
	return affected(q.ExecContext(ctx, `UPDATE deliveries SET state = $8, attempts = $9, due_at = $10, reason = $11, claim = $12
		WHERE bucket = $1 AND organization_id = $2 AND state = $3 AND event_id = $4 AND webhook_id = $5 AND job = $6 AND claim = $7`,
		bucket, a.OrganizationID, open, a.EventID[:], a.WebhookID, a.Job, a.Claim[:],
		storedState(r), next.Attempts, micros(next.DueAt), next.Reason, nobody()))
}
