package trigger

import (
	"testing"
	"time"
)

// Each delivery lies at most as far ahead as its lease, its pause or the time
// its sender wants allow; what lies further ahead is pulled back to that.
func TestDeliveryPulledBack(t *testing.T) {
	t.Parallel()
	const s, m, h, day = time.Second, time.Minute, time.Hour, 24 * time.Hour
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	schedule := Schedule{5 * s, 10 * h}
	claimed := func(ahead time.Duration) ID { return NewID(now.Add(ahead), 0, 1) }
	const none = -1 << 62
	tests := []struct {
		name                        string
		inbox                       bool
		attempts                    int
		claim                       ID
		due, deliverAt, tried, want time.Duration // from now on
	}{
		{"due", false, 0, ID{}, -s, none, none, -s},
		{"a lease ahead", false, 0, ID{}, MaxLease, none, none, MaxLease},
		{"not tried", false, 0, ID{}, day, none, none, 0},
		{"to be delivered later", false, 0, ID{}, day, day, none, day},
		{"to be delivered later, and due after that", false, 0, ID{}, 2 * day, day, none, day},
		{"to be delivered earlier", false, 0, ID{}, day, -h, none, 0},
		{"within its lease", false, 0, claimed(-s), MaxLease, none, none, MaxLease},
		{"claimed a day ahead", false, 0, claimed(day), day + 32*s, none, none, 32 * s},
		{"claimed a day ahead, by an id of another time", false, 3, claimed(-s), day + 32*s, none, none, MaxLease},
		{"claimed a day ahead, within a Retry-After", false, 1, claimed(day), day + 32*s, none, -m, 59*m + 32*s},
		{"claimed a day ahead, within its pause", false, 2, claimed(day), day + 32*s, none, -h, 11*h + 32*s},
		{"claimed a day ahead, after a pause of that time", false, 2, claimed(day), day + 32*s, none, day - 10*h, 32 * s},
		{"claimed, and to be delivered later", false, 0, claimed(day), day + 32*s, day, none, day + 32*s},
		{"claimed, to be delivered later, and beyond a lease", false, 0, claimed(2 * day), 2*day + 32*s, day, none, day + 32*s},
		{"first pause, with Retry-After", false, 1, ID{}, h, none, none, h},
		{"first pause, a day ahead", false, 1, ID{}, day, none, day - 5*s, 5 * s},
		{"first pause, an hour ahead", false, 1, ID{}, h + 6*s, none, h, 6 * s},
		{"first pause, its attempt not known", false, 1, ID{}, day, none, none, h},
		{"first pause, its attempt begun before the clock was ahead", false, 1, ID{}, day, none, -5 * s, h},
		{"first pause, the clock ahead during its attempt", false, 1, ID{}, 3 * day, none, day, h},
		{"an attempt that ended after it is due", false, 1, ID{}, day, none, 2 * day, h},
		{"second pause", false, 2, ID{}, 12 * h, none, -s, 12 * h},
		{"second pause, a day ahead", false, 2, ID{}, day + 9*h, none, day, 9 * h},
		{"a longer schedule than now", false, 3, ID{}, 8 * day, none, -s, 8 * day},
		{"a longer schedule than now, years ahead", false, 3, ID{}, 800 * day, none, 799 * day, day},
		{"tried, and to be delivered later", false, 1, ID{}, day + 5*s, day, day, day + 5*s},
		{"inbox, due", true, 0, ID{}, 0, none, none, 0},
		{"inbox, a day ahead", true, 0, ID{}, day, none, none, 0},
		{"inbox, to be delivered later", true, 0, ID{}, day, day, none, day},
		{"inbox, claimed", true, 1, claimed(-s), 12 * h, none, none, 12 * h},
		{"inbox, claimed a day ahead", true, 1, claimed(day), day + m, none, none, m},
		{"inbox, claimed a day ahead for twelve hours, and extended", true, 1, claimed(day), day + 13*h, none, none, 12 * h},
		{"inbox, given back for twelve hours", true, 1, ID{}, 12 * h, none, none, 12 * h},
		{"inbox, given back a day ahead", true, 1, ID{}, day, none, none, 12 * h},
	}
	for _, tt := range tests {
		at := func(d time.Duration) time.Time {
			if d == none {
				return time.Time{}
			}
			return now.Add(d)
		}
		d := Delivery{DeliveryKey: DeliveryKey{WebhookID: 7}, Attempts: tt.attempts, Claim: tt.claim, DueAt: at(tt.due)}
		if tt.inbox {
			d.WebhookID = InboxID
		}
		got := d.PulledBack(schedule, at(tt.deliverAt), at(tt.tried), now)
		if want := at(tt.want); !got.Equal(want) {
			t.Errorf("%s: due %v from now, want %v", tt.name, got.Sub(now), tt.want)
		}
		d.DueAt = got
		if again := d.PulledBack(schedule, at(tt.deliverAt), at(tt.tried), now.Add(s)); again.After(got) {
			t.Errorf("%s: pulled back again, it is later by %v", tt.name, again.Sub(got))
		}
	}
}

// No delivery of any schedule is pulled back while the clock runs on, and none
// comes before its pause has passed since its attempt, wherever in the time
// ahead that was.
func TestPulledBackIsNeverEarly(t *testing.T) {
	t.Parallel()
	for _, schedule := range []Schedule{DefaultSchedule(), {0, time.Second}, {MaxPause, MaxPause}} {
		for n := range schedule {
			for _, random := range []float64{-1, 0, 1} {
				for _, ahead := range []time.Duration{0, time.Minute, time.Hour, 24 * time.Hour, 100 * 24 * time.Hour} {
					for _, passed := range []time.Duration{0, time.Second, time.Hour} {
						ended := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
						d := Delivery{DeliveryKey: DeliveryKey{WebhookID: 7}, Attempts: n}
						d = d.After(Attempt{Outcome: Transient}, schedule, ended.Add(ahead), random)
						pause := d.DueAt.Sub(ended.Add(ahead))
						got := d.PulledBack(schedule, time.Time{}, ended.Add(ahead), ended.Add(passed))
						if wait := got.Sub(ended); wait < pause || ahead == 0 && wait != pause || wait > passed+max(pause, MaxRetryAfter)+pause/2 {
							t.Errorf("pause %v, %v ahead: due after %v", pause, ahead, wait)
						}
					}
				}
			}
		}
	}
}

// A breaker is open for no longer than one can be, and a webhook has been
// failing for as long as before.
func TestHealthPulledBack(t *testing.T) {
	t.Parallel()
	const s, m, h, day = time.Second, time.Minute, time.Hour, 24 * time.Hour
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	tests := []struct {
		name                          string
		since, last, held             time.Duration // from now on
		wantSince, wantLast, wantHeld time.Duration
	}{
		{"as ever", -h, -s, m, -h, -s, m},
		{"a Retry-After of an hour", -h, -s, h + m, -h, -s, h + m},
		{"nodes that differ a little", s, s, m, s, s, m},
		{"all a day ahead", day - h, day, day + m, -h, 0, m},
		{"failing since before", -h, day, day + m, -h, 0, m},
		{"failed again after the step", day, -s, day + m, -s, -s, MaxBreakerOpen},
		{"only the breaker", -h, -s, day, -h, -s, MaxBreakerOpen},
		{"a breaker that opened long before", -h, h, 3 * day, -h, 0, MaxBreakerOpen},
	}
	for _, tt := range tests {
		before := Health{WebhookID: 7, Failures: 3, Since: now.Add(tt.since), LastAt: now.Add(tt.last)}
		want := before
		want.Since, want.LastAt = now.Add(tt.wantSince), now.Add(tt.wantLast)
		got, held := before.PulledBack(now.Add(tt.held), now)
		if got != want || !held.Equal(now.Add(tt.wantHeld)) {
			t.Errorf("%s: since %v, last %v, held %v from now on; want %v, %v, %v", tt.name,
				got.Since.Sub(now), got.LastAt.Sub(now), held.Sub(now), tt.wantSince, tt.wantLast, tt.wantHeld)
		}
	}
	if _, held := (Health{}).PulledBack(time.Time{}, now); !held.IsZero() {
		t.Errorf("a closed breaker is open until %v", held)
	}
}
