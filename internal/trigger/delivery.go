package trigger

import (
	"strings"
	"time"
)

// Delivery is one event owed to one webhook. It is stored while it is open or
// failed: success removes it, and an [Attempt] records the success.
type Delivery struct {
	DeliveryKey
	State    DeliveryState
	Attempts int       // so far
	DueAt    time.Time // the earliest time of the next try; while claimed: the end of the lease
	Claim    ID        // the claim under which it is tried; zero: unclaimed
	Reason   string    // why it failed, in a few words
}

// DeliveryKey names a delivery.
type DeliveryKey struct {
	OrganizationID int64
	EventID        ID
	WebhookID      int64 // 0: the inbox
	Job            int64 // the replay that made it; 0: made at acceptance
}

// DeliveryState is the state of a delivery. The values are stored.
type DeliveryState int16

// The states. Ended is never stored, because the row is deleted.
const (
	DeliveryOpen   DeliveryState = 0
	DeliveryFailed DeliveryState = 1
	DeliveryEnded  DeliveryState = 2
)

// Outcome is the outcome of an attempt.
type Outcome string

// The outcomes.
const (
	Success      Outcome = "success"   // a 2xx answer
	Transient    Outcome = "transient" // to be retried by the schedule
	Permanent    Outcome = "permanent" // no try can succeed, or the receiver refuses more
	ReceiverGone Outcome = "gone"      // 410: the receiver refuses all events for good
)

// Reasons why a delivery failed, as they are stored and shown.
const (
	ReasonExhausted = "retries exhausted"
	ReasonGone      = "webhook gone"
	ReasonNoEvent   = "event deleted"
	ReasonExpired   = "expired"
	ReasonAborted   = "aborted by the receiver"
)

// ReasonPanic is the error of an attempt that panicked.
const ReasonPanic = "internal error"

// Attempt is one HTTP try of a delivery, or the reason why it was not made.
type Attempt struct {
	DeliveryKey
	Claim      ID            // the claim under which it was made; one claim makes one attempt
	Number     int           // from 1
	AsOf       int64         // [Webhook.AsOf] of the webhook that was used
	At         time.Time     // when it began
	Took       time.Duration // until the answer was read or the try was abandoned
	Timing     Timing
	Outcome    Outcome
	Status     int           // HTTP status; 0: the receiver did not answer
	Error      string        // what failed, in a few words without internal addresses
	Response   []byte        // the first 16 KiB of the answer
	Connected  bool          // it was connected, so the receiver may have got the request
	RetryAfter time.Duration // from the receiver's answer, else 0
	Directive  Directive     // from the receiver's answer
}

// Timing divides the time of an attempt. Each is measured from the attempt's
// beginning; 0 for a step that did not happen, for example because the
// connection was open already.
type Timing struct {
	DNS       time.Duration // until the host's addresses were known
	Connect   time.Duration // until it was connected
	TLS       time.Duration // until the TLS handshake ended
	FirstByte time.Duration // until the answer began
}

// Directive is a receiver's instruction in the header webhook-delivery of its
// answer (Standard Webhooks 1.0).
type Directive string

// The directives.
const (
	AbortMessage Directive = "abort-message" // no more attempts of this delivery
	Disable      Directive = "disable"       // no more attempts of anything: the webhook is paused
)

// ParseDirective reads one or more values of the header, separated by commas. It
// returns "" if all are unknown, and Disable if both are there.
func ParseDirective(value string) (known Directive) {
	for one := range strings.SplitSeq(value, ",") {
		switch d := Directive(strings.ToLower(strings.TrimSpace(one))); {
		case d == Disable:
			return d
		case d == AbortMessage:
			known = d
		}
	}
	return known
}

// MaxRetryAfter is the longest Retry-After of a receiver that is followed.
const MaxRetryAfter = time.Hour

// OutcomeOf returns the outcome of an answer: Success for 2xx, ReceiverGone for
// 410, Permanent for another status with abort-message, else Transient. Client
// errors are retried, too, because a deploy often causes them.
func OutcomeOf(status int, d Directive) Outcome {
	switch {
	case status >= 200 && status <= 299:
		return Success
	case status == 410:
		return ReceiverGone
	case d == AbortMessage:
		return Permanent
	}
	return Transient
}

// Strain is what an attempt says about its receiver as a whole, in addition to
// its own delivery.
type Strain int

// The strains.
const (
	// NoStrain: the receiver has answered. It may have refused the event, for
	// example with 500 or 404, but other events can succeed.
	NoStrain Strain = iota
	// Overloaded: the receiver, or a proxy in front of it, has answered 429, 502,
	// 503 or 504, or has not answered after a connection was made. A single event
	// can cause that.
	Overloaded
	// Unreachable: no connection was made.
	Unreachable
)

// Strain returns what the attempt says about its receiver.
func (a *Attempt) Strain() Strain {
	switch {
	case a.Outcome != Transient || a.Error == ReasonPanic:
		return NoStrain
	case a.Status == 429 || a.Status == 502 || a.Status == 503 || a.Status == 504:
		return Overloaded
	case a.Status != 0:
		return NoStrain
	case a.Connected:
		return Overloaded
	}
	return Unreachable
}

// AskedToWait returns for how long the receiver refuses all requests: it has
// answered 429 or 503 with Retry-After (RFC 9110, section 10.2.3). The outcome
// for the event does not matter. It returns 0 for other answers.
func (a *Attempt) AskedToWait() time.Duration {
	if a.Status != 429 && a.Status != 503 {
		return 0
	}
	return min(a.RetryAfter, MaxRetryAfter)
}

// After returns a delivery as it is after an attempt that ended at now: ended by
// success; open again after a pause of the schedule, or after the receiver's
// Retry-After if that is longer; or failed. Its claim is dropped. A delivery
// that is not open does not change. random, from -1 to 1, selects the jitter of
// the pause. A 410 is handled like any other failure, because the delivery ends
// with its webhook, unless the owner has changed the webhook meanwhile. The
// attempts of a delivery take no longer than the schedule's Span, where a pause
// under MaxRetryAfter counts as MaxRetryAfter if the receiver asks for it.
func (d Delivery) After(a Attempt, s Schedule, now time.Time, random float64) Delivery {
	if d.State != DeliveryOpen {
		return d
	}
	d.Claim = ID{}
	d.Attempts++
	switch a.Outcome {
	case Success:
		d.State = DeliveryEnded
		return d
	case Permanent:
		return d.fail(a.Error)
	}
	pause, ok := s.Pause(d.Attempts, random)
	switch {
	case ok:
	case a.Outcome == ReceiverGone:
		return d.fail(ReasonGone)
	default:
		return d.fail(ReasonExhausted)
	}
	d.DueAt = now.Add(max(pause, min(a.RetryAfter, MaxRetryAfter)))
	return d
}

func (d Delivery) fail(reason string) Delivery {
	d.State, d.Reason = DeliveryFailed, reason
	return d
}
