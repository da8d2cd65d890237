package torture

import (
	"context"
	"io"
	"strings"
	"testing"
	"time"
)

// at is a moment of a run that began at zero, in seconds.
func at(seconds float64) time.Time {
	return time.Unix(1_800_000_000, 0).Add(time.Duration(seconds * float64(time.Second)))
}

// newRun is one with a fault from second 10 to 16.
func newRun(fault string) *run {
	clock := at(10)
	r := &run{report: &Report{Faults: map[string]int{}}, windows: &windows{now: func() time.Time { return clock }}}
	r.book = newBook(1, io.Discard, func() time.Time { return clock })
	end := r.windows.open(fault)
	clock = at(16)
	end()
	r.report.Faults[fault]++
	return r
}

func TestWindowsCover(t *testing.T) {
	t.Parallel()
	r := newRun("db-kill")
	tests := []struct {
		from, to float64
		want     bool
	}{
		{1, 9, false},
		{1, 11, true},
		{12, 13, true},
		{18, 20, true}, // what follows from it
		{20, 21, false},
	}
	if newRun(faultCrowd).windows.cover(at(11), at(12)) {
		t.Error("a crowd of strangers excuses a failure")
	}
	for _, tt := range tests {
		if got := r.windows.cover(at(tt.from), at(tt.to)); got != tt.want {
			t.Errorf("%v to %v: %v, want %v", tt.from, tt.to, got, tt.want)
		}
	}
}

// A repeat has a reason only if the result of an earlier arrival may have been
// lost: with a suspended process that is what it had begun.
func TestRepeatsNeedAReason(t *testing.T) {
	t.Parallel()
	tests := []struct {
		fault string
		came  []float64 // all answered with a 2xx
		want  int
	}{
		{"kill", []float64{5}, 0},
		{"kill", []float64{5, 25}, 1},
		{"kill", []float64{9, 14}, 0},
		{"kill", []float64{12, 25}, 0},
		{faultPause, []float64{9, 14}, 0},
		{faultPause, []float64{14, 17}, 1}, // by another node while this one slept, then by this one
		{faultPause, []float64{14, 17, 18}, 2},
	}
	for _, tt := range tests {
		r := newRun(tt.fault)
		var came []arrival
		for _, s := range tt.came {
			came = append(came, arrival{at: at(s), id: "x", answered: true})
		}
		if got := r.judgeRepeats(&event{tenant: &tenant{}}, 1, came); got != tt.want {
			t.Errorf("%s, %v: %d without a reason, want %d", tt.fault, tt.came, got, tt.want)
		}
		if r.report.Again != len(came)-1 {
			t.Errorf("%s, %v: %d repeats", tt.fault, tt.came, r.report.Again)
		}
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	tests := []struct {
		config Config
		want   string
	}{
		{Config{Faults: []string{"earthquake"}}, "unknown fault"},
		{Config{Database: "postgres://db.example.com/x"}, "on this machine"},
		{Config{Database: "postgres://10.0.0.1/x"}, "on this machine"},
		{Config{Database: "oracle"}, "must be one of sqlite"},
		{Config{Database: "sqlite", Faults: []string{"failover"}}, "needs --database standby"},
		{Config{Database: "sqlite", Faults: []string{"db-reset"}}, "needs PostgreSQL"},
	}
	for _, tt := range tests {
		c := tt.config
		c.Dir, c.Now, c.Out, c.Clients, c.Nodes, c.Rate, c.For = t.TempDir(), time.Now, io.Discard, 1, 0, 10, time.Second
		report, err := Run(context.Background(), c)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%+v: %v, %+v; want %q", tt.config, err, report, tt.want)
		}
	}
}

// Every breach that code can report stands in the report's list.
func TestReportListsEveryBreach(t *testing.T) {
	t.Parallel()
	report := &Report{Faults: map[string]int{"kill": 2}}
	for _, promise := range Promises() {
		report.breach(promise, "example of %s", promise)
	}
	var text strings.Builder
	report.Write(&text)
	for _, promise := range Promises() {
		if !strings.Contains(text.String(), "     1  "+promise+"\n        BROKEN: example of "+promise) {
			t.Errorf("the report has no line for %q:\n%s", promise, text.String())
		}
	}
	if !report.Broken() {
		t.Error("a report with breaches is not broken")
	}
}
