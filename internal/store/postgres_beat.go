package store

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"

	"triggerd/internal/trigger"
)

// sqlTables identifies the content of our tables by a file number; NULL without
// tables. It changes if a restore drops or empties them while a server runs.
const sqlTables = `SELECT pg_relation_filenode(to_regclass('` + schema + `.dedup'))::bigint`

// beat checks that the tables are still the opened ones. After a failed commit
// it also tests whether an event can be written, because the row of a node is
// updated in place, which works even if no file can grow.
func (p *postgres) beat(ctx context.Context, now trigger.ID, thorough bool) error {
	var tables *int64
	if err := p.hotDB.QueryRowContext(ctx, sqlTables).Scan(&tables); err != nil {
		return err
	}
	if tables == nil {
		return errors.New("the tables are missing: the schema " + schema + " was dropped")
	}
	p.server.observeTables(*tables)
	if !thorough {
		return nil
	}
	return p.tryEvent(ctx, now)
}

// errTried rolls back a test.
var errTried = errors.New("rolled back on purpose: it was only a trial")

// tryEvent writes an event that fills a page, with all its rows, and rolls it
// back.
func (p *postgres) tryEvent(ctx context.Context, id trigger.ID) error {
	random := make([]byte, 3500) // incompressible
	_, _ = rand.Read(random)     // never fails
	err := p.transact(ctx, quietCommit, func(q querier) error {
		for _, insert := range []struct {
			text string
			args []any
		}{
			{`INSERT INTO events (bucket, organization_id, id, type, payload, dedup_id, version) VALUES (0, 0, $1, '', $2, '', 0)`, []any{id, hex.EncodeToString(random)}},
			{`INSERT INTO dedup (bucket, organization_id, dedup_id, event_id, payload_hash) VALUES (0, 0, $2, $1, $3)`, []any{id, hex.EncodeToString(random[:100]), random}},
			{`INSERT INTO deliveries (bucket, organization_id, state, event_id, webhook_id, job, attempts, due_at, claim, reason)
				VALUES (0, 0, 1, $1, 0, 0, 0, 0, $1, $2)`, []any{id, hex.EncodeToString(random)}},
		} {
			if _, err := q.ExecContext(ctx, insert.text, insert.args...); err != nil {
				return err
			}
		}
		return errTried
	})
	if errors.Is(err, errTried) || isCode(err, "23514") { // the day has no partition, which a real event creates
		return nil
	}
	return fmt.Errorf("write an event: %w", err)
}
