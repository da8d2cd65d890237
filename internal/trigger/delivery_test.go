package trigger_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"triggerd/internal/trigger"
)

func TestOutcomeOf(t *testing.T) {
	t.Parallel()
	for status := 100; status <= 599; status++ {
		want := trigger.Transient
		switch {
		case status/100 == 2:
			want = trigger.Success
		case status == 410:
			want = trigger.ReceiverGone
		}
		if got := trigger.OutcomeOf(status, ""); got != want {
			t.Errorf("OutcomeOf(%d) = %s, want %s", status, got, want)
		}
	}
	for _, status := range []int{-1, 0, 99, 600, 1 << 20} {
		if got := trigger.OutcomeOf(status, ""); got != trigger.Transient {
			t.Errorf("OutcomeOf(%d) = %s, want transient", status, got)
		}
	}
}

// abort-message gives a delivery up, unless it has succeeded or the webhook is
// gone; disable is about the webhook alone.
func TestOutcomeOfDirectives(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		status    int
		directive trigger.Directive
		want      trigger.Outcome
	}{
		{200, trigger.AbortMessage, trigger.Success},
		{410, trigger.AbortMessage, trigger.ReceiverGone},
		{400, trigger.AbortMessage, trigger.Permanent},
		{503, trigger.AbortMessage, trigger.Permanent},
		{302, trigger.AbortMessage, trigger.Permanent},
		{204, trigger.Disable, trigger.Success},
		{410, trigger.Disable, trigger.ReceiverGone},
		{400, trigger.Disable, trigger.Transient},
		{503, "unknown", trigger.Transient},
	} {
		if got := trigger.OutcomeOf(tt.status, tt.directive); got != tt.want {
			t.Errorf("OutcomeOf(%d, %q) = %s, want %s", tt.status, tt.directive, got, tt.want)
		}
	}
}

func TestParseDirective(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]trigger.Directive{
		"": "", "disable": trigger.Disable, "Disable": trigger.Disable, " disable\t": trigger.Disable,
		"abort-message": trigger.AbortMessage, "ABORT-MESSAGE": trigger.AbortMessage,
		"disabled": "", "abort message": "", "disable\x00": "",
		"disable, abort-message": trigger.Disable, "abort-message,disable": trigger.Disable, "other, abort-message": trigger.AbortMessage,
	} {
		if got := trigger.ParseDirective(value); got != want {
			t.Errorf("ParseDirective(%q) = %q, want %q", value, got, want)
		}
	}
}

// Only no connection, no answer, and answers that speak of the whole receiver
// say anything about other events.
func TestStrain(t *testing.T) {
	t.Parallel()
	for status, want := range map[int]trigger.Strain{
		429: trigger.Overloaded, 502: trigger.Overloaded, 503: trigger.Overloaded, 504: trigger.Overloaded,
		500: trigger.NoStrain, 501: trigger.NoStrain, 505: trigger.NoStrain, 599: trigger.NoStrain, 408: trigger.NoStrain,
		101: trigger.NoStrain, 301: trigger.NoStrain, 400: trigger.NoStrain, 404: trigger.NoStrain, 425: trigger.NoStrain,
	} {
		a := trigger.Attempt{Outcome: trigger.Transient, Status: status, Connected: true}
		if got := a.Strain(); got != want {
			t.Errorf("the strain of status %d is %d, want %d", status, got, want)
		}
	}
	for _, outcome := range []trigger.Outcome{trigger.Success, trigger.Permanent, trigger.ReceiverGone} {
		if (&trigger.Attempt{Outcome: outcome, Status: 503}).Strain() != trigger.NoStrain {
			t.Errorf("%s strains", outcome)
		}
	}
	for _, c := range []struct {
		a    trigger.Attempt
		want trigger.Strain
	}{
		{trigger.Attempt{Outcome: trigger.Transient, Error: "timeout"}, trigger.Unreachable},
		{trigger.Attempt{Outcome: trigger.Transient, Error: "timeout", Connected: true}, trigger.Overloaded},
		{trigger.Attempt{Outcome: trigger.Transient, Error: trigger.ReasonPanic}, trigger.NoStrain},
	} {
		if got := c.a.Strain(); got != c.want {
			t.Errorf("the strain of %+v is %d, want %d", c.a, got, c.want)
		}
	}
}

// A receiver is left alone if it asks for it with 429 or 503, whatever becomes
// of the event, and not by what other answers say of their own event.
func TestAskedToWait(t *testing.T) {
	t.Parallel()
	for status, want := range map[int]time.Duration{429: time.Minute, 503: time.Minute, 500: 0, 408: 0, 301: 0, 502: 0} {
		for _, outcome := range []trigger.Outcome{trigger.Transient, trigger.Permanent} {
			a := trigger.Attempt{Outcome: outcome, Status: status, RetryAfter: time.Minute}
			if got := a.AskedToWait(); got != want {
				t.Errorf("status %d, %s, asks to wait for %v, want %v", status, outcome, got, want)
			}
		}
	}
}

// now is when the attempts of the tables end.
func now() time.Time { return time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC) }

// delivery is one that is claimed, after its second attempt.
func delivery(state trigger.DeliveryState) trigger.Delivery {
	return trigger.Delivery{
		DeliveryKey: trigger.DeliveryKey{OrganizationID: 1, EventID: trigger.ID{2}, WebhookID: 3, Job: 4},
		State:       state,
		Attempts:    2,
		DueAt:       now().Add(time.Minute),
		Claim:       trigger.ID{5},
		Reason:      "as before",
	}
}

// with is delivery(DeliveryOpen) after one more attempt, changed.
func with(change func(*trigger.Delivery)) trigger.Delivery {
	d := delivery(trigger.DeliveryOpen)
	d.Attempts, d.Claim = 3, trigger.ID{}
	change(&d)
	return d
}

func failed(reason string) trigger.Delivery {
	return with(func(d *trigger.Delivery) { d.State, d.Reason = trigger.DeliveryFailed, reason })
}

func due(pause time.Duration) trigger.Delivery {
	return with(func(d *trigger.Delivery) { d.DueAt = now().Add(pause) })
}

func TestAfterFromOpen(t *testing.T) {
	t.Parallel()
	long := trigger.Schedule{time.Second, time.Minute, 10 * time.Minute}
	tests := []struct {
		name     string
		attempt  trigger.Attempt
		schedule trigger.Schedule
		random   float64
		want     trigger.Delivery
	}{
		{"success", trigger.Attempt{Outcome: trigger.Success}, long, 0, with(func(d *trigger.Delivery) { d.State = trigger.DeliveryEnded })},
		{"success at last", trigger.Attempt{Outcome: trigger.Success}, long[:2], 0, with(func(d *trigger.Delivery) { d.State = trigger.DeliveryEnded })},
		{"gone", trigger.Attempt{Outcome: trigger.ReceiverGone, Status: 410}, long, 0, due(10 * time.Minute)},
		{"gone, with Retry-After", trigger.Attempt{Outcome: trigger.ReceiverGone, RetryAfter: time.Hour}, long, 0, due(time.Hour)},
		{"gone, at last", trigger.Attempt{Outcome: trigger.ReceiverGone, Status: 410}, long[:2], 0, failed(trigger.ReasonGone)},
		{"permanent", trigger.Attempt{Outcome: trigger.Permanent, Error: "address refused"}, long, 0, failed("address refused")},
		{"transient", trigger.Attempt{Outcome: trigger.Transient}, long, 0, due(10 * time.Minute)},
		{"transient, earliest", trigger.Attempt{Outcome: trigger.Transient}, long, -1, due(8 * time.Minute)},
		{"transient, latest", trigger.Attempt{Outcome: trigger.Transient}, long, 1, due(12 * time.Minute)},
		{"shorter Retry-After", trigger.Attempt{Outcome: trigger.Transient, RetryAfter: time.Minute}, long, 0, due(10 * time.Minute)},
		{"longer Retry-After", trigger.Attempt{Outcome: trigger.Transient, RetryAfter: 11 * time.Minute}, long, 0, due(11 * time.Minute)},
		{"Retry-After at the cap", trigger.Attempt{Outcome: trigger.Transient, RetryAfter: time.Hour}, long, 0, due(time.Hour)},
		{"Retry-After over the cap", trigger.Attempt{Outcome: trigger.Transient, RetryAfter: 48 * time.Hour}, long, 0, due(time.Hour)},
		{"Retry-After under a long pause", trigger.Attempt{Outcome: trigger.Transient, RetryAfter: 48 * time.Hour}, trigger.Schedule{0, 0, 5 * time.Hour}, 0, due(5 * time.Hour)},
		{"negative Retry-After", trigger.Attempt{Outcome: trigger.Transient, RetryAfter: -time.Hour}, long, 0, due(10 * time.Minute)},
		{"no pause", trigger.Attempt{Outcome: trigger.Transient}, trigger.Schedule{0, 0, 0}, 1, due(0)},
		{"exhausted", trigger.Attempt{Outcome: trigger.Transient}, long[:2], 0, failed(trigger.ReasonExhausted)},
		{"exhausted, with Retry-After", trigger.Attempt{Outcome: trigger.Transient, RetryAfter: time.Minute}, long[:2], 0, failed(trigger.ReasonExhausted)},
		{"schedule shortened since", trigger.Attempt{Outcome: trigger.Transient}, nil, 0, failed(trigger.ReasonExhausted)},
	}
	for _, tt := range tests {
		got := delivery(trigger.DeliveryOpen).After(tt.attempt, tt.schedule, now(), tt.random)
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s: %s", tt.name, diff)
		}
	}
}

func TestAfterLeavesFinalStates(t *testing.T) {
	t.Parallel()
	for _, state := range []trigger.DeliveryState{trigger.DeliveryFailed, trigger.DeliveryEnded} {
		for _, outcome := range outcomes {
			d := delivery(state)
			got := d.After(trigger.Attempt{Outcome: outcome, Error: "e"}, trigger.DefaultSchedule(), now(), 0)
			if diff := cmp.Diff(d, got); diff != "" {
				t.Errorf("%s in state %d: %s", outcome, state, diff)
			}
		}
	}
}

var outcomes = [...]trigger.Outcome{trigger.Success, trigger.Transient, trigger.Permanent, trigger.ReceiverGone}

func drawAttempt(t *rapid.T) trigger.Attempt {
	return trigger.Attempt{
		Outcome:    rapid.SampledFrom(outcomes[:]).Draw(t, "outcome"),
		Error:      rapid.SampledFrom([]string{"", "refused"}).Draw(t, "error"),
		RetryAfter: time.Duration(rapid.Int64Range(-1e9, 100*3600e9).Draw(t, "retry after")),
	}
}

func TestAfterOfAnyDelivery(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		d := delivery(trigger.DeliveryState(rapid.Int16Range(0, 2).Draw(t, "state")))
		d.Attempts = rapid.IntRange(0, 12).Draw(t, "attempts")
		schedule := drawSchedule(t, 0)
		attempt, random := drawAttempt(t), rapid.Float64Range(-1, 1).Draw(t, "random")
		got := d.After(attempt, schedule, now(), random)
		if d.State != trigger.DeliveryOpen {
			if got != d {
				t.Fatalf("%+v left its final state: %+v", d, got)
			}
			return
		}
		if got.DeliveryKey != d.DeliveryKey || !got.Claim.IsZero() || got.Attempts != d.Attempts+1 {
			t.Fatalf("%+v becomes %+v", d, got)
		}
		if got.State == trigger.DeliveryOpen {
			checkPause(t, got, attempt, schedule, random)
		}
		if got.State == trigger.DeliveryFailed && attempt.Outcome == trigger.Transient && got.Attempts <= len(schedule) {
			t.Fatalf("%+v failed with retries left", got)
		}
	})
}

// checkPause holds a delivery that stays open to the bounds of its pause.
func checkPause(t *rapid.T, got trigger.Delivery, attempt trigger.Attempt, schedule trigger.Schedule, random float64) {
	if attempt.Outcome != trigger.Transient && attempt.Outcome != trigger.ReceiverGone || got.Attempts > len(schedule) {
		t.Fatalf("%+v is open again after %s", got, attempt.Outcome)
	}
	base, wait := schedule[got.Attempts-1], got.DueAt.Sub(now())
	jittered := base + time.Duration(float64(base)*0.2*random)
	asked := min(attempt.RetryAfter, time.Hour)
	if wait < jittered-1 || wait < asked || wait > max(jittered+1, asked) {
		t.Fatalf("waits %v; the pause is %v, the receiver asked for %v", wait, jittered, attempt.RetryAfter)
	}
}

// A delivery whose receiver never answers is tried len(schedule)+1 times, and
// no sequence of outcomes makes it more.
func TestADeliveryEnds(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		schedule := drawSchedule(t, 0)
		onlyTransient := rapid.Bool().Draw(t, "only transient")
		d, at := trigger.Delivery{Claim: trigger.ID{1}}, now()
		tries := 0
		for ; d.State == trigger.DeliveryOpen; tries++ {
			if tries > len(schedule) {
				t.Fatalf("open after %d attempts, with %d pauses", tries, len(schedule))
			}
			attempt := drawAttempt(t)
			if onlyTransient {
				attempt = trigger.Attempt{Outcome: trigger.Transient}
			}
			d = d.After(attempt, schedule, at, rapid.Float64Range(-1, 1).Draw(t, "random"))
			if d.State == trigger.DeliveryOpen && d.DueAt.Before(at) {
				t.Fatalf("due %v, before %v", d.DueAt, at)
			}
			at = d.DueAt
		}
		if d.Attempts != tries || onlyTransient && tries != len(schedule)+1 {
			t.Fatalf("%d attempts in %d tries, with %d pauses", d.Attempts, tries, len(schedule))
		}
		if onlyTransient && d.Reason != trigger.ReasonExhausted {
			t.Fatalf("failed as %q", d.Reason)
		}
		if onlyTransient && at.Sub(now()) > schedule.Span() {
			t.Fatalf("tried over %v, more than the span %v", at.Sub(now()), schedule.Span())
		}
		if at.Sub(now()) > reach(schedule) {
			t.Fatalf("tried over %v, more than a receiver can ask for, %v", at.Sub(now()), reach(schedule))
		}
	})
}

// reach is the longest time over which a delivery is tried, its receiver
// asking for as much as it may.
func reach(s trigger.Schedule) (sum time.Duration) {
	for _, pause := range s {
		sum += max(pause+time.Duration(float64(pause)*trigger.Jitter)+1, trigger.MaxRetryAfter)
	}
	return sum
}
