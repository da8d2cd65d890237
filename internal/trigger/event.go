package trigger

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Event is something that happened at a sender. A stored event is never
// updated. Its acceptance time is the time in its ID.
type Event struct {
	OrganizationID int64
	ID             ID
	Type           string // 1–255 bytes, UTF-8, no control characters
	Payload        []byte // any JSON value, byte for byte as it was posted
	DedupID        string // 1–255 bytes; "" if the sender sent none
	Version        int64  // of its organization's webhooks, when it was matched

	DeliverAt   time.Time   // the earliest time of delivery; zero: at once
	Traceparent string      // from the sender (W3C Trace Context); may be empty
	Cloud       *CloudEvent // nil if it was not posted as a CloudEvent
}

// CloudEvent holds what an event posted as a CloudEvent has in addition.
type CloudEvent struct {
	Attributes []byte // a JSON object: the context attributes as posted, specversion included
	Base64     bool   // the payload is a JSON string, the base64 of binary data
}

// NewEvent returns an event, or an Invalid error if its type is empty, or if
// the type or the dedup id is too long or has characters it must not have. It
// does not check the payload, which must be valid JSON.
func NewEvent(orgID int64, eventType, dedupID string, payload []byte) (*Event, error) {
	if err := checkText("type", eventType, MaxType); err != nil {
		return nil, err
	}
	switch {
	case len(dedupID) > MaxDedupID:
		return nil, Errorf(Invalid, "dedup_id must have at most %d bytes; got %d", MaxDedupID, len(dedupID))
	case !utf8.ValidString(dedupID) || strings.IndexByte(dedupID, 0) >= 0:
		return nil, Errorf(Invalid, "dedup_id must be valid UTF-8 without NUL")
	}
	return &Event{OrganizationID: orgID, Type: eventType, DedupID: dedupID, Payload: payload}, nil
}

// Size returns about how many bytes of memory the event holds.
func (e *Event) Size() int {
	size := len(e.Type) + len(e.Payload) + len(e.DedupID) + 160
	if e.Cloud != nil {
		size += len(e.Cloud.Attributes)
	}
	return size
}

// PayloadHash returns the first 128 bits of the payload's SHA-256, by which two
// payloads with one dedup id are compared.
func (e *Event) PayloadHash() (hash [16]byte) {
	sum := sha256.Sum256(e.Payload)
	return [16]byte(sum[:16])
}

// AppendBody appends the body of the event's deliveries, the same for every
// attempt. By Standard Webhooks it is {"id","type","timestamp","data"}, where
// data is the payload, byte for byte.
func (e *Event) AppendBody(b []byte, f Format) []byte {
	switch f {
	case FormatPayload:
		return append(b, e.Payload...)
	case FormatCloudEvents:
		if e.Cloud != nil {
			return e.appendCloudEvent(b)
		}
		b = append(b, `{"specversion":"1.0","source":"/organizations/`...)
		b = strconv.AppendInt(b, e.OrganizationID, 10)
		b = append(b, `","datacontenttype":"application/json","id":"`...)
	default:
		b = append(b, `{"id":"`...)
	}
	b = append(b, e.ID.String()...)
	b = append(b, `","type":`...)
	b = AppendString(b, e.Type)
	if f == FormatCloudEvents {
		b = append(b, `,"time":"`...)
	} else {
		b = append(b, `,"timestamp":"`...)
	}
	b = AppendTime(b, e.ID.Time())
	b = append(b, `","data":`...)
	b = append(b, e.Payload...)
	return append(b, '}')
}

// appendCloudEvent appends a CloudEvent with its own attributes.
func (e *Event) appendCloudEvent(b []byte) []byte {
	b = append(b, bytes.TrimSuffix(e.Cloud.Attributes, []byte("}"))...)
	if e.Cloud.Base64 {
		b = append(b, `,"data_base64":`...)
	} else {
		b = append(b, `,"data":`...)
	}
	b = append(b, e.Payload...)
	return append(b, '}')
}

// Trace returns the traceparent of one attempt (W3C Trace Context, version 00)
// in the sender's trace, or in one of the event's id if the sender sent none.
// span identifies the attempt and must not be all zeros.
func (e *Event) Trace(span [8]byte) string {
	if len(e.Traceparent) >= 55 {
		return "00-" + e.Traceparent[3:35] + "-" + hex.EncodeToString(span[:]) + "-" + e.Traceparent[53:55]
	}
	return "00-" + hex.EncodeToString(e.ID[:]) + "-" + hex.EncodeToString(span[:]) + "-00"
}

// AppendTime appends a time in RFC 3339, UTC, with milliseconds, for example
// 2026-01-02T03:04:05.000Z. All times of events have this form.
func AppendTime(b []byte, t time.Time) []byte {
	return t.UTC().AppendFormat(b, "2006-01-02T15:04:05.000Z")
}

// AppendString appends s, which must be valid UTF-8, as a JSON string. It
// escapes only what JSON requires.
func AppendString(b []byte, s string) []byte {
	const digits = "0123456789abcdef"
	b = append(b, '"')
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c < 0x20:
			b = append(b, '\\', 'u', '0', '0', digits[c>>4], digits[c&15])
		default:
			b = append(b, c)
		}
	}
	return append(b, '"')
}

// Status is the status of an event, derived from its remaining deliveries.
type Status string

// The statuses. An event is pending while a delivery made at its acceptance is
// open. Then it is failed if one of them ended without success, else delivered.
const (
	Pending   Status = "pending"
	Delivered Status = "delivered"
	Failed    Status = "failed"
)

// ParseStatus reads the name of a status. An unknown name is Invalid.
func ParseStatus(s string) (Status, error) {
	switch st := Status(s); st {
	case Pending, Delivered, Failed:
		return st, nil
	}
	return "", Errorf(Invalid, "status must be pending, delivered or failed; got %.60q", s)
}

// StatusOf returns the status of an event by whether it has open or failed
// deliveries of job 0.
func StatusOf(open, failed bool) Status {
	switch {
	case open:
		return Pending
	case failed:
		return Failed
	}
	return Delivered
}
