package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"
)

// loadCases measure how fast the server accepts events, and its resources.
func loadCases() []measurement {
	return []measurement{
		{"posts", posts},
		{"batches", batches},
		{"footprint", footprint},
	}
}

// subject is a server under load. For a foreign server only its answers are
// known: read and used are nil.
type subject struct {
	driver driver
	dir    string // for the driver
	read   func(context.Context) (entry, error)
	used   func() (usage, error)
}

// measured is the result of one load.
type measured struct {
	tally
	rate             float64 // events/s
	server, database float64 // processors, in microseconds for each event
	mallocs, bytes   float64 // allocations of the server for each event
}

// bout is one load of a run, over a number of connections.
type bout struct {
	load
	on    *subject
	conns int
	d     time.Duration // including its warm-up
	got   measured
}

// makeAll makes the loads in random order, so that none always follows the same
// one.
func makeAll(ctx context.Context, list []*bout) error {
	for _, i := range rand.Perm(len(list)) {
		p := list[i]
		if err := p.measure(ctx); err != nil {
			line, _, _ := strings.Cut(p.head, " HTTP")
			return fmt.Errorf("%d connections, %s: %w", p.conns, line, err)
		}
	}
	return nil
}

// measure warms the server up with the load and measures it. The server must
// have stored what it has answered.
func (p *bout) measure(ctx context.Context) error {
	if err := p.warmUp(ctx); err != nil {
		return err
	}
	if p.on.read == nil {
		return p.drive(ctx)
	}
	before, err := quiet(ctx, p.on.read)
	if err != nil {
		return err
	}
	used, err := p.on.used()
	if err != nil {
		return err
	}
	if err := p.drive(ctx); err != nil {
		return err
	}
	if err := p.usedSince(ctx, used, before); err != nil {
		return err
	}
	after, err := quiet(ctx, p.on.read)
	if err != nil {
		return err
	}
	return p.judge(before, after, p.got.ok, p.on.driver.unanswered(p.conns))
}

// warmTime returns the part of a load's time that is warm-up.
func (p *bout) warmTime() time.Duration { return max(p.d/6, 50*time.Millisecond) }

// warmUp makes the same load with the built-in driver, which checks the
// answers. If ids repeat, it posts each of them once before.
func (p *bout) warmUp(ctx context.Context) error {
	if p.of > 0 {
		first := p.load
		first.verdict = ""
		posted := first.loop(ctx, min(p.conns, 16), times(p.of))
		if err := errors.Join(ctx.Err(), posted.err()); err != nil {
			return err
		}
	}
	warm := p.loop(ctx, p.conns, within(p.warmTime()))
	p.from += int64(warm.ok * p.ids)
	return errors.Join(ctx.Err(), warm.err())
}

// drive makes the measured load.
func (p *bout) drive(ctx context.Context) (err error) {
	p.got.tally, err = p.on.driver.drive(ctx, p.on.dir, &p.load, p.conns, p.d-p.warmTime())
	if err := errors.Join(err, p.got.err()); err != nil {
		return err
	}
	p.got.rate = perSecond(p.got.ok*p.events(), p.got.took)
	return nil
}

// usedSince sets the resources used since the beginning of the load.
func (p *bout) usedSince(ctx context.Context, begun usage, before entry) error {
	used, err := p.on.used()
	if err != nil {
		return err
	}
	now, err := p.on.read(ctx)
	if err != nil {
		return err
	}
	events := float64(p.got.ok * p.events())
	p.got.server = 1000 * ms(used.server-begun.server) / events
	p.got.database = 1000 * ms(used.database-begun.database) / events
	p.got.mallocs, p.got.bytes = (now.mallocs-before.mallocs)/events, (now.bytes-before.bytes)/events
	return nil
}

// level is the measurements at one number of connections.
type level struct {
	conns                      int
	post, noop, single, repeat *bout // nil: not measured
}

// levels returns the levels of posts. noop is the path that does nothing, ""
// for no such load. The caller sets single, the yardstick.
func (b *bench) levels(to aim, on *subject, noop string) (all []*level) {
	// Other ids than in the run before, because the server may be the same one.
	of := "-" + strconv.FormatInt(time.Now().UnixNano(), 36) + "-"
	d := b.seconds() * 3 / 10 // with all the yardsticks there are ten loads
	for _, conns := range []int{16, 64, 256} {
		l := &level{conns: conns, post: &bout{load: to.posts(&b.settings, of+strconv.Itoa(conns)), on: on, conns: conns, d: d}}
		if noop != "" {
			l.noop = &bout{load: to.noop(&b.settings, noop), on: on, conns: conns, d: d}
		}
		if conns == 256 {
			l.repeat = &bout{load: to.duplicates(&b.settings, of+"again"), on: on, conns: conns, d: d}
		}
		all = append(all, l)
	}
	return all
}

// bouts returns all loads of some levels.
func bouts(levels []*level) (all []*bout) {
	for _, l := range levels {
		for _, p := range []*bout{l.post, l.noop, l.single, l.repeat} {
			if p != nil {
				all = append(all, p)
			}
		}
	}
	return all
}

// posts measures how fast the server accepts single events without a webhook,
// which go to the inbox.
func posts(ctx context.Context, b *bench) (out outcome, err error) {
	err = b.underLoad(ctx, func(r *rig, to aim, on *subject) error {
		s, err := r.startSingle(ctx)
		if err != nil {
			return err
		}
		defer s.close()
		all := b.levels(to, on, "/livez")
		yardstick := &subject{driver: on.driver, dir: r.dir, read: s.read, used: s.used}
		for _, l := range all {
			l.post.verdict = `"accepted"`
			single := to
			single.address = s.address
			l.single = &bout{load: single.posts(&b.settings, "-single-"+strconv.Itoa(l.conns)), on: yardstick, conns: l.conns, d: l.post.d}
			if l.repeat != nil {
				l.repeat.verdict = `"duplicate"`
			}
		}
		if err := makeAll(ctx, bouts(all)); err != nil {
			return err
		}
		memory, err := r.peakMemory()
		if err != nil {
			return err
		}
		for _, l := range all {
			l.figures(&out, b)
			l.needs(&out)
			l.repeats(&out, b)
		}
		out.add("memory of the server", "MB", memory, atMost(120))
		return nil
	})
	return out, err
}

// underLoad starts a rig with an organization without a webhook for the load.
// In a stored database the organization has many events.
func (b *bench) underLoad(ctx context.Context, use func(*rig, aim, *subject) error) error {
	d, err := newDriver(ctx, b.Driver)
	if err != nil {
		return err
	}
	return b.with(ctx, nil, func(r *rig) error {
		books, err := r.openLedger()
		if err != nil {
			return err
		}
		defer books.close()
		key, err := books.choose(ctx)
		if err != nil {
			return err
		}
		to := aim{address: r.address, path: "/api/events", header: "X-Api-Key: " + key}
		return use(r, to, &subject{driver: d, dir: r.dir, read: books.read, used: r.usage})
	})
}

// figures adds rates and latencies. The targets are for PostgreSQL.
func (l *level) figures(out *outcome, b *bench) {
	name := fmt.Sprintf("%d connections", l.conns)
	rates := map[int]*target{64: atLeast(10000), 256: atLeast(12000)}
	middle, far, ofNoop := map[int]*target{16: atMost(2)}, map[int]*target{256: atMost(35)}, map[int]*target{256: atLeast(0.45)}
	out.add(name, "events/s", l.post.got.rate, b.onPostgres(rates[l.conns]))
	if l.noop != nil {
		out.add(name+": the no-op route", "a second", l.noop.got.rate, nil)
		out.add(name+": of the no-op route", "", l.post.got.rate/l.noop.got.rate, b.onPostgres(ofNoop[l.conns]))
	}
	if l.single != nil {
		out.add(name+": the single insert", "a second", l.single.got.rate, nil)
		out.add(name+": times the single insert", "", l.post.got.rate/l.single.got.rate, nil)
	}
	out.add(name+": p50", "ms", ms(l.post.got.p50), b.onPostgres(middle[l.conns]))
	out.add(name+": p99", "ms", ms(l.post.got.p99), b.onPostgres(far[l.conns]))
	out.add(name+": p99.9", "ms", ms(l.post.got.p999), nil)
}

// repeats adds the figures of duplicates, if they were measured.
func (l *level) repeats(out *outcome, b *bench) {
	if l.repeat == nil {
		return
	}
	out.add("duplicates", "events/s", l.repeat.got.rate, nil)
	if l.noop != nil {
		out.add("duplicates: of the no-op route", "", l.repeat.got.rate/l.noop.got.rate, b.onPostgres(atLeast(0.85)))
	}
	out.add("duplicates: p50", "ms", ms(l.repeat.got.p50), nil)
	out.add("duplicates: p99", "ms", ms(l.repeat.got.p99), nil)
}

// needs adds the used resources of our own server.
func (l *level) needs(out *outcome) {
	name := fmt.Sprintf("%d connections: ", l.conns)
	out.add(name+"processors, server", "us/event", l.post.got.server, nil)
	out.add(name+"processors, database", "us/event", l.post.got.database, nil)
	out.add(name+"processors, single insert", "us/event", l.single.got.server, nil)
	out.add(name+"processors, its database", "us/event", l.single.got.database, nil)
	out.add(name+"allocations", "/event", l.post.got.mallocs, nil)
	out.add(name+"allocated", "bytes/event", l.post.got.bytes, nil)
}

// onPostgres returns t on PostgreSQL, otherwise nil.
func (b *bench) onPostgres(t *target) *target {
	if b.Database != "postgres" {
		return nil
	}
	return t
}
