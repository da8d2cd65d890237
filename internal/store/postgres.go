package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"

	"triggerd/internal/trigger"
)

// schema holds all our tables, so that others may stand beside them.
const schema = "triggerd"

// postgres is the dialect for production. Two pools keep the three hot
// statements, and the reads that go with them, apart from everything else:
// requests may wait for each other, ingest and the engine never for them.
type postgres struct {
	nodeID       trigger.ID
	hot, reads   *pgxpool.Pool
	hotDB, read  *sql.DB
	partitioning chan struct{} // one at a time in this process
	silence      atomic.Int64  // maxSilence, or less in a test
}

func openPostgres(ctx context.Context, s *Store, o Options) error {
	config, err := pgxpool.ParseConfig(o.PostgresURL)
	if err != nil {
		return fmt.Errorf("the PostgreSQL settings cannot be read, check DATABASE_URL or the DB_* variables: %w", redactConfig(err))
	}
	p := &postgres{nodeID: s.NodeID, partitioning: make(chan struct{}, 1)}
	p.silence.Store(int64(maxSilence))
	hot := min(4, max(1, o.PoolSize/3))
	dial := patientDial(&p.silence)
	if p.hot, err = newPool(ctx, config.Copy(), dial, hot, map[string]string{
		// Queues are small one day and huge the next; no statistics can follow.
		"enable_seqscan": "off",
	}); err != nil {
		return err
	}
	if p.reads, err = newPool(ctx, config, dial, max(1, o.PoolSize-hot), map[string]string{
		"plan_cache_mode": "force_custom_plan", // a generic plan locks every day's partition
	}); err != nil {
		p.hot.Close()
		return err
	}
	p.hotDB, p.read = stdlib.OpenDBFromPool(p.hot), stdlib.OpenDBFromPool(p.reads)
	s.dialect, s.hot, s.read = p, p.hotDB, p.read
	if err := p.prepare(ctx, s, o); err != nil {
		return errors.Join(err, p.close())
	}
	return nil
}

// redactConfig keeps the connection string, which may hold a password, out of
// the message.
func redactConfig(err error) error {
	if _, ok := errors.AsType[*pgconn.ParseConfigError](err); ok {
		return errors.New("not a PostgreSQL connection string")
	}
	return err
}

func newPool(ctx context.Context, c *pgxpool.Config, dial pgconn.DialFunc, size int, settings map[string]string) (*pgxpool.Pool, error) {
	c.MaxConns = int32(size)
	c.MinConns = 0
	conn := c.ConnConfig
	conn.ConnectTimeout = 3 * time.Second
	conn.DialFunc = dial
	conn.OnNotice = noteWarning
	c.AfterConnect = func(_ context.Context, conn *pgx.Conn) error {
		_ = checkReplicated(conn) // warnings of the connecting say nothing about commits
		return nil
	}
	if len(conn.Fallbacks) > 0 && conn.ValidateConnect == nil {
		conn.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsReadWrite
	}
	for name, value := range map[string]string{
		"search_path":                         schema,
		"application_name":                    "triggerd",
		"statement_timeout":                   "5s",
		"lock_timeout":                        "2s",
		"idle_in_transaction_session_timeout": "10s",
		"client_min_messages":                 "warning",
		"jit":                                 "off", // our statements are short, however they are estimated
	} {
		conn.RuntimeParams[name] = value
	}
	for name, value := range settings {
		conn.RuntimeParams[name] = value
	}
	return pgxpool.NewWithConfig(ctx, c)
}

// unreplicated marks a connection whose last commit may not have reached the
// standby it waits for: success is then no success.
const unreplicated = "unreplicated"

// noteWarning sees what the server says beside its answers. A cancelled wait
// for a synchronous standby is a warning, and the commit looks like a success.
func noteWarning(c *pgconn.PgConn, n *pgconn.Notice) {
	if n.SeverityUnlocalized == "WARNING" && (n.Code == "01000" || n.Code == "57P01") {
		c.CustomData()[unreplicated] = true
	}
}

var errUnreplicated = errors.New("the commit may not have reached the synchronous standby")

// checkReplicated reports a commit that the connection was warned about.
func checkReplicated(c *pgx.Conn) error {
	if data := c.PgConn().CustomData(); data[unreplicated] != nil {
		delete(data, unreplicated)
		return errUnreplicated
	}
	return nil
}

func (p *postgres) write(ctx context.Context, fn func(querier) error) error {
	conn, err := p.read.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	tx, err := conn.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // after a commit it does nothing
	if err = fn(tx); err == nil {
		err = tx.Commit()
	}
	if err == nil {
		err = conn.Raw(func(c any) error { return checkReplicated(c.(*stdlib.Conn).Conn()) })
	}
	p.notice(err)
	return err
}

// notice drops all connections when one of them turns out to lead to a server
// that is no longer the primary.
func (p *postgres) notice(err error) {
	if isCode(err, "25006") { // read_only_sql_transaction
		p.hot.Reset()
		p.reads.Reset()
	}
}

func (p *postgres) list(param string, _ listType) string { return " = ANY(" + param + ")" }

// sliceOf picks rows by their place, as sqlClaim does.
func (p *postgres) sliceOf(from string, _ trigger.DeliveryState) string {
	return " WHERE ctid = ANY (ARRAY(SELECT ctid FROM " + from + " FOR UPDATE SKIP LOCKED))"
}

func (p *postgres) ints(list []int64) any { return list }

func (p *postgres) ids(list []trigger.ID) any {
	ids := make([][16]byte, len(list))
	for i, id := range list {
		ids[i] = id
	}
	return ids
}

// now is the one place that asks the server for its time. Waiting for a
// connection is no part of the measurement.
func (p *postgres) now(ctx context.Context, local func() time.Time) (r reading, err error) {
	conn, err := p.hot.Acquire(ctx)
	if err != nil {
		return r, err
	}
	defer conn.Release()
	var us int64
	r.asked = local()
	err = conn.QueryRow(ctx, `SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint`).Scan(&us)
	r.answered, r.theirs = local(), fromMicros(us)
	return r, err
}

// damage is for pg_amcheck to find, which comes with PostgreSQL.
func (p *postgres) damage(context.Context) (string, error) { return "", nil }

// intact: the server looks after its files.
func (p *postgres) intact() error { return nil }

func (p *postgres) stats() Stats {
	var sum Stats
	for _, pool := range []*pgxpool.Pool{p.hot, p.reads} {
		s := pool.Stat()
		sum.InUse += int(s.AcquiredConns())
		sum.Idle += int(s.IdleConns())
		sum.Max += int(s.MaxConns())
	}
	return sum
}

func (p *postgres) close() error {
	err := errors.Join(p.hotDB.Close(), p.read.Close())
	p.hot.Close()
	p.reads.Close()
	return err
}

// classifyPostgres reads PostgreSQL's own errors. An ERROR is a definite
// rollback; anything worse may have come after the commit.
func classifyPostgres(err error) (failure, bool) {
	e, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		return unknown, false
	}
	if e.SeverityUnlocalized != "ERROR" {
		return unknown, true
	}
	switch e.Code {
	case "40001", "40P01", "55P03", "23514": // 23514: a day without a partition, made since
		return again, true
	}
	switch e.Code[:2] {
	case "22", "23":
		return rejected, true
	}
	return unknown, true
}

// isCode reports a PostgreSQL error of one of the codes.
func isCode(err error, codes ...string) bool {
	e, ok := errors.AsType[*pgconn.PgError](err)
	for _, code := range codes {
		if ok && e.Code == code {
			return true
		}
	}
	return false
}
