package trigger

import (
	"strings"
	"time"
)

// Schedule lists the pauses before the retries of a delivery: n pauses make
// n+1 attempts. Each pause is jittered by ±20 %.
type Schedule []time.Duration

// Jitter is the largest part of a pause that is added to or taken from it.
const Jitter = 0.2

// MaxPause is the longest pause of a schedule.
const MaxPause = 7 * 24 * time.Hour

// MaxPauses is the largest number of pauses of a schedule.
const MaxPauses = 50

// DefaultSchedule returns the schedule of Standard Webhooks 1.0: 10 attempts in
// 75 h 35 min.
func DefaultSchedule() Schedule {
	const h = time.Hour
	return Schedule{5 * time.Second, 5 * time.Minute, 30 * time.Minute, 2 * h, 5 * h, 10 * h, 14 * h, 20 * h, 24 * h}
}

// ParseSchedule reads durations separated by commas, for example "5s,5m,2h".
// The error is Invalid if one cannot be parsed, is negative or over 7 days, or
// there are more than 50.
func ParseSchedule(list string) (Schedule, error) {
	fields := strings.Split(list, ",")
	if len(fields) > MaxPauses {
		return nil, Errorf(Invalid, "a schedule must have at most %d pauses; got %d", MaxPauses, len(fields))
	}
	s := make(Schedule, 0, len(fields))
	for _, field := range fields {
		pause, err := time.ParseDuration(strings.TrimSpace(field))
		if err != nil || pause < 0 || pause > MaxPause {
			return nil, Errorf(Invalid, "%.60q is not a pause: want durations from 0s to 168h, for example 5s,5m,2h", field)
		}
		s = append(s, pause)
	}
	return s, nil
}

// MaxShortPauses is how many pauses of a webhook's own schedule may be shorter than
// a second: retries that follow at once multiply the work of a failed delivery.
const MaxShortPauses = 3

// ShortPauses returns how many pauses are shorter than a second.
func (s Schedule) ShortPauses() (n int) {
	for _, pause := range s {
		if pause < time.Second {
			n++
		}
	}
	return n
}

// String returns the form that ParseSchedule reads.
func (s Schedule) String() string {
	fields := make([]string, len(s))
	for i, pause := range s {
		fields[i] = pause.String()
	}
	return strings.Join(fields, ",")
}

// Pause returns how long to wait after the given number of attempts. random,
// from -1 to 1, selects the jitter. ok is false if no attempt is left.
func (s Schedule) Pause(attempts int, random float64) (pause time.Duration, ok bool) {
	if attempts < 1 || attempts > len(s) {
		return 0, false
	}
	pause = s[attempts-1]
	return pause + time.Duration(float64(pause)*Jitter*random), true
}

// Span returns the longest time from the first attempt to the last: with the
// largest jitter and without the time of the attempts.
func (s Schedule) Span() time.Duration {
	var sum time.Duration
	for _, pause := range s {
		sum += pause
	}
	return sum + time.Duration(float64(sum)*Jitter)
}
