// Package torture tries to make the server break its promises, and tells
// whether it could. It knows the server only as its users do: as a program
// that it starts, by its HTTP API, and by what reaches a webhook's endpoint.
//
// A run has a seed. Clients post events and keep a [book] of what was
// acknowledged, refused, or left without an answer; consumers empty inboxes,
// and owners change webhooks; a receiver fails, hangs and lies; and faults
// strike at moments that the seed chooses: processes are killed and suspended,
// databases die and fail over, connections are cut, disks fill up. Then
// everything is healed, and every entry of the book is held against what the
// API gives back and what the receiver got. Each count of the [Report] that
// promises zero has to be zero.
//
// Reading it: [Run] is the course of things, book.go what is known, faults.go
// the table of faults, client.go, consumers.go and changes.go who is at work,
// judge.go the judgement.
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

// Config says what is tortured and how.
type Config struct {
	Seed     uint64        // of payloads, moods and faults
	For      time.Duration // how long load and faults last; settling and judging come after
	Faults   []string      // names of the table; none: no faults, and then nothing may come twice
	Strict   bool          // what the machine does not allow is an error
	Database string        // one of Databases, or the URL of a PostgreSQL on loopback
	Nodes    int           // servers on the one database; SQLite takes one
	Rate     int           // events a second, at most
	Clients  int           // POSTs at a time
	Program  string        // the server's
	Dir      string        // for data, logs and the ledger; "" is a temporary one
	Keep     bool          // leave it, though nothing broke
	Patience time.Duration // how long to wait for progress while settling; 0 for as long as a sound server may need
	Now      func() time.Time
	Out      io.Writer // tells what happens
}

// Databases are the kinds that a run sets up by itself: the embedded one, a
// PostgreSQL, and a PostgreSQL with a synchronous standby.
func Databases() []string { return []string{"sqlite", "postgres", "standby"} }

// What the servers are told, so that days of retries fit into a run.
const (
	attemptTimeout = time.Second
	lease          = 2*attemptTimeout + 2*time.Second // see deliver.Config.Lease
	retrySchedule  = "200ms,500ms,1s,2s"              // then as lastPause, to the most that a schedule takes
	lastPause      = ",3s"
	pauses         = 50
)

// How long things may take, though the machine is busy.
const (
	startPatience  = 30 * time.Second // until a node is ready, or a database there
	stopPatience   = 16 * time.Second // until a node ends after SIGTERM: the promise is 15 s
	settlePatience = 4 * time.Minute  // until everything is delivered after the last fault; a breaker may be open for over a minute
	quietPatience  = 5 * lease        // without progress
	judgePatience  = 5 * time.Minute
)

// run is one run.
type run struct {
	Config
	book     *book
	receiver *receiver
	windows  *windows
	client   *client
	nodes    []*node
	db       *postgres  // nil: SQLite
	disk     string     // a small file system under the database
	noDisk   string     // why there is none
	database sync.Mutex // held by what spoils it
	report   *Report
	stuck    atomic.Bool // something was waited for in vain
	mute     atomic.Bool // an inbox could not be read for a long time
	away     absence     // of SQLite's files
	clock    atomic.Bool // the database's is being set
	closers  []func() error
}

// Run is one run. The error says that it could not be made; whether the server
// kept its promises is in the report.
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

// setUp starts the database, the servers and the receiver, and has each server
// do a little of everything before its resources are measured.
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

// certificate is the file that the receiver is known by.
func (r *run) certificate() string { return filepath.Join(r.Dir, "receiver.pem") }

// strike runs load and faults for the time that was asked for.
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

// random is a stream of random numbers of its own for each use, so that what
// one draws does not change another.
func (r *run) random(use uint64) *rand.Rand { return rand.New(rand.NewPCG(r.Seed, use)) }

// The uses of random numbers.
const (
	forFaults uint64 = iota + 1
	forReplays
	forClients // and the clients after it

	forConsumers uint64 = 1 << 20 * (1 + iota) // likewise, each
	forChangers
	forDrains
)

// pause waits, or returns the context's error if that ends first.
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

// until asks every few milliseconds whether something holds, and returns an
// error if it does not within patience.
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
