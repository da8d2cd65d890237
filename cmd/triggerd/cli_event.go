package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"triggerd/client"
)

type eventList struct {
	memberCommand
	listing
	Type    string  `help:"Only events whose type matches this pattern, for example 'user.*'."`
	Status  string  `help:"Only events with this status: pending, delivered or failed."`
	Since   *moment `help:"Only events created then or later: a time, or a span back from now, for example 2h."`
	Until   *moment `help:"Only events created before: a time, or a span back from now."`
	DedupID string  `help:"Only the event with this dedup id."`
	Webhook *int64  `help:"Only events with a delivery to this webhook. 0: to the inbox."`
	Oldest  bool    `help:"List the oldest first, without the last 30 seconds."`
}

// Run lists events.
func (c *eventList) Run(ctx context.Context, s *session) error {
	now := s.now()
	q := client.EventQuery{
		Type: c.Type, Status: c.Status, Since: c.Since.before(now), Until: c.Until.before(now), DedupID: c.DedupID, WebhookID: c.Webhook,
	}
	if c.Oldest {
		q.Order = client.OrderOldest
	}
	return list(s, c, c.Limit, func(api *client.Client, limit int, cursor string) (client.Page[client.Event], error) {
		q.Limit = limit
		return api.EventsPage(ctx, q, cursor)
	}, table[client.Event]{
		[]string{"ID", "TYPE", "STATUS", "CREATED", "DELIVER AT", "DEDUP ID"},
		func(e client.Event) []string {
			return []string{e.ID, e.Type, e.Status, localTime(e.CreatedAt), localTime(e.DeliverAt), e.DedupID}
		},
	})
}

type oneEvent struct {
	memberCommand
	ID string `arg:"" help:"The event's id."`
}

type eventShow struct{ oneEvent }

// Run shows an event.
func (c *eventShow) Run(ctx context.Context, s *session) error {
	return show(s, c, func(api *client.Client) (client.EventDetail, error) { return api.Event(ctx, c.ID) }, writeEvent)
}

func writeEvent(w io.Writer, e client.EventDetail) {
	writeFields(w, "event", e.ID, "type", e.Type, "status", e.Status, "created", localTime(e.CreatedAt),
		"deliver at", localTime(e.DeliverAt), "dedup id", e.DedupID, "traceparent", e.Traceparent)
	if source, ok := e.CloudEvent["source"].(string); ok {
		writeFields(w, "cloudevent", source+" "+fmt.Sprint(e.CloudEvent["id"]))
	}
	fmt.Fprintf(w, "\n%s\n", cleanLines(string(e.Payload)))
	if len(e.Deliveries) > 0 {
		fmt.Fprintln(w)
		writeRows(w, whyTable(), e.Deliveries)
	}
}

type eventWhy struct{ oneEvent }

// Run shows the result of an event at each webhook.
func (c *eventWhy) Run(ctx context.Context, s *session) error {
	return showAll(s, c, func(api *client.Client) ([]client.Why, error) { return api.EventWhy(ctx, c.ID) }, whyTable())
}

func whyTable() table[client.Why] {
	return table[client.Why]{
		[]string{"WEBHOOK", "VERDICT", "WHY", "ATTEMPTS", "NEXT", "LAST"},
		func(why client.Why) []string {
			last := ""
			if why.LastAttempt != nil {
				last = attemptText(*why.LastAttempt)
			}
			return []string{
				webhookID(why.WebhookID), strings.ReplaceAll(why.Verdict, "_", " "), whyText(why), number(why.Attempts),
				localTime(why.NextAttemptAt), last,
			}
		},
	}
}

// whyText returns the part of the filter that did not match, or the reason.
func whyText(why client.Why) string {
	switch {
	case why.Clause != "" && why.Reason != "":
		return why.Clause + ": " + why.Reason
	case why.Clause == "operational":
		return "matches only filters that name the type"
	case why.Clause != "":
		return "by " + why.Clause
	}
	return why.Reason
}

// attemptText describes an attempt in a few words.
func attemptText(a client.Attempt) string {
	text := a.Error
	if a.Status != 0 && !strings.Contains(text, number(a.Status)) {
		text = strings.TrimSpace(number(a.Status) + " " + text)
	}
	return fmt.Sprintf("%s in %s", text, duration(a.TookSeconds))
}

type eventAttempts struct{ oneEvent }

// Run lists the attempts of an event.
func (c *eventAttempts) Run(ctx context.Context, s *session) error {
	return showAll(s, c, func(api *client.Client) ([]client.Attempt, error) { return api.EventAttempts(ctx, c.ID) }, attemptTable())
}

type eventResend struct {
	oneEvent
	Webhook int64 `arg:"" help:"The webhook's id."`
}

// Run delivers an event again.
func (c *eventResend) Run(ctx context.Context, s *session) error {
	return show(s, c, func(api *client.Client) (client.Resent, error) { return api.ResendEvent(ctx, c.ID, c.Webhook) },
		func(w io.Writer, r client.Resent) {
			fmt.Fprintf(w, "event %s goes to webhook %d again\n", r.EventID, r.WebhookID)
		})
}

type eventDelete struct{ oneEvent }

// Run deletes an event.
func (c *eventDelete) Run(ctx context.Context, s *session) error {
	return do(s, c, func(api *client.Client) error { return api.DeleteEvent(ctx, c.ID) }, "event "+c.ID+" is deleted")
}

type eventSamples struct {
	memberCommand
	Type  string `help:"Only events whose type matches this pattern."`
	Limit int    `help:"Number of events, 1 to 100." default:"3"`
}

// Run shows events as webhooks get them.
func (c *eventSamples) Run(ctx context.Context, s *session) error {
	if c.Limit < 1 || c.Limit > maxPage {
		return fmt.Errorf("--limit must be from 1 to %d; got %d", maxPage, c.Limit)
	}
	l, err := c.open(s)
	if err != nil {
		return err
	}
	defer l.close()
	samples, err := l.Samples(ctx, c.Type, c.Limit)
	if err != nil {
		return l.explain(err)
	}
	if l.json {
		_, err := writeItems(s.out, l.answers.last)
		return err
	}
	for i, sample := range samples {
		if i > 0 {
			fmt.Fprintln(s.out)
		}
		writeFields(s.out, "event", sample.ID, "type", sample.Type, "timestamp", localTime(sample.Timestamp))
		fmt.Fprintln(s.out, cleanLines(string(sample.Data)))
	}
	return nil
}
