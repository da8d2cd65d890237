package main

import (
	"context"
	"errors"
	"time"

	"triggerd/internal/trigger"
)

// claimTime is how long the server runs before its memory is read.
const claimTime = 10 * time.Second

// claims measures the memory of a server that starts with much more than it can
// deliver: all of it is due, to a receiver that hangs. The rate of delivery is
// the subject of outage.
func claims(ctx context.Context, b *bench) (out outcome, err error) {
	err = b.with(ctx, nil, func(r *rig) error {
		hooks, err := r.organization(1)
		if err != nil {
			return err
		}
		if err := r.warmUp(ctx, hooks); err != nil {
			return err
		}
		hooks[0].be(hanging)
		const span = time.Hour
		p := &past{events: b.Due, payload: b.Payload, since: lately().Add(-span), span: span}
		if err := r.fill(ctx, p, hooks[0], func(o *owner) []lot {
			return []lot{p.accepted(), p.owed(0, p.events, trigger.DeliveryOpen, o.webhook)}
		}); err != nil {
			return err
		}
		if err := pause(ctx, min(claimTime, b.seconds())); err != nil {
			return err
		}
		memory, err := r.peakMemory()
		if err != nil {
			return err
		}
		hung := hooks[0].hung.Load()
		if hung == 0 {
			return errors.New("the webhook that hangs got nothing: nothing was claimed")
		}
		out.add("memory", "MB", memory, atMost(120))
		out.add("requests that hang", "", float64(hung), nil)
		return nil
	})
	return out, err
}
