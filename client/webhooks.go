package client

import (
	"context"
	"encoding/json"
	"iter"
	"net/http"
	"time"
)

// What a webhook can be and send.
const (
	WebhookActive = "active"
	WebhookPaused = "paused" // what it is owed waits
	WebhookGone   = "gone"   // its receiver answered 410: it gets nothing until it is resumed

	FormatStandard    = "standard"    // {"id","type","timestamp","data"}, see [Delivery]
	FormatCloudEvents = "cloudevents" // CloudEvents 1.0, structured
	FormatPayload     = "payload"     // the payload alone

	SecretSymmetric = "symmetric" // whsec_…: HMAC-SHA256
	SecretEd25519   = "ed25519"   // whsk_…, and whpk_… for the receiver

	AuthBearer = "bearer"
	AuthBasic  = "basic"
)

// Webhook is where events are delivered to. Where it has no setting of its own,
// the server's holds.
type Webhook struct {
	ID              int64             `json:"id"`
	URL             string            `json:"url"`
	State           string            `json:"state"`                     // WebhookActive, WebhookPaused or WebhookGone
	PausedBy        string            `json:"paused_by,omitzero"`        // "owner", "failures", "receiver", "operator"
	Gone            *WebhookEnd       `json:"gone,omitzero"`             // nil: it is not gone
	Types           []string          `json:"types"`                     // patterns; none: all types
	Content         json.RawMessage   `json:"content,omitzero"`          // a condition on the payload; null if there is none
	Format          string            `json:"format"`                    // FormatStandard, …
	TimeoutSeconds  float64           `json:"timeout_seconds,omitzero"`  // of an attempt; 0: the server's
	ScheduleSeconds []float64         `json:"schedule_seconds,omitzero"` // pauses before the retries; nil: the server's
	Rate            float64           `json:"rate,omitzero"`             // deliveries a second; 0: no limit
	Concurrency     int               `json:"concurrency,omitzero"`      // attempts at a time; 0: the server's
	Headers         []string          `json:"headers"`                   // the names of those that are added
	Auth            string            `json:"auth,omitzero"`             // AuthBearer, AuthBasic, or none
	Description     string            `json:"description"`
	Metadata        map[string]string `json:"metadata"`
	Secrets         []WebhookSecret   `json:"secrets"`         // the newest first
	Health          *WebhookHealth    `json:"health,omitzero"` // nil: its last attempt has not failed
	CreatedAt       time.Time         `json:"created_at"`

	// Secret is what signs its deliveries, in the answers alone that make it.
	Secret string `json:"secret,omitzero"`
}

// WebhookSecret is what is shown of a secret.
type WebhookSecret struct {
	Type      string    `json:"type"`                // SecretSymmetric or SecretEd25519
	PublicKey string    `json:"public_key,omitzero"` // whpk_…, of SecretEd25519
	ExpiresAt time.Time `json:"expires_at,omitzero"` // zero: when it is rotated
}

// WebhookEnd says why and since when a webhook is gone.
type WebhookEnd struct {
	Reason string    `json:"reason"` // in a few words
	At     time.Time `json:"at"`
}

// WebhookHealth is how a webhook fails, or until when nothing is sent to it.
type WebhookHealth struct {
	FailingSince  time.Time `json:"failing_since,omitzero"` // zero: it does not fail
	LastFailureAt time.Time `json:"last_failure_at,omitzero"`
	Failures      int       `json:"failures"`            // in a row
	HeldUntil     time.Time `json:"held_until,omitzero"` // nothing is sent until then
}

// WebhookAuth is what a webhook's requests carry as Authorization.
type WebhookAuth struct {
	Type     string // AuthBearer or AuthBasic
	Token    string // of AuthBearer
	User     string // of AuthBasic
	Password string // of AuthBasic
}

// MarshalJSON writes the members that belong to the type.
func (a WebhookAuth) MarshalJSON() ([]byte, error) {
	if a.Type == AuthBasic {
		return encode(map[string]string{"type": a.Type, "user": a.User, "password": a.Password})
	}
	return encode(map[string]string{"type": a.Type, "token": a.Token})
}

// WebhookInput is a webhook to be made.
type WebhookInput struct {
	URL             string            `json:"url"`
	Types           []string          `json:"types,omitzero"`            // patterns; nil: all types
	Content         json.RawMessage   `json:"content,omitzero"`          // a condition on the payload
	Format          string            `json:"format,omitzero"`           // "": FormatStandard
	TimeoutSeconds  float64           `json:"timeout_seconds,omitzero"`  // of an attempt; 0: the server's
	ScheduleSeconds []float64         `json:"schedule_seconds,omitzero"` // pauses before the retries; nil: the server's; empty: no retries
	Rate            float64           `json:"rate,omitzero"`             // deliveries a second; 0: no limit
	Concurrency     int               `json:"concurrency,omitzero"`      // attempts at a time; 0: the server's
	Headers         map[string]string `json:"headers,omitzero"`          // added to each request
	Auth            *WebhookAuth      `json:"auth,omitzero"`
	Description     string            `json:"description,omitzero"`
	Metadata        map[string]string `json:"metadata,omitzero"`
	Secret          string            `json:"secret,omitzero"`    // whsec_… or whsk_…; "": a new one
	Signature       string            `json:"signature,omitzero"` // of a new secret: SecretSymmetric (the default) or SecretEd25519
	State           string            `json:"state,omitzero"`     // "": WebhookActive
}

// WebhookPatch is what is to change of a webhook.
type WebhookPatch struct {
	URL             Opt[string]            `json:"url,omitzero"`
	Types           Opt[[]string]          `json:"types,omitzero"`
	Content         Opt[json.RawMessage]   `json:"content,omitzero"`
	Format          Opt[string]            `json:"format,omitzero"`
	TimeoutSeconds  Opt[float64]           `json:"timeout_seconds,omitzero"`
	ScheduleSeconds Opt[[]float64]         `json:"schedule_seconds,omitzero"`
	Rate            Opt[float64]           `json:"rate,omitzero"`
	Concurrency     Opt[int]               `json:"concurrency,omitzero"`
	Headers         Opt[map[string]string] `json:"headers,omitzero"` // all of them
	Auth            Opt[WebhookAuth]       `json:"auth,omitzero"`
	Description     Opt[string]            `json:"description,omitzero"`
	Metadata        Opt[map[string]string] `json:"metadata,omitzero"` // all of it
}

const webhooksPath = "/v1/webhooks"

// WebhookQuery picks webhooks.
type WebhookQuery struct {
	State string // WebhookActive, WebhookPaused or WebhookGone; "": active and paused ones
	Limit int    // webhooks a page, 1 to 100; 0: 20
}

// Webhooks goes through the active and paused webhooks by id. An error comes
// last.
func (c *Client) Webhooks(ctx context.Context) iter.Seq2[Webhook, error] {
	return c.WebhooksIn(ctx, WebhookQuery{Limit: maxLimit})
}

// WebhooksIn goes through the webhooks that a query picks by id, page by page.
// An error comes last.
func (c *Client) WebhooksIn(ctx context.Context, q WebhookQuery) iter.Seq2[Webhook, error] {
	return all(func(cursor string) (Page[Webhook], error) { return c.WebhooksInPage(ctx, q, cursor) })
}

// WebhooksPage gives one page of the active and paused webhooks, the first if
// the cursor is empty. The limit is 1 to 100, and 0 is 20.
func (c *Client) WebhooksPage(ctx context.Context, limit int, cursor string) (Page[Webhook], error) {
	return c.WebhooksInPage(ctx, WebhookQuery{Limit: limit}, cursor)
}

// WebhooksInPage gives one page of the webhooks that a query picks, the first
// if the cursor is empty.
func (c *Client) WebhooksInPage(ctx context.Context, q WebhookQuery, cursor string) (Page[Webhook], error) {
	v := query{}
	v.text("state", q.State)
	v.number("limit", int64(q.Limit))
	return getPage[Webhook](ctx, c, webhooksPath, v, cursor)
}

// Webhook gives a webhook, without its secret.
func (c *Client) Webhook(ctx context.Context, id int64) (Webhook, error) {
	return get[Webhook](ctx, c, under(webhooksPath, id))
}

// CreateWebhook makes a webhook for the events from now on. Its Secret is shown
// this once; [ErrSecretLost] if the answer that had it was lost, unless the
// input names it.
func (c *Client) CreateWebhook(ctx context.Context, in WebhookInput) (Webhook, error) {
	webhook, err := create[Webhook](ctx, c, webhooksPath, in)
	if err == nil && webhook.Secret == "" {
		if webhook.Secret = in.Secret; in.Secret == "" {
			err = ErrSecretLost
		}
	}
	return webhook, err
}

// UpdateWebhook changes a webhook. A URL with another scheme, host or port is
// CodeValidationFailed if the webhook has Auth or Headers that are not given
// anew, or as [Null], beside it.
func (c *Client) UpdateWebhook(ctx context.Context, id int64, in WebhookPatch) (Webhook, error) {
	return call[Webhook](ctx, c, request{method: http.MethodPatch, path: under(webhooksPath, id)}, in)
}

// DeleteWebhook removes a webhook. What it was still owed ends as failed.
func (c *Client) DeleteWebhook(ctx context.Context, id int64) error {
	return c.delete(ctx, under(webhooksPath, id))
}

// PauseWebhook lets what a webhook is owed wait. It may be repeated. A gone
// webhook cannot be paused.
func (c *Client) PauseWebhook(ctx context.Context, id int64) (Webhook, error) {
	return post[Webhook](ctx, c, under(webhooksPath, id)+"/pause")
}

// ResumeWebhook makes a webhook active: what has waited is delivered. A gone
// webhook gets the events from now on. It may be repeated.
func (c *Client) ResumeWebhook(ctx context.Context, id int64) (Webhook, error) {
	return post[Webhook](ctx, c, under(webhooksPath, id)+"/resume")
}
