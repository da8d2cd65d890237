package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"time"
)

// neighbourCases measure how receivers, their backlogs and replays affect all
// others.
func neighbourCases() []measurement {
	return []measurement{
		{"isolation", isolation},
		{"shares", shares},
		{"fairness", fairness},
		{"replay", replay},
	}
}

// isolation measures the times of events for webhooks that answer, while k
// others hang. Each k has its own server; their order is random.
func isolation(ctx context.Context, b *bench) (outcome, error) {
	return compare(ctx, b, "hang", hangingNeighbours, map[int]*target{0: nil, 1: atMost(1.1), 10: atMost(1.5)})
}

// compare measures the times of events beside each number of neighbours, and
// their ratio to the times without neighbours. trouble describes the
// neighbours. targets are the targets of p99.
func compare(ctx context.Context, b *bench, trouble string,
	measure func(context.Context, *bench, int) ([]time.Duration, error), targets map[int]*target,
) (out outcome, err error) {
	levels := slices.Sorted(maps.Keys(targets))
	took := map[int][]time.Duration{}
	for _, i := range rand.Perm(len(levels)) {
		if took[levels[i]], err = measure(ctx, b, levels[i]); err != nil {
			return out, fmt.Errorf("%d %s: %w", levels[i], trouble, err)
		}
	}
	none := [2]float64{ms(percentile(took[0], 50)), ms(percentile(took[0], 99))}
	for _, k := range levels {
		p50, p99 := ms(percentile(took[k], 50)), ms(percentile(took[k], 99))
		name := fmt.Sprintf("%d %s: ", k, trouble)
		out.add(name+"p50", "ms", p50, nil)
		out.add(name+"p99", "ms", p99, nil)
		if k > 0 {
			out.add(name+"p50 / p50 of 0", "", p50/none[0], nil)
			out.add(name+"p99 / p99 of 0", "", p99/none[1], targets[k])
		}
	}
	return out, nil
}

// hangingNeighbours returns the times of the events for webhooks that do not
// hang.
func hangingNeighbours(ctx context.Context, b *bench, k int) (took []time.Duration, err error) {
	const rate = 200
	err = b.with(ctx, []string{"DELIVERY_TIMEOUT=" + b.Timeout.String()}, func(r *rig) error {
		hooks, err := r.organizations(10, 10)
		if err != nil {
			return err
		}
		if err := r.warmUp(ctx, hooks); err != nil {
			return err
		}
		rand.Shuffle(len(hooks), func(i, j int) { hooks[i], hooks[j] = hooks[j], hooks[i] })
		bad, others := hooks[:k], hooks[k:]
		for _, h := range bad {
			h.be(hanging)
		}
		mark := r.book.mark()
		r.client.openLoop(ctx, rate, b.seconds(), lasting(hooks, forever))
		if err := r.settle(ctx, others); err != nil {
			return err
		}
		for _, h := range bad {
			if h.hung.Load() == 0 {
				return errors.New("a webhook that hangs got nothing: there was nothing to bear")
			}
		}
		took = latencies(r.book.since(mark, func(h *hook) bool { return mood(h.mood.Load()) == prompt }))
		return nil
	})
	return took, err
}

// shares measures the times of events of organizations whose receivers answer
// at once, while the receivers of k others take 6 to 12 s and succeed. Each k
// has its own server; their order is random.
func shares(ctx context.Context, b *bench) (outcome, error) {
	return compare(ctx, b, "sluggish", sluggishNeighbours, map[int]*target{0: nil, 1: atMost(1.5), 6: atMost(1.5)})
}

// sluggishNeighbours returns the times of the events of ten organizations,
// while k others have more open deliveries than a node can have attempts.
func sluggishNeighbours(ctx context.Context, b *bench, k int) (took []time.Duration, err error) {
	const rate, most, each = 200, 50, 4000
	err = b.with(ctx, nil, func(r *rig) error {
		others, err := r.organizations(10, 10)
		if err != nil {
			return err
		}
		bad, err := r.organizations(k, most)
		if err != nil {
			return err
		}
		if err := r.warmUp(ctx, append(others, bad...)); err != nil {
			return err
		}
		for _, h := range bad {
			h.be(sluggish)
		}
		if k > 0 {
			r.client.closedLoop(ctx, b.Clients, 0, count(bad, k*each))
		}
		mark := r.book.mark()
		r.client.openLoop(ctx, rate, b.seconds(), lasting(others, forever))
		if err := r.settle(ctx, others); err != nil {
			return err
		}
		for _, h := range bad {
			if h.hung.Load() == 0 {
				return errors.New("a sluggish webhook got nothing: there was nothing to bear")
			}
		}
		took = latencies(r.book.since(mark, func(h *hook) bool { return mood(h.mood.Load()) == prompt }))
		return nil
	})
	return took, err
}

// fairness measures the times of one organization's events, alone and beside
// the backlog of another one with a slow receiver. Each has its own server;
// their order is random.
func fairness(ctx context.Context, b *bench) (out outcome, err error) {
	const backlog = 20_000
	sizes := []int{0, backlog}
	took, left := map[int][]time.Duration{}, 0
	for _, i := range rand.Perm(len(sizes)) {
		var open int
		if took[sizes[i]], open, err = besideBacklog(ctx, b, sizes[i]); err != nil {
			return out, fmt.Errorf("beside a backlog of %d: %w", sizes[i], err)
		}
		left = max(left, open)
	}
	alone, beside := took[0], took[backlog]
	out.add("alone: p50", "ms", ms(percentile(alone, 50)), nil)
	out.add("alone: p99", "ms", ms(percentile(alone, 99)), nil)
	out.add("beside a backlog: p50", "ms", ms(percentile(beside, 50)), nil)
	out.add("beside a backlog: p99", "ms", ms(percentile(beside, 99)), nil)
	out.add("p99 / p99 alone", "", ms(percentile(beside, 99))/ms(percentile(alone, 99)), nil)
	out.add("backlog at the end", "deliveries", float64(left), nil)
	return out, nil
}

// besideBacklog returns the times of one organization's events, and the rest of
// the other one's backlog.
func besideBacklog(ctx context.Context, b *bench, backlog int) (took []time.Duration, left int, err error) {
	const rate = 50
	err = b.with(ctx, nil, func(r *rig) error {
		both, err := r.organizations(2, 1)
		if err != nil {
			return err
		}
		if err := r.warmUp(ctx, both); err != nil {
			return err
		}
		other, measured := both[:1], both[1:]
		other[0].be(slow)
		r.client.closedLoop(ctx, b.Clients, 0, count(other, backlog))
		mark := r.book.mark()
		r.client.openLoop(ctx, rate, b.seconds(), lasting(measured, forever))
		if err := r.settle(ctx, measured); err != nil {
			return err
		}
		left = int(other[0].open.Load())
		if backlog > 0 && left == 0 {
			return errors.New("the backlog was delivered too soon: there was nothing to bear")
		}
		took = latencies(r.book.since(mark, func(h *hook) bool { return h == measured[0] }))
		return nil
	})
	return took, left, err
}
