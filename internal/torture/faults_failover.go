package torture

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"regexp"
	"sync"
	"time"
)

// readTables returns the tables whose reads db-read cuts.
func readTables() []string {
	return []string{"webhooks", "organizations", "webhook_versions", "api_keys", "events", "deliveries", "dedup", "replays"}
}

// cutReads cuts connections while PostgreSQL answers reads of one table, for up
// to some seconds. The server must not take the rows before the cut for all
// rows.
func cutReads(ctx context.Context, r *run, random *rand.Rand) error {
	tables := readTables()
	table := tables[random.IntN(len(tables))]
	if random.IntN(2) == 0 {
		table = tables[0] // ingest and the engine depend on it
	}
	read := regexp.MustCompile(`(?is)^\s*SELECT\b.*\b(?:FROM|JOIN)\s+` + table + `\b`)
	for _, p := range r.db.fronts {
		its := rand.New(rand.NewPCG(random.Uint64(), 0))
		p.aimAt(func(statement string) (after int, cut bool) {
			if its.IntN(3) > 0 || !read.MatchString(statement) {
				return 0, false
			}
			return its.IntN(6), true // most answers have no more messages
		})
		defer p.aimAt(nil)
	}
	_ = pause(ctx, time.Duration(1000+random.IntN(2500))*time.Millisecond)
	return nil
}

// cutStandby cuts the connection between the primary and its standby while
// clients post. In most cases it then makes the commits that wait for the
// standby visible: it restarts the primary, or ends the waiting sessions.
// Clients repeat unanswered requests. A server whose answers depend on rows
// that the standby lacks loses them in the failover that follows.
func cutStandby(ctx context.Context, r *run, random *rand.Rand) error {
	r.database.Lock()
	defer r.database.Unlock()
	events, err := r.client.repeatable(ctx, random)
	if err != nil {
		return err
	}
	if random.IntN(4) > 0 { // otherwise commits that wait for the standby may delay the repeats
		defer r.quiet()()
		_ = pause(ctx, 2*time.Second)
	}
	primary := r.db.servers[0]
	primary.feed.cut()
	defer primary.feed.mend()
	posters := r.client.repeat(ctx, random, events, 1)
	_ = pause(ctx, time.Duration(700+random.IntN(800))*time.Millisecond)
	switch random.IntN(4) {
	case 0:
	case 1:
		err = primary.psql(ctx, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'")
	default:
		primary.kill()
		err = primary.start(ctx)
	}
	r.client.repeat(ctx, random, events, 3).Wait()
	posters.Wait()
	return errors.Join(err, r.promote(ctx, random))
}

// quiet sets every endpoint to a good mood and stops the clients, until end is
// called, so that the nodes soon have no work.
func (r *run) quiet() (end func()) {
	r.client.hushed.Store(true)
	calm := r.receiver.calmDown()
	return func() {
		calm()
		r.client.hushed.Store(false)
	}
}

// repeatable returns some new events that can be posted again.
func (c *client) repeatable(ctx context.Context, random *rand.Rand) (list []*event, err error) {
	for len(list) < 6 {
		e, err := c.newEvent(ctx, random)
		if err != nil {
			return nil, err
		}
		if e.dedupID != "" && !e.refused && e.deliverAt.IsZero() {
			list = append(list, e)
		}
	}
	return list, nil
}

// repeat posts each event several times, each in its own goroutine.
func (c *client) repeat(ctx context.Context, random *rand.Rand, events []*event, times int) *sync.WaitGroup {
	var posters sync.WaitGroup
	for _, e := range events {
		its := rand.New(rand.NewPCG(random.Uint64(), 0))
		posters.Go(func() {
			for range times {
				_ = pause(ctx, time.Duration(its.IntN(500))*time.Millisecond)
				c.post(ctx, c.nodes[its.IntN(len(c.nodes))], e, e.anyForm(its))
			}
		})
	}
	return &posters
}

// failOver kills the primary and promotes the standby.
func failOver(ctx context.Context, r *run, random *rand.Rand) error {
	r.database.Lock()
	defer r.database.Unlock()
	return r.promote(ctx, random)
}

// promote kills the primary and promotes the standby. After a while the old
// primary becomes its standby; until then no commit is answered.
func (r *run) promote(ctx context.Context, random *rand.Rand) error {
	old, promoted := r.db.servers[0], r.db.servers[1]
	old.kill()
	_ = pause(ctx, time.Duration(random.IntN(1000))*time.Millisecond)
	if err := promoted.promote(ctx); err != nil {
		return err
	}
	r.db.servers[0], r.db.servers[1] = promoted, old
	_ = pause(ctx, time.Duration(random.IntN(4000))*time.Millisecond)
	if err := old.follow(ctx, promoted); err != nil {
		return err
	}
	return old.start(ctx)
}

// returnOld fails over. Then the old primary comes back for some seconds
// without fencing: it accepts commits, and the nodes reach no other server.
// Events acknowledged there are lost with it.
func returnOld(ctx context.Context, r *run, random *rand.Rand) error {
	r.database.Lock()
	defer r.database.Unlock()
	for _, n := range r.nodes { // a node that starts now cannot know the other server
		n.fault.Lock()
		defer n.fault.Unlock()
	}
	old, promoted := r.db.servers[0], r.db.servers[1]
	old.kill()
	if err := old.comeBackAlone(); err != nil {
		return err
	}
	if err := promoted.promote(ctx); err != nil {
		return err
	}
	r.db.servers[0], r.db.servers[1] = promoted, old
	if err := errors.Join(promoted.alone(ctx), r.allReady(ctx)); err != nil {
		return err
	}
	_ = pause(ctx, time.Duration(500+random.IntN(2000))*time.Millisecond)
	promoted.front.cut()
	err := old.start(ctx)
	_ = pause(ctx, time.Duration(1000+random.IntN(3000))*time.Millisecond)
	old.kill()
	promoted.front.mend()
	_ = pause(ctx, time.Duration(random.IntN(1000))*time.Millisecond)
	if err := errors.Join(err, promoted.waitForStandby(ctx)); err != nil {
		return err
	}
	if err := old.follow(ctx, promoted); err != nil {
		return err
	}
	return old.start(ctx)
}

func (c *cluster) promote(ctx context.Context) error {
	return c.exec(ctx, "pg_ctl", "promote", "--pgdata="+c.dir, "--wait")
}

// psql executes statements as the superuser.
func (c *cluster) psql(ctx context.Context, statements ...string) error {
	args := []string{"--no-psqlrc", "--quiet", "--output=/dev/null", "--set=ON_ERROR_STOP=1", "--dbname=" + c.url("127.0.0.1", c.port).String()}
	for _, text := range statements {
		args = append(args, "--command="+text)
	}
	return c.exec(ctx, "psql", args...)
}

// alone makes a primary answer commits without a standby.
func (c *cluster) alone(ctx context.Context) error { return c.setStandbys(ctx, "") }

// waitForStandby undoes alone.
func (c *cluster) waitForStandby(ctx context.Context) error { return c.setStandbys(ctx, "*") }

// comeBackAlone is alone for a killed server. Before the kill it must not
// answer commits that the standby may lack.
func (c *cluster) comeBackAlone() error {
	return c.configure("postgresql.auto.conf", "synchronous_standby_names = ''\n")
}

func (c *cluster) setStandbys(ctx context.Context, names string) error {
	return c.psql(ctx, fmt.Sprintf("ALTER SYSTEM SET synchronous_standby_names = '%s'", names), "SELECT pg_reload_conf()")
}
