package main

import (
	"slices"
	"testing"
	"time"
)

// TestRan shows which replays count as running all the time.
func TestRan(t *testing.T) {
	t.Parallel()
	const begun, ended = 10 * time.Second, 30 * time.Second
	every := func(pause, until time.Duration) (got []time.Duration) {
		for at := begun + pause; at <= until; at += pause {
			got = append(got, at)
		}
		return got
	}
	tests := []struct {
		name  string
		got   []time.Duration
		pace  float64
		until time.Duration // 0: an error
	}{
		{"all the time", every(time.Second, ended), 100, ended},
		{"unlimited, all the time", every(time.Second, ended), 0, ended},
		{"nothing", nil, 100, 0},
		{"a long rest", slices.DeleteFunc(every(time.Second, ended), func(at time.Duration) bool {
			return at > 15*time.Second && at < 20*time.Second
		}), 100, 0},
		{"over too soon", every(time.Second, 25*time.Second), 100, 0},
		{"unlimited, over after three quarters", every(time.Second, 25*time.Second), 0, 25 * time.Second},
		{"unlimited, over too soon", every(time.Second, 15*time.Second), 0, 0},
	}
	for _, tt := range tests {
		until, err := ran(tt.got, begun, ended, tt.pace)
		if until != tt.until || (err == nil) != (tt.until > 0) {
			t.Errorf("%s: until %v, %v; want %v", tt.name, until, err, tt.until)
		}
	}
}
