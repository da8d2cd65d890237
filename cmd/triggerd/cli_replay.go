package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"triggerd/client"
)

// replayFlags select the events of a replay.
type replayFlags struct {
	memberCommand
	Webhook int64    `arg:"" help:"The webhook's id."`
	Since   *moment  `help:"Events created then or later: a time, or a span back from now, for example 24h. Default: all stored events."`
	Until   *moment  `help:"Events created before. Default: now."`
	Type    []string `help:"Only events whose type matches this pattern; may be repeated." sep:"none"`
	Status  string   `help:"Only events with this result at the webhook: failed or delivered."`
	Pace    *float64 `help:"Events per second. 0: no limit. Default: 100."`
}

func (f *replayFlags) input(now time.Time) client.ReplayInput {
	return client.ReplayInput{
		WebhookID: f.Webhook, Since: f.Since.before(now), Until: f.Until.before(now), Types: f.Type, Status: f.Status, Pace: f.Pace,
	}
}

type replayCreate struct{ replayFlags }

// Run starts a replay.
func (c *replayCreate) Run(ctx context.Context, s *session) error {
	return show(s, c, func(api *client.Client) (client.Replay, error) { return api.CreateReplay(ctx, c.input(s.now())) }, writeReplay)
}

type replayPreview struct{ replayFlags }

// Run shows what a replay would deliver.
func (c *replayPreview) Run(ctx context.Context, s *session) error {
	return show(s, c, func(api *client.Client) (client.ReplayPreview, error) {
		return api.PreviewReplay(ctx, c.input(s.now()))
	},
		func(w io.Writer, p client.ReplayPreview) {
			writeScan(w, p.Matched, p.Scanned, p.Complete)
			writeSamples(w, "for example", p.Samples)
		})
}

// writeScan writes how many of the scanned events matched.
func writeScan(w io.Writer, matched, scanned int64, complete bool) {
	more := ""
	if !complete {
		more = "; more events exist, which were not scanned"
	}
	fmt.Fprintf(w, "%d of %d events match%s\n", matched, scanned, more)
}

// writeSamples lists events under a title, if there are any.
func writeSamples(w io.Writer, title string, events []client.Event) {
	if len(events) == 0 {
		return
	}
	fmt.Fprintf(w, "\n%s:\n", title)
	writeRows(w, table[client.Event]{
		[]string{"ID", "TYPE", "CREATED"},
		func(e client.Event) []string { return []string{e.ID, e.Type, localTime(e.CreatedAt)} },
	}, events)
}

type replayList struct {
	memberCommand
	listing
}

// Run lists the replays.
func (c *replayList) Run(ctx context.Context, s *session) error {
	return list(s, c, c.Limit, func(api *client.Client, limit int, cursor string) (client.Page[client.Replay], error) {
		return api.ReplaysPage(ctx, limit, cursor)
	}, table[client.Replay]{
		[]string{"ID", "WEBHOOK", "STATE", "SINCE", "UNTIL", "TYPES", "STATUS", "PACE", "QUEUED", "DELIVERED", "FAILED"},
		func(r client.Replay) []string {
			return []string{
				id(r.ID), id(r.WebhookID), r.State, localTime(r.Since), localTime(r.Until), orAll(r.Types), r.Status, number(r.Pace),
				id(r.Queued), id(r.Delivered), id(r.Failed),
			}
		},
	})
}

type oneReplay struct {
	memberCommand
	ID int64 `arg:"" help:"The replay's id."`
}

// show makes a call and shows the replay that it returns.
func (c *oneReplay) show(s *session, call func(*client.Client) (client.Replay, error)) error {
	return show(s, c, call, writeReplay)
}

func writeReplay(w io.Writer, r client.Replay) {
	pace := "no limit"
	if r.Pace > 0 {
		pace = number(r.Pace) + " a second"
	}
	writeFields(w, "replay", id(r.ID), "webhook", id(r.WebhookID), "state", r.State, "since", localTime(r.Since),
		"until", localTime(r.Until), "types", orAll(r.Types), "status", r.Status, "pace", pace, "queued", id(r.Queued),
		"delivered", id(r.Delivered), "failed", id(r.Failed), "created", localTime(r.CreatedAt))
}

type replayShow struct{ oneReplay }

// Run shows a replay.
func (c *replayShow) Run(ctx context.Context, s *session) error {
	return c.show(s, func(api *client.Client) (client.Replay, error) { return api.Replay(ctx, c.ID) })
}

type replayPause struct{ oneReplay }

// Run pauses a replay.
func (c *replayPause) Run(ctx context.Context, s *session) error {
	return c.show(s, func(api *client.Client) (client.Replay, error) { return api.PauseReplay(ctx, c.ID) })
}

type replayResume struct{ oneReplay }

// Run resumes a replay.
func (c *replayResume) Run(ctx context.Context, s *session) error {
	return c.show(s, func(api *client.Client) (client.Replay, error) { return api.ResumeReplay(ctx, c.ID) })
}

type replayCancel struct{ oneReplay }

// Run cancels a replay.
func (c *replayCancel) Run(ctx context.Context, s *session) error {
	return c.show(s, func(api *client.Client) (client.Replay, error) { return api.CancelReplay(ctx, c.ID) })
}
