package client

import (
	"context"
	"encoding/json"
	"iter"
	"time"
)

// What becomes of an event.
const (
	StatusPending   = "pending"   // a delivery that it was owed is open
	StatusDelivered = "delivered" // none is open, and none has failed
	StatusFailed    = "failed"    // none is open, and one has failed
)

// EventInput is an event to be posted.
type EventInput struct {
	Type    string          `json:"type"` // 1 to 255 bytes
	Payload json.RawMessage `json:"-"`    // any JSON value, kept byte for byte

	// DedupID makes a repeat of the event a duplicate, which is not delivered:
	// up to 255 bytes. See [Client.PostEvent] for an event that has none.
	DedupID string `json:"dedup_id,omitzero"`
	// DeliverAt is when it is delivered at the earliest; zero, or a time in the
	// past: at once.
	DeliverAt time.Time `json:"deliver_at,omitzero"`
	// Traceparent is a W3C trace context; an invalid one is ignored.
	Traceparent string `json:"traceparent,omitzero"`
}

// MarshalJSON writes the event as the server takes it, with the bytes of the
// payload as they are. (json.Marshal around it compacts them.) An error if the
// payload is not JSON, or another member is not UTF-8.
func (e EventInput) MarshalJSON() ([]byte, error) {
	type members EventInput
	return splice(members(e), "payload", e.Payload)
}

// Event is an event as it is kept.
type Event struct {
	ID          string          `json:"id"` // a UUIDv7
	Type        string          `json:"type"`
	Payload     json.RawMessage `json:"payload"` // the very bytes that were posted
	DedupID     string          `json:"dedup_id,omitzero"`
	Status      string          `json:"status,omitzero"` // StatusPending, …; "" in the inbox
	CreatedAt   time.Time       `json:"created_at"`
	DeliverAt   time.Time       `json:"deliver_at,omitzero"`  // zero: at once
	Traceparent string          `json:"traceparent,omitzero"` // W3C trace context
	CloudEvent  map[string]any  `json:"cloudevent,omitzero"`  // its attributes, if it came as a CloudEvent
}

// EventDetail is an event and what became of it at each webhook.
type EventDetail struct {
	Event
	Deliveries []Why `json:"deliveries"`
}

// What became of an event at a webhook.
const (
	VerdictDelivered    = "delivered"
	VerdictWaiting      = "waiting"       // for an attempt, see NextAttemptAt
	VerdictFailed       = "failed"        // see Reason
	VerdictExpired      = "expired"       // it was still open when the retention was over
	VerdictFiltered     = "filtered"      // the webhook's filter does not want it, see Clause
	VerdictPaused       = "paused"        // it waits for the webhook to be resumed
	VerdictGone         = "gone"          // the webhook was deleted, or has answered 410
	VerdictCreatedLater = "created_later" // the webhook is younger than the event
)

// Why says what became of an event at one webhook, or in the inbox, and why.
type Why struct {
	WebhookID     int64     `json:"webhook_id"`      // 0: the inbox
	Verdict       string    `json:"verdict"`         // VerdictDelivered, …
	Clause        string    `json:"clause,omitzero"` // of the filter: "types", "content /all/0", "operational"
	Reason        string    `json:"reason,omitzero"` // why it failed, or the webhook is gone
	NextAttemptAt time.Time `json:"next_attempt_at,omitzero"`
	Attempts      int       `json:"attempts"` // so far
	LastAttempt   *Attempt  `json:"last_attempt,omitzero"`
}

// The orders of [EventQuery].
const (
	OrderNewest = "newest"
	OrderOldest = "oldest" // ends 30 s ago
)

// EventQuery picks events. What is zero does not count.
type EventQuery struct {
	Status    string    // StatusPending, …
	Type      string    // a pattern, in which * stands for any run of characters
	Since     time.Time // created then or later
	Until     time.Time // created before
	DedupID   string
	WebhookID *int64 // owed to this webhook; 0: to the inbox
	Order     string // OrderNewest (the default) or OrderOldest
	Limit     int    // events a page, 1 to 100; 0: 20
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

// Events goes through the events, page by page. An error comes last.
func (c *Client) Events(ctx context.Context, q EventQuery) iter.Seq2[Event, error] {
	return all(func(cursor string) (Page[Event], error) { return c.EventsPage(ctx, q, cursor) })
}

// EventsPage gives one page of events, the first if the cursor is empty.
func (c *Client) EventsPage(ctx context.Context, q EventQuery, cursor string) (Page[Event], error) {
	return getPage[Event](ctx, c, eventsPath, q.values(), cursor)
}

// Event gives an event, and what became of it.
func (c *Client) Event(ctx context.Context, id string) (EventDetail, error) {
	return get[EventDetail](ctx, c, under(eventsPath, id))
}

// EventWhy says what became of an event at each webhook that ever was, and in
// the inbox if it was owed to it.
func (c *Client) EventWhy(ctx context.Context, id string) ([]Why, error) {
	l, err := get[list[Why]](ctx, c, under(eventsPath, id)+"/why")
	return l.Data, err
}

// EventAttempts gives all attempts to deliver an event.
func (c *Client) EventAttempts(ctx context.Context, id string) ([]Attempt, error) {
	l, err := get[list[Attempt]](ctx, c, under(eventsPath, id)+"/attempts")
	return l.Data, err
}

// DeleteEvent removes an event with its attempts and deliveries; nothing more
// is sent of it, except what is under way. Its dedup id stays taken. This is how
// an event that is to be delivered later is cancelled.
func (c *Client) DeleteEvent(ctx context.Context, id string) error {
	return c.delete(ctx, under(eventsPath, id))
}

// Resent says under what an event is delivered again.
type Resent struct {
	EventID   string `json:"event_id"`
	WebhookID int64  `json:"webhook_id"`
	ReplayID  int64  `json:"replay_id,omitzero"` // 0: none
}

// ResendEvent has an event delivered to a webhook again.
func (c *Client) ResendEvent(ctx context.Context, id string, webhookID int64) (Resent, error) {
	in := struct {
		WebhookID int64 `json:"webhook_id"`
	}{webhookID}
	return create[Resent](ctx, c, under(eventsPath, id)+"/resend", in)
}

// Samples gives the newest events whose types match the pattern, as webhooks
// get them; where no event is stored, the examples of the event types. An empty
// pattern is all of them; limit is 1 to 100, and 0 is 3.
func (c *Client) Samples(ctx context.Context, pattern string, limit int) ([]Delivery, error) {
	q := query{}
	q.text("type", pattern)
	q.number("limit", int64(limit))
	return get[samples](ctx, c, q.on("/v1/samples"))
}

// samples is an answer that is a list by itself.
type samples []Delivery
