package client

import (
	"context"
	"encoding/json"
	"net/http"
	"time"
)

// SecretRotation describes the new secret of a webhook.
type SecretRotation struct {
	Secret         string   `json:"secret,omitzero"`          // whsec_… or whsk_…; "": a generated one
	Signature      string   `json:"signature,omitzero"`       // of a generated secret: SecretSymmetric or SecretEd25519
	OverlapSeconds *float64 `json:"overlap_seconds,omitzero"` // how long both sign, 0 to 2592000; nil: a day
}

// RotateWebhookSecret replaces the secret of a webhook. The new one is shown
// only once; the old one also signs for the overlap.
//
// If the answer of a rotation was lost, it is repeated only if the input
// contains the secret, because otherwise each try generates another one.
func (c *Client) RotateWebhookSecret(ctx context.Context, id int64, in SecretRotation) (Webhook, error) {
	req := request{method: http.MethodPost, path: under(webhooksPath, id) + "/rotate-secret", once: in.Secret == ""}
	return call[Webhook](ctx, c, req, in)
}

// TestInput is the event of a test.
type TestInput struct {
	Type string          `json:"type,omitzero"` // "": webhook.test
	Data json.RawMessage `json:"-"`             // any JSON value; nil: {}
}

// MarshalJSON encodes it with the unmodified bytes of the data.
func (t TestInput) MarshalJSON() ([]byte, error) {
	type members TestInput
	return splice(members(t), "data", t.Data)
}

// TestWebhook sends one request to a webhook, whatever its filter or state, and
// returns the result; nothing is stored. It is not repeated if the answer was
// lost.
func (c *Client) TestWebhook(ctx context.Context, id int64, in TestInput) (Attempt, error) {
	return call[Attempt](ctx, c, request{method: http.MethodPost, path: under(webhooksPath, id) + "/test", once: true}, in)
}

// DryRunInput is a filter, and the events to test it on.
type DryRunInput struct {
	Types     []string        `json:"types,omitzero"`      // patterns; nil: all types
	Content   json.RawMessage `json:"content,omitzero"`    // a condition on the payload
	WebhookID int64           `json:"webhook_id,omitzero"` // compare with the filter of this webhook
	Since     time.Time       `json:"since,omitzero"`      // created at this time or later; zero: the last 24 h
	Until     time.Time       `json:"until,omitzero"`      // created before this time
}

// DryRun is the result of a filter on past events: at most the 10,000 newest
// events of the time range are scanned.
type DryRun struct {
	Scanned    int64             `json:"scanned"`  // events scanned
	Matched    int64             `json:"matched"`  // matching events
	Complete   bool              `json:"complete"` // false: not all events were scanned
	PerHour    float64           `json:"per_hour"` // matching events per hour
	Samples    []Event           `json:"samples"`  // up to 3 matching events
	Difference *FilterDifference `json:"difference,omitzero"`
}

// FilterDifference compares a filter with the current one of a webhook.
type FilterDifference struct {
	Added          int64   `json:"added"`   // events that only the new filter matches
	Removed        int64   `json:"removed"` // events that only the current filter matches
	AddedSamples   []Event `json:"added_samples"`
	RemovedSamples []Event `json:"removed_samples"`
}

// DryRunWebhook returns which past events a filter matches.
func (c *Client) DryRunWebhook(ctx context.Context, in DryRunInput) (DryRun, error) {
	return call[DryRun](ctx, c, request{method: http.MethodPost, path: webhooksPath + "/dry-run"}, in)
}
