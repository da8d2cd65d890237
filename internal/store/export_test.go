package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"io/fs"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"modernc.org/sqlite"

	"triggerd/internal/trigger"
)

// SetMaxSilence makes a silence shorter than a test's patience noticed.
func (s *Store) SetMaxSilence(d time.Duration) { s.dialect.(*postgres).silence.Store(int64(d)) }

// HotStatements are the texts of PostgreSQL's hot path, each with parameters
// for an EXPLAIN.
func HotStatements() map[string][]string {
	arrays := func(n int) []string { return slices.Repeat([]string{"'{}'"}, n) }
	claim := []string{"1", "'{1}'", "'{1}'", "1", "'00000000-0000-0000-0000-000000000001'", "1", "'{1}'"}
	return map[string][]string{
		sqlAddEvents:      arrays(17),
		finishText(false): arrays(20),
		finishText(true):  arrays(20),
		sqlClaim:          claim,
		sqlClaimReplayed:  claim,
		sqlFailedLeast:    claim, sqlFailedLeastReplayed: claim,
		sqlProbe: claim, sqlProbeReplayed: claim,
	}
}

// InWrite runs fn in a transaction of a store on SQLite; exec is for
// statements in it.
func (s *Store) InWrite(ctx context.Context, fn func(exec func(text string) error) error) error {
	return s.dialect.write(ctx, func(q querier) error {
		return fn(func(text string) error {
			_, err := q.ExecContext(ctx, text)
			return err
		})
	})
}

// WithSQLite returns options by which SQLite is called through another driver,
// and its log is copied into triggerd.db when it has this many pages.
func (o Options) WithSQLite(by driver.Driver, pages int64) Options {
	o.sqlite = sqliteOptions{by, pages, emptyAfter}
	return o
}

// WithEmptyLog returns options by which SQLite's log is emptied so long after
// a commit.
func (o Options) WithEmptyLog(after time.Duration) Options {
	o.sqlite = sqliteOptions{&sqlite.Driver{}, checkpointPages, after}
	return o
}

// WithTracer returns options by which each connection to PostgreSQL is traced.
func (o Options) WithTracer(tracer pgx.QueryTracer) Options {
	o.postgres.tracer = tracer
	return o
}

// DaysPerStatement, GroupByDays and ResultsByDays are those of PostgreSQL.
const DaysPerStatement = daysPerStatement

func GroupByDays(ids []trigger.ID) [][]trigger.ID { return groupByDays(ids) }

func ResultsByDays(results []Result) [][]Result { return resultsByDays(results) }

// MakePrivate is makePrivate, with another chmod.
func MakePrivate(path string, chmod func(string, fs.FileMode) error) (warning string) {
	return makePrivate(path, chmod)
}

// AtOnce takes all connections for reading of a store on SQLite, at the same
// time, and has each of them read. With drop they are closed afterwards.
func (s *Store) AtOnce(ctx context.Context, drop bool) (err error) {
	for _, db := range []*sql.DB{s.read.DB, s.hot} {
		conns := make([]*sql.Conn, readers)
		for i := range conns {
			conn, connErr := db.Conn(ctx)
			if connErr != nil {
				return connErr
			}
			conns[i] = conn
			_, readErr := conn.ExecContext(ctx, "SELECT count(*) FROM events")
			err = errors.Join(err, readErr)
		}
		for _, conn := range conns {
			if drop {
				_ = conn.Raw(func(any) error { return driver.ErrBadConn }) // which closes it
				continue
			}
			err = errors.Join(err, conn.Close())
		}
	}
	return err
}

// Connect opens a connection as a store on SQLite does, by a driver.
func (s *Store) Connect(ctx context.Context, by driver.Driver) (driver.Conn, error) {
	return (&connector{files: s.dialect.(*embedded).files, driver: by}).Connect(ctx)
}

// WebhookStates are the conditions by which statements pick webhooks, and the
// index that each of them is for.
func WebhookStates() map[string]string {
	return map[string]string{sqlReceiving: "webhooks_receiving", sqlEnded: "webhooks_ended"}
}

// LogStamps are the stamps of a log.
func LogStamps(path string) ([]uint32, error) {
	stamps, err := logStamps(path)
	var numbers []uint32
	for _, s := range stamps {
		numbers = append(numbers, uint32(s))
	}
	return numbers, err
}

// Rewrite rewrites the file of a store on SQLite, and empties its log.
func (s *Store) Rewrite(ctx context.Context) error {
	w := s.dialect.(*embedded).writer
	return w.alone(ctx, func() error { return w.rewrite(ctx) })
}

// Exec runs a statement as the store runs its own. On SQLite, what another
// connection writes may reach the file before the store overwrites the unused
// space of its pages.
func (s *Store) Exec(ctx context.Context, text string, args ...any) error {
	return s.dialect.write(ctx, func(q querier) error {
		_, err := q.ExecContext(ctx, text, args...)
		return err
	})
}

// Beat shows that the node lives, once.
func (s *Store) Beat(ctx context.Context) error { return s.beat(ctx) }
