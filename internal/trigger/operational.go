package trigger

import (
	"encoding/json"
	"strconv"
	"strings"
	"time"
)

// The types of operational events, which the server posts to an organization
// about its own webhooks and deliveries.
const (
	WebhookFailing    = "webhook.failing"    // all attempts failed for a while
	WebhookPaused     = "webhook.paused"     // all failed for too long, or its receiver answered "disable"
	WebhookGone       = "webhook.gone"       // its receiver has answered 410
	WebhookRecovered  = "webhook.recovered"  // a success after it was failing
	DeliveryExhausted = "delivery.exhausted" // the last retry has failed
	DeliveryExpired   = "delivery.expired"   // open deliveries were ended by the retention
)

// Notice is the content of an operational event. It is delivered to webhooks
// with a pattern that names the type (see [Filter.Names]), other than the one it
// is about, and never to the inbox. A notice that cannot be delivered makes no
// further notice.
type Notice struct {
	Type  string
	About int64  // the webhook; 0: several
	Once  string // identifies what happened: the end of its event's dedup id

	Since    time.Time // webhook.…: of the first failure, if there was one
	Failures int       // webhook.…: attempts that failed since
	Reason   string    // in a few words
	URL      string    // webhook.gone: of the webhook
	EventID  ID        // delivery.exhausted: what was not delivered
	Attempts int       // delivery.exhausted: how often it was tried
	Expired  []Lost    // delivery.expired
}

// Lost names a delivery that expired.
type Lost struct {
	EventID   ID    `json:"event_id"`
	WebhookID int64 `json:"webhook_id"` // 0: the inbox
}

const noticePrefix = "triggerd/"

// Event returns the notice's event for an organization. It has no id yet.
func (n *Notice) Event(orgID int64) *Event {
	type body struct {
		WebhookID int64      `json:"webhook_id,omitempty"`
		URL       string     `json:"url,omitempty"`
		EventID   string     `json:"event_id,omitempty"`
		Since     *time.Time `json:"since,omitempty"`
		Failures  int        `json:"failures,omitempty"`
		Attempts  int        `json:"attempts,omitempty"`
		Reason    string     `json:"reason,omitempty"`
		Expired   []Lost     `json:"deliveries,omitempty"`
	}
	b := body{WebhookID: n.About, URL: n.URL, Failures: n.Failures, Attempts: n.Attempts, Reason: n.Reason, Expired: n.Expired}
	if !n.Since.IsZero() {
		since := n.Since.UTC().Truncate(time.Millisecond)
		b.Since = &since
	}
	if !n.EventID.IsZero() {
		b.EventID = n.EventID.String()
	}
	payload, _ := json.Marshal(b) // cannot fail
	return &Event{
		OrganizationID: orgID, Type: n.Type, Payload: payload,
		DedupID: noticePrefix + n.Type + "/" + strconv.FormatInt(n.About, 10) + "/" + n.Once,
	}
}

// IsNotice reports whether the event is an operational event.
func (e *Event) IsNotice() bool { return strings.HasPrefix(e.DedupID, noticePrefix+e.Type+"/") }

// MatchNotice returns the webhooks that get a notice with the event e.
func (s *Subscribers) MatchNotice(n *Notice, e *Event) (owed []*Webhook) {
	for i := range s.Webhooks {
		w := &s.Webhooks[i]
		if w.State.Receives() && w.ID != n.About && w.Filter.Names(n.Type) && w.Filter.Content.Match(e.Payload) {
			owed = append(owed, w)
		}
	}
	return owed
}

// Wants reports whether a webhook may get notices of this type.
func (s *Subscribers) Wants(noticeType string) bool {
	for i := range s.Webhooks {
		if s.Webhooks[i].State.Receives() && s.Webhooks[i].Filter.Names(noticeType) {
			return true
		}
	}
	return false
}
