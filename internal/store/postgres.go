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

// schema contains all our tables, so that the database can have others.
const schema = "triggerd"

// postgres is the dialect for production. It has two pools, so that requests,
// which may wait for each other, never delay ingest and the engine: one pool is
// for the three hot statements and the reads that go with them, the other for
// all else.
type postgres struct {
	hot, reads   *patientPool
	server       serverWatch
	hotDB, read  *sql.DB
	shares       shares        // of read
	partitioning chan struct{} // one call at a time in this process
	silence      atomic.Int64  // maxSilence, or less in a test
	monotonic    func() time.Time
	wanted       pgconn.ValidateConnectFunc // checks a server against target_session_attrs; may be nil
}

// postgresOptions are for tests.
type postgresOptions struct {
	tracer pgx.QueryTracer // of all connections; may be nil
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
		// Queues are small one day and huge the next; statistics are always
		// wrong.
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
		_ = checkReplicated(conn) // warnings during the connect say nothing about commits
		return nil
	}
	ours := map[string]string{
		"search_path":                         schema,
		"statement_timeout":                   "5s",
		"lock_timeout":                        "2s",
		"idle_in_transaction_session_timeout": "10s",
		"client_min_messages":                 "warning",
		"jit":                                 "off", // our statements are short, despite estimates
	}
	maps.Copy(ours, settings)
	maps.Copy(conn.RuntimeParams, ours)
	conn.RuntimeParams["application_name"] = "triggerd"
	conn.ValidateConnect = p.validate(conn, ours)
	pool, err := pgxpool.NewWithConfig(ctx, c)
	return &patientPool{Pool: pool, now: p.monotonic}, err
}

// validate checks each new connection, for several hosts one after the other:
// first against DATABASE_URL, then for our settings, then for the server it
// leads to.
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

// reset closes all connections; those in use when they return to the pool.
func (p *postgres) reset() {
	for _, pool := range []*patientPool{p.hot, p.reads} {
		if pool != nil { // nil while the first pool is created
			pool.Reset()
		}
	}
}

// unreplicated marks a connection whose last commit may not have reached the
// standby it waits for. Then its success does not count.
const unreplicated = "unreplicated"

// noteWarning handles the server's notices. A cancelled wait for a synchronous
// standby is only a warning, and the commit looks like a success.
func noteWarning(c *pgconn.PgConn, n *pgconn.Notice) {
	if n.SeverityUnlocalized == "WARNING" && (n.Code == "01000" || n.Code == "57P01") {
		c.CustomData()[unreplicated] = true
	}
}

var errUnreplicated = errors.New("the commit may not have reached the synchronous standby")

// checkReplicated returns errUnreplicated if the connection got such a warning.
func checkReplicated(c *pgx.Conn) error {
	if data := c.PgConn().CustomData(); data[unreplicated] != nil {
		delete(data, unreplicated)
		return errUnreplicated
	}
	return nil
}

// sqlBarrier turns a transaction that has written nothing into a real commit,
// if there is a synchronous standby. That commit waits until everything
// committed before it has reached the standby, too. So an answer may depend on
// rows that were only read. Without a standby it does nothing.
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

// isAnswer reports whether an error of a transaction is an answer that depends
// on the rows that it has read. For example, the row to be deleted does not
// exist, because it was deleted just now.
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
		_ = onConn(rollback) // if it fails, the connection is closed, which also rolls back
	}
	if isAnswer(err) && commit != quietCommit { // it depends on rows
		if failed := onConn(func(ctx context.Context, c *pgx.Conn) error { return p.commit(ctx, c, "BEGIN; "+commit) }); failed != nil {
			err = failed
		}
	}
	p.notice(err)
	return err
}

// commitTimeout bounds the end of a transaction that a request waits for. A
// standby that is away delays it, and the server has no timeout for that. After
// it, the outcome of the commit is unknown.
const commitTimeout = 5 * time.Second

// commit ends a transaction, and returns an error unless it is as durable as it
// must be.
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

// rollback ends the open transaction of a connection, if any.
func rollback(ctx context.Context, conn *pgx.Conn) error {
	if conn.IsClosed() || conn.PgConn().TxStatus() == 'I' {
		return nil
	}
	_, err := conn.PgConn().Exec(ctx, "ROLLBACK").ReadAll()
	return err
}

// notice closes all connections if an error shows that one of them leads to a
// server that is no longer the primary.
func (p *postgres) notice(err error) {
	if isCode(err, "25006") || errors.Is(err, errOtherServer) { // read_only_sql_transaction
		p.reset()
	}
}

func (p *postgres) list(param string, _ listType) string { return " = ANY(" + param + ")" }

// sliceOf selects rows by their ctid, as sqlClaim does.
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

// now reads the server's time; nothing else does. The measurement does not
// include the wait for a connection.
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

// notePlain and forgetPlain do nothing.
func (p *postgres) notePlain(context.Context, querier) error { return nil }
func (p *postgres) forgetPlain(context.Context) error        { return nil }

// damage returns "": use pg_amcheck, which comes with PostgreSQL.
func (p *postgres) damage(context.Context) (string, error) { return "", nil }

// intact returns nil, because the server checks its files itself.
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

// classifyPostgres classifies PostgreSQL's own errors. An ERROR is a definite
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
	case "40001", "40P01", "55P03", "23514": // 23514: a day had no partition, but has one now
		return again, true
	}
	switch e.Code[:2] {
	case "22", "23":
		return rejected, true
	}
	return unknown, true
}

// isCode reports whether err is a PostgreSQL error with one of the codes.
func isCode(err error, codes ...string) bool {
	e, ok := errors.AsType[*pgconn.PgError](err)
	for _, code := range codes {
		if ok && e.Code == code {
			return true
		}
	}
	return false
}
