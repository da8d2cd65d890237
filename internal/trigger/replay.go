package trigger

import "time"

// Replay is a job that sends past events to a webhook again: the events of a
// range of time that the webhook's present filter selects. Each event is sent
// once, by a delivery that has the replay's number as its Job.
type Replay struct {
	ID             int64 // from 1, never used again
	OrganizationID int64
	WebhookID      int64
	State          ReplayState

	Since, Until time.Time // accepted at or after Since, and before Until
	Types        []Pattern // empty: every type
	Status       Status    // Failed or Delivered: at this webhook; "": all
	Pace         float64   // deliveries a second; 0: as fast as the webhook takes them

	Cursor    ID  // the last event that was scanned
	Queued    int // deliveries made so far
	Delivered int // how many of them succeeded
	Failed    int // how many of them failed
	CreatedAt time.Time
}

// ReplayState is the state of a replay.
type ReplayState string

// The states. A replay is done when none of its deliveries is open. While it is
// cancelling, attempts that have begun may still end.
const (
	ReplayRunning    ReplayState = "running"
	ReplayPaused     ReplayState = "paused"
	ReplayDone       ReplayState = "done"
	ReplayCancelling ReplayState = "cancelling"
	ReplayCancelled  ReplayState = "cancelled"
)

// DefaultPace is the pace of a replay whose owner sets none, in deliveries a
// second. It leaves the receiver time for live events.
const DefaultPace = 100.0

// Check returns an Invalid error if a value that the owner chose is not valid.
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

// Picks reports whether an event belongs to the replay, whose webhook is w. It
// needs the payload only if w's filter has a condition on it.
func (r *Replay) Picks(w *Webhook, e *Event) bool {
	own := Filter{Types: r.Types}
	if e.IsNotice() && !w.Filter.Names(e.Type) {
		return false
	}
	return own.Match(e.Type, nil) && w.Filter.Match(e.Type, e.Payload)
}
