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

// Replay owes events of the past to a webhook again.
type Replay struct {
	ID        int64     `json:"id"`
	WebhookID int64     `json:"webhook_id"`
	State     string    `json:"state"` // ReplayRunning, …
	Since     time.Time `json:"since,omitzero"`
	Until     time.Time `json:"until"`
	Types     []string  `json:"types"`           // none: all
	Status    string    `json:"status,omitzero"` // StatusFailed, StatusDelivered, or all
	Pace      float64   `json:"pace,omitzero"`   // events a second; 0: no limit
	Queued    int64     `json:"queued"`          // events so far
	Delivered int64     `json:"delivered"`
	Failed    int64     `json:"failed"`
	CreatedAt time.Time `json:"created_at"`
}

// ReplayInput picks the events of a replay. What is zero does not count.
type ReplayInput struct {
	WebhookID int64     `json:"webhook_id"`
	Since     time.Time `json:"since,omitzero"`  // created then or later
	Until     time.Time `json:"until,omitzero"`  // created before; zero: now
	Types     []string  `json:"types,omitzero"`  // patterns; nil: all
	Status    string    `json:"status,omitzero"` // StatusFailed or StatusDelivered, at this webhook
	Pace      *float64  `json:"pace,omitzero"`   // events a second; nil: 100; 0: no limit
}

// ReplayPreview is what a replay would do.
type ReplayPreview struct {
	Scanned  int64   `json:"scanned"`  // events looked at
	Matched  int64   `json:"matched"`  // of them
	Complete bool    `json:"complete"` // false: there are more than were looked at
	Samples  []Event `json:"samples"`  // a few that match
}

const replaysPath = "/v1/replays"

// Replays goes through the replays, the newest first. An error comes last.
func (c *Client) Replays(ctx context.Context) iter.Seq2[Replay, error] {
	return all(func(cursor string) (Page[Replay], error) { return c.ReplaysPage(ctx, maxLimit, cursor) })
}

// ReplaysPage gives one page of replays, the first if the cursor is empty. The
// limit is 1 to 100, and 0 is 20.
func (c *Client) ReplaysPage(ctx context.Context, limit int, cursor string) (Page[Replay], error) {
	return listPage[Replay](ctx, c, replaysPath, limit, cursor)
}

// Replay gives a replay.
func (c *Client) Replay(ctx context.Context, id int64) (Replay, error) {
	return get[Replay](ctx, c, under(replaysPath, id))
}

// CreateReplay begins a replay.
func (c *Client) CreateReplay(ctx context.Context, in ReplayInput) (Replay, error) {
	return create[Replay](ctx, c, replaysPath, in)
}

// PreviewReplay says what a replay would do, and does nothing.
func (c *Client) PreviewReplay(ctx context.Context, in ReplayInput) (ReplayPreview, error) {
	return call[ReplayPreview](ctx, c, request{method: http.MethodPost, path: replaysPath + "/preview"}, in)
}

// PauseReplay holds a replay. CodeConflict if it has ended, as for the two below.
func (c *Client) PauseReplay(ctx context.Context, id int64) (Replay, error) {
	return post[Replay](ctx, c, under(replaysPath, id)+"/pause")
}

// ResumeReplay lets a replay go on.
func (c *Client) ResumeReplay(ctx context.Context, id int64) (Replay, error) {
	return post[Replay](ctx, c, under(replaysPath, id)+"/resume")
}

// CancelReplay ends a replay: what it still owes is not delivered.
func (c *Client) CancelReplay(ctx context.Context, id int64) (Replay, error) {
	return post[Replay](ctx, c, under(replaysPath, id)+"/cancel")
}
