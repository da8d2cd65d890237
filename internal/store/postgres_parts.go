package store

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"triggerd/internal/trigger"
)

// sqlPartitions lists a table's partitions between two names, also detached
// ones. Their names sort by day.
const sqlPartitions = `
	SELECT relname FROM pg_class
	WHERE relnamespace = $1::regnamespace AND relkind = 'r' AND relname >= $2 AND relname <= $3 AND relname ~ '_[0-9]{8}$'
	ORDER BY relname %s LIMIT $4`

// part reads the list of partitions only if the range has more days than a
// statement may read: a list may be open at one end, and the days ahead count,
// too.
func (p *postgres) part(ctx context.Context, q querier, w *dayWalk) (idRange, error) {
	part := w.left
	last := prevID(part.before)
	if daysOf(part.from, last) <= daysPerStatement {
		return part, nil
	}
	days, err := rowsOf(ctx, q, func(r row) (d time.Time, err error) {
		var name string
		if err = r.Scan(&name); err == nil {
			d, err = time.Parse(dayFormat, name[len(name)-len(dayFormat):])
		}
		return d, err
	}, fmt.Sprintf(sqlPartitions, w.order()), schema, partitionOf(w.table, part.from), partitionOf(w.table, last), daysPerStatement+1)
	if err != nil || len(days) <= daysPerStatement {
		return part, err
	}
	end := days[daysPerStatement-1]
	if w.newest {
		part.from = maxID(part.from, trigger.MinID(end))
	} else {
		part.before = minID(part.before, trigger.MinID(end.Add(24*time.Hour)))
	}
	return part, nil
}

// partitionOf returns the name of an id's partition. Only an id that is a bound
// can have a year with five digits.
func partitionOf(table string, id trigger.ID) string {
	d := dayOf(id)
	if d.Year() > 9999 {
		d = time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC)
	}
	return table + "_" + d.Format(dayFormat)
}

func (p *postgres) groups(ids []trigger.ID) [][]trigger.ID { return groupByDays(ids) }

// unprepared is a database whose statements are planned anew for their
// parameters each time. A generic plan opens and locks the partition of every
// day, and PostgreSQL makes one after some executions to compare. It is for the
// pool that otherwise keeps plans.
type unprepared struct{ db *sql.DB }

// unpreparedMode makes pgx use the unnamed statement, which has no generic
// plan.
const unpreparedMode = pgx.QueryExecModeCacheDescribe

func (u unprepared) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	return u.db.ExecContext(ctx, query, append([]any{unpreparedMode}, args...)...)
}

func (u unprepared) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	return u.db.QueryContext(ctx, query, append([]any{unpreparedMode}, args...)...)
}

func (u unprepared) QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row {
	return u.db.QueryRowContext(ctx, query, append([]any{unpreparedMode}, args...)...)
}
