package client

import (
	"context"
	"iter"
	"strconv"
	"time"
)

// The outcomes of an attempt.
const (
	OutcomeSuccess   = "success"   // a 2xx answer
	OutcomeTransient = "transient" // will be retried
	OutcomePermanent = "permanent" // no attempt can succeed, or the receiver refuses more
	OutcomeGone      = "gone"      // 410: the webhook is gone
)

// Attempt is one try to deliver an event to a webhook.
type Attempt struct {
	EventID     string    `json:"event_id"`
	WebhookID   int64     `json:"webhook_id"`
	ReplayID    int64     `json:"replay_id,omitzero"` // 0: delivered when the event was accepted
	Number      int       `json:"number"`             // from 1
	At          time.Time `json:"at"`
	TookSeconds float64   `json:"took_seconds"`
	Outcome     string    `json:"outcome"`           // OutcomeSuccess, …
	Status      int       `json:"status,omitzero"`   // of the HTTP answer; 0: no answer
	Error       string    `json:"error,omitzero"`    // error of a failed attempt
	Response    string    `json:"response,omitzero"` // the first 16 KiB of the answer
	Timing      Timing    `json:"timing"`
}

// Timing is the breakdown of the time of an attempt. It is 0 for a step that
// did not happen, for example on an open connection.
type Timing struct {
	DNSSeconds       float64 `json:"dns_seconds,omitzero"`
	ConnectSeconds   float64 `json:"connect_seconds,omitzero"`
	TLSSeconds       float64 `json:"tls_seconds,omitzero"`
	FirstByteSeconds float64 `json:"first_byte_seconds,omitzero"`
}

// AttemptQuery selects attempts. Zero fields are ignored.
type AttemptQuery struct {
	WebhookID *int64 // 0: the inbox
	Outcome   string // OutcomeSuccess, …
	ReplayID  int64
	Limit     int // attempts per page, 1 to 100; 0: 20
}

// Attempts iterates over the attempts, those of the newest event first, page by
// page. An error comes last.
func (c *Client) Attempts(ctx context.Context, q AttemptQuery) iter.Seq2[Attempt, error] {
	return all(func(cursor string) (Page[Attempt], error) { return c.AttemptsPage(ctx, q, cursor) })
}

// AttemptsPage returns one page of attempts, the first one if the cursor is
// empty.
func (c *Client) AttemptsPage(ctx context.Context, q AttemptQuery, cursor string) (Page[Attempt], error) {
	v := query{}
	if q.WebhookID != nil {
		v["webhook_id"] = []string{idText(*q.WebhookID)}
	}
	v.text("outcome", q.Outcome)
	v.number("replay_id", q.ReplayID)
	v.number("limit", int64(q.Limit))
	return getPage[Attempt](ctx, c, "/v1/attempts", v, cursor)
}

// The statuses of an [OwedDelivery].
const (
	DeliveryOpen   = "open"
	DeliveryFailed = "failed"
)

// OwedDelivery is an open or failed delivery of an event to a webhook. A
// delivery is open until it is delivered or has failed.
type OwedDelivery struct {
	EventID       string    `json:"event_id"`
	WebhookID     int64     `json:"webhook_id"`         // 0: the inbox
	ReplayID      int64     `json:"replay_id,omitzero"` // 0: created when the event was accepted
	Status        string    `json:"status"`             // DeliveryOpen or DeliveryFailed
	Attempts      int       `json:"attempts"`           // so far
	NextAttemptAt time.Time `json:"next_attempt_at,omitzero"`
	Claimed       bool      `json:"claimed"`         // a node or a consumer is working on it
	Reason        string    `json:"reason,omitzero"` // reason of the failure
}

// DeliveryQuery selects deliveries. Zero fields are ignored.
type DeliveryQuery struct {
	Status    string // DeliveryOpen or DeliveryFailed
	WebhookID *int64 // 0: the inbox
	Limit     int    // deliveries per page, 1 to 100; 0: 20
}

// Deliveries iterates over the open and failed deliveries, those of the newest
// event first, page by page. An error comes last.
func (c *Client) Deliveries(ctx context.Context, q DeliveryQuery) iter.Seq2[OwedDelivery, error] {
	return all(func(cursor string) (Page[OwedDelivery], error) { return c.DeliveriesPage(ctx, q, cursor) })
}

// DeliveriesPage returns one page of deliveries, the first one if the cursor is
// empty.
func (c *Client) DeliveriesPage(ctx context.Context, q DeliveryQuery, cursor string) (Page[OwedDelivery], error) {
	v := query{}
	v.text("status", q.Status)
	if q.WebhookID != nil {
		v["webhook_id"] = []string{idText(*q.WebhookID)}
	}
	v.number("limit", int64(q.Limit))
	return getPage[OwedDelivery](ctx, c, "/v1/deliveries", v, cursor)
}

func idText(id int64) string { return strconv.FormatInt(id, 10) }
