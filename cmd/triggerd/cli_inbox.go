package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"syscall"
	"time"

	"triggerd/client"
)

type inboxList struct {
	memberCommand
	listing
}

// Run lists the open events.
func (c *inboxList) Run(ctx context.Context, s *session) error {
	return list(s, c, c.Limit, func(api *client.Client, limit int, cursor string) (client.Page[client.InboxEvent], error) {
		return api.InboxPage(ctx, limit, cursor)
	}, inboxTable())
}

func inboxTable() table[client.InboxEvent] {
	return table[client.InboxEvent]{
		[]string{"ID", "TYPE", "CREATED", "CLAIMS", "CLAIMED UNTIL"},
		func(e client.InboxEvent) []string {
			return []string{e.ID, e.Type, localTime(e.CreatedAt), number(e.Attempts), localTime(e.ClaimedUntil)}
		},
	}
}

type inboxClaim struct {
	memberCommand
	Limit int   `help:"Maximum number of events, 1 to 1000." default:"10"`
	Lease *days `help:"Length of the lease, for example 5m. Default: 1m."`
	Wait  *days `help:"How long to wait for an event if there is none, up to 30s. Default: no wait."`
}

// Run claims events. If they cannot be written, it releases them.
func (c *inboxClaim) Run(ctx context.Context, s *session) error {
	in := client.ClaimInput{Limit: c.Limit, LeaseSeconds: or(secondsOf(c.Lease)), WaitSeconds: or(secondsOf(c.Wait))}
	var claim client.Claim
	err := show(s, c, func(api *client.Client) (_ client.Claim, err error) {
		claim, err = api.ClaimInbox(ctx, in)
		return claim, err
	},
		func(w io.Writer, claim client.Claim) {
			if claim.ID == "" {
				fmt.Fprintln(w, "no open events")
				return
			}
			writeFields(w, "claim", claim.ID, "until", localTime(claim.LeasedUntil))
			for _, e := range claim.Data {
				fmt.Fprintln(w)
				writeFields(w, "event", e.ID, "type", e.Type, "created", localTime(e.CreatedAt), "claims", number(e.Attempts))
				fmt.Fprintln(w, cleanLines(string(e.Payload)))
			}
		})
	if err != nil || s.unwritten() == nil || claim.ID == "" {
		return err
	}
	l, err := c.open(s)
	if err != nil {
		return err
	}
	defer l.close()
	return l.giveBack(ctx, claim.ID, idsOf(claim.Data))
}

func idsOf(events []client.InboxEvent) []string {
	ids := make([]string, len(events))
	for i, event := range events {
		ids[i] = event.ID
	}
	return ids
}

// giveBack releases events of a claim that could not be written, even if the
// command is ending.
func (l *link) giveBack(ctx context.Context, claim string, ids []string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTimeout)
	defer cancel()
	if _, err := l.ReleaseInbox(ctx, claim, ids, 0); err != nil {
		return fmt.Errorf("the events cannot be released, and become available again when the claim %s ends: %w", claim, l.explain(err))
	}
	return nil
}

// claimed names events of a claim.
type claimed struct {
	memberCommand
	Claim string   `arg:"" help:"The claim's id."`
	IDs   []string `arg:"" name:"id" help:"The events' ids."`
}

// settle makes a call and shows the result for each event. It fails if one of
// them was lost.
func (c *claimed) settle(s *session, call func(*client.Client) ([]client.InboxResult, error)) error {
	var results []client.InboxResult
	err := showAll(s, c, func(api *client.Client) (_ []client.InboxResult, err error) {
		results, err = call(api)
		return results, err
	}, settledTable())
	return errors.Join(err, lost(results))
}

func settledTable() table[client.InboxResult] {
	return table[client.InboxResult]{
		[]string{"ID", "STATUS"}, func(r client.InboxResult) []string { return []string{r.ID, r.Status} },
	}
}

// lost returns an error if events of a claim were lost.
func lost(results []client.InboxResult) error {
	n := 0
	for _, result := range results {
		if result.Status == client.InboxLost {
			n++
		}
	}
	if n == 0 {
		return nil
	}
	return fmt.Errorf("%d of %d events are lost: claimed by another consumer since, released, or deleted", n, len(results))
}

type inboxAck struct{ claimed }

// Run acknowledges events.
func (c *inboxAck) Run(ctx context.Context, s *session) error {
	return c.settle(s, func(api *client.Client) ([]client.InboxResult, error) { return api.AckInbox(ctx, c.Claim, c.IDs) })
}

type inboxRelease struct {
	claimed
	Delay *days `help:"Time until they can be claimed again, for example 10m. Default: at once."`
}

// Run releases events.
func (c *inboxRelease) Run(ctx context.Context, s *session) error {
	return c.settle(s, func(api *client.Client) ([]client.InboxResult, error) {
		return api.ReleaseInbox(ctx, c.Claim, c.IDs, or(secondsOf(c.Delay)))
	})
}

type inboxExtend struct {
	claimed
	Lease *days `help:"Length of the lease from now on, for example 5m. Default: 1m."`
}

// Run extends the lease of events.
func (c *inboxExtend) Run(ctx context.Context, s *session) error {
	var results []client.InboxResult
	err := show(s, c, func(api *client.Client) (client.Extension, error) {
		extension, err := api.ExtendInbox(ctx, c.Claim, c.IDs, or(secondsOf(c.Lease)))
		results = extension.Data
		return extension, err
	}, func(w io.Writer, extension client.Extension) {
		writeFields(w, "until", localTime(extension.LeasedUntil))
		writeRows(w, settledTable(), extension.Data)
	})
	return errors.Join(err, lost(results))
}

type inboxStream struct {
	memberCommand
	After string `help:"Begin shortly before this event, for example after a break. Default: the oldest open event."`
}

// Run shows events as they arrive, until it is stopped.
func (c *inboxStream) Run(ctx context.Context, s *session) error {
	l, err := c.open(s)
	if err != nil {
		return err
	}
	defer l.close()
	for event, err := range l.StreamInbox(ctx, c.After) {
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return l.explain(err)
		case l.json:
			writeJSON(s.out, event)
		default:
			fmt.Fprintf(s.out, "%s  %s  %s  %s\n", localTime(event.CreatedAt), event.ID, clean(event.Type), clean(string(oneLineJSON(event.Payload))))
		}
	}
	return nil
}

type inboxConsume struct {
	asMember
	Batch int   `help:"Number of events to claim at a time, 1 to 1000." default:"10"`
	Lease *days `help:"Length of the lease, for example 5m. Default: 1m."`
	Drain bool  `help:"End when no event is open, instead of waiting for more."`
}

// consumeWait is the wait of a claim, in seconds; a stop does not wait for it.
const consumeWait = 20

// Run writes events and acknowledges them, until it is stopped. Events that are
// written but not yet acknowledged at the stop are redelivered.
func (c *inboxConsume) Run(ctx context.Context, s *session) error {
	l, err := c.open(s)
	if err != nil {
		return err
	}
	defer l.close()
	in := client.ClaimInput{Limit: c.Batch, LeaseSeconds: or(secondsOf(c.Lease)), WaitSeconds: consumeWait}
	if c.Drain {
		in.WaitSeconds = 0
	}
	for {
		begun := s.now()
		claim, err := l.ClaimInbox(ctx, in)
		switch {
		case ctx.Err() != nil && !c.Drain:
			return nil
		case err != nil:
			return l.explain(err)
		case claim.ID == "" && c.Drain:
			return nil
		case claim.ID == "": // the server has waited; if it has not, wait here
			_ = sleepUntil(ctx, begun.Add(time.Second))
			continue
		}
		if err := c.take(ctx, s, l, claim); err != nil {
			return err
		}
	}
}

// take writes the events of a claim, acknowledges the written ones, and
// releases the others. If the reader has ended, it releases all of them,
// because earlier output may not have been read.
func (c *inboxConsume) take(ctx context.Context, s *session, l *link, claim client.Claim) error {
	ids := idsOf(claim.Data)
	written, failed := writeItems(s.out, l.answers.last)
	if errors.Is(failed, syscall.EPIPE) {
		written = 0
	}
	var results []client.InboxResult
	var err error
	if written > 0 {
		results, err = l.AckInbox(context.WithoutCancel(ctx), claim.ID, ids[:written])
		err = l.explain(err)
	}
	for _, result := range results {
		if result.Status == client.InboxLost {
			fmt.Fprintf(s.errOut, "event %s was no longer ours: another consumer may handle it, too\n", result.ID)
		}
	}
	if failed != nil {
		return errors.Join(err, l.giveBack(ctx, claim.ID, ids[written:]), failed)
	}
	return err
}
