package trigger

import "time"

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
	Permanent    Outcome = "permanent" // no try can succeed; nothing was sent
	ReceiverGone Outcome = "gone"      // 410: the receiver wants no more, ever
)

// Reasons why a delivery failed, as they are stored and shown.
const (
	ReasonExhausted = "retries exhausted"
	ReasonGone      = "webhook gone"
	ReasonNoEvent   = "event deleted"
	ReasonExpired   = "expired"
)

// Attempt is one HTTP try of a delivery, or the reason why none was made.
type Attempt struct {
	DeliveryKey
	Claim      ID            // under which it was made; one claim makes one attempt
	Number     int           // from 1
	At         time.Time     // when it began
	Took       time.Duration // until the answer was read or the try given up
	Outcome    Outcome
	Status     int           // HTTP status; 0: there was no answer
	Error      string        // what went wrong, in a few words without inner addresses
	Response   []byte        // the first 16 KiB of the answer
	RetryAfter time.Duration // as the receiver asked, 0 if it did not
}

// MaxRetryAfter caps what a receiver can ask for in Retry-After.
const MaxRetryAfter = time.Hour

// OutcomeOf reads an HTTP status: 2xx is success, 410 gone, all else worth
// another try (client errors too: they are often a deploy).
func OutcomeOf(status int) Outcome {
	switch {
	case status >= 200 && status <= 299:
		return Success
	case status == 410:
		return ReceiverGone
	}
	return Transient
}

// After decides what becomes of a delivery after an attempt that ended at
// now: ended by success; open again after a pause of the schedule, or after
// what the receiver asked for if that is longer; or failed. A delivery that
// is not open stays as it is. random, from -1 to 1, places the pause within
// its jitter. The claim is given up in every case.
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
	case ReceiverGone:
		return d.fail(ReasonGone)
	case Permanent:
		return d.fail(a.Error)
	}
	pause, ok := s.Pause(d.Attempts, random)
	if !ok {
		return d.fail(ReasonExhausted)
	}
	d.DueAt = now.Add(max(pause, min(a.RetryAfter, MaxRetryAfter)))
	return d
}

func (d Delivery) fail(reason string) Delivery {
	d.State, d.Reason = DeliveryFailed, reason
	return d
}
