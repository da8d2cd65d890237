package trigger

import (
	"strings"
	"time"
)

// Delivery is one event owed to one webhook. Only what is not yet done is
// kept: success removes it, and an [Attempt] tells that it was.
type Delivery struct {
	DeliveryKey
	State    DeliveryState
	Attempts int       // so far
	DueAt    time.Time // not to be tried earlier; while claimed: when the lease ends
	Claim    ID        // who is at it; zero: nobody
	Reason   string    // why it failed, in a few words
}

// DeliveryKey names a delivery.
type DeliveryKey struct {
	OrganizationID int64
	EventID        ID
	WebhookID      int64 // 0: the inbox
	Job            int64 // 0: owed at acceptance, else the replay that owes it
}

// DeliveryState is where a delivery stands. The values are stored.
type DeliveryState int16

// The states. Ended is never stored: the row is gone.
const (
	DeliveryOpen   DeliveryState = 0
	DeliveryFailed DeliveryState = 1
	DeliveryEnded  DeliveryState = 2
)

// Outcome is what an attempt came to.
type Outcome string

// The outcomes.
const (
	Success      Outcome = "success"   // a 2xx answer
	Transient    Outcome = "transient" // worth another try, by the schedule
	Permanent    Outcome = "permanent" // no try can succeed, or the receiver wants none
	ReceiverGone Outcome = "gone"      // 410: the receiver wants no more, ever
)

// Reasons why a delivery failed, as they are stored and shown.
const (
	ReasonExhausted = "retries exhausted"
	ReasonGone      = "webhook gone"
	ReasonNoEvent   = "event deleted"
	ReasonExpired   = "expired"
	ReasonAborted   = "aborted by the receiver"
)

// ReasonPanic is the error of an attempt that a fault of ours has ended.
const ReasonPanic = "internal error"

// Attempt is one HTTP try of a delivery, or the reason why none was made.
type Attempt struct {
	DeliveryKey
	Claim      ID            // under which it was made; one claim makes one attempt
	Number     int           // from 1
	AsOf       int64         // [Webhook.AsOf] of the webhook as it was asked
	At         time.Time     // when it began
	Took       time.Duration // until the answer was read or the try given up
	Timing     Timing
	Outcome    Outcome
	Status     int           // HTTP status; 0: there was no answer
	Error      string        // what went wrong, in a few words without inner addresses
	Response   []byte        // the first 16 KiB of the answer
	Connected  bool          // a connection stood, so that the receiver may have got the request
	RetryAfter time.Duration // as the receiver asked, 0 if it did not
	Directive  Directive     // as the receiver asked
}

// Timing is where the time of an attempt went, each from its beginning; 0 for
// what did not happen, as on a connection that was open already.
type Timing struct {
	DNS       time.Duration // until the host's addresses were known
	Connect   time.Duration // until the connection stood
	TLS       time.Duration // until it was encrypted
	FirstByte time.Duration // until the answer began
}

// Directive is what a receiver answers in the header webhook-delivery
// (Standard Webhooks 1.0).
type Directive string

// The directives.
const (
	AbortMessage Directive = "abort-message" // no more attempts of this delivery
	Disable      Directive = "disable"       // no more attempts of anything: the webhook is paused
)

// ParseDirective reads the header's value, or those of several lines with commas
// between them: "" if none is known. Of both, Disable counts.
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

// MaxRetryAfter caps what a receiver can ask for in Retry-After.
const MaxRetryAfter = time.Hour

// OutcomeOf reads an answer: 2xx is success, 410 gone, abort-message beside
// any other status permanent, and all else worth another try (client errors
// too: they are often a deploy).
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

// Strain is what an attempt says about its receiver as a whole, beside what it
// means for its own delivery.
type Strain int

// The strains.
const (
	// NoStrain: the receiver has answered. It may have refused the event, for
	// example with 500 or 404, but other events can get through.
	NoStrain Strain = iota
	// Overloaded: the receiver, or what stands before it, has answered 429, 502,
	// 503 or 504, or has not answered on a connection that stood. That can be
	// the fault of the one event.
	Overloaded
	// Unreachable: there was no connection.
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

// AskedToWait returns for how long the receiver wants no requests at all: it
// has answered 429 or 503 with Retry-After (RFC 9110, section 10.2.3), whatever
// that means for the event. It returns 0 if the receiver has not asked for that.
func (a *Attempt) AskedToWait() time.Duration {
	if a.Status != 429 && a.Status != 503 {
		return 0
	}
	return min(a.RetryAfter, MaxRetryAfter)
}

// After decides what becomes of a delivery after an attempt that ended at
// now: ended by success; open again after a pause of the schedule, or after
// what the receiver asked for if that is longer; or failed. A delivery that
// is not open stays as it is. random, from -1 to 1, places the pause within
// its jitter. A 410 is no other failure for the delivery: it ends with its
// webhook, unless the owner has changed that meanwhile. The claim is given up in every case. A delivery is tried over no
// longer than the schedule's Span, a pause under MaxRetryAfter counting as
// that where the receiver asks for it.
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
