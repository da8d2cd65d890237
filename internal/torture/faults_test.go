package torture

import (
	"testing"
	"time"
)

// A fault of SQLite is not one of PostgreSQL's, though each kind of PostgreSQL
// has the faults of the lesser ones.
func TestFaultsOfDatabases(t *testing.T) {
	t.Parallel()
	tests := []struct {
		fault string
		on    [4]bool // anyDatabase (SQLite), anyPostgres, ownPostgres, withStandby
	}{
		{"kill", [4]bool{true, true, true, true}},
		{faultPoison, [4]bool{true, true, true, true}},
		{"db-read", [4]bool{false, true, true, true}},
		{faultStep, [4]bool{false, false, true, true}},
		{"standby-cut", [4]bool{false, false, false, true}},
		{"old-primary", [4]bool{false, false, false, true}},
		{"db-files", [4]bool{true, false, false, false}},
	}
	for _, tt := range tests {
		for _, f := range table() {
			if f.name != tt.fault {
				continue
			}
			for kind, want := range tt.on {
				if got := kindOf(kind).allows(&f); got != want {
					t.Errorf("%s on kind %d: %v, want %v", f.name, kind, got, want)
				}
			}
		}
	}
}

// While the files are away nothing new may be acknowledged. A request that began
// before is excused, and a duplicate for a moment longer.
func TestAbsenceCovers(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name      string
		from      time.Time
		begun     time.Time
		duplicate bool
		want      bool
	}{
		{"they are there", time.Time{}, at(20), false, false},
		{"it began before", at(10), at(9.9), false, false},
		{"it began then", at(10), at(10.1), false, true},
		{"a duplicate, at once", at(10), at(11), true, false},
		{"a duplicate, later", at(10), at(12), true, true},
	}
	for _, tt := range tests {
		var a absence
		a.set(tt.from)
		if got := a.covers(tt.begun, tt.duplicate); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}

// Endpoints stay calm until all who want that have ended it, in any order.
func TestCalmIsCounted(t *testing.T) {
	t.Parallel()
	r := newReceiverAt(newRun("kill"), func() time.Time { return at(0) })
	h := &hook{n: 1}
	r.spell.Store(&spell{switching, 1})
	first, second := r.calmDown(), r.calmDown()
	for _, end := range []func(){first, second} {
		if got := r.mood(h); got != good {
			t.Errorf("the mood is %d while it has to be calm", got)
		}
		end()
	}
	if got := r.mood(h); got != switching {
		t.Errorf("the mood is %d after that, want %d, of the spell", got, switching)
	}
}

// What a webhook refuses whenever it comes is not owed to it. It has failed in
// the end, or is still open if a breaker may hold it.
func TestPoisonIsNotMissed(t *testing.T) {
	t.Parallel()
	for m, open := range map[mood]bool{failing: false, unavailable: true, hanging: true} {
		r := newRun(faultPoison)
		tt := &tenant{n: 1}
		tt.hooks = []*hook{{n: 1, tenant: tt, poisoned: m}}
		r.book.addTenant(tt)
		healthy, poison := &event{tenant: tt, ids: []string{"a"}}, &event{tenant: tt, ids: []string{"b"}, poison: true}
		r.book.addEvent(healthy)
		r.book.addEvent(poison)
		if n, of := r.book.missing(); n != 1 || len(of) != 1 {
			t.Errorf("%d are missing, of %d tenants; want the one that is not poison", n, len(of))
		}
		if poison.wanted() != "failed" || poison.mayStayOpen() != open || healthy.mayStayOpen() {
			t.Errorf("mood %d: poison is wanted %s, may stay open: %v, want %v", m, poison.wanted(), poison.mayStayOpen(), open)
		}
	}
}
