package main

import (
	"context"
	"fmt"
	"time"

	"triggerd/client"
)

// maxReleaseDelay bounds for how long an event that the receiver does not take
// waits in the inbox.
const maxReleaseDelay = 5 * time.Minute

// work takes one event after the other from the inbox, until ctx ends or no try
// can help.
func (l *listener) work(ctx context.Context) error {
	in := client.ClaimInput{Limit: 1, LeaseSeconds: l.lease.Seconds(), WaitSeconds: consumeWait}
	for {
		begun := time.Now()
		claim, err := l.from.ClaimInbox(ctx, in)
		if err := l.bear(ctx, err); err != nil {
			return stopped(ctx, err)
		}
		if err == nil && claim.ID == "" { // the server has waited; if not, we do
			err = sleepUntil(ctx, begun.Add(l.every))
		}
		if ctx.Err() != nil && err != nil {
			return nil
		}
		for _, event := range claim.Data {
			l.handle(ctx, claim.ID, event)
		}
	}
}

// settleTimeout is for how long it may take to say what became of an event,
// also when the listener is stopped.
const settleTimeout = 5 * time.Second

// handle forwards an event of a claim, and says what became of it.
func (l *listener) handle(ctx context.Context, claim string, event client.InboxEvent) {
	result := l.hold(ctx, claim, event.Event)
	base, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTimeout)
	defer cancel()
	var settled []client.InboxResult
	var err error
	more := ""
	if result.ok() {
		settled, err = l.settle.AckInbox(base, claim, []string{event.ID})
	} else {
		delay := releaseDelay(event.Attempts)
		more = fmt.Sprintf("  retry in %v", delay)
		if ctx.Err() != nil {
			delay, more = 0, "  released"
		}
		settled, err = l.settle.ReleaseInbox(base, claim, []string{event.ID}, delay.Seconds())
	}
	switch {
	case err != nil:
		more = "  and will be redelivered: " + l.settle.explain(err).Error()
	case len(settled) > 0 && settled[0].Status == client.InboxLost:
		more = "  but another consumer may have it, too: the lease was over"
	}
	l.tell(event.Event, result, more)
	l.count(result)
}

// releaseDelay grows with the claims that an event has had.
func releaseDelay(claims int) time.Duration {
	if claims > 9 {
		return maxReleaseDelay
	}
	return min(time.Second<<max(claims-1, 0), maxReleaseDelay)
}

// hold forwards an event, and keeps the claim while that goes on.
func (l *listener) hold(ctx context.Context, claim string, event client.Event) forwarded {
	done := make(chan forwarded, 1)
	go func() { done <- l.to.forward(ctx, event) }()
	ticker := time.NewTicker(l.lease / 3)
	defer ticker.Stop()
	for {
		select {
		case result := <-done:
			return result
		case <-ticker.C:
			if _, err := l.settle.ExtendInbox(ctx, claim, []string{event.ID}, l.lease.Seconds()); err != nil && ctx.Err() == nil {
				fmt.Fprintf(l.session.errOut, "the lease of %s cannot be extended: %s\n", event.ID, l.settle.explain(err))
			}
		}
	}
}
