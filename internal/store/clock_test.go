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
		back    time.Duration // the step back that is confirmed by it
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
		{what: "a jump back", offset: -time.Hour, want: time.Hour},
		{what: "that is confirmed", offset: -time.Hour, want: -time.Hour, trusted: true, back: 2 * time.Hour},
		{what: "a drift back is no step", offset: -time.Hour - 900*time.Millisecond, want: -time.Hour - 900*time.Millisecond, trusted: true},
		{what: "back by steps", offset: -3 * time.Hour, want: -time.Hour - 900*time.Millisecond},
		{what: "of which the last is confirmed", offset: -4 * time.Hour, want: -time.Hour - 900*time.Millisecond},
		{what: "in the end", offset: -4 * time.Hour, want: -4 * time.Hour, trusted: true, back: 3*time.Hour - 900*time.Millisecond},
	}
	confirmed := 0
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
		n, by := s.StepsBack()
		if step.back != 0 {
			confirmed++
		}
		if n != confirmed || step.back != 0 && (by-step.back).Abs() > time.Microsecond {
			t.Errorf("%s: %d steps back, the last by %v; want %d, by %v", step.what, n, by, confirmed, step.back)
		}
	}
}
