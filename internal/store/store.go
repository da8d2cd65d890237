// Package store keeps all durable data, in PostgreSQL or in an embedded SQLite
// file, and contains the only SQL of the server.
//
// There is one [Store] and one text of each statement for both databases. A
// dialect holds the differences: how a store is opened, how a write becomes a
// transaction, the three hot statements (AddEvents, Claim, Finish), and how
// days of events are made and dropped.
//
// To read it, start with [Store.AddEvents], which makes an event durable, then
// [Store.Claim] and [Store.Finish], the life of a delivery, and [RunBatch], which
// handles the errors of a database.
//
// Methods return a [trigger.Error]: NotFound if a thing does not exist or
// belongs to another organization, Unavailable if the database cannot be
// reached or does not answer in time. If a method returns an error, all its
// other results are zero, unless its comment says otherwise.
package store

import (
	"context"
	"database/sql"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"triggerd/internal/trigger"
)

// Options select the database and control how it is opened.
type Options struct {
	PostgresURL string        // connection string or URL; "" means SQLite
	PoolSize    int           // PostgreSQL connections in all, at least 2
	DataDir     string        // SQLite: the folder, created if missing
	SecretKeys  []string      // to encrypt secrets: the first encrypts, all decrypt; empty: secrets stay plain
	Retention   time.Duration // of events; a webhook's schedule must end a day earlier; 0: not checked
	Unsafe      bool          // accept a database that does not sync, and add a warning to Warnings
	Log         *slog.Logger  // for a change of the server behind the connections, and for SQLite files that disappear and return; may be nil

	// Doing is called before each step of Open that may take long, with a
	// phrase that fits after "waits for". It may be nil.
	Doing func(what string)

	// Now is the process's clock, with its monotonic reading. If OwnClock is
	// set, it also replaces the database's clock, for tests that move it.
	Now      func() time.Time
	OwnClock bool

	sqlite   sqliteOptions   // for tests
	postgres postgresOptions // for tests
}

// Store is the database of either kind. Use [Open] to create one.
type Store struct {
	NodeID   trigger.ID // of this process, until it exits
	Database string     // the hosts, ports and name in PostgreSQL, for example db1:5432/events, or the folder
	Warnings []string   // for the operator

	read    *sharedDB // for requests and all work that is not hot
	hot     *sql.DB   // the few connections of ingest and the engine
	hotDays querier   // the same, for statements that read events or attempts
	dialect dialect
	clock   *clock
	log     *slog.Logger
	subs    *Cache[int64, *trigger.Subscribers]
	epoch   atomic.Int64 // changes when caches must be emptied, because the server may be another one
	keys    *keyring
	keeps   time.Duration // the retention; 0: unknown
	beats   beats
	lost    lostClaims
	schema  int64        // the latest that this program knows
	nodes   atomic.Int64 // live ones, as last counted
	closing sync.Once
	closed  error
}

// dialect contains the differences between the databases.
type dialect interface {
	// addEvents runs one transaction and returns the verdict on each event.
	// again means that the same batch may have been committed before.
	addEvents(ctx context.Context, b *Batch, again bool) ([]trigger.ID, error)
	claim(ctx context.Context, wants []Want, claim trigger.ID, now, lease time.Time) ([]trigger.Delivery, error)
	// finish takes either original deliveries or deliveries of replays, never
	// both.
	finish(ctx context.Context, results []Result, replayed bool) error

	// write runs fn in a transaction. When write returns nil, the transaction
	// is synced, and so is all that fn has read. That also holds if fn's error
	// is an answer, for example NotFound. The transaction may include other
	// writes, but it never commits fn in part.
	write(ctx context.Context, fn func(querier) error) error
	// writeQuietly is write for work that is reported to no client, or only by
	// its changes. So the rows that fn found unchanged need not be synced.
	writeQuietly(ctx context.Context, fn func(querier) error) error
	// list returns the SQL text after a column that tests whether it is in the
	// list parameter. ints, ids and hashes return the parameter's value.
	list(param string, of listType) string
	ints(list []int64) any
	ids(list []trigger.ID) any
	hashes(list [][32]byte) any
	// lockShared returns the SQL text after a SELECT that prevents changes of
	// the rows until the transaction ends.
	lockShared() string
	// lanes returns the SQL texts of Lanes and of DueLanes.
	lanes() (all, due string)
	// sliceOf returns the WHERE that selects the deliveries of a query (from
	// its FROM on). All must have one state and one organization.
	sliceOf(from string, state trigger.DeliveryState) string

	// now reads the time of the database, and the local times around the
	// reading.
	now(ctx context.Context, local func() time.Time) (reading, error)
	// makeDays prepares the days from..to for events. dropDays removes some of
	// the events and attempts before a time that cutoff returned. done is false
	// if there are more.
	makeDays(ctx context.Context, from, to time.Time) error
	cutoff(before time.Time) time.Time
	// part returns the next range of a walk that one statement may read: the
	// whole rest, or some days. groups divides ids into groups that one
	// statement may read.
	part(ctx context.Context, q querier, w *dayWalk) (idRange, error)
	groups(ids []trigger.ID) [][]trigger.ID
	dropDays(ctx context.Context, before time.Time) (done bool, err error)

	// beat tests the database when a node writes its row. thorough is set if
	// commits have failed. id is a new id.
	beat(ctx context.Context, id trigger.ID, thorough bool) error
	// notePlain records that secrets were stored plain. forgetPlain removes
	// what is left of them. On PostgreSQL VACUUM does that in time.
	notePlain(ctx context.Context, q querier) error
	forgetPlain(ctx context.Context) error
	// damage describes damage to the database's own files, as far as the
	// database can find it; "" means no damage found.
	damage(ctx context.Context) (string, error)
	// intact returns an error if nothing can be committed, because a recent
	// check found that a path does not lead to the opened file.
	intact() error
	stats() Stats
	close() error
}

type listType int

const (
	listOfInts listType = iota
	listOfIDs
	listOfHashes
)

// querier is implemented by *sql.DB, *sql.Tx and the SQLite writer.
type querier interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// Stats are the numbers of connections to the database.
type Stats struct {
	InUse, Idle, Max int
}

// daysAhead is the number of days from now for which partitions are kept ready.
const daysAhead = 14

// Open opens the database and migrates it to this version's schema. It refuses
// a database that is not durable, because it does not sync, or whose schema is
// too new for this program. ctx bounds only Open itself. The error's text says
// what to do; it is an [ErrStarting] if a retry of Open is enough.
func Open(ctx context.Context, o Options) (*Store, error) {
	keys, err := newKeyring(o.SecretKeys)
	if err != nil {
		return nil, err
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Doing == nil {
		o.Doing = func(string) {}
	}
	s := &Store{NodeID: newID(o.Now()), clock: newClock(o.Now), keys: keys, keeps: o.Retention, log: o.Log, beats: beats{soon: make(chan struct{}, 1)}}
	s.subs = NewCache[int64, *trigger.Subscribers](s, subscriberCache)
	open := openSQLite
	if o.PostgresURL != "" {
		open = openPostgres
	}
	if err = open(ctx, s, o); err != nil {
		return nil, withStarting(err, o)
	}
	s.clock.measure = s.dialect.now
	if o.OwnClock {
		s.clock.measure = func(_ context.Context, local func() time.Time) (reading, error) { return s.clock.own(local) }
	}
	o.Doing("a clock and tables for the days to come")
	err = s.SyncClock(ctx)
	for tries := 0; err != nil && tries < 3; tries++ {
		err = s.SyncClock(ctx)
	}
	if err == nil {
		err = s.MakeDays(ctx)
	}
	if err == nil {
		err = s.TouchNode(ctx)
	}
	if err == nil {
		o.Doing("deleted webhooks to be cleared")
		err = s.clearTombstones(ctx)
	}
	if err == nil {
		o.Doing("secrets to be encrypted with the first SECRET_KEY")
		_, err = s.Reseal(ctx)
	}
	if err == nil {
		err = s.forgetPlain(ctx)
	}
	if err != nil {
		return nil, errors.Join(withStarting(err, o), s.Close())
	}
	return s, nil
}

// distrust returns an error for a database that is not durable. With
// Options.Unsafe it only adds a warning.
func (s *Store) distrust(o Options, line string) error {
	if !o.Unsafe {
		return errors.New(line)
	}
	s.Warnings = append(s.Warnings, line)
	return nil
}

// Close closes the connections. All users of the store should have ended; the
// others get errors. Further calls do nothing.
func (s *Store) Close() error {
	s.closing.Do(func() { s.closed = s.dialect.close() })
	return s.closed
}

// Ping verifies that the database answers. It returns the errors of Intact,
// too.
func (s *Store) Ping(ctx context.Context) error {
	if err := s.Intact(); err != nil {
		return err
	}
	ctx, cancel := bounded(ctx)
	defer cancel()
	return wrap("ping", s.read.PingContext(ctx))
}

// Intact returns Unavailable if a file of the SQLite database was moved,
// removed or replaced since it was opened. Then nothing can be committed, and
// committed data may be lost. It reports the last check, which was at the last
// commit and at most half a second ago. On PostgreSQL it returns nil.
func (s *Store) Intact() error { return wrap("inspect the files", s.dialect.intact()) }

// Stats returns the current numbers of connections.
func (s *Store) Stats() Stats { return s.dialect.stats() }

// in returns the SQL that tests whether a column is in a list parameter.
func (s *Store) in(column, param string, of listType) string {
	return column + s.dialect.list(param, of)
}

// readTimeout bounds every read for a request and all background work: the wait
// for a connection and the statement. After it they fail with Unavailable.
const readTimeout = 5 * time.Second

func bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, readTimeout)
}
