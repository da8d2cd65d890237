package client

import (
	"context"
	"iter"
	"net/http"
	"time"
)

// The states of a replay.
const (
	ReplayRunning    = "running"
	ReplayPaused     = "paused"
	ReplayDone       = "done"
	ReplayCancelling = "cancelling"
	ReplayCancelled  = "cancelled"
)

// Replay is a job that resends past events to a webhook.
type Replay struct {
	ID        int64     `json:"id"`
	WebhookID int64     `json:"webhook_id"`
	State     string    `json:"state"` // ReplayRunning, …
	Since     time.Time `json:"since,omitzero"`
	Until     time.Time `json:"until"`
	Types     []string  `json:"types"`           // none: all
	Status    string    `json:"status,omitzero"` // StatusFailed, StatusDelivered, or all
	Pace      float64   `json:"pace,omitzero"`   // events per second; 0: no limit
	Queued    int64     `json:"queued"`          // events queued so far
	Delivered int64     `json:"delivered"`
	Failed    int64     `json:"failed"`
	CreatedAt time.Time `json:"created_at"`
}

// ReplayInput selects the events of a replay. Zero fields are ignored.
type ReplayInput struct {
	WebhookID int64     `json:"webhook_id"`
	Since     time.Time `json:"since,omitzero"`  // created at this time or later
	Until     time.Time `json:"until,omitzero"`  // created before this time; zero: now
	Types     []string  `json:"types,omitzero"`  // patterns; nil: all
	Status    string    `json:"status,omitzero"` // StatusFailed or StatusDelivered, at this webhook
	Pace      *float64  `json:"pace,omitzero"`   // events per second; nil: 100; 0: no limit
}

// ReplayPreview is the expected effect of a replay.
type ReplayPreview struct {
	Scanned  int64   `json:"scanned"`  // events scanned
	Matched  int64   `json:"matched"`  // matching events
	Complete bool    `json:"complete"` // false: not all events were scanned
	Samples  []Event `json:"samples"`  // some matching events
}

const replaysPath = "/v1/replays"

// Replays iterates over the replays, the newest first. An error comes last.
func (c *Client) Replays(ctx context.Context) iter.Seq2[Replay, error] {
	return all(func(cursor string) (Page[Replay], error) { return c.ReplaysPage(ctx, maxLimit, cursor) })
}

// ReplaysPage returns one page of replays, the first one if the cursor is
// empty. The limit is 1 to 100, and 0 means 20.
func (c *Client) ReplaysPage(ctx context.Context, limit int, cursor string) (Page[Replay], error) {
	return listPage[Replay](ctx, c, replaysPath, limit, cursor)
}

// Replay returns a replay.
func (c *Client) Replay(ctx context.Context, id int64) (Replay, error) {
	return get[Replay](ctx, c, under(replaysPath, id))
}

// CreateReplay starts a replay.
func (c *Client) CreateReplay(ctx context.Context, in ReplayInput) (Replay, error) {
	return create[Replay](ctx, c, replaysPath, in)
}

// PreviewReplay returns the expected effect of a replay, and changes nothing.
func (c *Client) PreviewReplay(ctx context.Context, in ReplayInput) (ReplayPreview, error) {
	return call[ReplayPreview](ctx, c, request{method: http.MethodPost, path: replaysPath + "/preview"}, in)
}

// PauseReplay pauses a replay. It returns CodeConflict if the replay has ended,
// as do ResumeReplay and CancelReplay.
func (c *Client) PauseReplay(ctx context.Context, id int64) (Replay, error) {
	return post[Replay](ctx, c, under(replaysPath, id)+"/pause")
}

// ResumeReplay resumes a replay.
func (c *Client) ResumeReplay(ctx context.Context, id int64) (Replay, error) {
	return post[Replay](ctx, c, under(replaysPath, id)+"/resume")
}

// CancelReplay cancels a replay: its open deliveries are dropped.
func (c *Client) CancelReplay(ctx context.Context, id int64) (Replay, error) {
	return post[Replay](ctx, c, under(replaysPath, id)+"/cancel")
}
