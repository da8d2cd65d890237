package store

import (
	"context"
	"errors"
	"testing"
	"time"
)

// The database's time is followed in small steps. A jump is not believed until
// the next measurement confirms it, and nothing is claimed meanwhile; nor is
// the clock trusted after half a minute without a measurement.
func TestClockJumps(t *testing.T) {
	t.Parallel()
	local := time.Now()
	var reads reading
	var failed error
	s := &Store{clock: newClock(func() time.Time { return local })}
	s.clock.measure = func(context.Context, func() time.Time) (reading, error) { return reads, failed }
	steps := []struct {
		what    string
		passed  time.Duration // of the process's time, since the step before
		offset  time.Duration // that is measured
		trip    time.Duration // the measurement's
		failed  error
		want    time.Duration // the offset that is followed
		trusted bool
	}{
		{what: "the first is believed, whatever it is", offset: time.Minute, want: time.Minute, trusted: true},
		{what: "a drift is followed", offset: time.Minute + 900*time.Millisecond, want: time.Minute + 900*time.Millisecond, trusted: true},
		{what: "a jump is not", offset: time.Hour, want: time.Minute + 900*time.Millisecond},
		{what: "until it is confirmed", offset: time.Hour, want: time.Hour, trusted: true},
		{what: "a jump back is not", offset: 0, want: time.Hour},
		{what: "and was none", offset: time.Hour, want: time.Hour}, // far from the one before
		{what: "as is confirmed now", offset: time.Hour, want: time.Hour, trusted: true},
		{what: "what took too long says nothing", offset: time.Hour + time.Second/2, trip: time.Second, want: time.Hour, trusted: true},
		{what: "half of the trip counts", offset: time.Hour + 100*time.Millisecond, trip: 400 * time.Millisecond, want: time.Hour - 100*time.Millisecond, trusted: true},
		{what: "29 s without a measurement", passed: 24 * time.Second, failed: errors.New("away"), want: time.Hour - 100*time.Millisecond, trusted: true},
		{what: "31 s without a measurement", passed: 2 * time.Second, failed: errors.New("away"), want: time.Hour - 100*time.Millisecond},
		{what: "and one again", offset: time.Hour, want: time.Hour, trusted: true},
	}
	for _, step := range steps {
		local = local.Add(clockEvery + step.passed)
		reads = reading{theirs: local.Add(step.offset).Round(0), asked: local, answered: local.Add(step.trip)}
		failed = step.failed
		err := s.SyncClock(t.Context())
		if wrong := step.failed != nil || step.trip > clockMaxTrip; (err != nil) != wrong {
			t.Errorf("%s: %v", step.what, err)
		}
		if got := s.Now().Sub(local.Round(0)); (got - step.want).Abs() > time.Microsecond {
			t.Errorf("%s: %v is followed, want %v", step.what, got, step.want)
		}
		if s.ClockTrusted() != step.trusted {
			t.Errorf("%s: trusted: %v, want %v", step.what, s.ClockTrusted(), step.trusted)
		}
	}
}
