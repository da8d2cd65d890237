package store

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
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
	hot, reads   *patientPool
	server       serverWatch
	hotDB, read  *sql.DB
	shares       shares        // of read
	partitioning chan struct{} // one at a time in this process
	silence      atomic.Int64  // maxSilence, or less in a test
	monotonic    func() time.Time
	wanted       pgconn.ValidateConnectFunc // of a server, by target_session_attrs; nil: nothing
}

// postgresOptions are for tests.
type postgresOptions struct {
	tracer pgx.QueryTracer // of all connections; nil: none
}

func openPostgres(ctx context.Context, s *Store, o Options) error {
	config, err := parseConnString(o.PostgresURL)
	if err != nil {
		return fmt.Errorf("the PostgreSQL settings cannot be read, check DATABASE_URL or the DB_* variables: %w", err)
	}
	s.Database = databaseOf(config.ConnConfig)
	p := &postgres{partitioning: make(chan struct{}, 1), wanted: config.ConnConfig.ValidateConnect, monotonic: s.clock.monotonic}
	p.server = serverWatch{epoch: &s.epoch, log: s.log, reset: p.reset}
	p.silence.Store(int64(maxSilence))
	config.ConnConfig.Tracer = o.postgres.tracer
	hot := min(4, max(1, o.PoolSize/3))
	dial := patientDial(&p.silence)
	if p.hot, err = p.newPool(ctx, config.Copy(), dial, hot, map[string]string{
		// Queues are small one day and huge the next; no statistics can follow.
		"enable_seqscan": "off",
	}); err != nil {
		return err
	}
	reads := max(1, o.PoolSize-hot)
	p.shares = newShares(reads, p.monotonic)
	if p.reads, err = p.newPool(ctx, config, dial, reads, map[string]string{
		"plan_cache_mode": "force_custom_plan", // a generic plan locks every day's partition
	}); err != nil {
		p.hot.Close()
		return err
	}
	p.hotDB, p.read = p.hot.open(), p.reads.open()
	s.dialect, s.hot, s.hotDays, s.read = p, p.hotDB, unprepared{p.hotDB}, &sharedDB{p.read, p.shares}
	if err := p.prepare(ctx, s, o); err != nil {
		return errors.Join(err, p.close())
	}
	return nil
}

func (p *postgres) newPool(ctx context.Context, c *pgxpool.Config, dial pgconn.DialFunc, size int, settings map[string]string) (*patientPool, error) {
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
	ours := map[string]string{
		"search_path":                         schema,
		"statement_timeout":                   "5s",
		"lock_timeout":                        "2s",
		"idle_in_transaction_session_timeout": "10s",
		"client_min_messages":                 "warning",
		"jit":                                 "off", // our statements are short, however they are estimated
	}
	maps.Copy(ours, settings)
	maps.Copy(conn.RuntimeParams, ours)
	conn.RuntimeParams["application_name"] = "triggerd"
	conn.ValidateConnect = p.validate(conn, ours)
	pool, err := pgxpool.NewWithConfig(ctx, c)
	return &patientPool{Pool: pool, now: p.monotonic}, err
}

// validate judges each new connection, of one host after the other where there
// are several: first as DATABASE_URL wants it, then whether it has the settings
// that are ours, then by the server it leads to.
func (p *postgres) validate(c *pgx.ConnConfig, ours map[string]string) pgconn.ValidateConnectFunc {
	first, lost := p.wanted, lostSettings(ours)
	if first == nil && len(c.Fallbacks) > 0 {
		first = pgconn.ValidateConnectTargetSessionAttrsReadWrite
	}
	return func(ctx context.Context, conn *pgconn.PgConn) error {
		if first != nil {
			if err := first(ctx, conn); err != nil {
				return err
			}
		}
		if err := checkOurSettings(ctx, conn, lost); err != nil {
			return err
		}
		return p.server.identify(ctx, conn)
	}
}

// reset closes all connections, those in use when they are given back.
func (p *postgres) reset() {
	for _, pool := range []*patientPool{p.hot, p.reads} {
		if pool != nil { // while the first one is made
			pool.Reset()
		}
	}
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

// sqlBarrier makes a transaction that has written nothing a commit all the
// same, where there is a synchronous standby: then the commit waits until
// everything committed before it has reached the standby, too. So an answer may
// rest on rows that were only found. Where there is none, it does nothing.
const sqlBarrier = `SELECT CASE WHEN current_setting('synchronous_standby_names') <> '' AND pg_current_xact_id_if_assigned() IS NULL
	THEN pg_logical_emit_message(true, 'triggerd', '') END`

func (p *postgres) write(ctx context.Context, fn func(querier) error) error {
	return p.transact(ctx, sqlBarrier+"; COMMIT", fn)
}

func (p *postgres) writeQuietly(ctx context.Context, fn func(querier) error) error {
	return p.transact(ctx, quietCommit, fn)
}

// quietCommit ends a transaction without the barrier.
const quietCommit = "COMMIT"

// isAnswer reports an error of a transaction that is no failure but an answer,
// decided by the rows that it has read: what is to be deleted is not there, say,
// since it was deleted just now.
func isAnswer(err error) bool {
	if _, repeated := errors.AsType[*RepeatedError](err); repeated || errors.Is(err, sql.ErrNoRows) {
		return true
	}
	judged, ok := errors.AsType[*trigger.Error](err)
	return ok && judged.Kind != trigger.Unavailable && judged.Kind != trigger.Internal
}

// transact runs fn in a transaction and ends it with commit, in one round trip.
func (p *postgres) transact(ctx context.Context, commit string, fn func(querier) error) error {
	leave, err := p.shares.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	conn, err := p.read.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err = conn.ExecContext(ctx, "BEGIN"); err == nil {
		err = fn(conn)
	}
	onConn := func(do func(context.Context, *pgx.Conn) error) error {
		return conn.Raw(func(c any) error { return do(ctx, c.(*stdlib.Conn).Conn()) })
	}
	if err == nil {
		err = onConn(func(ctx context.Context, c *pgx.Conn) error { return p.commit(ctx, c, commit) })
	}
	if err != nil {
		_ = onConn(rollback) // where that fails, the connection goes, and all with it
	}
	if isAnswer(err) && commit != quietCommit { // it rests on rows
		if failed := onConn(func(ctx context.Context, c *pgx.Conn) error { return p.commit(ctx, c, "BEGIN; "+commit) }); failed != nil {
			err = failed
		}
	}
	p.notice(err)
	return err
}

// commitTimeout bounds the end of a transaction that a request waits for. A
// standby that is away holds it up, and no timeout of the server's ends that.
// Whether it is committed is then unknown.
const commitTimeout = 5 * time.Second

// commit ends a transaction, and reports whether it is as durable as it has to
// be.
func (p *postgres) commit(ctx context.Context, conn *pgx.Conn, text string) error {
	ctx, cancel := context.WithTimeout(ctx, commitTimeout)
	defer cancel()
	results, err := conn.PgConn().Exec(ctx, text).ReadAll()
	if err != nil {
		return err
	}
	if last := results[len(results)-1].CommandTag.String(); last != "COMMIT" {
		return fmt.Errorf("the transaction ended with %s", last)
	}
	return cmp.Or(checkReplicated(conn), p.server.check(conn))
}

// rollback ends the transaction that a connection is in.
func rollback(ctx context.Context, conn *pgx.Conn) error {
	if conn.IsClosed() || conn.PgConn().TxStatus() == 'I' {
		return nil
	}
	_, err := conn.PgConn().Exec(ctx, "ROLLBACK").ReadAll()
	return err
}

// notice drops all connections when one of them turns out to lead to a server
// that is no longer the primary.
func (p *postgres) notice(err error) {
	if isCode(err, "25006") || errors.Is(err, errOtherServer) { // read_only_sql_transaction
		p.reset()
	}
}

func (p *postgres) list(param string, _ listType) string { return " = ANY(" + param + ")" }

// sliceOf picks rows by their place, as sqlClaim does.
func (p *postgres) sliceOf(from string, _ trigger.DeliveryState) string {
	return " WHERE ctid = ANY (ARRAY(SELECT ctid FROM " + from + " FOR UPDATE SKIP LOCKED))"
}

func (p *postgres) lockShared() string { return " FOR SHARE" }

func (p *postgres) ints(list []int64) any { return list }

func (p *postgres) ids(list []trigger.ID) any {
	ids := make([][16]byte, len(list))
	for i, id := range list {
		ids[i] = id
	}
	return ids
}

func (p *postgres) hashes(list [][32]byte) any {
	hashes := make([][]byte, len(list))
	for i := range list {
		hashes[i] = list[i][:]
	}
	return hashes
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
	return orZero(r, err)
}

// notePlain does nothing, and so does forgetPlain.
func (p *postgres) notePlain(context.Context, querier) error { return nil }
func (p *postgres) forgetPlain(context.Context) error        { return nil }

// damage is for pg_amcheck to find, which comes with PostgreSQL.
func (p *postgres) damage(context.Context) (string, error) { return "", nil }

// intact: the server looks after its files.
func (p *postgres) intact() error { return nil }

func (p *postgres) stats() Stats {
	var sum Stats
	for _, pool := range []*patientPool{p.hot, p.reads} {
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
