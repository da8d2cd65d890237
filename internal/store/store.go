// Package store keeps everything that must survive, in PostgreSQL or in an
// embedded SQLite file, and holds the only SQL of the server.
//
// There is one [Store] and one text of each statement for both databases. What
// differs between them is a dialect: how a store is opened and how a write
// becomes a transaction, the three hot statements (AddEvents, Claim, Finish),
// and how days of events are made and dropped.
//
// Reading it: [Store.AddEvents] is where an event becomes durable,
// [Store.Claim] and [Store.Finish] are the life of a delivery, and
// [Settle] says what is done when a database says no, or nothing.
//
// Methods return a [trigger.Error]: NotFound where a thing does not exist or
// belongs to another organization, Unavailable where the database cannot be
// reached or does not answer in time. Beside an error all results are zero; a
// method that can say more than that says so.
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

// Options say which database to open and how.
type Options struct {
	PostgresURL string        // connection string or URL; "" means SQLite
	PoolSize    int           // PostgreSQL connections in all, at least 2
	DataDir     string        // SQLite: the folder, made if it is missing
	SecretKeys  []string      // that secrets are encrypted with: the first seals, all open; none: not at all
	Retention   time.Duration // of events, which no schedule of a webhook may outlast; 0: not judged
	Unsafe      bool          // take a database that does not sync, and say so in Warnings
	Log         *slog.Logger  // told of another server behind the connections, and of SQLite files that go and come; nil: nobody is

	// Doing is told what the opening does next that may take long, as a phrase
	// after "waits for"; nil: nobody is.
	Doing func(what string)

	// Now is the process's clock, with its monotonic reading. OwnClock takes
	// it for the database's too: for tests that move it.
	Now      func() time.Time
	OwnClock bool

	sqlite   sqliteOptions   // for tests
	postgres postgresOptions // for tests
}

// Store is the database, whichever it is. Make one with [Open].
type Store struct {
	NodeID   trigger.ID // of this process, for as long as it runs
	Database string     // which it is: the hosts, ports and name in PostgreSQL, for example db1:5432/events, or the folder
	Warnings []string   // what the operator should know about this database

	read    *sharedDB // requests and everything that is not hot
	hot     *sql.DB   // the few connections of ingest and the engine
	hotDays querier   // the same, for statements that read events or attempts
	dialect dialect
	clock   *clock
	log     *slog.Logger
	subs    *Cache[int64, *trigger.Subscribers]
	epoch   atomic.Int64 // changes when caches must forget: the server may be another one
	keys    *keyring
	keeps   time.Duration // the retention; 0: not known
	beats   beats
	lost    lostClaims
	schema  int64        // that this program knows
	nodes   atomic.Int64 // alive, as last counted
	closing sync.Once
	closed  error
}

// dialect is what differs between the databases.
type dialect interface {
	// addEvents runs one transaction and returns what became of each event.
	// again says that the same batch may have been committed before.
	addEvents(ctx context.Context, b *Batch, again bool) ([]trigger.ID, error)
	claim(ctx context.Context, wants []Want, claim trigger.ID, now, lease time.Time) ([]trigger.Delivery, error)
	// finish takes results of what was owed at acceptance, or of replays alone.
	finish(ctx context.Context, results []Result, replayed bool) error

	// write runs fn in a transaction of its own, which is synced when write
	// returns nil, and so is all that fn has read in it. An error of fn that is
	// an answer, for example NotFound, rests on what is as durable. It may run
	// together with others, never in part.
	write(ctx context.Context, fn func(querier) error) error
	// writeQuietly is write for work that nobody is told of, or only of what it
	// has changed: what fn found as it should be need not be as durable.
	writeQuietly(ctx context.Context, fn func(querier) error) error
	// list is the text after a column that asks for membership in the list
	// parameter; ints, ids and hashes make the parameter's value.
	list(param string, of listType) string
	ints(list []int64) any
	ids(list []trigger.ID) any
	hashes(list [][32]byte) any
	// lockShared is the text after a SELECT that keeps the rows as they are until
	// the transaction ends.
	lockShared() string
	// lanes are the texts of Lanes and of DueLanes.
	lanes() (all, due string)
	// sliceOf is the WHERE that picks the deliveries, all of one state and one
	// organization, that a query (from its FROM on) selects.
	sliceOf(from string, state trigger.DeliveryState) string

	// now reads the time of the database, and when that was by the local clock.
	now(ctx context.Context, local func() time.Time) (reading, error)
	// makeDays prepares the days from..to for events. dropDays removes some of
	// the events and attempts before a time that cutoff gave; done is false
	// when there are more.
	makeDays(ctx context.Context, from, to time.Time) error
	cutoff(before time.Time) time.Time
	// part is the next range of a walk that one statement may read: all that is
	// left of it, or some days. groups divides ids into those that one statement
	// may ask for.
	part(ctx context.Context, q querier, w *dayWalk) (idRange, error)
	groups(ids []trigger.ID) [][]trigger.ID
	dropDays(ctx context.Context, before time.Time) (done bool, err error)

	// beat looks at the database as a node shows that it lives, beside its row;
	// thorough is for when commits have failed. id is one of this moment.
	beat(ctx context.Context, id trigger.ID, thorough bool) error
	// notePlain remembers, and forgetPlain removes what is left of, secrets that
	// were stored plain. On PostgreSQL VACUUM removes it in time.
	notePlain(ctx context.Context, q querier) error
	forgetPlain(ctx context.Context) error
	// damage says what is wrong with the database's own files; "": nothing, as
	// far as the database tells.
	damage(ctx context.Context) (string, error)
	// intact says why nothing can be committed, as was found lately: files are
	// no longer where they were opened.
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

// querier is what *sql.DB, *sql.Tx and the SQLite writer have in common.
type querier interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// Stats are the connections to the database.
type Stats struct {
	InUse, Idle, Max int
}

// daysAhead is for how many days from now on room for events is kept ready.
const daysAhead = 14

// Open opens the database, migrates it to this version's schema, and refuses
// one that would not keep the promise, since it does not sync, or that has
// become too new for this program. ctx bounds the opening alone. The error's
// text says what to do; it is an [ErrStarting] if to open it again is enough.
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

// distrust refuses a database that would not keep the promise; who asked for
// that is only warned.
func (s *Store) distrust(o Options, line string) error {
	if !o.Unsafe {
		return errors.New(line)
	}
	s.Warnings = append(s.Warnings, line)
	return nil
}

// Close ends the connections. Everything that uses the store should have
// ended; what has not gets errors. To close again does nothing.
func (s *Store) Close() error {
	s.closing.Do(func() { s.closed = s.dialect.close() })
	return s.closed
}

// Ping asks the database for a sign of life. The error of Intact is one of its
// own.
func (s *Store) Ping(ctx context.Context) error {
	if err := s.Intact(); err != nil {
		return err
	}
	ctx, cancel := bounded(ctx)
	defer cancel()
	return wrap("ping", s.read.PingContext(ctx))
}

// Intact returns Unavailable if a file of the SQLite database was moved, removed
// or replaced since it was opened: nothing can be committed then, and what was
// committed may be gone. It knows what was found at the last commit, and half a
// second ago at most. On PostgreSQL it returns nil.
func (s *Store) Intact() error { return wrap("inspect the files", s.dialect.intact()) }

// Stats are the connections in use at this moment.
func (s *Store) Stats() Stats { return s.dialect.stats() }

// in asks for membership of a column in a list parameter.
func (s *Store) in(column, param string, of listType) string {
	return column + s.dialect.list(param, of)
}

// readTimeout bounds every read for a request, and the work of the background:
// the wait for a connection and the statement. What takes longer is
// Unavailable.
const readTimeout = 5 * time.Second

func bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, readTimeout)
}
