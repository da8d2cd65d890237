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
	Type        string  `arg:"" optional:"" help:"The event's type, for example user.created."`
	Payload     string  `arg:"" optional:"" help:"Its payload: JSON, @file, or - for standard input. Default: {}."`
	DedupID     string  `help:"Dedup id. If it is already known, the event is a duplicate, and is not delivered."`
	DeliverAt   *moment `help:"Earliest time of delivery: a time, or a span from now, for example 10m."`
	Traceparent string  `help:"A W3C trace context."`
	NDJSON      bool    `name:"ndjson" help:"Read events from standard input, one per line: {\"type\",\"payload\",\"dedup_id\",\"deliver_at\",\"traceparent\"}."`
	Batch       int     `help:"With --ndjson: events in one request, 1 to 1000." default:"1000"`
}

// Help returns the text above the flags.
func (*sendCommand) Help() string {
	return "With --ndjson the exit code is 1 if any event was not accepted; the first ones are listed, with --json all of them. " +
		"To send events again after that, give them your own dedup ids.\n\n" +
		examples(
			`triggerd send user.created '{"name":"Ada"}' --dedup-id user-1`,
			"triggerd send report.due @report.json --deliver-at 10m",
			"triggerd send --ndjson <events.ndjson",
		)
}

// Run posts one event, or all events of standard input.
func (c *sendCommand) Run(ctx context.Context, s *session) error {
	switch single := c.Payload != "" || c.DedupID != "" || c.DeliverAt != nil || c.Traceparent != ""; {
	case c.NDJSON && (c.Type != "" || single):
		return errors.New("--ndjson cannot be used with a type, a payload or settings of an event: each line has its own")
	case c.NDJSON && (c.Batch < 1 || c.Batch > client.MaxBatch):
		return fmt.Errorf("--batch must be from 1 to %d; got %d", client.MaxBatch, c.Batch)
	case c.NDJSON:
		return c.stream(ctx, s)
	case c.Type == "":
		return errors.New("the type is missing: triggerd send TYPE [PAYLOAD] (see triggerd send --help)")
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

// one posts one event. Its JSON is encoded from the client's result, because
// the answer may be that to a retry.
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
