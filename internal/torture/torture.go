// Package torture tries to make the server break its promises, and reports
// whether it did. It uses the server only as a user does: it starts the
// program, calls its HTTP API, and receives requests to webhooks.
//
// A run has a seed. Clients post events and record in a [book] which were
// acknowledged, refused, or left without an answer. Consumers empty inboxes,
// and owners change webhooks. A receiver fails, hangs and lies. Faults strike
// at times that the seed chooses: for example, processes are killed and
// suspended, databases die and fail over, connections are cut, disks fill up.
// Then everything is healed, and every entry of the book is compared with the
// API's answers and the receiver's requests. Each count of the [Report] that
// promises zero must be zero.
//
// Where to read: [Run] has the steps of a run, book.go the records, faults.go
// the table of faults, client.go, consumers.go and changes.go the load,
// judge.go the checks.
package torture

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// Config is the configuration of a run.
type Config struct {
	Seed     uint64        // of payloads, moods and faults
	For      time.Duration // how long load and faults last; settling and the checks come after
	Faults   []string      // names in the table; empty: no faults, and then no event may come twice
	Strict   bool          // a fault that the machine does not allow is an error
	Database string        // one of Databases, or the URL of a PostgreSQL on loopback
	Nodes    int           // servers on one database; must be 1 for SQLite
	Rate     int           // events a second, at most
	Clients  int           // POSTs at a time
	Program  string        // path of the server's program
	Dir      string        // for data, logs and the ledger; "": a temporary one
	Keep     bool          // keep Dir even if no promise was broken
	Patience time.Duration // how long to wait for progress while settling; 0: as long as a correct server may need
	Now      func() time.Time
	Out      io.Writer // for progress messages
}

// Databases returns the kinds of databases that a run can start: SQLite, a
// PostgreSQL, and a PostgreSQL with a synchronous standby.
func Databases() []string { return []string{"sqlite", "postgres", "standby"} }

// Settings of the servers. They make days of retries fit into a run.
const (
	attemptTimeout = time.Second
	lease          = 2*attemptTimeout + 2*time.Second // see deliver.Config.Lease
	retrySchedule  = "200ms,500ms,1s,2s"              // then lastPause, up to the maximum of a schedule
	lastPause      = ",3s"
	pauses         = 50
)

// Bounds of waiting, for a busy machine.
const (
	startPatience  = 30 * time.Second // until a node or a database is ready
	stopPatience   = 16 * time.Second // until a node ends after SIGTERM; the promise is 15 s
	settlePatience = 4 * time.Minute  // until everything is delivered after the last fault; a breaker may be open for over a minute
	quietPatience  = 5 * lease        // without progress
	judgePatience  = 5 * time.Minute
)

// run is the state of one run.
type run struct {
	Config
	book     *book
	receiver *receiver
	windows  *windows
	client   *client
	nodes    []*node
	db       *postgres  // nil: SQLite
	disk     string     // a small file system for the database
	noDisk   string     // why disk is missing
	database sync.Mutex // locked by a fault of the database
	report   *Report
	stuck    atomic.Bool // a wait has timed out
	mute     atomic.Bool // an inbox could not be read for a long time
	away     absence     // of SQLite's files
	clock    atomic.Bool // the database's clock is being set
	closers  []func() error
}

// Run makes one run. It returns an error if the run failed; the report says
// whether the server kept its promises.
func Run(ctx context.Context, c Config) (report *Report, err error) {
	r := &run{Config: c, report: &Report{Seed: c.Seed, Database: c.Database, Nodes: c.Nodes, Faults: map[string]int{}}}
	if err := c.check(); err != nil {
		return nil, err
	}
	if r.Dir == "" {
		if r.Dir, err = os.MkdirTemp("", "triggerd-torture-"); err != nil {
			return nil, err
		}
	} else if err := os.MkdirAll(r.Dir, 0o755); err != nil {
		return nil, err
	}
	defer func() {
		for i := len(r.closers) - 1; i >= 0; i-- {
			err = errors.Join(err, r.closers[i]())
		}
		if err == nil && !r.report.Broken() && !r.Keep {
			err = os.RemoveAll(r.Dir)
		} else {
			fmt.Fprintf(r.Out, "the ledger, the logs and the data are in %s\n", r.Dir)
		}
	}()
	if err := r.setUp(ctx); err != nil {
		return r.report, err
	}
	begun := c.Now()
	plan, err := r.plan()
	if err != nil {
		return r.report, err
	}
	if err := r.strike(ctx, plan); err != nil {
		return r.report, err
	}
	r.settle(ctx)
	r.judge(ctx)
	r.report.Took = c.Now().Sub(begun)
	return r.report, ctx.Err()
}

// setUp starts the database, the servers and the receiver. Each server does
// some work of every kind before its resources are measured.
func (r *run) setUp(ctx context.Context) error {
	ledger, err := os.Create(filepath.Join(r.Dir, "ledger.jsonl"))
	if err != nil {
		return err
	}
	r.closers = append(r.closers, ledger.Close)
	r.book = newBook(r.Seed, ledger, r.Now)
	r.windows = &windows{now: r.Now}
	if r.receiver, err = newReceiver(r.book, r.Seed, r.windows); err != nil {
		return err
	}
	r.closers = append(r.closers, r.receiver.close)
	if err := r.receiver.listenTLS(r.certificate()); err != nil {
		return err
	}
	if err := r.setClock(0); err != nil {
		return err
	}
	if err := r.mountDisk(); err != nil {
		return err
	}
	if err := r.startDatabase(ctx); err != nil {
		return err
	}
	if err := r.startNodes(ctx); err != nil {
		return err
	}
	r.client = newClient(r)
	return r.warmUp(ctx)
}

// certificate returns the path of the receiver's certificate.
func (r *run) certificate() string { return filepath.Join(r.Dir, "receiver.pem") }

// strike runs load and faults for the configured time.
func (r *run) strike(ctx context.Context, plan []fault) error {
	limited, cancel := context.WithTimeout(ctx, r.For)
	defer cancel()
	group, working := errgroup.WithContext(limited)
	group.Go(func() error { return r.client.load(working) })
	group.Go(func() error { return r.watchHealth(working) })
	for i := range uint64(consumers) {
		group.Go(func() error { return r.client.consume(working, r.random(forConsumers+i)) })
	}
	for i := range uint64(changers) {
		group.Go(func() error { return r.client.change(working, r.random(forChangers+i)) })
	}
	if len(plan) > 0 {
		group.Go(func() error { return r.inject(working, plan) })
	}
	err := group.Wait()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		r.report.breach(notHealed, "%v", err)
	}
	return nil
}

// random returns a stream of random numbers for one use, so that uses do not
// affect each other.
func (r *run) random(use uint64) *rand.Rand { return rand.New(rand.NewPCG(r.Seed, use)) }

// The uses of random numbers.
const (
	forFaults uint64 = iota + 1
	forReplays
	forClients // and the following ones for the other clients

	forConsumers uint64 = 1 << 20 * (1 + iota) // likewise for each of these
	forChangers
	forDrains
)

// pause waits for d. It returns the context's error if that ends first.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// until polls holds every few milliseconds. It returns an error if holds is not
// true within patience.
func until(ctx context.Context, patience time.Duration, what string, holds func(context.Context) bool) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for !holds(ctx) {
		if pause(ctx, 20*time.Millisecond) != nil {
			return fmt.Errorf("%s: not within %v", what, patience)
		}
	}
	return nil
}
