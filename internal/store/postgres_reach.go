package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
)

// ErrStarting is in an error of [Open] if the database cannot be reached now
// but may be later: it is starting, failing over, or not there yet. The caller
// should retry Open.
var ErrStarting = errors.New("the database cannot be reached yet")

// reachTimeout is how long a start waits for PostgreSQL to answer.
const reachTimeout = 4 * time.Second

func (p *postgres) reach(ctx context.Context) error {
	within, cancel := context.WithTimeout(ctx, reachTimeout)
	defer cancel()
	err := p.hotDB.PingContext(within)
	if lost, ok := errors.AsType[*lostSettingsError](err); ok {
		return lost
	}
	if isCode(err, "08P01") { // protocol_violation: PgBouncer does not accept our parameters
		return fmt.Errorf("the server is a pooler such as PgBouncer: connect to PostgreSQL directly: %w", err)
	}
	if err != nil {
		return fmt.Errorf("PostgreSQL cannot be reached, check that it runs and that DATABASE_URL or the DB_* variables are right: %w", redactSetting(err))
	}
	return nil
}

// withStarting adds ErrStarting to an error of Open if a retry may succeed.
func withStarting(err error, o Options) error {
	if o.PostgresURL == "" || !isStarting(err) {
		return err
	}
	return &startingError{err}
}

// startingError is an ErrStarting with the text of its cause.
type startingError struct{ error }

func (e *startingError) Is(target error) bool { return target == ErrStarting }
func (e *startingError) Unwrap() error        { return e.error }

// If the server has fewer connections for us than the pool may have, for
// example because other nodes use them, callers wait as for a busy pool, at
// most fullWait. Each fullPoll a caller checks for an idle connection, and each
// fullRetry one of all callers tries the server again.
const (
	fullWait  = 4 * time.Second
	fullPoll  = 10 * time.Millisecond
	fullRetry = 250 * time.Millisecond
)

// patientPool is a pool of connections that waits while the server is full.
type patientPool struct {
	*pgxpool.Pool
	now   func() time.Time
	asked atomic.Int64 // last try at the full server, in ns
}

// open returns a [sql.DB] over the pool.
func (p *patientPool) open() *sql.DB {
	db := sql.OpenDB(patientConnector{stdlib.GetPoolConnector(p.Pool), p})
	db.SetMaxIdleConns(0) // they stay in the pool
	return db
}

// patientConnector takes connections from a patientPool.
type patientConnector struct {
	driver.Connector
	pool *patientPool
}

// Connect implements [driver.Connector].
func (c patientConnector) Connect(ctx context.Context) (driver.Conn, error) {
	return taken(ctx, c.pool, c.Connector.Connect)
}

// Acquire is the pool's Acquire, but waits while the server is full.
func (p *patientPool) Acquire(ctx context.Context) (*pgxpool.Conn, error) {
	return taken(ctx, p, p.Pool.Acquire)
}

// taken calls take, which may open a new connection, until the server has one.
func taken[T any](ctx context.Context, p *patientPool, take func(context.Context) (T, error)) (T, error) {
	conn, err := take(ctx)
	if !isFull(err) {
		return conn, withoutRefusedTLS(err)
	}
	wait, cancel := context.WithTimeout(ctx, fullWait)
	defer cancel()
	for isFull(err) && pause(wait, fullPoll) == nil {
		now, asked := p.now().UnixNano(), p.asked.Load()
		if p.Stat().IdleConns() > 0 || now-asked >= int64(fullRetry) && p.asked.CompareAndSwap(asked, now) {
			conn, err = take(ctx)
		}
	}
	return conn, withoutRefusedTLS(err)
}

// isFull reports whether the server has no connection left for this role.
func isFull(err error) bool {
	return err != nil && slices.ContainsFunc(leaves(err), func(err error) bool { return isCode(err, "53300") })
}
