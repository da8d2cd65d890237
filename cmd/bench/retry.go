package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"triggerd/internal/trigger"
)

// retry measures what failing receivers get, and how soon they get all events
// when they are back. They answer 503 while events are posted, and as long as a
// run lasts.
func retry(ctx context.Context, b *bench) (out outcome, err error) {
	events := min(b.Backlog, 20_000)
	err = b.with(ctx, nil, func(r *rig) error {
		hooks, err := r.organizations(10, 1)
		if err != nil {
			return err
		}
		if err := r.warmUp(ctx, hooks); err != nil {
			return err
		}
		for _, h := range hooks {
			h.be(refusing)
		}
		mark, down := r.book.mark(), r.book.now()
		r.client.closedLoop(ctx, b.Clients, 0, count(hooks, events))
		if err := r.book.err(); err != nil {
			return err
		}
		posted := r.book.now()
		if err := pause(ctx, b.seconds()-(posted-down)); err != nil {
			return err
		}
		back := r.book.now()
		for _, h := range hooks {
			h.be(prompt)
		}
		requests, twice, most := refusals(r.book.since(mark, anyHook))
		if requests < len(hooks) || requests > events/2 {
			return fmt.Errorf("%d requests for %d events while their receivers failed: no breaker was at work", requests, events)
		}
		if err := r.settleWithin(ctx, hooks, nextPatience+longestPause(most)); err != nil {
			return err
		}
		out.add("down for", "s", (back - down).Seconds(), nil)
		out.add("posted in", "s", (posted - down).Seconds(), nil)
		out.add("requests while down, to a webhook", "", float64(requests)/float64(len(hooks)), nil)
		out.add("refused more than once", "deliveries", float64(twice), nil)
		first, last := firstSuccesses(r.book.since(mark, anyHook))
		out.add("first success after", "s", (first - back).Seconds(), nil)
		out.add("a success at each webhook after", "s", (last - back).Seconds(), nil)
		addArrivals(&out, r.book.since(mark, anyHook), back)
		out.add("delivered twice", "deliveries", float64(r.book.again()), nil)
		return nil
	})
	return out, err
}

// refusals returns the number of deliveries that were answered 503, the number
// of events with more than one of them, and their maximum for an event.
func refusals(records []record) (requests, twice, most int) {
	for _, e := range records {
		requests, most = requests+e.refused, max(most, e.refused)
		if e.refused > 1 {
			twice++
		}
	}
	return requests, twice, most
}

// longestPause returns how long the server may wait after a number of failed
// attempts.
func longestPause(attempts int) time.Duration {
	pause, _ := trigger.DefaultSchedule().Pause(attempts, 1)
	return pause
}

// firstSuccesses returns the time of the first delivery to any webhook, and the
// latest of the webhooks' first deliveries.
func firstSuccesses(records []record) (first, last time.Duration) {
	firsts := map[*hook]time.Duration{}
	for _, e := range records {
		if at, ok := firsts[e.hook]; !ok || e.got < at {
			firsts[e.hook] = e.got
		}
	}
	first = forever
	for _, at := range firsts {
		first, last = min(first, at), max(last, at)
	}
	return first, last
}

// addArrivals adds when the deliveries came, after a time, and how fast: to all
// webhooks, and to one of them without the time of its breaker.
func addArrivals(out *outcome, records []record, since time.Duration) {
	var got []time.Duration
	of := map[*hook][]time.Duration{}
	for _, e := range records {
		got, of[e.hook] = append(got, e.got), append(of[e.hook], e.got)
	}
	var rates []float64
	for _, own := range of {
		rates = append(rates, perSecond(len(own)*99/100, percentile(own, 99)-percentile(own, 0)))
	}
	slices.Sort(got)
	out.add("half of all delivered after", "s", (percentile(got, 50) - since).Seconds(), nil)
	out.add("99 % delivered after", "s", (percentile(got, 99) - since).Seconds(), nil)
	out.add("all delivered after", "s", (percentile(got, 100) - since).Seconds(), nil)
	out.add("to one webhook, from its first on", "deliveries/s", median(rates), nil)
	out.add("the middle 90 %", "deliveries/s", perSecond(len(got)*9/10, percentile(got, 95)-percentile(got, 5)), nil)
}
