package store

import (
	"cmp"
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"triggerd/internal/trigger"
)

// sqlChanged selects organizations that do not exist, or whose webhooks have
// another version than given. It uses the snapshot of the statement that it is
// part of.
const sqlChanged = `
	SELECT k.id FROM unnest($1::bigint[], $2::bigint[]) AS k (id, version)
	WHERE k.version IS DISTINCT FROM (SELECT o.version FROM organizations o WHERE o.id = k.id AND o.deleted_at = 0)`

// sqlAddEvents adds a whole batch in one round trip and one commit. It leaves
// out events that were decided by webhooks that have changed. It inserts dedup
// ids in the order of their key, because two nodes with the same ids in
// different orders would deadlock.
const sqlAddEvents = `
	WITH input AS MATERIALIZED (
		SELECT * FROM unnest($3::smallint[], $4::bigint[], $5::uuid[], $6::text[], $7::text[], $8::text[], $9::bytea[], $10::bigint[], $11::text[])
		AS e (bucket, organization_id, id, type, payload, dedup_id, payload_hash, version, extra)
		WHERE organization_id <> ALL (ARRAY(` + sqlChanged + `))
	), won AS (
		INSERT INTO dedup (bucket, organization_id, dedup_id, event_id, payload_hash)
		SELECT bucket, organization_id, dedup_id, id, payload_hash FROM input WHERE dedup_id <> ''
		ORDER BY bucket, organization_id, dedup_id COLLATE "C"
		ON CONFLICT DO NOTHING RETURNING event_id
	), fresh AS (
		INSERT INTO events (bucket, organization_id, id, type, payload, dedup_id, version, extra)
		SELECT bucket, organization_id, id, type, payload, dedup_id, version, extra FROM input
		WHERE dedup_id = '' OR id IN (SELECT event_id FROM won)
		ON CONFLICT DO NOTHING RETURNING id
	), owed AS (
		INSERT INTO deliveries (bucket, organization_id, state, event_id, webhook_id, job, attempts, due_at, claim, reason)
		SELECT bucket, organization_id, 0, event_id, webhook_id, 0, 0, due_at, claim, ''
		FROM unnest($12::smallint[], $13::bigint[], $14::uuid[], $15::bigint[], $16::bigint[], $17::uuid[])
		AS d (bucket, organization_id, event_id, webhook_id, due_at, claim)
		WHERE event_id IN (SELECT id FROM fresh)
	)
	SELECT id FROM fresh`

func (p *postgres) addEvents(ctx context.Context, b *Batch, again bool) ([]trigger.ID, error) {
	var verdicts []trigger.ID
	err := p.onConn(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		add := addOnce
		if again {
			add = addAgain
		}
		fresh, err := add(ctx, conn, b)
		if err != nil {
			return err
		}
		verdicts = make([]trigger.ID, len(b.Events))
		accepted := make(map[[16]byte]bool, len(fresh))
		for _, id := range fresh {
			accepted[id] = true
		}
		for i, e := range b.Events {
			if accepted[e.ID] {
				verdicts[i] = e.ID
			}
		}
		if len(fresh) == len(b.Events) {
			return nil
		}
		return secondLook(ctx, conn, b, verdicts)
	})
	if isCode(err, "23514") {
		low, high := b.bounds()
		if made := p.makeDays(ctx, low.Time(), high.Time()); made != nil {
			return nil, made
		}
	}
	return verdicts, err
}

// addOnce returns the ids of the events that it has stored.
func addOnce(ctx context.Context, conn *pgx.Conn, b *Batch) (fresh [][16]byte, err error) {
	orgs, versions := b.versions()
	return collectIDs(ctx, conn, sqlAddEvents, addEventsArgs(b, orgs, versions)...)
}

// addAgain adds a batch that may have been committed before, or may soon be by
// a backend that has lost us. Writing the same rows waits for that backend.
// Only then is it known whether the batch was committed; so the rows are rolled
// back if the versions of the batch have changed.
func addAgain(ctx context.Context, conn *pgx.Conn, b *Batch) (fresh [][16]byte, err error) {
	tx, err := conn.Begin(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { _ = tx.Rollback(ctx) }() // no effect after a commit
	if fresh, err = collectIDs(ctx, conn, sqlAddEvents, addEventsArgs(b, nil, nil)...); err != nil {
		return nil, err
	}
	orgs, versions := b.versions()
	rows, err := conn.Query(ctx, sqlChanged, orgs, versions)
	if err != nil {
		return nil, err
	}
	changed, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err != nil {
		return nil, err
	}
	if len(changed) > 0 {
		return nil, tx.Rollback(ctx)
	}
	return fresh, tx.Commit(ctx)
}

func addEventsArgs(b *Batch, currentOrgs, currentVersions []int64) []any {
	n := len(b.Events)
	var (
		buckets, versions    = make([]int16, n), make([]int64, n)
		orgs, ids            = make([]int64, n), make([][16]byte, n)
		types, payloads      = make([]string, n), make([][]byte, n)
		dedupIDs, hashes     = make([]string, n), make([][]byte, n)
		extras               = make([]string, n)
		dBuckets             = make([]int16, 0, n)
		dOrgs, dHooks, dDues = make([]int64, 0, n), make([]int64, 0, n), make([]int64, 0, n)
		dEvents, dClaims     = make([][16]byte, 0, n), make([][16]byte, 0, n)
	)
	for i, e := range b.Events {
		buckets[i], orgs[i], ids[i], versions[i] = trigger.Bucket(e.OrganizationID), e.OrganizationID, e.ID, e.Version
		types[i], payloads[i], dedupIDs[i], extras[i] = e.Type, e.Payload, e.DedupID, extraOf(e)
		if e.DedupID != "" {
			hash := e.PayloadHash()
			hashes[i] = hash[:]
		}
		for _, d := range b.Deliveries[i] {
			dBuckets = append(dBuckets, buckets[i])
			dOrgs = append(dOrgs, orgs[i])
			dEvents = append(dEvents, ids[i])
			dHooks = append(dHooks, d.WebhookID)
			dDues = append(dDues, micros(d.DueAt))
			dClaims = append(dClaims, d.Claim)
		}
	}
	return []any{
		currentOrgs, currentVersions,
		buckets, orgs, ids, types, payloads, dedupIDs, hashes, versions, extras,
		dBuckets, dOrgs, dEvents, dHooks, dDues, dClaims,
	}
}

// sqlFound finds the events of a batch that were not stored. Its commit is a
// barrier, see sqlBarrier, because the rows it finds may be committed without
// having waited for a standby, for example after the restart of a server whose
// standby was away.
const sqlFound = `
	WITH loser AS MATERIALIZED (
		SELECT * FROM unnest($1::integer[], $2::smallint[], $3::bigint[], $4::text[], $5::uuid[])
		AS l (place, bucket, organization_id, dedup_id, id)
	), found AS (
		SELECT place, d.event_id FROM loser JOIN dedup d USING (bucket, organization_id, dedup_id) WHERE dedup_id <> ''
		UNION ALL
		SELECT place, id FROM loser JOIN events e USING (bucket, organization_id, id)
		WHERE loser.dedup_id = '' AND e.id >= $6 AND e.id <= $7
	)
	SELECT place, event_id, (` + sqlBarrier + `) FROM found`

// secondLook finds the events that own the dedup ids of those not stored, which
// the first statement cannot see. It also finds events that an earlier try of
// the same batch has committed; they are accepted.
func secondLook(ctx context.Context, conn *pgx.Conn, b *Batch, verdicts []trigger.ID) error {
	var (
		places   []int32 // of events not stored, in the batch
		buckets  []int16
		orgs     []int64
		dedupIDs []string
		ids      [][16]byte
	)
	for i, e := range b.Events {
		if verdicts[i].IsZero() {
			places, buckets = append(places, int32(i)), append(buckets, trigger.Bucket(e.OrganizationID))
			orgs, dedupIDs, ids = append(orgs, e.OrganizationID), append(dedupIDs, e.DedupID), append(ids, e.ID)
		}
	}
	low, high := b.bounds()
	rows, err := conn.Query(ctx, sqlFound, unpreparedMode, places, buckets, orgs, dedupIDs, ids, [16]byte(low), [16]byte(high))
	if err != nil {
		return err
	}
	var place int32
	var id [16]byte
	_, err = pgx.ForEachRow(rows, []any{&place, &id, nil}, func() error {
		verdicts[place] = id
		return nil
	})
	return err
}

// sqlAllLanes goes from the first delivery of each webhook to the first of the
// next.
const sqlAllLanes = `
	WITH RECURSIVE lane AS (
		SELECT CAST($1 / 281474976710656 AS smallint) AS bucket, $1::bigint % 281474976710656 AS webhook_id, CAST(NULL AS bigint) AS due_at
		UNION ALL
		SELECT n.bucket, n.webhook_id, n.due_at FROM lane, LATERAL (
			SELECT d.bucket, d.webhook_id, d.due_at FROM deliveries d
			WHERE d.state = 0 AND d.webhook_id > 0 AND (d.bucket, d.webhook_id) > (lane.bucket, lane.webhook_id)
			ORDER BY d.bucket, d.webhook_id, d.due_at LIMIT 1
		) AS n
	)
	SELECT bucket, webhook_id, due_at FROM lane WHERE due_at IS NOT NULL LIMIT $2`

func (p *postgres) lanes() (all, due string) {
	return sqlAllLanes, sqlDueLanes + `unnest($1::bigint[]) AS k (key)`
}

// sqlClaim locks rows and changes them by their ctid, which does not change
// while they are locked. A join by key would be planned by statistics, and the
// statistics of a queue are always old. For the same reason it hides the bucket
// from the planner.
const (
	sqlClaim = sqlClaimFrom + sqlOpenOf + sqlClaimTo
	// For a replay: the index deliveries_replayed contains only replays.
	sqlClaimReplayed = sqlClaimFrom + sqlReplayedOf + sqlClaimTo

	sqlFailedLeast         = sqlFailedLeastFrom + sqlOpenOf + sqlFailedLeastOr + sqlOpenOf + sqlFailedLeastBy + `due_at` + sqlFailedLeastTo
	sqlFailedLeastReplayed = sqlFailedLeastFrom + sqlReplayedOf + sqlFailedLeastOr + sqlReplayedOf + sqlFailedLeastBy + `due_at` + sqlFailedLeastTo
	sqlProbe               = sqlFailedLeastFrom + sqlOpenOf + sqlFailedLeastOr + sqlOpenOf + sqlFailedLeastBy + `lot` + sqlFailedLeastTo
	sqlProbeReplayed       = sqlFailedLeastFrom + sqlReplayedOf + sqlFailedLeastOr + sqlReplayedOf + sqlFailedLeastBy + `lot` + sqlFailedLeastTo

	sqlOpenOf     = `state = 0 AND webhook_id > 0 AND webhook_id = w.id AND due_at >= w.due AND due_at <= $4`
	sqlReplayedOf = `state = 3 AND job = w.id AND due_at >= w.due AND due_at <= $4`
)

const (
	sqlClaimFrom = sqlWanted + `
			SELECT ctid AS place FROM deliveries WHERE bucket = $1 AND `
	sqlClaimTo = `
			ORDER BY due_at LIMIT w.room FOR UPDATE SKIP LOCKED` + sqlTake
)

// sqlFailedLeast claims the deliveries with the fewest failures among the
// hundred that were due first and the hundred that were due last, because the
// receiver may always refuse the ones due first. A probe orders by the random
// end of the ids, so that untried deliveries that would be refused do not
// always come first.
const (
	sqlFailedLeastFrom = sqlWanted + `
			SELECT ctid AS place FROM deliveries WHERE (bucket = $1) IS TRUE AND due_at <= $4 AND ctid = ANY (ARRAY(
				SELECT place FROM (
					(SELECT ctid AS place, attempts, due_at, right(event_id::text, 12) AS lot FROM deliveries WHERE bucket = $1 AND `
	sqlFailedLeastOr = ` ORDER BY due_at LIMIT 100)
					UNION
					(SELECT ctid, attempts, due_at, right(event_id::text, 12) FROM deliveries WHERE bucket = $1 AND `
	sqlFailedLeastBy = ` ORDER BY due_at DESC LIMIT 100)
				) AS known ORDER BY attempts, `
	sqlFailedLeastTo = ` LIMIT w.room
			)) FOR UPDATE SKIP LOCKED` + sqlTake
)

const (
	sqlWanted = `
	WITH due AS MATERIALIZED (
		SELECT d.place
		FROM unnest($2::bigint[], $3::integer[], $7::bigint[]) AS w (id, room, due), LATERAL (`
	sqlTake = `
		) AS d
	)
	UPDATE deliveries SET claim = $5, due_at = $6
	WHERE (bucket = $1) IS TRUE AND ctid = ANY (ARRAY(SELECT place FROM due))
	RETURNING organization_id, event_id, webhook_id, job, attempts`
)

// claimText returns the statement for a Want.
func claimText(w Want) string {
	open, replayed := sqlClaim, sqlClaimReplayed
	switch w.Order {
	case ByFailures:
		open, replayed = sqlFailedLeast, sqlFailedLeastReplayed
	case ForProbe:
		open, replayed = sqlProbe, sqlProbeReplayed
	}
	if w.Job != 0 {
		return replayed
	}
	return open
}

// claim sends a statement for each bucket and kind of Want, all in one round
// trip.
func (p *postgres) claim(ctx context.Context, wants []Want, claim trigger.ID, now, lease time.Time) ([]trigger.Delivery, error) {
	var taken []trigger.Delivery
	batch := &pgx.Batch{}
	for len(wants) > 0 {
		var ids []int64 // webhooks, or replays
		var rooms []int32
		var froms []int64
		bucket, text := wants[0].Bucket, claimText(wants[0])
		for len(wants) > 0 && wants[0].Bucket == bucket && claimText(wants[0]) == text {
			ids, rooms = append(ids, cmp.Or(wants[0].Job, wants[0].WebhookID)), append(rooms, int32(wants[0].Room))
			froms = append(froms, micros(wants[0].From))
			wants = wants[1:]
		}
		batch.Queue(text, bucket, ids, rooms, micros(now), [16]byte(claim), micros(lease), froms).Query(func(rows pgx.Rows) error {
			var d trigger.Delivery
			_, err := pgx.ForEachRow(rows,
				[]any{&d.OrganizationID, (*[16]byte)(&d.EventID), &d.WebhookID, &d.Job, &d.Attempts}, func() error {
					d.Claim, d.DueAt = claim, lease
					taken = append(taken, d)
					return nil
				})
			return err
		})
	}
	err := p.onConn(ctx, func(ctx context.Context, conn *pgx.Conn) error { return conn.SendBatch(ctx, batch).Close() })
	return orZero(taken, err)
}

// onConn runs do on a connection from the pool. The wait for a connection can
// be cancelled, but not the statements of do, so that a commit's answer is
// always read if one comes (see patientConn for the other case).
func (p *postgres) onConn(ctx context.Context, do func(context.Context, *pgx.Conn) error) error {
	conn, err := p.hot.Acquire(ctx)
	if err != nil {
		p.notice(err)
		return err
	}
	defer conn.Release()
	if err = do(context.WithoutCancel(ctx), conn.Conn()); err == nil {
		err = cmp.Or(checkReplicated(conn.Conn()), p.server.check(conn.Conn()))
	}
	p.notice(err)
	return err
}

func collectIDs(ctx context.Context, conn *pgx.Conn, text string, args ...any) ([][16]byte, error) {
	rows, err := conn.Query(ctx, text, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[[16]byte])
}
