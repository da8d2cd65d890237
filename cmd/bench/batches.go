package main

import (
	"context"
	"fmt"
	"strconv"
	"time"
)

// sizes returns how many events the requests of batches have, and over how many
// connections they come.
func sizes() []struct{ events, conns int } {
	return []struct{ events, conns int }{{100, 16}, {1000, 8}}
}

// batchBouts returns the loads of batches.
func (b *bench) batchBouts(to aim, on *subject) (all []*bout) {
	of := "-" + strconv.FormatInt(time.Now().UnixNano(), 36) + "-"
	for _, size := range sizes() {
		l := to.batches(&b.settings, of+strconv.Itoa(size.events), size.events)
		l.verdict = `"status":"accepted"`
		all = append(all, &bout{load: l, on: on, conns: size.conns, d: b.seconds() / 2})
	}
	return all
}

// batches measures how fast the server accepts many events at once.
func batches(ctx context.Context, b *bench) (out outcome, err error) {
	err = b.underLoad(ctx, func(r *rig, to aim, on *subject) error {
		to.path = "/v1/events"
		all := b.batchBouts(to, on)
		if err := makeAll(ctx, all); err != nil {
			return err
		}
		memory, err := r.peakMemory()
		if err != nil {
			return err
		}
		for _, p := range all {
			p.batchFigures(&out, b)
			name := fmt.Sprintf("%d a request: ", p.events())
			out.add(name+"processors, server", "us/event", p.got.server, nil)
			out.add(name+"processors, database", "us/event", p.got.database, nil)
		}
		out.add("memory of the server", "MB", memory, nil)
		return nil
	})
	return out, err
}

// batchFigures adds the rate and the latency.
func (p *bout) batchFigures(out *outcome, b *bench) {
	rates := map[int]*target{100: atLeast(35000), 1000: atLeast(50000)}
	name := fmt.Sprintf("%d a request", p.events())
	out.add(name, "events/s", p.got.rate, b.onPostgres(rates[p.events()]))
	out.add(name+": p50", "ms", ms(p.got.p50), nil)
}
