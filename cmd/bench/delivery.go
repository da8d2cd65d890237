package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"time"
)

// deliveryCases measure how fast events are accepted and delivered to webhooks.
func deliveryCases() []measurement {
	return []measurement{
		{"latency", latency},
		{"throughput", throughput},
		{"outage", outage},
		{"retry", retry},
	}
}

// latency measures the time of an event on an idle server.
func latency(ctx context.Context, b *bench) (out outcome, err error) {
	const rate = 50
	err = b.with(ctx, nil, func(r *rig) error {
		hooks, err := r.organization(1)
		if err != nil {
			return err
		}
		if err := r.warmUp(ctx, hooks); err != nil {
			return err
		}
		mark := r.book.mark()
		late := r.client.openLoop(ctx, rate, b.seconds(), lasting(hooks, forever))
		if err := r.settle(ctx, hooks); err != nil {
			return err
		}
		records := r.book.since(mark, anyHook)
		took := latencies(records)
		var answered []time.Duration
		for _, e := range records {
			answered = append(answered, e.answered-e.sent)
		}
		out.add("end to end p50", "ms", ms(percentile(took, 50)), atMost(5))
		out.add("end to end p99", "ms", ms(percentile(took, 99)), atMost(20))
		out.add("end to end p99.9", "ms", ms(percentile(took, 99.9)), nil)
		out.add("answer p50", "ms", ms(percentile(answered, 50)), nil)
		out.add("answer p99", "ms", ms(percentile(answered, 99)), nil)
		out.add("events", "", float64(len(records)), nil)
		out.add("posted late p99", "ms", ms(percentile(late, 99)), nil)
		return nil
	})
	return out, err
}

// throughput measures the rates of a busy server.
func throughput(ctx context.Context, b *bench) (out outcome, err error) {
	err = b.with(ctx, nil, func(r *rig) error {
		hooks, err := r.organizations(10, 1)
		if err != nil {
			return err
		}
		if err := r.warmUp(ctx, hooks); err != nil {
			return err
		}
		mark := r.book.mark()
		before, err := r.usage()
		if err != nil {
			return err
		}
		stop := r.watch(ctx)
		r.client.closedLoop(ctx, b.Clients, b.Rate, lasting(hooks, b.seconds()))
		left := r.book.waiting()
		err = r.settle(ctx, hooks)
		if err == nil {
			err = r.rest(ctx)
		}
		rested := r.book.now()
		out.Samples = stop()
		if err != nil {
			return err
		}
		after, err := r.usage()
		if err != nil {
			return err
		}
		memory, err := r.peakMemory()
		if err != nil {
			return err
		}
		records := r.book.since(mark, anyHook)
		begun, answered, got := span(records)
		inTime := 0 // received while events were still posted
		for _, e := range records {
			if e.got <= answered {
				inTime++
			}
		}
		events, fast := float64(len(records)), b.fastEnough()
		out.add("accepted", "events/s", perSecond(len(records), answered-begun), fast)
		out.add("delivered meanwhile", "events/s", perSecond(inTime, answered-begun), fast)
		out.add("accepted and all delivered", "events/s", perSecond(len(records), got-begun), fast)
		out.add("waiting in the middle", "events", float64(middle(out.Samples).Waiting), nil)
		out.add("waiting at the end", "events", float64(left), nil)
		out.add("waiting at most", "events", float64(most(out.Samples, func(s sample) int { return s.Waiting })), nil)
		out.add("open deliveries at most", "", most(out.Samples, func(s sample) float64 { return s.Open }), nil)
		out.add("drained in", "s", max(0, got-answered).Seconds(), nil)
		out.add("recorded in", "s", (rested - answered).Seconds(), nil)
		out.add("processors, server", "ms/event", ms(after.server-before.server)/events, nil)
		out.add("processors, database", "ms/event", ms(after.database-before.database)/events, nil)
		out.add("processors, both", "ms/event", ms(after.server+after.database-before.server-before.database)/events, atMost(0.3))
		out.add("processors, clients and receiver", "ms/event", ms(after.bench-before.bench)/events, nil)
		took := latencies(records)
		out.add("end to end p50", "ms", ms(percentile(took, 50)), nil)
		out.add("end to end p99", "ms", ms(percentile(took, 99)), nil)
		out.add("memory of the server", "MB", memory, atMost(120))
		return nil
	})
	return out, err
}

// fastEnough returns the target of throughput.
func (b *bench) fastEnough() *target {
	switch {
	case b.Rate > 0:
		return nil // the rate is configured
	case b.Database == "postgres":
		return atLeast(6000)
	}
	return atLeast(5000)
}

// forever is longer than any run.
const forever = 1000 * time.Hour

func anyHook(*hook) bool { return true }

// middle returns the sample in the middle of the time.
func middle(samples []sample) sample {
	if len(samples) == 0 {
		return sample{}
	}
	return samples[len(samples)/2]
}

// outage measures how fast a backlog is delivered. The receivers hang while it
// builds up, so that only a few deliveries are tried. Then the server stops,
// releases its claims, and starts again: all of it is due at once.
func outage(ctx context.Context, b *bench) (out outcome, err error) {
	env := []string{"DELIVERY_TIMEOUT=30s", "RETRY_SCHEDULE=1s" + strings.Repeat(",1s", 49)}
	err = b.with(ctx, env, func(r *rig) error {
		hooks, err := r.organizations(10, 1)
		if err != nil {
			return err
		}
		if err := r.warmUp(ctx, hooks); err != nil {
			return err
		}
		for _, h := range hooks {
			h.be(hanging)
		}
		mark := r.book.mark()
		r.client.closedLoop(ctx, b.Clients, 0, count(hooks, b.Backlog))
		if err := r.book.err(); err != nil {
			return err
		}
		posting, err := r.peakMemory()
		if err != nil {
			return err
		}
		if err := r.stopHanging(ctx, hooks); err != nil {
			return err
		}
		due, stopped := r.book.waiting(), r.book.now()
		if due < b.Backlog/2 {
			return fmt.Errorf("of %d events only %d wait after the stop", b.Backlog, due)
		}
		if err := r.start(ctx); err != nil {
			return err
		}
		if err := r.settle(ctx, hooks); err != nil {
			return err
		}
		memory, err := r.peakMemory()
		if err != nil {
			return err
		}
		var got []time.Duration // after the stop
		for _, e := range r.book.since(mark, anyHook) {
			if e.got > stopped {
				got = append(got, e.got)
			}
		}
		slices.Sort(got)
		first, last := got[0], got[len(got)-1]
		out.add("delivered from the first on", "deliveries/s", perSecond(len(got), last-first), atLeast(5000))
		out.add("the middle 90 %", "deliveries/s", perSecond(len(got)*9/10, got[len(got)*95/100]-got[len(got)*5/100]), nil)
		out.add("due at the restart", "deliveries", float64(due), nil)
		out.add("the first after the start", "s", (first - stopped).Seconds(), nil)
		out.add("delivered twice", "deliveries", float64(r.book.again()), nil)
		out.add("memory while delivering", "MB", memory, atMost(150))
		out.add("memory while they pile up", "MB", posting, atMost(150))
		return nil
	})
	return out, err
}

// stopHanging stops the server while the receivers hang. They answer as soon as
// the server claims nothing more, so that no attempt fails.
func (r *rig) stopHanging(ctx context.Context, hooks []*hook) error {
	r.client.close()
	if err := r.signal(syscall.SIGTERM); err != nil {
		return err
	}
	if err := pause(ctx, 200*time.Millisecond); err != nil {
		return err
	}
	for _, h := range hooks {
		h.be(prompt)
	}
	r.receiver.release()
	return r.waitForEnd()
}
