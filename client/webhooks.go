package client

import (
	"context"
	"encoding/json"
	"iter"
	"net/http"
	"time"
)

// The states, formats and secret types of a webhook.
const (
	WebhookActive = "active"
	WebhookPaused = "paused" // its deliveries wait
	WebhookGone   = "gone"   // its receiver answered 410: it gets nothing until it is resumed

	FormatStandard    = "standard"    // {"id","type","timestamp","data"}, see [Delivery]
	FormatCloudEvents = "cloudevents" // CloudEvents 1.0, structured
	FormatPayload     = "payload"     // only the payload

	SecretSymmetric = "symmetric" // whsec_…: HMAC-SHA256
	SecretEd25519   = "ed25519"   // whsk_…, and whpk_… for the receiver

	AuthBearer = "bearer"
	AuthBasic  = "basic"
)

// Webhook is a receiver of events. Settings that it does not have are those of
// the server.
type Webhook struct {
	ID              int64             `json:"id"`
	URL             string            `json:"url"`
	State           string            `json:"state"`                     // WebhookActive, WebhookPaused or WebhookGone
	PausedBy        string            `json:"paused_by,omitzero"`        // "owner", "failures", "receiver", "operator"
	Gone            *WebhookEnd       `json:"gone,omitzero"`             // nil: it is not gone
	Types           []string          `json:"types"`                     // patterns; empty: all types
	Content         json.RawMessage   `json:"content,omitzero"`          // a condition on the payload; null: no condition
	Format          string            `json:"format"`                    // FormatStandard, …
	TimeoutSeconds  float64           `json:"timeout_seconds,omitzero"`  // of an attempt; 0: the server's
	ScheduleSeconds []float64         `json:"schedule_seconds,omitzero"` // pauses before the retries; nil: the server's
	Rate            float64           `json:"rate,omitzero"`             // deliveries per second; 0: no limit
	Concurrency     int               `json:"concurrency,omitzero"`      // concurrent attempts; 0: the server's
	Headers         []string          `json:"headers"`                   // the names of the added headers
	Auth            string            `json:"auth,omitzero"`             // AuthBearer, AuthBasic, or none
	Description     string            `json:"description"`
	Metadata        map[string]string `json:"metadata"`
	Secrets         []WebhookSecret   `json:"secrets"`         // the newest first
	Health          *WebhookHealth    `json:"health,omitzero"` // nil: its last attempt did not fail
	CreatedAt       time.Time         `json:"created_at"`

	// Secret signs its deliveries. Only the answers that create it have it.
	Secret string `json:"secret,omitzero"`
}

// WebhookSecret is a secret without its value.
type WebhookSecret struct {
	Type      string    `json:"type"`                // SecretSymmetric or SecretEd25519
	PublicKey string    `json:"public_key,omitzero"` // whpk_…, of SecretEd25519
	ExpiresAt time.Time `json:"expires_at,omitzero"` // zero: until it is rotated
}

// WebhookEnd says why and since when a webhook is gone.
type WebhookEnd struct {
	Reason string    `json:"reason"` // a short reason
	At     time.Time `json:"at"`
}

// WebhookHealth describes the failures of a webhook, and until when its breaker
// is open.
type WebhookHealth struct {
	FailingSince  time.Time `json:"failing_since,omitzero"` // zero: it is not failing
	LastFailureAt time.Time `json:"last_failure_at,omitzero"`
	Failures      int       `json:"failures"`            // consecutive failures
	HeldUntil     time.Time `json:"held_until,omitzero"` // nothing is sent until then
}

// WebhookAuth is the Authorization header of a webhook's requests.
type WebhookAuth struct {
	Type     string // AuthBearer or AuthBasic
	Token    string // of AuthBearer
	User     string // of AuthBasic
	Password string // of AuthBasic
}

// MarshalJSON encodes the members of the type.
func (a WebhookAuth) MarshalJSON() ([]byte, error) {
	if a.Type == AuthBasic {
		return encode(map[string]string{"type": a.Type, "user": a.User, "password": a.Password})
	}
	return encode(map[string]string{"type": a.Type, "token": a.Token})
}

// WebhookInput is a webhook to create.
type WebhookInput struct {
	URL             string            `json:"url"`
	Types           []string          `json:"types,omitzero"`            // patterns; nil: all types
	Content         json.RawMessage   `json:"content,omitzero"`          // a condition on the payload
	Format          string            `json:"format,omitzero"`           // "": FormatStandard
	TimeoutSeconds  float64           `json:"timeout_seconds,omitzero"`  // of an attempt; 0: the server's
	ScheduleSeconds []float64         `json:"schedule_seconds,omitzero"` // pauses before the retries; nil: the server's; empty: no retries
	Rate            float64           `json:"rate,omitzero"`             // deliveries per second; 0: no limit
	Concurrency     int               `json:"concurrency,omitzero"`      // concurrent attempts; 0: the server's
	Headers         map[string]string `json:"headers,omitzero"`          // added to each request
	Auth            *WebhookAuth      `json:"auth,omitzero"`
	Description     string            `json:"description,omitzero"`
	Metadata        map[string]string `json:"metadata,omitzero"`
	Secret          string            `json:"secret,omitzero"`    // whsec_… or whsk_…; "": a generated one
	Signature       string            `json:"signature,omitzero"` // of a generated secret: SecretSymmetric (the default) or SecretEd25519
	State           string            `json:"state,omitzero"`     // "": WebhookActive
}

// WebhookPatch is a change of a webhook.
type WebhookPatch struct {
	URL             Opt[string]            `json:"url,omitzero"`
	Types           Opt[[]string]          `json:"types,omitzero"`
	Content         Opt[json.RawMessage]   `json:"content,omitzero"`
	Format          Opt[string]            `json:"format,omitzero"`
	TimeoutSeconds  Opt[float64]           `json:"timeout_seconds,omitzero"`
	ScheduleSeconds Opt[[]float64]         `json:"schedule_seconds,omitzero"`
	Rate            Opt[float64]           `json:"rate,omitzero"`
	Concurrency     Opt[int]               `json:"concurrency,omitzero"`
	Headers         Opt[map[string]string] `json:"headers,omitzero"` // replaces all headers
	Auth            Opt[WebhookAuth]       `json:"auth,omitzero"`
	Description     Opt[string]            `json:"description,omitzero"`
	Metadata        Opt[map[string]string] `json:"metadata,omitzero"` // replaces all metadata
}

const webhooksPath = "/v1/webhooks"

// WebhookQuery selects webhooks.
type WebhookQuery struct {
	State string // WebhookActive, WebhookPaused or WebhookGone; "": active and paused
	Limit int    // webhooks per page, 1 to 100; 0: 20
}

// Webhooks iterates over the active and paused webhooks by id. An error comes
// last.
func (c *Client) Webhooks(ctx context.Context) iter.Seq2[Webhook, error] {
	return c.WebhooksIn(ctx, WebhookQuery{Limit: maxLimit})
}

// WebhooksIn iterates over the webhooks that the query selects, by id, page by
// page. An error comes last.
func (c *Client) WebhooksIn(ctx context.Context, q WebhookQuery) iter.Seq2[Webhook, error] {
	return all(func(cursor string) (Page[Webhook], error) { return c.WebhooksInPage(ctx, q, cursor) })
}

// WebhooksPage returns one page of the active and paused webhooks, the first
// one if the cursor is empty. The limit is 1 to 100, and 0 means 20.
func (c *Client) WebhooksPage(ctx context.Context, limit int, cursor string) (Page[Webhook], error) {
	return c.WebhooksInPage(ctx, WebhookQuery{Limit: limit}, cursor)
}

// WebhooksInPage returns one page of the webhooks that the query selects, the
// first one if the cursor is empty.
func (c *Client) WebhooksInPage(ctx context.Context, q WebhookQuery, cursor string) (Page[Webhook], error) {
	v := query{}
	v.text("state", q.State)
	v.number("limit", int64(q.Limit))
	return getPage[Webhook](ctx, c, webhooksPath, v, cursor)
}

// Webhook returns a webhook, without its secret.
func (c *Client) Webhook(ctx context.Context, id int64) (Webhook, error) {
	return get[Webhook](ctx, c, under(webhooksPath, id))
}

// CreateWebhook creates a webhook for the events from now on. Its Secret is
// shown only once; the error is [ErrSecretLost] if the answer with it was lost,
// unless the input contains the secret.
func (c *Client) CreateWebhook(ctx context.Context, in WebhookInput) (Webhook, error) {
	webhook, err := create[Webhook](ctx, c, webhooksPath, in)
	if err == nil && webhook.Secret == "" {
		if webhook.Secret = in.Secret; in.Secret == "" {
			err = ErrSecretLost
		}
	}
	return webhook, err
}

// UpdateWebhook changes a webhook. It returns CodeValidationFailed for a URL
// with another scheme, host or port, if the webhook has Auth or Headers that
// the same change does not set again or to [Null].
func (c *Client) UpdateWebhook(ctx context.Context, id int64, in WebhookPatch) (Webhook, error) {
	return call[Webhook](ctx, c, request{method: http.MethodPatch, path: under(webhooksPath, id)}, in)
}

// DeleteWebhook removes a webhook. Its open deliveries end as failed.
func (c *Client) DeleteWebhook(ctx context.Context, id int64) error {
	return c.delete(ctx, under(webhooksPath, id))
}

// PauseWebhook pauses a webhook: its deliveries wait. It may be repeated. A
// gone webhook cannot be paused.
func (c *Client) PauseWebhook(ctx context.Context, id int64) (Webhook, error) {
	return post[Webhook](ctx, c, under(webhooksPath, id)+"/pause")
}

// ResumeWebhook makes a webhook active: waiting deliveries are sent. A gone
// webhook gets the events from now on. It may be repeated.
func (c *Client) ResumeWebhook(ctx context.Context, id int64) (Webhook, error) {
	return post[Webhook](ctx, c, under(webhooksPath, id)+"/resume")
}
