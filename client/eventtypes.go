package client

import (
	"context"
	"encoding/json"
	"iter"
	"net/http"
	"time"
)

// What is done with an event that its type's schema does not allow.
const (
	ModeOff    = "off"
	ModeWarn   = "warn"   // it is accepted, and the answer has warnings
	ModeReject = "reject" // 422
)

// EventType is what is known of a type of events.
type EventType struct {
	Name        string          `json:"name"`
	Mode        string          `json:"mode"`            // ModeOff, …
	Schema      json.RawMessage `json:"schema,omitzero"` // JSON Schema 2020-12; null if there is none
	Description string          `json:"description"`
	CreatedAt   time.Time       `json:"created_at"`
	UpdatedAt   time.Time       `json:"updated_at"`
}

// EventTypeInput is what a type of events is to be.
type EventTypeInput struct {
	Schema      json.RawMessage `json:"-"`             // JSON Schema 2020-12, up to 64 KiB, no $ref elsewhere
	Mode        string          `json:"mode,omitzero"` // "": ModeWarn
	Description string          `json:"description,omitzero"`
}

// MarshalJSON writes it with the bytes of the schema as they are.
func (e EventTypeInput) MarshalJSON() ([]byte, error) {
	type members EventTypeInput
	return splice(members(e), "schema", e.Schema)
}

const eventTypesPath = "/v1/event-types"

// EventTypes goes through the types by name. An error comes last.
func (c *Client) EventTypes(ctx context.Context) iter.Seq2[EventType, error] {
	return all(func(cursor string) (Page[EventType], error) { return c.EventTypesPage(ctx, maxLimit, cursor) })
}

// EventTypesPage gives one page of types, the first if the cursor is empty. The
// limit is 1 to 100, and 0 is 20.
func (c *Client) EventTypesPage(ctx context.Context, limit int, cursor string) (Page[EventType], error) {
	return listPage[EventType](ctx, c, eventTypesPath, limit, cursor)
}

// EventType gives a type by its name.
func (c *Client) EventType(ctx context.Context, name string) (EventType, error) {
	return get[EventType](ctx, c, under(eventTypesPath, name))
}

// PutEventType makes a type, or replaces all of it. It is in force on all nodes
// within 5 s.
func (c *Client) PutEventType(ctx context.Context, name string, in EventTypeInput) (EventType, error) {
	return call[EventType](ctx, c, request{method: http.MethodPut, path: under(eventTypesPath, name)}, in)
}

// DeleteEventType removes a type. Events of that type are accepted as before.
func (c *Client) DeleteEventType(ctx context.Context, name string) error {
	return c.delete(ctx, under(eventTypesPath, name))
}
