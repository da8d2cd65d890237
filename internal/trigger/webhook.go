package trigger

import (
	"time"
)

// Webhook is a subscriber's endpoint.
type Webhook struct {
	ID             int64 // from 1, never used again
	OrganizationID int64
	State          WebhookState

	URL         string
	Filter      Filter
	Secrets     Secrets
	Headers     map[string]string // sent with each attempt, beside our own
	Auth        Auth
	Format      Format        // "" as standard
	Timeout     time.Duration // of one attempt; 0: the server's
	Schedule    Schedule      // nil: the server's
	Rate        float64       // deliveries a second; 0: no limit
	Concurrency int           // attempts at a time; 0: 16
	Description string        // for people
	Metadata    map[string]string

	PausedBy   string    // why it is paused: PausedByOwner, …; "" if it is not
	GoneAt     time.Time // since when it is gone; zero if it is not
	GoneReason string    // why it is gone, as GoneByReceiver; "" if it is not
	HeldUntil  time.Time // the breaker is open until then; zero: closed
	Holds      int       // how often in a row it has opened
	CreatedAt  time.Time
	AsOf       int64   // the version of its organization by which it was read; 0: not known
	Failing    *Health // how it fails since its last success; nil: it does not, or is not known
	Broken     error   // why what is stored of it cannot be read, so that it gets nothing; nil: it can
}

// Who paused a webhook.
const (
	PausedByOwner    = "owner"
	PausedByFailures = "failures" // nothing but failures for too long
	PausedByReceiver = "receiver" // it answered webhook-delivery: disable
	PausedByOperator = "operator" // its organization is suspended
)

// GoneByReceiver is why a webhook is gone, as it is stored and shown.
const GoneByReceiver = "its receiver has answered 410"

// WebhookState says what becomes of an event that matches a webhook. Its value
// is what is stored; String returns what is shown.
type WebhookState string

// The states. Events are delivered to an Active webhook, and wait for a Paused
// one. A Gone or Deleted webhook gets no new events, and its open deliveries
// end as failed. The owner can see a Gone webhook and resume it. A Deleted one
// is never shown and never comes back; its row stays as a tombstone.
//
// Before schema 5 a 410 made a tombstone, so "gone" is stored for Deleted.
const (
	Active  WebhookState = "active"
	Paused  WebhookState = "paused"
	Gone    WebhookState = "ended" // its receiver answered 410
	Deleted WebhookState = "gone"  // by its owner, or gone for too long
)

// Receives reports whether events are owed to a webhook in this state.
func (s WebhookState) Receives() bool { return s == Active || s == Paused }

// String returns the name of the state in the API.
func (s WebhookState) String() string {
	switch s {
	case Gone:
		return "gone"
	case Deleted:
		return "deleted"
	}
	return string(s)
}

// Subscribers are the webhooks of an organization at one version.
type Subscribers struct {
	OrganizationID int64
	Version        int64
	Inbox          InboxMode
	Webhooks       []Webhook
}

// Match appends to dst the webhooks that an event of the given type
// and payload is owed to. None means that it is owed to the inbox.
func (s *Subscribers) Match(dst []*Webhook, eventType string, payload []byte) []*Webhook {
	for i := range s.Webhooks {
		if w := &s.Webhooks[i]; w.Matches(eventType, payload) {
			dst = append(dst, w)
		}
	}
	return dst
}

// HasContent reports whether any webhook has a content filter.
func (s *Subscribers) HasContent() bool {
	for i := range s.Webhooks {
		if s.Webhooks[i].Filter.Content != nil {
			return true
		}
	}
	return false
}

// Matches reports whether the webhook gets events of this type and payload.
func (w *Webhook) Matches(eventType string, payload []byte) bool {
	return w.State.Receives() && w.Filter.Match(eventType, payload)
}
