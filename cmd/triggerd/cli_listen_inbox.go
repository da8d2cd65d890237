package main

import (
	"context"
	"fmt"
	"time"

	"triggerd/client"
)

// maxReleaseDelay is the longest time that an event that the receiver refused
// waits in the inbox.
const maxReleaseDelay = 5 * time.Minute

// work claims one event after the other from the inbox, until ctx ends or a
// retry cannot help.
func (l *listener) work(ctx context.Context) error {
	in := client.ClaimInput{Limit: 1, LeaseSeconds: l.lease.Seconds(), WaitSeconds: consumeWait}
	for {
		begun := time.Now()
		claim, err := l.from.ClaimInbox(ctx, in)
		if err := l.bear(ctx, err); err != nil {
			return stopped(ctx, err)
		}
		if err == nil && claim.ID == "" { // the server has waited; if it has not, wait here
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

// settleTimeout bounds the time to report the result of an event, also when the
// listener is stopped.
const settleTimeout = 5 * time.Second

// handle forwards an event of a claim, and reports the result.
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

// releaseDelay grows with the number of claims of an event.
func releaseDelay(claims int) time.Duration {
	if claims > 9 {
		return maxReleaseDelay
	}
	return min(time.Second<<max(claims-1, 0), maxReleaseDelay)
}

// hold forwards an event, and extends the lease of the claim meanwhile.
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
