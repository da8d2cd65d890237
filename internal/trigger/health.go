package trigger

import (
	"strconv"
	"time"
)

// Health counts the failures of a webhook over all nodes since its last
// success. A webhook whose last attempt succeeded has no Health.
type Health struct {
	OrganizationID int64
	WebhookID      int64
	Since          time.Time // the first failure after the last success
	LastAt         time.Time // the latest failure
	Failures       int       // since then
	Stage          HealthStage
}

// HealthStage is the last step that was taken for a failing webhook. The values
// are stored.
type HealthStage int16

// The stages.
const (
	HealthNoted     HealthStage = 0 // failures are counted
	HealthWarned    HealthStage = 1 // webhook.failing was posted
	HealthPaused    HealthStage = 2 // webhook.paused was posted, and it is paused
	HealthRecovered HealthStage = 3 // a success after that: webhook.recovered is due
)

// Endurance says after which failures without a success a webhook is paused.
type Endurance struct {
	Pause    time.Duration // least time from the first to the latest failure; 0: never pause
	Attempts int           // least number of failed attempts
}

// DefaultEndurance returns 5 days and 10 attempts.
func DefaultEndurance() Endurance { return Endurance{Pause: 5 * 24 * time.Hour, Attempts: 10} }

// The warning comes before the pause: after a fifth of its time and after
// WarnAttempts failed attempts.
const (
	warnings     = 5
	WarnAttempts = 2
)

// Due returns the stage that the webhook has reached and the notice to post. ok
// is false if no notice is due.
func (h Health) Due(e Endurance) (stage HealthStage, n Notice, ok bool) {
	n = Notice{
		About: h.WebhookID, Since: h.Since, Failures: h.Failures,
		Once: strconv.FormatInt(h.Since.UnixMicro(), 10),
	}
	failing := h.LastAt.Sub(h.Since)
	switch {
	case h.Stage == HealthRecovered:
		n.Type = WebhookRecovered
		return HealthRecovered, n, true
	case e.Pause == 0:
		return h.Stage, Notice{}, false
	case h.Stage == HealthNoted && h.Failures >= WarnAttempts && failing >= e.Pause/warnings:
		n.Type, n.Reason = WebhookFailing, "nothing but failures since then"
		return HealthWarned, n, true
	case h.Stage == HealthWarned && h.Failures >= e.Attempts && failing >= e.Pause:
		n.Type, n.Reason = WebhookPaused, "nothing but failures since then"
		return HealthPaused, n, true
	}
	return h.Stage, Notice{}, false
}
