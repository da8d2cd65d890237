package trigger

import "time"

// Replay is a job that sends events of the past to a webhook again: those of a
// range of time that the webhook's filter picks as it is now. Each event is
// sent once, by a delivery that has the replay's number as its Job.
type Replay struct {
	ID             int64 // from 1, never used again
	OrganizationID int64
	WebhookID      int64
	State          ReplayState

	Since, Until time.Time // accepted at or after, and before
	Types        []Pattern // none: every type
	Status       Status    // Failed or Delivered: at this webhook; "": all
	Pace         float64   // deliveries a second; 0: as fast as the webhook takes them

	Cursor    ID  // of the last event that was looked at
	Queued    int // deliveries made so far
	Delivered int // of them
	Failed    int // of them
	CreatedAt time.Time
}

// ReplayState is where a replay stands.
type ReplayState string

// The states. Done means that nothing of it is open any more. Cancelling
// means that what is under way may still end.
const (
	ReplayRunning    ReplayState = "running"
	ReplayPaused     ReplayState = "paused"
	ReplayDone       ReplayState = "done"
	ReplayCancelling ReplayState = "cancelling"
	ReplayCancelled  ReplayState = "cancelled"
)

// DefaultPace is that of a replay whose owner asks for none, in deliveries a
// second: slow enough for whatever else the receiver has to do.
const DefaultPace = 100.0

// Check judges what the owner has chosen. Invalid says what is wrong.
func (r *Replay) Check() error {
	switch {
	case r.Since.Before(time.Unix(0, 0)):
		return Errorf(Invalid, "since must not be before 1970")
	case !r.Since.Before(r.Until):
		return Errorf(Invalid, "since must be before until")
	case len(r.Types) > MaxPatterns:
		return Errorf(Invalid, "types must have at most %d patterns; got %d", MaxPatterns, len(r.Types))
	case r.Status != "" && r.Status != Failed && r.Status != Delivered:
		return Errorf(Invalid, "status must be failed or delivered; got %.60q", r.Status)
	case r.Pace != 0 && (!(r.Pace >= MinRate) || r.Pace > MaxRate):
		return Errorf(Invalid, "pace must be from %v to %v deliveries a second; got %v", MinRate, MaxRate, r.Pace)
	}
	return nil
}

// Picks reports whether an event belongs to the replay, the webhook being w:
// its payload is looked at only if the filter asks for it.
func (r *Replay) Picks(w *Webhook, e *Event) bool {
	own := Filter{Types: r.Types}
	if e.IsNotice() && !w.Filter.Names(e.Type) {
		return false
	}
	return own.Match(e.Type, nil) && w.Filter.Match(e.Type, e.Payload)
}
