package trigger

import (
	"strconv"
	"strings"
	"time"
)

// VerdictKind says what happened to an event at one webhook.
type VerdictKind string

// The kinds. Exactly one applies to each event and webhook.
const (
	VerdictDelivered    VerdictKind = "delivered"
	VerdictWaiting      VerdictKind = "waiting"       // for its first or next attempt
	VerdictFailed       VerdictKind = "failed"        // retries exhausted, or no try can succeed
	VerdictExpired      VerdictKind = "expired"       // open until the retention ended it
	VerdictFiltered     VerdictKind = "filtered"      // the webhook's filter did not match it then
	VerdictPaused       VerdictKind = "paused"        // waits until the webhook is resumed
	VerdictGone         VerdictKind = "gone"          // webhook gone or deleted, then or before the delivery
	VerdictCreatedLater VerdictKind = "created_later" // the webhook did not exist when the event was accepted
)

// Verdict says why an event was, or was not, sent to a webhook.
type Verdict struct {
	WebhookID   int64
	Kind        VerdictKind
	Clause      string    // filtered: "types", "content" and where in it, or "operational"
	Reason      string    // failed or gone: in a few words
	NextAttempt time.Time // waiting: when
	Attempts    int       // so far
	Last        *Attempt  // the latest attempt, or the one that ended the delivery; may be nil
}

// Case is what is known about an event at one webhook.
type Case struct {
	Event    *Event
	Now      Webhook   // its present state
	Then     *Webhook  // its state and filter when the event was matched; nil: it did not exist
	Owed     *Delivery // the delivery made at acceptance; nil: it ended, or was not made
	Last     *Attempt  // the latest attempt of that delivery; may be nil
	Replayed *Attempt  // a success of a replay; may be nil
}

// Verdict returns the verdict that follows from the case.
func (c *Case) Verdict() Verdict {
	v := Verdict{WebhookID: c.Now.ID, Last: c.Last}
	if c.Last != nil {
		v.Attempts = c.Last.Number
	}
	switch {
	case c.Owed != nil:
		c.judgeOwed(&v)
	case c.Last != nil && c.Last.Outcome == Success:
		v.Kind = VerdictDelivered
	case c.Then == nil:
		v.Kind = VerdictCreatedLater
	case !c.Then.State.Receives():
		v.Kind, v.Reason = VerdictGone, goneReason(c.Then.State)
	case c.clause() != "":
		v.Kind, v.Clause = VerdictFiltered, c.clause()
	default: // the delivery failed, and a replay's success ended it
		v.Kind = VerdictDelivered
		if c.Replayed != nil {
			v.Last = c.Replayed
		}
	}
	return v
}

// clause returns the clause that did not match the event then; "" if all did.
func (c *Case) clause() string {
	f := &c.Then.Filter
	if missed := f.Miss(c.Event.Type, c.Event.Payload); missed != "" {
		return missed
	}
	about := noticePrefix + c.Event.Type + "/" + strconv.FormatInt(c.Now.ID, 10) + "/"
	if c.Event.IsNotice() && (!f.Names(c.Event.Type) || strings.HasPrefix(c.Event.DedupID, about)) {
		return "operational" // a notice goes to other webhooks that name its type
	}
	return ""
}

// goneReason says why no event was sent to a webhook in this state. Only a
// deleted webhook never comes back: one that receives events again was gone.
func goneReason(state WebhookState) string {
	if state == Deleted {
		return "the webhook was deleted"
	}
	return GoneByReceiver
}

func (c *Case) judgeOwed(v *Verdict) {
	v.Attempts = c.Owed.Attempts
	switch {
	case c.Owed.State == DeliveryOpen && c.Now.State == Paused:
		v.Kind = VerdictPaused
	case c.Owed.State == DeliveryOpen && !c.Now.State.Receives():
		v.Kind, v.Reason = VerdictGone, goneReason(c.Now.State)
	case c.Owed.State == DeliveryOpen:
		v.Kind, v.NextAttempt = VerdictWaiting, c.Owed.DueAt
		if c.Now.HeldUntil.After(v.NextAttempt) {
			v.NextAttempt = c.Now.HeldUntil
		}
	case c.Owed.Reason == ReasonGone && c.Last != nil && c.Last.Outcome == ReceiverGone:
		v.Kind, v.Reason = VerdictGone, GoneByReceiver
	case c.Owed.Reason == ReasonGone:
		v.Kind, v.Reason = VerdictGone, goneReason(c.Now.State)
	case c.Owed.Reason == ReasonExpired:
		v.Kind = VerdictExpired
	default:
		v.Kind, v.Reason = VerdictFailed, c.Owed.Reason
	}
}
