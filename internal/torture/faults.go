package torture

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
)

// fault is a kind of fault. do makes it and returns when it is healed. Its
// error reports what did not recover.
type fault struct {
	name string
	what string
	on   kindOf
	lack func(r *run) string // why this machine does not allow it; "": it does
	do   func(ctx context.Context, r *run, random *rand.Rand) error
}

// kindOf is the kind of database that a fault needs. Each kind of PostgreSQL
// allows the faults of all smaller kinds.
type kindOf int

const (
	anyDatabase kindOf = iota
	anyPostgres
	ownPostgres // started by the run
	withStandby
	onlySQLite // and no other
)

func (k kindOf) String() string {
	return [...]string{"", "needs PostgreSQL", "needs --database postgres", "needs --database standby", "needs --database sqlite"}[k]
}

// allows reports whether a fault can be made on a database of this kind.
func (k kindOf) allows(f *fault) bool {
	if f.on == onlySQLite {
		return k == anyDatabase
	}
	return f.on <= k
}

// kind returns the kind of the run's database.
func (r *run) kind() kindOf {
	switch {
	case r.db == nil:
		return anyDatabase
	case r.db.given != nil:
		return anyPostgres
	case len(r.db.servers) < 2:
		return ownPostgres
	}
	return withStandby
}

// The names of faults that other code uses.
const (
	faultPause    = "pause"
	faultCrowd    = "crowd"
	faultSnapshot = "db-snapshot"
	faultClock    = "clock"
	faultStep     = "db-clock"
	faultPoison   = "poison"
	faultHang     = "hang-" // prefix
)

// table returns all faults.
func table() []fault {
	allowed := func(*run) string { return "" }
	return []fault{
		{"kill", "SIGKILL of a node", anyDatabase, allowed, kill},
		{"term", "SIGTERM of a node, which has to end well", anyDatabase, allowed, term},
		{faultPause, "SIGSTOP of a node for longer than its leases", anyDatabase, allowed, suspend},
		{"fds", "a node runs out of descriptors", anyDatabase, lacksLimits, starve},
		{faultCrowd, "connections that say nothing, or half a header", anyDatabase, allowed, crowd},
		{faultPoison, "a webhook's endpoint refuses some events whenever they come", anyDatabase, allowed, poison},
		{faultHang + "101", "endpoints answer 101, and keep the connection", anyDatabase, allowed, cast(switching)},
		{faultHang + "103", "endpoints answer 103 for ever", anyDatabase, allowed, cast(hinting)},
		{faultHang + "tls", "endpoints leave TLS handshakes unanswered", anyDatabase, allowed, cast(stalling)},
		{"disk-full", "no space left for the database", anyDatabase, lacksDisk, fillDisk},
		{"db-files", "SQLite's files are moved away under the server, and back", onlySQLite, allowed, moveFiles},
		{faultStep, "the clock of PostgreSQL goes ahead by an hour or a day, and steps back", ownPostgres, lacksFakeTime, stepClock},
		{"fsync", "fsync and fdatasync of the database fail", anyDatabase, lacksTracing, failSync},
		{faultClock, "a node comes again with its clock up to 90 s off", anyPostgres, allowed, shiftClock},
		{"db-reset", "a node's connections to PostgreSQL are closed, new ones too", anyPostgres, allowed, toxic("reset_peer", `{"timeout":0}`)},
		{"db-answer", "PostgreSQL does what a node asks, and the answer is cut", anyPostgres, allowed, toxic("limit_data", `{"bytes":0}`)},
		{"db-delay", "PostgreSQL answers late", anyPostgres, allowed, toxic("latency", `{"latency":300,"jitter":300}`)},
		{"db-hole", "answers of PostgreSQL are lost without an error", anyPostgres, allowed, toxic("timeout", `{"timeout":0}`)},
		{"db-kill", "SIGKILL of PostgreSQL and all its processes", ownPostgres, allowed, killDatabase},
		{"db-restart", "a fast restart of PostgreSQL", ownPostgres, allowed, restartDatabase},
		{"db-lock", "another session locks a table", ownPostgres, lacksClient, lockTable},
		{faultSnapshot, "another session holds a snapshot for a long time", ownPostgres, lacksClient, holdSnapshot},
		{"db-read", "connections are cut while PostgreSQL answers reads", anyPostgres, allowed, cutReads},
		{"failover", "PostgreSQL is killed, and its standby promoted", withStandby, allowed, failOver},
		{"standby-cut", "the primary loses its standby, and then is killed, and the standby promoted", withStandby, lacksClient, cutStandby},
		{"old-primary", "after a failover the old primary comes back, and nodes reach it alone", withStandby, lacksClient, returnOld},
	}
}

// check returns an error if a fault is unknown.
func (c *Config) check() error {
	for _, name := range c.Faults {
		known := slices.ContainsFunc(table(), func(f fault) bool { return f.name == name })
		if !known && !slices.Equal(c.Faults, []string{AllFaults}) {
			return fmt.Errorf("unknown fault %q: triggerd torture --help lists them", name)
		}
	}
	return nil
}

// FaultHelp returns a list of all faults with their effects.
func FaultHelp() string {
	var lines strings.Builder
	for _, f := range table() {
		fmt.Fprintf(&lines, "  %-12s %s", f.name, f.what)
		if f.on > anyDatabase {
			fmt.Fprintf(&lines, " (%v)", f.on)
		}
		lines.WriteByte('\n')
	}
	return lines.String()
}

// AllFaults, as the only name, means all faults that the machine and the
// database allow.
const AllFaults = "all"

// plan chooses the faults of this run. It reports each fault that this machine
// does not allow. It returns an error if such a fault was named or Strict is
// set.
func (r *run) plan() (plan []fault, err error) {
	all := slices.Equal(r.Config.Faults, []string{AllFaults})
	for _, f := range table() {
		named := slices.Contains(r.Config.Faults, f.name)
		if !r.kind().allows(&f) && named {
			return nil, fmt.Errorf("the fault %s %v", f.name, f.on)
		}
		if !r.kind().allows(&f) || !named && !all {
			continue
		}
		lack := f.lack(r)
		switch {
		case lack == "":
			plan = append(plan, f)
		case named || r.Strict:
			return nil, fmt.Errorf("the fault %s cannot be made here: %s", f.name, lack)
		default:
			r.report.Lacking = append(r.report.Lacking, f.name+": "+lack)
		}
	}
	return plan, nil
}

// inject makes faults until ctx ends, one at a time and sometimes two, and
// heals the last ones. First it makes each of the plan once, then random ones.
// db-clock lasts long, so other faults are made meanwhile.
func (r *run) inject(ctx context.Context, plan []fault) error {
	random := r.random(forFaults)
	work := context.WithoutCancel(ctx)
	turns := random.Perm(len(plan))
	long, _ := errgroup.WithContext(work) // faults during which others are made
	for {
		if pause(ctx, 200*time.Millisecond+time.Duration(random.IntN(1500))*time.Millisecond) != nil {
			return long.Wait()
		}
		f := plan[random.IntN(len(plan))]
		if len(turns) > 0 {
			f, turns = plan[turns[0]], turns[1:]
		}
		together := []fault{f}
		if random.IntN(4) == 0 {
			together = append(together, plan[random.IntN(len(plan))])
		}
		group, _ := errgroup.WithContext(work)
		for _, f := range together {
			its, of := rand.New(rand.NewPCG(random.Uint64(), 0)), group
			if f.name == faultStep {
				if of = long; !r.clock.CompareAndSwap(false, true) { // it is under way
					continue
				}
			}
			fmt.Fprintf(r.Out, "%8.1f s  %s\n", r.Now().Sub(r.receiver.begun).Seconds(), f.name)
			of.Go(func() error { return r.cause(work, f, its) })
		}
		if err := group.Wait(); err != nil {
			return errors.Join(err, long.Wait())
		}
	}
}

// cause makes one fault and returns when it is healed.
func (r *run) cause(ctx context.Context, f fault, random *rand.Rand) error {
	r.book.note("fault", f.name)
	end := r.windows.open(f.name)
	defer end()
	err := f.do(ctx, r, random)
	if err == nil {
		err = r.allReady(ctx)
	}
	r.book.note("healed", f.name)
	r.report.made(f.name)
	if err != nil {
		return fmt.Errorf("after %s: %w", f.name, err)
	}
	return nil
}

func (r *run) allReady(ctx context.Context) error {
	for _, n := range r.nodes {
		if err := n.ready(ctx); err != nil {
			return err
		}
	}
	return nil
}

// some returns a random node, locked for this fault until done.
func (r *run) some(random *rand.Rand) (n *node, done func()) {
	n = r.nodes[random.IntN(len(r.nodes))]
	n.fault.Lock()
	return n, n.fault.Unlock
}

func kill(ctx context.Context, r *run, random *rand.Rand) error {
	n, done := r.some(random)
	defer done()
	if _, err := n.end(syscall.SIGKILL); err != nil {
		return err
	}
	_ = pause(ctx, time.Duration(random.IntN(1000))*time.Millisecond)
	for range random.IntN(3) { // kill it again while it starts
		if err := n.launch(); err != nil {
			return err
		}
		_ = pause(ctx, time.Duration(random.IntN(100))*time.Millisecond)
		if _, err := n.end(syscall.SIGKILL); err != nil {
			return err
		}
	}
	begun := r.Now()
	err := n.start(ctx)
	r.report.longest(&r.report.Restart, r.Now().Sub(begun))
	return err
}

func term(ctx context.Context, r *run, random *rand.Rand) error {
	n, done := r.some(random)
	defer done()
	return r.restart(ctx, n)
}

// restart stops a node with SIGTERM and starts it with other arguments.
func (r *run) restart(ctx context.Context, n *node, args ...string) error {
	begun := r.Now()
	code, err := n.end(syscall.SIGTERM)
	r.report.longest(&r.report.Stop, r.Now().Sub(begun))
	if err != nil || code != 0 {
		r.report.breach(stoppedBadly, "node %d after SIGTERM: exit code %d, %v; see %s", n.n, code, err, n.logFile)
	}
	return n.start(ctx, args...)
}

func suspend(ctx context.Context, r *run, random *rand.Rand) error {
	n, done := r.some(random)
	defer done()
	if err := n.signal(syscall.SIGSTOP); err != nil {
		return err
	}
	err := pause(ctx, lease+time.Duration(500+random.IntN(1500))*time.Millisecond)
	return errors.Join(err, n.signal(syscall.SIGCONT))
}

// starve limits a node to a few more descriptors for a while.
func starve(ctx context.Context, r *run, random *rand.Rand) error {
	n, done := r.some(random)
	defer done()
	undo, err := limitDescriptors(n.pid(), random.IntN(5))
	if err != nil {
		return err
	}
	err = pause(ctx, time.Duration(1000+random.IntN(2000))*time.Millisecond)
	return errors.Join(err, undo())
}

// shiftClock starts a node with a clock that differs from the database's.
func shiftClock(ctx context.Context, r *run, random *rand.Rand) error {
	ahead := time.Duration(random.IntN(180_000)-90_000) * time.Millisecond
	n, done := r.some(random)
	defer done()
	return r.restart(ctx, n, "--clock-ahead="+ahead.String())
}
