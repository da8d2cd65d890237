package store

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"triggerd/internal/trigger"
)

// sqlFinish applies results to deliveries and appends their attempts in one
// statement. A success (state 2) ends an open delivery with any claim; all
// other results need their claim. A result without an outcome adds no attempt,
// and neither does one without an open delivery: so the repeat of an unknown
// commit changes nothing.
//
// As in sqlClaim, it locks rows one by one and then changes them by their ctid.
// If statistics show no open deliveries, a join by key would go through all of
// them for each result; so would the index of one state, which the state is
// hidden from. A row that was changed since the statement began is locked at
// its new place, where the statement cannot see it. The statement returns the
// number of these rows.
const sqlFinish = `
	WITH r AS MATERIALIZED (
		SELECT r.*, CAST(0 AS smallint) AS open FROM unnest($1::smallint[], $2::bigint[], $3::uuid[], $4::bigint[], $5::bigint[], $6::uuid[],
			$7::smallint[], $8::integer[], $9::bigint[], $10::text[],
			$11::bigint[], $12::bigint[], $13::text[], $14::integer[], $15::text[], $16::bytea[],
			$17::bigint[], $18::bigint[], $19::bigint[], $20::bigint[])
		AS r (bucket, organization_id, event_id, webhook_id, job, claim, state, attempts, due_at, reason,
			at, took, outcome, status, error, response, dns, connect, tls, first_byte)
	), locked AS MATERIALIZED (
		SELECT r.*, d.place FROM r, LATERAL (
			SELECT ctid AS place FROM deliveries
			WHERE bucket = r.bucket AND organization_id = r.organization_id AND state = r.open
			AND event_id = r.event_id AND webhook_id = r.webhook_id AND job = r.job AND (r.state = 2 OR claim = r.claim)
			FOR UPDATE
		) AS d
	), ended AS (
		DELETE FROM deliveries
		WHERE (bucket = ANY ($1)) IS TRUE AND ctid = ANY (ARRAY(SELECT place FROM locked WHERE state = 2))
		RETURNING event_id, webhook_id, job
	), kept AS (
		UPDATE deliveries AS d
		SET state = l.state, attempts = l.attempts, due_at = l.due_at, reason = l.reason,
			claim = '00000000-0000-0000-0000-000000000000'
		FROM locked AS l
		WHERE (d.bucket = ANY ($1)) IS TRUE AND d.ctid = ANY (ARRAY(SELECT place FROM locked WHERE state <> 2))
		AND d.ctid = l.place
		RETURNING d.event_id, d.webhook_id, d.job
	), moved AS (
		SELECT * FROM ended UNION ALL SELECT * FROM kept
	), noted AS (
		INSERT INTO attempts (bucket, organization_id, event_id, webhook_id, job, claim, number, at, took, outcome, status, error, response,
			dns, connect, tls, first_byte)
		SELECT bucket, organization_id, event_id, webhook_id, job, claim, attempts, at, took, outcome, status, error, response,
			dns, connect, tls, first_byte
		FROM locked WHERE outcome <> ''
		ON CONFLICT DO NOTHING
	)
	SELECT (SELECT count(*) FROM locked) - (SELECT count(*) FROM moved)`

// sqlCountReplayed goes before noted, for the results of replays. countReplayed
// does the same for one result.
const sqlCountReplayed = `, counted AS (
		UPDATE replays SET delivered = replays.delivered + n.ended, failed = replays.failed + n.failed
		FROM (SELECT r.job, count(*) FILTER (WHERE r.state = 2) AS ended, count(*) FILTER (WHERE r.state = 1) AS failed
			FROM r JOIN moved USING (event_id, webhook_id, job) GROUP BY r.job) AS n
		WHERE replays.id = n.job
	), settled AS (
		DELETE FROM deliveries AS d USING r JOIN ended AS e USING (event_id, webhook_id, job)
		WHERE d.bucket = r.bucket AND d.organization_id = r.organization_id AND d.state = 1
		AND d.event_id = e.event_id AND d.webhook_id = e.webhook_id
	), noted`

// finishText returns sqlFinish for original deliveries or for replays.
func finishText(replayed bool) string {
	if !replayed {
		return sqlFinish
	}
	text := strings.Replace(sqlFinish, "CAST(0", "CAST(3", 1)
	return strings.Replace(text, ", noted", sqlCountReplayed, 1) // TestReplay fails if it is missing
}

func (p *postgres) finish(ctx context.Context, results []Result, replayed bool) error {
	slices.SortFunc(results, func(a, b Result) int { // all nodes use one order, so that they do not deadlock
		return cmp.Or(
			cmp.Compare(a.Attempt.OrganizationID, b.Attempt.OrganizationID),
			slices.Compare(a.Attempt.EventID[:], b.Attempt.EventID[:]),
			cmp.Compare(a.Attempt.WebhookID, b.Attempt.WebhookID))
	})
	missed := 0
	err := p.onConn(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		batch := &pgx.Batch{} // one round trip, one transaction
		for _, group := range resultsByDays(results) {
			batch.Queue(finishText(replayed), finishArgs(group)...).QueryRow(func(row pgx.Row) error {
				var some int
				err := row.Scan(&some)
				missed += some
				return err
			})
		}
		queueHealth(batch, results)
		return conn.SendBatch(ctx, batch).Close()
	})
	if isCode(err, "23514") {
		for _, r := range results {
			at := r.Attempt.EventID.Time()
			if made := p.makeDays(ctx, at, at); made != nil {
				return made
			}
		}
	}
	if err == nil && missed > 0 { // the others are recorded, which the next try finds
		err = &pgconn.PgError{SeverityUnlocalized: "ERROR", Code: "40001", Message: "deliveries have changed meanwhile"}
	}
	return err
}

// resultsByDays divides results, in their order, into groups whose events are
// of few days, so that each statement inserts into few partitions.
func resultsByDays(results []Result) (groups [][]Result) {
	from, days := 0, make(map[time.Time]bool)
	for i := range results {
		d := dayOf(results[i].Attempt.EventID)
		if !days[d] && len(days) == daysPerStatement {
			groups = append(groups, results[from:i])
			from = i
			clear(days)
		}
		days[d] = true
	}
	return append(groups, results[from:])
}

// sqlHealthFine and sqlHealthBack for many webhooks.
const (
	sqlAllHealthFine = `DELETE FROM webhook_health AS h USING unnest($1::bigint[], $2::bigint[]) AS f (id, at)
		WHERE h.stage = 0 AND h.webhook_id = f.id AND h.lift_at <= f.at`
	sqlAllHealthBack = `UPDATE webhook_health AS h SET stage = CASE WHEN stage > 0 THEN 3 ELSE 0 END, failures = 0,
			held_until = CASE WHEN lift_at <= f.at THEN 0 ELSE held_until END, holds = CASE WHEN lift_at <= f.at THEN 0 ELSE holds END
		FROM unnest($1::bigint[], $2::bigint[]) AS f (id, at) WHERE h.webhook_id = f.id`
)

// queueHealth queues updates of the health of the results' webhooks.
func queueHealth(batch *pgx.Batch, results []Result) {
	var fine, fineAts []int64
	marks := healthMarks(results)
	for _, m := range marks {
		if m.fine {
			fine, fineAts = append(fine, m.webhookID), append(fineAts, micros(m.fineAt))
		}
	}
	if len(fine) > 0 && len(fine) < len(marks) { // all nodes lock rows in one order
		ids := make([]int64, len(marks))
		for i, m := range marks {
			ids[i] = m.webhookID
		}
		batch.Queue(`SELECT FROM webhook_health WHERE webhook_id = ANY($1) ORDER BY webhook_id FOR UPDATE`, ids)
	}
	if len(fine) > 0 {
		batch.Queue(sqlAllHealthFine, fine, fineAts)
		batch.Queue(sqlAllHealthBack, fine, fineAts)
	}
	for _, m := range marks {
		if m.failures > 0 {
			batch.Queue(sqlHealthNote, m.webhookID, m.organizationID, m.since, m.last, m.failures)
		}
	}
}

func finishArgs(results []Result) []any {
	n := len(results)
	var (
		buckets, states          = make([]int16, n), make([]int16, n)
		orgs, hooks, jobs, dues  = make([]int64, n), make([]int64, n), make([]int64, n), make([]int64, n)
		ats, tooks               = make([]int64, n), make([]int64, n)
		events, claims           = make([][16]byte, n), make([][16]byte, n)
		attempts, statuses       = make([]int32, n), make([]int32, n)
		reasons, outcomes, fails = make([]string, n), make([]string, n), make([]string, n)
		responses                = make([][]byte, n)
		timings                  = [4][]int64{make([]int64, n), make([]int64, n), make([]int64, n), make([]int64, n)}
	)
	for i, r := range results {
		a := r.Attempt
		buckets[i], orgs[i], events[i] = trigger.Bucket(a.OrganizationID), a.OrganizationID, a.EventID
		hooks[i], jobs[i], claims[i] = a.WebhookID, a.Job, a.Claim
		states[i], attempts[i], dues[i] = storedState(&r), int32(r.Next.Attempts), micros(r.Next.DueAt)
		reasons[i], ats[i], tooks[i] = r.Next.Reason, micros(a.At), a.Took.Microseconds()
		outcomes[i], statuses[i], fails[i] = string(a.Outcome), int32(a.Status), a.Error
		responses[i] = a.Response
		for j, at := range []time.Duration{a.Timing.DNS, a.Timing.Connect, a.Timing.TLS, a.Timing.FirstByte} {
			timings[j][i] = at.Microseconds()
		}
		if responses[i] == nil {
			responses[i] = []byte{}
		}
	}
	return []any{
		buckets, orgs, events, hooks, jobs, claims, states, attempts, dues, reasons,
		ats, tooks, outcomes, statuses, fails, responses, timings[0], timings[1], timings[2], timings[3],
	}
}
