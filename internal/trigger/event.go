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

// Event is something that happened at a sender, as it is kept: append-only,
// never updated. Its acceptance time is the time in its ID.
type Event struct {
	OrganizationID int64
	ID             ID
	Type           string // 1–255 bytes, UTF-8, no control characters
	Payload        []byte // any JSON value, the very bytes that came in
	DedupID        string // 1–255 bytes; "" if the sender gave none
	Version        int64  // of its organization's webhooks, when it was matched

	DeliverAt   time.Time   // not to be delivered earlier; zero: at once
	Traceparent string      // the sender's, by W3C Trace Context; "": none
	Cloud       *CloudEvent // nil: it did not come as one
}

// CloudEvent is what an event that came as a CloudEvent has besides.
type CloudEvent struct {
	Attributes []byte // a JSON object: the context attributes as they came, specversion included
	Base64     bool   // the payload is a JSON string, the base64 of binary data
}

// NewEvent judges an event's type and dedup id. Invalid if one of them is
// empty where it must not be, too long, or has characters it must not have.
// The payload is taken as it is: valid JSON, by the caller's word.
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

// Size is about how many bytes of memory the event holds.
func (e *Event) Size() int {
	size := len(e.Type) + len(e.Payload) + len(e.DedupID) + 160
	if e.Cloud != nil {
		size += len(e.Cloud.Attributes)
	}
	return size
}

// PayloadHash is what tells two payloads under one dedup id apart: the first
// 128 bits of their SHA-256.
func (e *Event) PayloadHash() (hash [16]byte) {
	sum := sha256.Sum256(e.Payload)
	return [16]byte(sum[:16])
}

// AppendBody appends the body of the event's deliveries, the same for every
// attempt: by Standard Webhooks {"id","type","timestamp","data"}, the data
// being the payload's own bytes; or one of the other formats.
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

// appendCloudEvent gives a CloudEvent back with its own attributes.
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

// Trace is the traceparent of one attempt (W3C Trace Context, version 00): the
// sender's trace where there is one, else the event's own, by its id; span is
// the attempt's, and not all zeros.
func (e *Event) Trace(span [8]byte) string {
	if len(e.Traceparent) >= 55 {
		return "00-" + e.Traceparent[3:35] + "-" + hex.EncodeToString(span[:]) + "-" + e.Traceparent[53:55]
	}
	return "00-" + hex.EncodeToString(e.ID[:]) + "-" + hex.EncodeToString(span[:]) + "-00"
}

// AppendTime appends a time as RFC 3339 in UTC with milliseconds, as events
// show it everywhere.
func AppendTime(b []byte, t time.Time) []byte {
	return t.UTC().AppendFormat(b, "2006-01-02T15:04:05.000Z")
}

// AppendString appends s, which must be valid UTF-8, as a JSON string and
// escapes nothing but what JSON asks for.
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

// Status is what became of an event, derived from what it is still owed to.
type Status string

// The statuses. An event is pending as long as a delivery it was owed at its
// acceptance is open; then failed if one of them ended without success, else
// delivered.
const (
	Pending   Status = "pending"
	Delivered Status = "delivered"
	Failed    Status = "failed"
)

// ParseStatus reads a status's name. Invalid if there is no such status.
func ParseStatus(s string) (Status, error) {
	switch st := Status(s); st {
	case Pending, Delivered, Failed:
		return st, nil
	}
	return "", Errorf(Invalid, "status must be pending, delivered or failed; got %.60q", s)
}

// StatusOf derives an event's status from whether open or failed deliveries
// of it (of job 0) are left.
func StatusOf(open, failed bool) Status {
	switch {
	case open:
		return Pending
	case failed:
		return Failed
	}
	return Delivered
}
