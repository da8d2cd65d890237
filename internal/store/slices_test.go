package store_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"

	"triggerd/internal/store/storetest"
)

// mostDeleted is the largest number of rows that one statement has deleted.
type mostDeleted struct{ atomic.Int64 }

// TraceQueryStart implements [pgx.QueryTracer].
func (m *mostDeleted) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	return ctx
}

// TraceQueryEnd implements [pgx.QueryTracer].
func (m *mostDeleted) TraceQueryEnd(_ context.Context, _ *pgx.Conn, data pgx.TraceQueryEndData) {
	for n := m.Load(); data.CommandTag.Delete() && data.CommandTag.RowsAffected() > n; n = m.Load() {
		m.CompareAndSwap(n, data.CommandTag.RowsAffected())
	}
}

// However many permits and requests there are, they go in short statements, and
// those of today stay.
func TestOldRowsGoInSlices(t *testing.T) {
	t.Parallel()
	const old = 1200
	for name, tt := range map[string]struct{ table, add string }{
		"permits": {table: "permits", add: `INSERT INTO permits (organization_id, step, used)
			WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < $1) SELECT $2, CASE WHEN i = 1 THEN $3 ELSE i END, 1 FROM n`},
		"requests": {table: "idempotency", add: `INSERT INTO idempotency (organization_id, key, fingerprint, made, at)
			WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < $1)
			SELECT $2, CAST(i AS text), (SELECT hash FROM api_keys LIMIT 1), 1, CASE WHEN i = 1 THEN 1000000 * $3 ELSE i END FROM n`},
		"of an organization": {table: "idempotency", add: `INSERT INTO idempotency (organization_id, key, fingerprint, made, at)
			WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < $1)
			SELECT CASE WHEN i = 1 THEN 0 ELSE $2 END, CAST(i AS text), (SELECT hash FROM api_keys LIMIT 1), 1, 1000000 * $3 FROM n`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			storetest.Each(t, func(t *testing.T, db *storetest.DB) {
				most := &mostDeleted{}
				db.Options = db.Options.WithTracer(most)
				s := db.Open(t)
				org := storetest.NewOrganization(t, s)
				text := strings.NewReplacer("$1", "CAST($1 AS bigint)", "$2", "CAST($2 AS bigint)", "$3", "CAST($3 AS bigint)").Replace(tt.add)
				exec(t, db, text, old, org, s.Now().Unix())
				drop := s.DropRequests
				switch name {
				case "permits":
					drop = s.DropPermits
				case "of an organization":
					if err := s.DeleteOrganization(t.Context(), org); err != nil {
						t.Fatal(err)
					}
					exec(t, db, `UPDATE organizations SET deleted_at = 1 WHERE id = $1`, org)
					drop = s.Erase
				}
				if err := drop(t.Context()); err != nil {
					t.Fatal(err)
				}
				if n := rowsOf(t, db, tt.table); n != 1 {
					t.Errorf("%d rows are left, want one", n)
				}
				if n := most.Load(); n > 500 {
					t.Errorf("a statement has deleted %d rows, want 500 at most", n)
				}
			})
		})
	}
}
