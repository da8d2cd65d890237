package main

import (
	"testing"
	"time"
)

func TestMoments(t *testing.T) {
	t.Parallel()
	now := cliNow()
	for text, want := range map[string][2]time.Time{
		"10m":                  {now.Add(-10 * time.Minute), now.Add(10 * time.Minute)},
		"30d":                  {now.AddDate(0, 0, -30), now.AddDate(0, 0, 30)},
		"0":                    {now, now},
		"2026-01-02T03:04:05Z": {time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)},
		"2026-01-02":           {time.Date(2026, 1, 2, 0, 0, 0, 0, time.Local), time.Date(2026, 1, 2, 0, 0, 0, 0, time.Local)},
	} {
		var m moment
		if err := m.UnmarshalText([]byte(text)); err != nil || !m.before(now).Equal(want[0]) || !m.after(now).Equal(want[1]) {
			t.Errorf("%s: %v, before %v, after %v, want %v", text, err, m.before(now), m.after(now), want)
		}
	}
	for _, text := range []string{"", "x", "-5m", "2026-13-01", "10"} {
		if err := new(moment).UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q is taken", text)
		}
	}
	var none *moment
	if !none.before(now).IsZero() || !none.after(now).IsZero() {
		t.Error("no moment is a time")
	}
}

func TestDurations(t *testing.T) {
	t.Parallel()
	for seconds, want := range map[float64]string{
		0: "", 0.00012: "0.1ms", 0.0125: "12.5ms", 0.25: "250ms", 1.5: "1.5s", 5: "5s", 60: "1m", 90: "1m30s", 3600: "1h", 5400: "1h30m", 36000: "10h",
		86400: "24h", 3605: "1h0m5s", 0.99999: "1000ms",
	} {
		if got := duration(seconds); got != want {
			t.Errorf("%v is shown as %q, want %q", seconds, got, want)
		}
	}
	if localTime(time.Time{}) != "" {
		t.Error("no time is shown")
	}
}
