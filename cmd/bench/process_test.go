package main

import (
	"os"
	"testing"
	"time"
)

func TestParseStat(t *testing.T) {
	t.Parallel()
	tests := []struct {
		line string
		want time.Duration // 0: an error
	}{
		{"8445 (cat) S 1 8435 5947 0 -1 4194304 102 0 0 0 1 20 300 4000 20 0 1 0", 43210 * time.Millisecond},
		{"8445 (a ) b (c) S 1 8435 5947 0 -1 4194304 102 0 0 0 5 0 0 0 20 0 1 0\n", 50 * time.Millisecond},
		{"8445 (cat) S 1 8435 5947 0 -1 4194304 102 0 0 0 1 2 3", 0},
		{"8445 (cat) S 1 8435 5947 0 -1 4194304 102 0 0 0 1 2 x 4 20 0 1 0", 0},
		{"no process", 0},
		{"", 0},
	}
	for _, tt := range tests {
		if got, err := parseStat(tt.line); got != tt.want || (err == nil) != (tt.want > 0) {
			t.Errorf("%q: %v, %v, want %v", tt.line, got, err, tt.want)
		}
	}
}

func TestParseBusy(t *testing.T) {
	t.Parallel()
	got, err := parseBusy("cpu  1 2 3 1000 2000 4 5 6 7 8\ncpu0 9 9 9 9 9 9 9 9 9 9\n")
	if want := 120 * time.Millisecond; got != want || err != nil {
		t.Errorf("%v, %v, want %v", got, err, want)
	}
	for _, stat := range []string{"", "cpu 1 2 3", "intr 1 2 3 4 5 6 7 8 9", "cpu 1 2 3 4 5 6 7 x 9"} {
		if got, err := parseBusy(stat); err == nil {
			t.Errorf("%q: %v, want an error", stat, got)
		}
	}
}

func TestParseMemory(t *testing.T) {
	t.Parallel()
	got, err := parseMemory("Name:\tx\nVmPeak:\t  9999 kB\nVmHWM:\t  2560 kB\nVmRSS:\t  1024 kB\n", "VmHWM:")
	if got != 2.5 || err != nil {
		t.Errorf("%v MB, %v, want 2.5", got, err)
	}
	for _, status := range []string{"", "VmHWM:\tmany kB\n"} {
		if got, err := parseMemory(status, "VmHWM:"); err == nil {
			t.Errorf("%q: %v, want an error", status, got)
		}
	}
}

// TestOwnProcess reads what the kernel really shows.
func TestOwnProcess(t *testing.T) {
	t.Parallel()
	others, err := newOthers()
	if err != nil || others.busy <= 0 || others.ours <= 0 {
		t.Errorf("busy for %v, with us for %v: %v", others.busy, others.ours, err)
	}
	if mb, err := peakMemory(os.Getpid()); err != nil || mb < 1 {
		t.Errorf("%v MB: %v", mb, err)
	}
	if _, err := cpuTime(os.Getpid()); err != nil {
		t.Error(err)
	}
	const gone = 1 << 30
	if _, err := cpuTime(os.Getpid(), gone); err != nil {
		t.Errorf("a child that has ended: %v", err)
	}
	if _, err := cpuTime(gone); err == nil {
		t.Error("the process itself is gone, and that is no error")
	}
}
