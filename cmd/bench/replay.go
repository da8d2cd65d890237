package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"syscall"
	"time"

	"triggerd/internal/store"
	"triggerd/internal/trigger"
)

// sentAgain is a replay beside the live events, or none.
type sentAgain struct {
	name string
	runs bool    // there is a replay
	pace float64 // of the replay
}

// settled is how old events must be before a replay may have sent all of them:
// it stays 30 s behind accepted events.
const settled = 31 * time.Second

// longestRest is how long a running replay sends nothing, at most.
const longestRest = 3 * time.Second

// replay measures the times of live events, alone and beside a replay: at the
// default pace, and as fast as possible. Each has its own server; their order
// is random.
func replay(ctx context.Context, b *bench) (out outcome, err error) {
	levels := []sentAgain{
		{name: "without"},
		{fmt.Sprintf("at %g/s", trigger.DefaultPace), true, trigger.DefaultPace},
		{"unlimited", true, 0},
	}
	lives := make([]live, len(levels))
	for _, i := range rand.Perm(len(levels)) {
		if lives[i], err = besideReplay(ctx, b, levels[i]); err != nil {
			return out, fmt.Errorf("replay %s: %w", levels[i].name, err)
		}
	}
	without := lives[0]
	for i, level := range levels {
		l := lives[i]
		all := l.all()
		out.add(level.name+": p50", "ms", ms(percentile(all, 50)), nil)
		out.add(level.name+": p99", "ms", ms(percentile(all, 99)), nil)
		if !level.runs {
			continue
		}
		limit := atMost(1.2)
		if level.pace == 0 {
			limit = nil
		}
		out.add(level.name+": p50 / p50 without", "", ratio(all, without.all(), 50), nil)
		out.add(level.name+": p99 / p99 without", "", ratio(all, without.all(), 99), limit)
		out.add(level.name+": p99 / p99, same organization", "", ratio(l.same, without.same, 99), nil)
		out.add(level.name+": p99 / p99, another one", "", ratio(l.other, without.other, 99), nil)
		out.add(level.name+": replayed", "deliveries/s", l.replayed, nil)
	}
	return out, nil
}

func ratio(a, b []time.Duration, p float64) float64 {
	return ms(percentile(a, p)) / ms(percentile(b, p))
}

// live is the times of the live events: of the organization with the replay,
// and of another one.
type live struct {
	same, other []time.Duration
	replayed    float64 // meanwhile, in deliveries a second
}

func (l *live) all() []time.Duration { return slices.Concat(l.same, l.other) }

// besideReplay returns the times of events for two webhooks while a third one
// gets the events from before its registration.
func besideReplay(ctx context.Context, b *bench, level sentAgain) (l live, err error) {
	const rate = 2 * 50
	err = b.with(ctx, nil, func(r *rig) error {
		hooks, err := r.organizations(2, 1)
		if err != nil {
			return err
		}
		past, err := r.past(ctx, b, hooks[0].key, level)
		if err != nil {
			return err
		}
		if err := r.warmUp(ctx, hooks); err != nil {
			return err
		}
		if err := r.begins(ctx, past, level); err != nil {
			return err
		}
		mark, begun := r.book.mark(), r.book.now()
		r.client.openLoop(ctx, rate, b.seconds(), lasting(hooks, forever))
		ended := r.book.now()
		if err := r.settle(ctx, hooks); err != nil {
			return err
		}
		if ended, l.replayed, err = r.replayed(ctx, past, level, begun, ended); err != nil {
			return err
		}
		meanwhile := slices.DeleteFunc(r.book.since(mark, anyHook), func(e record) bool { return e.sent > ended })
		for _, e := range meanwhile {
			if e.hook == hooks[0] {
				l.same = append(l.same, e.got-e.sent)
			} else {
				l.other = append(l.other, e.got-e.sent)
			}
		}
		return nil
	})
	return l, err
}

// past posts events without a webhook, registers a webhook for them, and, with
// the server stopped, adds a replay to it if the level has one.
func (r *rig) past(ctx context.Context, b *bench, key string, level sentAgain) (*hook, error) {
	h := r.hook(key)
	since := time.Now().Add(-time.Second)
	r.client.closedLoop(ctx, b.Clients, 0, count([]*hook{h}, b.Backlog))
	if err := r.book.err(); err != nil {
		return nil, err
	}
	until := time.Now().Add(time.Second)
	if err := errors.Join(r.register(h), pause(ctx, settled)); err != nil {
		return nil, err
	}
	r.client.close()
	if err := r.stop(syscall.SIGTERM); err != nil {
		return nil, err
	}
	if level.runs {
		again := trigger.Replay{WebhookID: h.webhookID, Since: since, Until: until, Pace: level.pace}
		job, err := r.addReplay(ctx, key, again)
		if err != nil {
			return nil, err
		}
		h.replay.Store(job)
	}
	return h, r.start(ctx)
}

// offline opens a database that no server has open.
func offline(ctx context.Context, o store.Options, use func(*store.Store) error) error {
	s, err := store.Open(ctx, o)
	if err != nil {
		return err
	}
	return errors.Join(use(s), s.Leave(ctx), s.Close())
}

// organizationOf returns the organization of a key.
func organizationOf(ctx context.Context, s *store.Store, key string) (trigger.Organization, error) {
	hash, _ := trigger.HashAPIKey(key)
	found, err := s.APIKeyByHash(ctx, hash)
	return found.Organization, err
}

// addReplay adds a replay to the database of a stopped server.
func (r *rig) addReplay(ctx context.Context, key string, again trigger.Replay) (job int64, err error) {
	err = offline(ctx, r.database, func(s *store.Store) error {
		org, err := organizationOf(ctx, s, key)
		if err != nil {
			return err
		}
		job, err = s.AddReplay(ctx, org.ID, again, store.Once{})
		return err
	})
	return job, err
}

// begins returns when a replay has sent something; at once without a replay.
func (r *rig) begins(ctx context.Context, past *hook, level sentAgain) error {
	all, begun := past.open.Load(), r.book.now()
	for level.runs && past.open.Load() == all {
		if r.book.now()-begun > startPatience {
			return fmt.Errorf("the replay has sent nothing for %v", startPatience)
		}
		if err := pause(ctx, 5*time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

// replayed checks what a replay sent from begun to ended. It returns until when
// the replay ran, and its rate. An unlimited replay must send all of its
// events; the others would take many minutes.
func (r *rig) replayed(ctx context.Context, past *hook, level sentAgain, begun, ended time.Duration) (until time.Duration, rate float64, err error) {
	records := r.book.since(0, func(h *hook) bool { return h == past })
	got := arrivals(records, begun, ended)
	if !level.runs {
		if int(past.open.Load()) != len(records) {
			return 0, 0, errors.New("events came again, and there is no replay")
		}
		return ended, 0, nil
	}
	if level.pace == 0 {
		if err := r.settle(ctx, []*hook{past}); err != nil {
			return 0, 0, err
		}
	}
	until, err = ran(got, begun, ended, level.pace)
	return until, perSecond(len(got), until-begun), err
}

// arrivals returns the times from begun to ended at which an event was
// received.
func arrivals(records []record, begun, ended time.Duration) (got []time.Duration) {
	for _, e := range records {
		if e.got >= begun && e.got <= ended {
			got = append(got, e.got)
		}
	}
	slices.Sort(got)
	return got
}

// ran returns until when a replay ran, by the times at which it sent, in order.
// It must run from begun to ended, without a long rest; only a replay without a
// pace may have sent everything after half of the time.
func ran(got []time.Duration, begun, ended time.Duration, pace float64) (until time.Duration, err error) {
	last := begun
	for _, at := range got {
		if at-last > longestRest {
			return 0, fmt.Errorf("the replay sent nothing for %v", at-last)
		}
		last = at
	}
	if ended-last <= min(longestRest, (ended-begun)/10) {
		return ended, nil
	}
	if pace == 0 && last-begun >= (ended-begun)/2 {
		return last, nil
	}
	return 0, fmt.Errorf("the replay sent the last after %v of %v: take a larger --backlog", last-begun, ended-begun)
}
