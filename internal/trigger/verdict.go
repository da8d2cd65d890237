package trigger

import (
	"strconv"
	"strings"
	"time"
)

// VerdictKind is what became of an event at one webhook.
type VerdictKind string

// The kinds. Of each event and each webhook there is exactly one.
const (
	VerdictDelivered    VerdictKind = "delivered"
	VerdictWaiting      VerdictKind = "waiting"       // for its first or next attempt
	VerdictFailed       VerdictKind = "failed"        // retries exhausted, or no try can succeed
	VerdictExpired      VerdictKind = "expired"       // open until the retention ended it
	VerdictFiltered     VerdictKind = "filtered"      // the filter that it had then did not pick it
	VerdictPaused       VerdictKind = "paused"        // owed, and waits until the webhook is resumed
	VerdictGone         VerdictKind = "gone"          // gone or deleted then, or before it was delivered
	VerdictCreatedLater VerdictKind = "created_later" // was not there when the event was accepted
)

// Verdict says why an event was, or was not, sent to a webhook.
type Verdict struct {
	WebhookID   int64
	Kind        VerdictKind
	Clause      string    // filtered: "types", "content" and where in it, or "operational"
	Reason      string    // failed or gone: in a few words
	NextAttempt time.Time // waiting: when
	Attempts    int       // so far
	Last        *Attempt  // the latest attempt at what was owed then, or the one that ended it; nil: none
}

// Case is what is known about an event at one webhook.
type Case struct {
	Event    *Event
	Now      Webhook   // as it is
	Then     *Webhook  // its state and filter when the event was matched; nil: it was not there
	Owed     *Delivery // what is left of what was owed then; nil: nothing
	Last     *Attempt  // the latest attempt at that; nil: none
	Replayed *Attempt  // a success of a replay; nil: none
}

// Verdict judges the case.
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
	default: // it was owed, and what failed of it is ended by a replay's success alone
		v.Kind = VerdictDelivered
		if c.Replayed != nil {
			v.Last = c.Replayed
		}
	}
	return v
}

// clause is the one for which the event was not owed then; "" if it was.
func (c *Case) clause() string {
	f := &c.Then.Filter
	if missed := f.Miss(c.Event.Type, c.Event.Payload); missed != "" {
		return missed
	}
	about := noticePrefix + c.Event.Type + "/" + strconv.FormatInt(c.Now.ID, 10) + "/"
	if c.Event.IsNotice() && (!f.Names(c.Event.Type) || strings.HasPrefix(c.Event.DedupID, about)) {
		return "operational" // a notice goes to the others that name its type
	}
	return ""
}

// goneReason says why nothing was sent to a webhook that was, or is, in this
// state. Only a deleted webhook never comes back: one that receives events again
// was gone.
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
