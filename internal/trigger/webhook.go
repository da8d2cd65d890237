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
	Headers     map[string]string // sent with each attempt, in addition to the server's
	Auth        Auth
	Format      Format        // "" means standard
	Timeout     time.Duration // of one attempt; 0: the server's
	Schedule    Schedule      // nil: the server's
	Rate        float64       // deliveries a second; 0: no limit
	Concurrency int           // attempts at a time; 0: 16
	Description string        // for people
	Metadata    map[string]string

	PausedBy   string    // why it is paused, for example PausedByOwner; else ""
	GoneAt     time.Time // since when it is gone; else zero
	GoneReason string    // why it is gone, for example GoneByReceiver; else ""
	HeldUntil  time.Time // the breaker is open until then; zero: closed
	Holds      int       // how often in a row the breaker has opened
	CreatedAt  time.Time
	AsOf       int64   // the version of its organization at which it was read; 0: unknown
	Failing    *Health // its failures since the last success; nil: no failures, or unknown
	Broken     error   // why its stored settings cannot be read, so that it gets no events; may be nil
}

// Who paused a webhook.
const (
	PausedByOwner    = "owner"
	PausedByFailures = "failures" // all attempts failed for too long
	PausedByReceiver = "receiver" // it answered webhook-delivery: disable
	PausedByOperator = "operator" // its organization is suspended
)

// GoneByReceiver is the reason that is stored and shown for a gone webhook.
const GoneByReceiver = "its receiver has answered 410"

// WebhookState says what happens to an event that matches a webhook. Its value
// is stored; String returns the text that is shown.
type WebhookState string

// The states. Events are delivered to an Active webhook and wait for a Paused
// one. A Gone or Deleted webhook gets no new events, and its open deliveries
// fail. The owner can see a Gone webhook and resume it. A Deleted one is never
// shown and never comes back; its row stays as a tombstone.
//
// Before schema 5 a 410 made a tombstone, so "gone" is stored for Deleted.
const (
	Active  WebhookState = "active"
	Paused  WebhookState = "paused"
	Gone    WebhookState = "ended" // its receiver answered 410
	Deleted WebhookState = "gone"  // by its owner, or gone for too long
)

// Receives reports whether a webhook in this state gets new events.
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

	contents *contentSet // the content filters of Webhooks; nil: none, or not prepared
}

// Prepare makes Match read each payload once, however many webhooks have a content
// filter. Webhooks must not change afterwards.
func (s *Subscribers) Prepare() { s.contents = newContentSet(s.Webhooks) }

// Match appends to dst the webhooks that match an event of the given type and
// payload. If none does, the event goes to the inbox.
func (s *Subscribers) Match(dst []*Webhook, eventType string, payload []byte) []*Webhook {
	var values []jsonValue
	found, sound := false, true
	for i := range s.Webhooks {
		w := &s.Webhooks[i]
		switch {
		case !w.State.Receives() || !w.Filter.matchType(eventType):
			continue
		case s.contents == nil && !w.Filter.matchContent(payload):
			continue
		case s.contents != nil && w.Filter.Content != nil:
			if !found {
				values, sound = s.contents.find(payload)
				found = true
			}
			if sound && !s.contents.met(i, values) {
				continue
			}
		}
		dst = append(dst, w)
	}
	return dst
}

// ContentSize returns the bytes of all content filters together, 0 if no webhook
// has one. Prepare must have been called.
func (s *Subscribers) ContentSize() int {
	if s.contents == nil {
		return 0
	}
	return s.contents.size
}
