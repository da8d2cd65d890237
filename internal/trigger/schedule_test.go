package trigger_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"triggerd/internal/trigger"
)

func TestDefaultSchedule(t *testing.T) {
	t.Parallel()
	schedule := trigger.DefaultSchedule()
	if got := len(schedule) + 1; got != 10 {
		t.Errorf("%d attempts, want 10", got)
	}
	var sum time.Duration
	for i, pause := range schedule {
		sum += pause
		if i > 0 && pause <= schedule[i-1] {
			t.Errorf("pause %d is %v, not longer than the one before", i, pause)
		}
	}
	if want := 75*time.Hour + 35*time.Minute + 5*time.Second; sum != want {
		t.Errorf("the pauses are %v in sum, want %v", sum, want)
	}
	schedule[0] = 0
	if got := trigger.DefaultSchedule()[0]; got != 5*time.Second {
		t.Errorf("the default can be changed: it begins with %v now", got)
	}
}

func TestParseSchedule(t *testing.T) {
	t.Parallel()
	tests := []struct {
		list string
		want trigger.Schedule // nil: refused
	}{
		{"5s", trigger.Schedule{5 * time.Second}},
		{"5s,5m,2h", trigger.Schedule{5 * time.Second, 5 * time.Minute, 2 * time.Hour}},
		{" 5s , 1h30m ", trigger.Schedule{5 * time.Second, 90 * time.Minute}},
		{"0s,0", trigger.Schedule{0, 0}},
		{"1.5s", trigger.Schedule{1500 * time.Millisecond}},
		{"168h", trigger.Schedule{trigger.MaxPause}},
		{"168h0m0.000000001s", nil},
		{"-1s", nil},
		{"5s,-1ns", nil},
		{"", nil},
		{" ", nil},
		{",", nil},
		{"5s,", nil},
		{"5s,,5s", nil},
		{"5s;5s", nil},
		{"5", nil},
		{"5 s", nil},
		{"1d", nil},
		{"5s\x00", nil},
		{"9999999999h", nil},
	}
	for _, tt := range tests {
		got, err := trigger.ParseSchedule(tt.list)
		wantValid(t, tt.list, err, tt.want != nil)
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("ParseSchedule(%q): %s", tt.list, diff)
		}
	}
}

func TestParseScheduleLength(t *testing.T) {
	t.Parallel()
	for _, n := range []int{49, 50, 51, 5000} {
		_, err := trigger.ParseSchedule(strings.Repeat("1s,", n-1) + "1s")
		wantValid(t, strings.Repeat("1s,", 3)+"…", err, n <= 50)
	}
}

// drawSchedule draws pauses of whole milliseconds, as people write them.
func drawSchedule(t *rapid.T, least int) trigger.Schedule {
	millis := rapid.SliceOfN(rapid.Int64Range(0, trigger.MaxPause.Milliseconds()), least, 50).Draw(t, "schedule")
	schedule := make(trigger.Schedule, len(millis))
	for i, n := range millis {
		schedule[i] = time.Duration(n) * time.Millisecond
	}
	return schedule
}

func TestScheduleRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		schedule := drawSchedule(t, 1)
		got, err := trigger.ParseSchedule(schedule.String())
		if diff := cmp.Diff(schedule, got); err != nil || diff != "" {
			t.Fatalf("ParseSchedule(%q): %v %s", schedule, err, diff)
		}
	})
}

func FuzzParseSchedule(f *testing.F) {
	f.Add("5s,5m,2h")
	f.Add(" 1.5s,0")
	f.Add("-1s,168h1ns")
	f.Fuzz(func(t *testing.T, list string) {
		schedule, err := trigger.ParseSchedule(list)
		if err != nil {
			wantValid(t, list, err, false)
			return
		}
		if len(schedule) < 1 || len(schedule) > 50 {
			t.Errorf("ParseSchedule(%q) has %d pauses", list, len(schedule))
		}
		for _, pause := range schedule {
			if pause < 0 || pause > trigger.MaxPause {
				t.Errorf("ParseSchedule(%q) has a pause of %v", list, pause)
			}
		}
		again, err := trigger.ParseSchedule(schedule.String())
		if diff := cmp.Diff(schedule, again); err != nil || diff != "" {
			t.Errorf("%q reads as %q, and that as another: %v %s", list, schedule, err, diff)
		}
	})
}

func TestPause(t *testing.T) {
	t.Parallel()
	schedule := trigger.Schedule{10 * time.Second, 100 * time.Second}
	tests := []struct {
		attempts int
		random   float64
		want     time.Duration
		ok       bool
	}{
		{-1, 0, 0, false},
		{0, 0, 0, false},
		{1, 0, 10 * time.Second, true},
		{1, -1, 8 * time.Second, true},
		{1, 1, 12 * time.Second, true},
		{2, 0.5, 110 * time.Second, true},
		{2, -1, 80 * time.Second, true},
		{3, 0, 0, false},
	}
	for _, tt := range tests {
		got, ok := schedule.Pause(tt.attempts, tt.random)
		if got != tt.want || ok != tt.ok {
			t.Errorf("Pause(%d, %v) = %v, %v; want %v, %v", tt.attempts, tt.random, got, ok, tt.want, tt.ok)
		}
	}
	if _, ok := (trigger.Schedule{}).Pause(1, 0); ok {
		t.Error("an empty schedule grants a second attempt")
	}
}

func TestPauseStaysWithinItsJitter(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		schedule := drawSchedule(t, 1)
		random := rapid.Float64Range(-1, 1).Draw(t, "random")
		var sum time.Duration
		for i, base := range schedule {
			got, ok := schedule.Pause(i+1, random)
			if !ok || got < base*8/10 || got > base*12/10 {
				t.Fatalf("Pause(%d, %v) = %v, %v; want %v ± 20 %%", i+1, random, got, ok, base)
			}
			if random != 0 && got != base && (random > 0) != (got > base) {
				t.Fatalf("Pause(%d, %v) = %v is on the wrong side of %v", i+1, random, got, base)
			}
			sum += got
		}
		if span := schedule.Span(); sum > span {
			t.Fatalf("the pauses are %v in sum, over the span %v", sum, span)
		}
	})
}

func TestSpan(t *testing.T) {
	t.Parallel()
	schedule := trigger.Schedule{10 * time.Second, 100 * time.Second}
	if got, want := schedule.Span(), 132*time.Second; got != want {
		t.Errorf("Span() = %v, want %v", got, want)
	}
	if got := (trigger.Schedule{}).Span(); got != 0 {
		t.Errorf("Span() of no pauses = %v", got)
	}
}
