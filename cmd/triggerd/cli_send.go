package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"triggerd/client"
)

type sendCommand struct {
	memberCommand
	Type        string  `arg:"" optional:"" help:"The event's type, as user.created."`
	Payload     string  `arg:"" optional:"" help:"Its payload: JSON, @file, or - for standard input. Default: {}."`
	DedupID     string  `help:"Makes the event a duplicate, which is not delivered, where this id is known already."`
	DeliverAt   *moment `help:"Deliver it then at the earliest: a time, or a span from now, as 10m."`
	Traceparent string  `help:"A W3C trace context."`
	NDJSON      bool    `name:"ndjson" help:"Read events from standard input, one a line: {\"type\",\"payload\",\"dedup_id\",\"deliver_at\",\"traceparent\"}."`
	Batch       int     `help:"With --ndjson: events in one request, 1 to 1000." default:"1000"`
}

// Help is what stands above the flags.
func (*sendCommand) Help() string {
	return "With --ndjson the exit code is 1 if any event was not accepted; the first of those are named, and with --json all. Events that are sent " +
		"again after that want dedup ids of yours.\n\n" +
		examples(
			`triggerd send user.created '{"name":"Ada"}' --dedup-id user-1`,
			"triggerd send report.due @report.json --deliver-at 10m",
			"triggerd send --ndjson <events.ndjson",
		)
}

// Run posts an event, or all that comes in.
func (c *sendCommand) Run(ctx context.Context, s *session) error {
	switch single := c.Payload != "" || c.DedupID != "" || c.DeliverAt != nil || c.Traceparent != ""; {
	case c.NDJSON && (c.Type != "" || single):
		return errors.New("--ndjson takes no type, payload or settings of an event: each line has its own")
	case c.NDJSON && (c.Batch < 1 || c.Batch > client.MaxBatch):
		return fmt.Errorf("--batch must be from 1 to %d", client.MaxBatch)
	case c.NDJSON:
		return c.stream(ctx, s)
	case c.Type == "":
		return errors.New("there is no type: triggerd send TYPE [PAYLOAD] (see triggerd send --help)")
	}
	payload := c.Payload
	if payload == "" {
		payload = "{}"
	}
	value, err := s.value(ctx, "the payload", payload)
	if err != nil {
		return err
	}
	return c.one(ctx, s, client.EventInput{
		Type: c.Type, Payload: value, DedupID: c.DedupID, DeliverAt: c.DeliverAt.after(s.now()), Traceparent: c.Traceparent,
	})
}

// one posts one event. JSON is what the client makes of the answer, which may
// be that to a second try.
func (c *sendCommand) one(ctx context.Context, s *session, event client.EventInput) error {
	l, err := c.open(s)
	if err != nil {
		return err
	}
	defer l.close()
	l.Retries = client.DefaultRetries
	accepted, err := l.PostEvent(ctx, event)
	if err != nil {
		return l.explain(err)
	}
	if c.JSON {
		writeJSON(s.out, accepted)
		return nil
	}
	fmt.Fprintln(s.out, accepted.Status, accepted.ID)
	if accepted.PayloadMatches != nil && !*accepted.PayloadMatches {
		fmt.Fprintln(s.errOut, "the first event with this dedup id has another payload")
	}
	for _, warning := range accepted.Warnings {
		fmt.Fprintln(s.errOut, "warning:", warningText(warning))
	}
	return nil
}

func warningText(w client.FieldError) string {
	return clean(strings.TrimPrefix(w.Pointer+": "+w.Detail, ": "))
}
