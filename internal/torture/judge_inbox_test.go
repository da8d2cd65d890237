package torture

import (
	"slices"
	"testing"
	"time"
)

// Two claims of one event are held against each other by what is known for
// sure, and by nothing else. The first was asked for at second 1, answered at
// 2, and has the event until 10.
func TestTwoClaims(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name       string
		asked, got float64 // the second claim
		over       float64 // the first one's ack or release was asked for; 0: none
		acked      span    // and answered
		given      float64
		want       string
	}{
		{"after the lease", 10.5, 11, 0, span{}, 0, ""},
		{"in the lease", 4, 5, 0, span{}, 0, twoClaims},
		{"at its end", 9, 9.5, 0, span{}, 0, ""},
		{"at the same time", 1.5, 3, 0, span{}, 0, ""},
		{"after a release was asked for", 4, 6, 5, span{}, 7, ""},
		{"before a release was asked for", 3, 4, 5, span{}, 7, twoClaims},
		{"while it is acknowledged", 4, 6, 5, span{at(5), at(7)}, 0, ""},
		{"after it is acknowledged", 8, 9, 5, span{at(5), at(7)}, 0, handedAgain},
		{"acknowledged after it was lost", 11, 12, 13, span{at(13), at(14)}, 0, ackedUnheld},
		{"acknowledged meanwhile", 11, 13.5, 13, span{at(13), at(14)}, 0, ""},
	}
	for _, tt := range tests {
		r := newRun("kill")
		e := &event{tenant: &tenant{}}
		first := &handed{event: e, claim: "first", asked: at(1), leases: []span{{at(2), at(10)}}, acked: tt.acked}
		if tt.over > 0 {
			first.over = at(tt.over)
		}
		if tt.given > 0 {
			first.given = at(tt.given)
		}
		second := &handed{event: e, claim: "second", asked: at(tt.asked), leases: []span{{at(tt.got), at(tt.got + 5)}}}
		r.judgeClaims(first, second)
		var want []string
		if tt.want != "" {
			want = []string{tt.want}
		}
		if got := r.report.broken(); !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", tt.name, got, want)
		}
	}
}

// What was released is not the claim's to acknowledge any more.
func TestAckAfterRelease(t *testing.T) {
	t.Parallel()
	r := newRun("kill")
	e := &event{tenant: &tenant{consumed: true}}
	e.handed = []*handed{{event: e, asked: at(1), leases: []span{{at(2), at(10)}}, over: at(3), given: at(4), acked: span{at(5), at(6)}}}
	r.book.events = append(r.book.events, e)
	r.judgeInboxes()
	if got := r.report.broken(); !slices.Equal(got, []string{ackedUnheld}) {
		t.Errorf("%q", got)
	}
}

// What is to come later does not come before, and not at all once it was
// deleted in time.
func TestJudgeTime(t *testing.T) {
	t.Parallel()
	tests := []struct {
		fault   string
		came    float64
		deleted time.Time
		want    string
	}{
		{"kill", 20.1, time.Time{}, ""},
		{"kill", 19.5, time.Time{}, ""},
		{"kill", 18, time.Time{}, tooEarly},
		{faultClock, 18, time.Time{}, ""},
		{"kill", 20.1, at(19.9), ""}, // it may have been under way
		{"kill", 20.1, at(15), cameDeleted},
	}
	for _, tt := range tests {
		r := newRun(tt.fault)
		r.judgeTime(&event{tenant: &tenant{}, deliverAt: at(20), deletedAt: tt.deleted}, at(tt.came), "delivered")
		if got := r.report.broken(); tt.want == "" && len(got) > 0 || tt.want != "" && !slices.Equal(got, []string{tt.want}) {
			t.Errorf("%+v: %q", tt, got)
		}
	}
}

// A change is in force at some time from its request on, and for certain a
// while after its answer.
func TestInForce(t *testing.T) {
	t.Parallel()
	changes := []change{{at(10), at(11), "a"}, {at(20), time.Time{}, "b"}, {at(30), at(31), "c"}}
	tests := []struct {
		at   float64
		want []string
	}{
		{9, []string{""}},
		{10.5, []string{"", "a"}},
		{13, []string{"", "a"}},
		{15, []string{"a"}},
		{29, []string{"a", "b"}},
		{32, []string{"a", "b", "c"}},
		{35, []string{"c"}},
	}
	for _, tt := range tests {
		if got := inForce(changes, at(tt.at)); !slices.Equal(got, tt.want) {
			t.Errorf("%v: %q, want %q", tt.at, got, tt.want)
		}
	}
}

// broken lists the promises that were.
func (r *Report) broken() (list []string) {
	for promise := range r.Breaches {
		list = append(list, promise)
	}
	slices.Sort(list)
	return list
}
