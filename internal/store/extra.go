package store

import (
	"bytes"
	"encoding/json"

	"triggerd/internal/trigger"
)

// eventExtra is the stored form of rare members of an event. It is one column,
// so that other events store nothing for them.
type eventExtra struct {
	DeliverAt   int64           `json:"deliver_at_us,omitempty"`
	Traceparent string          `json:"traceparent,omitempty"`
	Attributes  json.RawMessage `json:"cloudevent,omitempty"`
	Base64      bool            `json:"base64,omitempty"`
}

// extraOf returns the stored form; "" if an event has no such members.
func extraOf(e *trigger.Event) string {
	if e.DeliverAt.IsZero() && e.Traceparent == "" && e.Cloud == nil {
		return ""
	}
	x := eventExtra{DeliverAt: microsOrNone(e.DeliverAt), Traceparent: e.Traceparent}
	if e.Cloud != nil {
		x.Attributes, x.Base64 = e.Cloud.Attributes, e.Cloud.Base64
	}
	var b bytes.Buffer
	out := json.NewEncoder(&b)
	out.SetEscapeHTML(false)
	_ = out.Encode(x) // fails only for invalid JSON, which attributes never are
	return string(bytes.TrimSpace(b.Bytes()))
}

func applyExtra(e *trigger.Event, text string) error {
	if text == "" {
		return nil
	}
	var x eventExtra
	if err := json.Unmarshal([]byte(text), &x); err != nil {
		return err
	}
	e.DeliverAt, e.Traceparent = timeOrNone(x.DeliverAt), x.Traceparent
	if len(x.Attributes) > 0 {
		e.Cloud = &trigger.CloudEvent{Attributes: x.Attributes, Base64: x.Base64}
	}
	return nil
}
