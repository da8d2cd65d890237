package client

import (
	"context"
	"encoding/json"
	"net/http"
	"time"
)

// SecretRotation says what follows a webhook's secret.
type SecretRotation struct {
	Secret         string   `json:"secret,omitzero"`          // whsec_… or whsk_…; "": a new one
	Signature      string   `json:"signature,omitzero"`       // of a new secret: SecretSymmetric or SecretEd25519
	OverlapSeconds *float64 `json:"overlap_seconds,omitzero"` // both sign for so long, 0 to 2592000; nil: a day
}

// RotateWebhookSecret gives a webhook another secret, shown this once, beside
// which the old one goes on signing for the overlap.
//
// A rotation whose answer was lost is repeated only if the input names the
// secret, since each makes another one.
func (c *Client) RotateWebhookSecret(ctx context.Context, id int64, in SecretRotation) (Webhook, error) {
	req := request{method: http.MethodPost, path: under(webhooksPath, id) + "/rotate-secret", once: in.Secret == ""}
	return call[Webhook](ctx, c, req, in)
}

// TestInput is what a webhook is tested with.
type TestInput struct {
	Type string          `json:"type,omitzero"` // "": webhook.test
	Data json.RawMessage `json:"-"`             // any JSON value; nil: {}
}

// MarshalJSON writes it with the bytes of the data as they are.
func (t TestInput) MarshalJSON() ([]byte, error) {
	type members TestInput
	return splice(members(t), "data", t.Data)
}

// TestWebhook sends one request to a webhook, whatever its filter or state, and
// says what came of it; nothing is stored. If the answer was lost it is not
// repeated.
func (c *Client) TestWebhook(ctx context.Context, id int64, in TestInput) (Attempt, error) {
	return call[Attempt](ctx, c, request{method: http.MethodPost, path: under(webhooksPath, id) + "/test", once: true}, in)
}

// DryRunInput is a filter, and the events to try it on.
type DryRunInput struct {
	Types     []string        `json:"types,omitzero"`      // patterns; nil: all types
	Content   json.RawMessage `json:"content,omitzero"`    // a condition on the payload
	WebhookID int64           `json:"webhook_id,omitzero"` // compare with the filter of this webhook
	Since     time.Time       `json:"since,omitzero"`      // created then or later; zero: the last 24 h
	Until     time.Time       `json:"until,omitzero"`      // created before
}

// DryRun is what a filter would match: of the events in the span of time, at
// most the 10,000 newest are looked at.
type DryRun struct {
	Scanned    int64             `json:"scanned"`  // events looked at
	Matched    int64             `json:"matched"`  // of them
	Complete   bool              `json:"complete"` // false: there are more than were looked at
	PerHour    float64           `json:"per_hour"` // matches
	Samples    []Event           `json:"samples"`  // up to 3 that match
	Difference *FilterDifference `json:"difference,omitzero"`
}

// FilterDifference compares a filter with the present one of a webhook.
type FilterDifference struct {
	Added          int64   `json:"added"`   // events that only the new filter matches
	Removed        int64   `json:"removed"` // events that only the present one matches
	AddedSamples   []Event `json:"added_samples"`
	RemovedSamples []Event `json:"removed_samples"`
}

// DryRunWebhook says which of the past events a filter matches.
func (c *Client) DryRunWebhook(ctx context.Context, in DryRunInput) (DryRun, error) {
	return call[DryRun](ctx, c, request{method: http.MethodPost, path: webhooksPath + "/dry-run"}, in)
}
