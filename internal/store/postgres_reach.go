package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
)

// ErrStarting is in an error of [Open] if the database cannot be reached now and
// may be reached later: it is starting, or failing over, or not there yet. To
// open it again is then right.
var ErrStarting = errors.New("the database cannot be reached yet")

// reachTimeout is for how long a start waits for PostgreSQL to answer.
const reachTimeout = 4 * time.Second

func (p *postgres) reach(ctx context.Context) error {
	within, cancel := context.WithTimeout(ctx, reachTimeout)
	defer cancel()
	err := p.hotDB.PingContext(within)
	if lost, ok := errors.AsType[*lostSettingsError](err); ok {
		return lost
	}
	if isCode(err, "08P01") { // protocol_violation: PgBouncer does not take our parameters
		return fmt.Errorf("this is no PostgreSQL, but a pooler such as PgBouncer: connect to PostgreSQL directly: %w", err)
	}
	if err != nil {
		return fmt.Errorf("PostgreSQL cannot be reached, check that it runs and that DATABASE_URL or the DB_* variables are right: %w", err)
	}
	return nil
}

// withStarting makes a failed opening an ErrStarting, if it is one.
func withStarting(err error, o Options) error {
	if o.PostgresURL == "" || !isStarting(err) {
		return err
	}
	return &startingError{err}
}

// startingError is an ErrStarting with its cause, whose text is enough.
type startingError struct{ error }

func (e *startingError) Is(target error) bool { return target == ErrStarting }
func (e *startingError) Unwrap() error        { return e.error }

// isStarting reports whether time alone may mend a failed connect: each of its
// causes, one for each address that was tried, is of that kind.
func isStarting(err error) bool {
	causes := leaves(err)
	return len(causes) > 0 && !slices.ContainsFunc(causes, func(err error) bool { return !isPassing(err) })
}

// leaves are the errors that wrap no other.
func leaves(err error) (found []error) {
	switch e := err.(type) {
	case nil:
	case interface{ Unwrap() []error }:
		for _, part := range e.Unwrap() {
			found = append(found, leaves(part)...)
		}
	case interface{ Unwrap() error }:
		if found = leaves(e.Unwrap()); found == nil {
			found = []error{err}
		}
	default:
		found = []error{err}
	}
	return found
}

// isPassing reports whether a single cause passes by itself.
func isPassing(err error) bool {
	if e, ok := err.(*pgconn.PgError); ok {
		return slices.Contains([]string{
			"57P03",                   // cannot_connect_now: it starts, or stops
			"57P01", "57P02", "57P05", // it stops, has crashed, or ended an idle session
			"53300", // too_many_connections
		}, e.Code)
	}
	var timeout interface{ Timeout() bool }
	_, isDNS := errors.AsType[*net.DNSError](err)
	switch {
	case isDNS, errors.As(err, &timeout) && timeout.Timeout():
		return true
	}
	return slices.ContainsFunc([]error{
		errInRecovery, pgconn.ErrReadOnlyConnection, io.EOF, io.ErrUnexpectedEOF, context.DeadlineExceeded,
		syscall.ECONNREFUSED, syscall.ECONNRESET, syscall.EPIPE, syscall.ENOENT, syscall.EHOSTUNREACH, syscall.ENETUNREACH, syscall.ETIMEDOUT,
	}, func(passing error) bool { return errors.Is(err, passing) })
}

// Where the server has fewer connections for us than the pool may have, for
// example since other nodes have taken them, whoever wants one waits as for a
// busy pool: for fullWait at most. One at a time looks again, every fullPause.
const (
	fullWait  = 4 * time.Second
	fullPause = 50 * time.Millisecond
)

// openPool makes a [sql.DB] over a pool.
func openPool(pool *pgxpool.Pool) *sql.DB {
	db := sql.OpenDB(&poolConnector{Connector: stdlib.GetPoolConnector(pool), turn: make(chan struct{}, 1)})
	db.SetMaxIdleConns(0) // they stay in the pool
	return db
}

// poolConnector takes connections from a pool, and waits while the server has
// no more.
type poolConnector struct {
	driver.Connector
	turn chan struct{} // holds whoever looks again
}

// Connect implements [driver.Connector].
func (c *poolConnector) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := c.Connector.Connect(ctx)
	if !isFull(err) {
		return conn, err
	}
	wait, cancel := context.WithTimeout(ctx, fullWait)
	defer cancel()
	select {
	case <-wait.Done():
		return nil, err
	case c.turn <- struct{}{}:
	}
	defer func() { <-c.turn }()
	for {
		conn, again := c.Connector.Connect(ctx)
		if !isFull(again) {
			return conn, again
		}
		if pause(wait, fullPause) != nil {
			return nil, err
		}
	}
}

// isFull reports that the server has no connection left for this role.
func isFull(err error) bool {
	if err == nil {
		return false
	}
	return slices.ContainsFunc(leaves(err), func(err error) bool { return isCode(err, "53300") })
}
