package client

import (
	"context"
	"encoding/json"
	"iter"
	"time"
)

// The statuses of an event.
const (
	StatusPending   = "pending"   // a delivery is open
	StatusDelivered = "delivered" // no delivery is open, and none failed
	StatusFailed    = "failed"    // no delivery is open, and one failed
)

// EventInput is an event to post.
type EventInput struct {
	Type    string          `json:"type"` // 1 to 255 bytes
	Payload json.RawMessage `json:"-"`    // any JSON value, stored byte for byte

	// DedupID makes a repeat of the event a duplicate, which is not delivered.
	// It has up to 255 bytes. See [Client.PostEvent] for an event without one.
	DedupID string `json:"dedup_id,omitzero"`
	// DeliverAt is the earliest time of delivery; zero, or a time in the past,
	// means at once.
	DeliverAt time.Time `json:"deliver_at,omitzero"`
	// Traceparent is a W3C trace context; an invalid one is ignored.
	Traceparent string `json:"traceparent,omitzero"`
}

// MarshalJSON encodes the event in the form that the server accepts, with the
// unmodified bytes of the payload. (json.Marshal around it compacts them.) It
// returns an error if the payload is not JSON, or another member is not UTF-8.
func (e EventInput) MarshalJSON() ([]byte, error) {
	type members EventInput
	return splice(members(e), "payload", e.Payload)
}

// Event is a stored event.
type Event struct {
	ID          string          `json:"id"` // a UUIDv7
	Type        string          `json:"type"`
	Payload     json.RawMessage `json:"payload"` // the posted bytes, unchanged
	DedupID     string          `json:"dedup_id,omitzero"`
	Status      string          `json:"status,omitzero"` // StatusPending, …; "" in the inbox
	CreatedAt   time.Time       `json:"created_at"`
	DeliverAt   time.Time       `json:"deliver_at,omitzero"`  // zero: at once
	Traceparent string          `json:"traceparent,omitzero"` // W3C trace context
	CloudEvent  map[string]any  `json:"cloudevent,omitzero"`  // its attributes, if it was posted as a CloudEvent
}

// EventDetail is an event with its result at each webhook.
type EventDetail struct {
	Event
	Deliveries []Why `json:"deliveries"`
}

// The results of an event at a webhook.
const (
	VerdictDelivered    = "delivered"
	VerdictWaiting      = "waiting"       // waits for an attempt, see NextAttemptAt
	VerdictFailed       = "failed"        // see Reason
	VerdictExpired      = "expired"       // it was still open when the retention was over
	VerdictFiltered     = "filtered"      // the webhook's filter did not match it, see Clause
	VerdictPaused       = "paused"        // waits until the webhook is resumed
	VerdictGone         = "gone"          // the webhook was deleted, or answered 410
	VerdictCreatedLater = "created_later" // the webhook was created after the event
)

// Why is the result of an event at one webhook, or in the inbox, with the
// reason.
type Why struct {
	WebhookID     int64     `json:"webhook_id"`      // 0: the inbox
	Verdict       string    `json:"verdict"`         // VerdictDelivered, …
	Clause        string    `json:"clause,omitzero"` // of the filter: "types", "content /all/0", "operational"
	Reason        string    `json:"reason,omitzero"` // why it failed, or why the webhook is gone
	NextAttemptAt time.Time `json:"next_attempt_at,omitzero"`
	Attempts      int       `json:"attempts"` // so far
	LastAttempt   *Attempt  `json:"last_attempt,omitzero"`
}

// The orders of [EventQuery].
const (
	OrderNewest = "newest"
	OrderOldest = "oldest" // ends 30 s ago
)

// EventQuery selects events. Zero fields are ignored.
type EventQuery struct {
	Status    string    // StatusPending, …
	Type      string    // a pattern, in which * matches any run of characters
	Since     time.Time // created at this time or later
	Until     time.Time // created before this time
	DedupID   string
	WebhookID *int64 // with a delivery to this webhook; 0: to the inbox
	Order     string // OrderNewest (the default) or OrderOldest
	Limit     int    // events per page, 1 to 100; 0: 20
}

func (q EventQuery) values() query {
	v := query{}
	v.text("status", q.Status)
	v.text("type", q.Type)
	v.time("since", q.Since)
	v.time("until", q.Until)
	v.text("dedup_id", q.DedupID)
	if q.WebhookID != nil {
		v["webhook_id"] = []string{idText(*q.WebhookID)}
	}
	v.text("order", q.Order)
	v.number("limit", int64(q.Limit))
	return v
}

const eventsPath = "/v1/events"

// Events iterates over the events, page by page. An error comes last.
func (c *Client) Events(ctx context.Context, q EventQuery) iter.Seq2[Event, error] {
	return all(func(cursor string) (Page[Event], error) { return c.EventsPage(ctx, q, cursor) })
}

// EventsPage returns one page of events, the first one if the cursor is empty.
func (c *Client) EventsPage(ctx context.Context, q EventQuery, cursor string) (Page[Event], error) {
	return getPage[Event](ctx, c, eventsPath, q.values(), cursor)
}

// Event returns an event and its result at each webhook.
func (c *Client) Event(ctx context.Context, id string) (EventDetail, error) {
	return get[EventDetail](ctx, c, under(eventsPath, id))
}

// EventWhy explains the result of an event at each webhook, including former
// ones, and in the inbox if the event has a delivery to it.
func (c *Client) EventWhy(ctx context.Context, id string) ([]Why, error) {
	l, err := get[list[Why]](ctx, c, under(eventsPath, id)+"/why")
	return l.Data, err
}

// EventAttempts returns all attempts to deliver an event.
func (c *Client) EventAttempts(ctx context.Context, id string) ([]Attempt, error) {
	l, err := get[list[Attempt]](ctx, c, under(eventsPath, id)+"/attempts")
	return l.Data, err
}

// DeleteEvent removes an event with its attempts and deliveries. Nothing more
// of it is sent, except requests under way. Its dedup id stays taken. Deleting
// a scheduled event cancels it.
func (c *Client) DeleteEvent(ctx context.Context, id string) error {
	return c.delete(ctx, under(eventsPath, id))
}

// Resent is the result of ResendEvent.
type Resent struct {
	EventID   string `json:"event_id"`
	WebhookID int64  `json:"webhook_id"`
	ReplayID  int64  `json:"replay_id,omitzero"` // 0: none
}

// ResendEvent delivers an event to a webhook again.
func (c *Client) ResendEvent(ctx context.Context, id string, webhookID int64) (Resent, error) {
	in := struct {
		WebhookID int64 `json:"webhook_id"`
	}{webhookID}
	return create[Resent](ctx, c, under(eventsPath, id)+"/resend", in)
}

// Samples returns the newest events whose types match the pattern, as webhooks
// get them. If no such event is stored, it returns the examples of the event
// types. An empty pattern matches all; limit is 1 to 100, and 0 means 3.
func (c *Client) Samples(ctx context.Context, pattern string, limit int) ([]Delivery, error) {
	q := query{}
	q.text("type", pattern)
	q.number("limit", int64(limit))
	return get[samples](ctx, c, q.on("/v1/samples"))
}

// samples is an answer that is a bare list.
type samples []Delivery
