package client

import (
	"context"
	"encoding/json"
	"iter"
	"net/http"
	"time"
)

// How to treat an event that does not match the schema of its type.
const (
	ModeOff    = "off"
	ModeWarn   = "warn"   // it is accepted, and the answer has warnings
	ModeReject = "reject" // 422
)

// EventType is a registered type of events.
type EventType struct {
	Name        string          `json:"name"`
	Mode        string          `json:"mode"`            // ModeOff, …
	Schema      json.RawMessage `json:"schema,omitzero"` // JSON Schema 2020-12; null if the type has no schema
	Description string          `json:"description"`
	CreatedAt   time.Time       `json:"created_at"`
	UpdatedAt   time.Time       `json:"updated_at"`
}

// EventTypeInput is an event type to register.
type EventTypeInput struct {
	Schema      json.RawMessage `json:"-"`             // JSON Schema 2020-12, up to 64 KiB, no remote $ref
	Mode        string          `json:"mode,omitzero"` // "": ModeWarn
	Description string          `json:"description,omitzero"`
}

// MarshalJSON encodes it with the unmodified bytes of the schema.
func (e EventTypeInput) MarshalJSON() ([]byte, error) {
	type members EventTypeInput
	return splice(members(e), "schema", e.Schema)
}

const eventTypesPath = "/v1/event-types"

// EventTypes iterates over the types by name. An error comes last.
func (c *Client) EventTypes(ctx context.Context) iter.Seq2[EventType, error] {
	return all(func(cursor string) (Page[EventType], error) { return c.EventTypesPage(ctx, maxLimit, cursor) })
}

// EventTypesPage returns one page of types, the first one if the cursor is
// empty. The limit is 1 to 100, and 0 means 20.
func (c *Client) EventTypesPage(ctx context.Context, limit int, cursor string) (Page[EventType], error) {
	return listPage[EventType](ctx, c, eventTypesPath, limit, cursor)
}

// EventType returns a type by its name.
func (c *Client) EventType(ctx context.Context, name string) (EventType, error) {
	return get[EventType](ctx, c, under(eventTypesPath, name))
}

// PutEventType creates a type, or replaces it completely. It applies on all
// nodes within 5 s.
func (c *Client) PutEventType(ctx context.Context, name string, in EventTypeInput) (EventType, error) {
	return call[EventType](ctx, c, request{method: http.MethodPut, path: under(eventTypesPath, name)}, in)
}

// DeleteEventType removes a type. Its events are still accepted, without a
// schema.
func (c *Client) DeleteEventType(ctx context.Context, name string) error {
	return c.delete(ctx, under(eventTypesPath, name))
}
