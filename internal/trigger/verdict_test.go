package trigger_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"triggerd/internal/trigger"
)

// judged is a verdict in a line: its kind with what belongs to it, the number
// of attempts, and the job of the last of them.
func judged(v trigger.Verdict) string {
	next, last := "", "none"
	if !v.NextAttempt.IsZero() {
		next = v.NextAttempt.Format("15:04")
	}
	if v.Last != nil {
		last = fmt.Sprint(v.Last.Job)
	}
	about := strings.TrimSpace(v.Clause + v.Reason + next)
	return strings.TrimSpace(fmt.Sprintf("%s %s", v.Kind, about)) + fmt.Sprintf("; %d, %s", v.Attempts, last)
}

// then is a webhook as it was when an event was matched.
func then(t testing.TB, state trigger.WebhookState, content string, types ...string) *trigger.Webhook {
	t.Helper()
	filter, err := trigger.ParseFilter(types, []byte(content))
	if err != nil {
		t.Fatal(err)
	}
	return &trigger.Webhook{State: state, Filter: filter}
}

// verdictCase is a case, its event aside, and the verdict on it.
type verdictCase struct {
	name string
	c    trigger.Case
	want string
}

func TestVerdict(t *testing.T) {
	t.Parallel()
	event := trigger.Event{Type: "user.created", Payload: []byte(`{"a":1,"b":{"c":"x"}}`), DedupID: "triggerd/user.createdx/9/"}
	for _, tt := range slices.Concat(openCases(t), failedCases(t), endedCases(t), filteredCases(t)) {
		tt.c.Event = &event
		got := tt.c.Verdict()
		if got.WebhookID != 9 || judged(got) != tt.want {
			t.Errorf("%s: webhook %d %s, want %s", tt.name, got.WebhookID, judged(got), tt.want)
		}
	}
}

// hookNow is webhook 9 as it is.
func hookNow(state trigger.WebhookState) trigger.Webhook { return trigger.Webhook{ID: 9, State: state} }

func noon() time.Time { return time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC) }

// openRow is a delivery that is due at noon, after some attempts.
func openRow(attempts int) *trigger.Delivery {
	return &trigger.Delivery{Attempts: attempts, DueAt: noon()}
}

func failedRow(attempts int, reason string) *trigger.Delivery {
	return &trigger.Delivery{State: trigger.DeliveryFailed, Attempts: attempts, DueAt: noon(), Reason: reason}
}

func attempt(number int, outcome trigger.Outcome) *trigger.Attempt {
	return &trigger.Attempt{Number: number, Outcome: outcome}
}

// replayed is a success of replay 7.
func replayed() *trigger.Attempt {
	return &trigger.Attempt{DeliveryKey: trigger.DeliveryKey{Job: 7}, Number: 1, Outcome: trigger.Success}
}

// openCases are of what is owed yet, and of paused webhooks.
func openCases(t *testing.T) []verdictCase {
	t.Helper()
	late := attempt(11, trigger.Transient)
	owing := then(t, trigger.Active, "")
	claimed := openRow(0)
	claimed.Claim, claimed.DueAt = trigger.ID{1}, noon().Add(30*time.Minute)
	held, heldYet := hookNow(trigger.Active), hookNow(trigger.Active)
	held.HeldUntil, heldYet.HeldUntil = noon().Add(time.Hour), noon().Add(-time.Hour)
	return []verdictCase{
		{"not tried yet", trigger.Case{Now: hookNow(trigger.Active), Then: owing, Owed: openRow(0)}, "waiting 12:00; 0, none"},
		{"claimed", trigger.Case{Now: hookNow(trigger.Active), Then: owing, Owed: claimed}, "waiting 12:30; 0, none"},
		{"tried", trigger.Case{Now: hookNow(trigger.Active), Then: owing, Owed: openRow(2), Last: attempt(2, trigger.Transient)}, "waiting 12:00; 2, 0"},
		{"held", trigger.Case{Now: held, Then: owing, Owed: openRow(1), Last: late}, "waiting 13:00; 1, 0"},
		{"held till before", trigger.Case{Now: heldYet, Then: owing, Owed: openRow(1), Last: late}, "waiting 12:00; 1, 0"},
		{"claimed and held", trigger.Case{Now: held, Then: owing, Owed: claimed}, "waiting 13:00; 0, none"},
		{"reopened", trigger.Case{Now: hookNow(trigger.Active), Then: owing, Owed: openRow(0), Last: late}, "waiting 12:00; 0, 0"},
		{"owed, then its filter changed", trigger.Case{
			Now: trigger.Webhook{ID: 9, State: trigger.Active, Filter: then(t, "", "", "no").Filter}, Then: owing, Owed: openRow(0),
		}, "waiting 12:00; 0, none"},
		{"open and replayed", trigger.Case{Now: hookNow(trigger.Active), Then: owing, Owed: openRow(0), Replayed: replayed()}, "waiting 12:00; 0, none"},

		{"paused", trigger.Case{Now: hookNow(trigger.Paused), Then: owing, Owed: openRow(0)}, "paused; 0, none"},
		{"paused then, too", trigger.Case{Now: hookNow(trigger.Paused), Then: then(t, trigger.Paused, ""), Owed: openRow(0)}, "paused; 0, none"},
		{"paused while claimed", trigger.Case{Now: hookNow(trigger.Paused), Then: owing, Owed: claimed, Last: late}, "paused; 0, 0"},
		{"paused and failed", trigger.Case{Now: hookNow(trigger.Paused), Then: owing, Owed: failedRow(3, "no"), Last: late}, "failed no; 3, 0"},
		{"paused and delivered", trigger.Case{Now: hookNow(trigger.Paused), Then: owing, Last: attempt(1, trigger.Success)}, "delivered; 1, 0"},
		{"resumed", trigger.Case{Now: hookNow(trigger.Active), Then: then(t, trigger.Paused, ""), Owed: openRow(0)}, "waiting 12:00; 0, none"},
	}
}

// failedCases are of what failed, and of webhooks that are gone.
func failedCases(t *testing.T) []verdictCase {
	t.Helper()
	late := attempt(11, trigger.Transient)
	owing := then(t, trigger.Active, "")
	claimed := openRow(0)
	claimed.Claim, claimed.DueAt = trigger.ID{1}, noon().Add(30*time.Minute)
	return []verdictCase{
		{"gone while open", trigger.Case{Now: hookNow(trigger.Gone), Then: owing, Owed: openRow(1), Last: late}, "gone its receiver has answered 410; 1, 0"},
		{"gone while claimed", trigger.Case{Now: hookNow(trigger.Gone), Then: owing, Owed: claimed}, "gone its receiver has answered 410; 0, none"},
		{"ended with its webhook", trigger.Case{Now: hookNow(trigger.Gone), Then: owing, Owed: failedRow(0, trigger.ReasonGone)}, "gone its receiver has answered 410; 0, none"},
		{"deleted while open", trigger.Case{Now: hookNow(trigger.Deleted), Then: owing, Owed: openRow(1), Last: late}, "gone the webhook was deleted; 1, 0"},
		{"ended as it was deleted", trigger.Case{Now: hookNow(trigger.Deleted), Then: owing, Owed: failedRow(1, trigger.ReasonGone), Last: late}, "gone the webhook was deleted; 1, 0"},
		{"ended as it was gone, resumed since", trigger.Case{Now: hookNow(trigger.Active), Then: owing, Owed: failedRow(0, trigger.ReasonGone)}, "gone its receiver has answered 410; 0, none"},
		{"answered 410, deleted since", trigger.Case{
			Now: hookNow(trigger.Deleted), Then: owing, Owed: failedRow(1, trigger.ReasonGone), Last: attempt(1, trigger.ReceiverGone),
		}, "gone its receiver has answered 410; 1, 0"},
		{"deleted then", trigger.Case{Now: hookNow(trigger.Deleted), Then: then(t, trigger.Deleted, "")}, "gone the webhook was deleted; 0, none"},
		{"gone then, deleted since", trigger.Case{Now: hookNow(trigger.Deleted), Then: then(t, trigger.Gone, "")}, "gone its receiver has answered 410; 0, none"},
		{"gone then, resumed since", trigger.Case{Now: hookNow(trigger.Active), Then: then(t, trigger.Gone, "")}, "gone its receiver has answered 410; 0, none"},
		{"answered 410 a moment ago", trigger.Case{
			Now: hookNow(trigger.Active), Then: owing, Owed: failedRow(1, trigger.ReasonGone), Last: attempt(1, trigger.ReceiverGone),
		}, "gone its receiver has answered 410; 1, 0"},
		{"failed, then gone", trigger.Case{Now: hookNow(trigger.Gone), Then: owing, Owed: failedRow(10, trigger.ReasonExhausted), Last: late}, "failed retries exhausted; 10, 0"},
		{"delivered, then gone", trigger.Case{Now: hookNow(trigger.Gone), Then: owing, Last: attempt(1, trigger.Success)}, "delivered; 1, 0"},
		{"gone then", trigger.Case{Now: hookNow(trigger.Gone), Then: then(t, trigger.Gone, "")}, "gone its receiver has answered 410; 0, none"},
		{"gone then, whatever its filter", trigger.Case{Now: hookNow(trigger.Gone), Then: then(t, trigger.Gone, "", "no")}, "gone its receiver has answered 410; 0, none"},

		{"exhausted", trigger.Case{Now: hookNow(trigger.Active), Then: owing, Owed: failedRow(10, trigger.ReasonExhausted), Last: late}, "failed retries exhausted; 10, 0"},
		{"aborted", trigger.Case{
			Now: hookNow(trigger.Active), Then: owing, Owed: failedRow(1, trigger.ReasonAborted), Last: attempt(1, trigger.Permanent),
		}, "failed aborted by the receiver; 1, 0"},
		{"without its event", trigger.Case{Now: hookNow(trigger.Active), Then: owing, Owed: failedRow(1, trigger.ReasonNoEvent)}, "failed event deleted; 1, none"},
		{"for no reason", trigger.Case{Now: hookNow(trigger.Active), Then: owing, Owed: failedRow(1, "")}, "failed; 1, none"},
		{"expired untried", trigger.Case{Now: hookNow(trigger.Active), Then: owing, Owed: failedRow(0, trigger.ReasonExpired)}, "expired; 0, none"},
		{"expired after attempts", trigger.Case{Now: hookNow(trigger.Active), Then: owing, Owed: failedRow(4, trigger.ReasonExpired), Last: late}, "expired; 4, 0"},
		{"expired, then gone", trigger.Case{Now: hookNow(trigger.Gone), Then: owing, Owed: failedRow(0, trigger.ReasonExpired)}, "expired; 0, none"},
		{"failed again in a replay", trigger.Case{
			Now: hookNow(trigger.Active), Then: owing, Owed: failedRow(10, trigger.ReasonExhausted), Last: late, Replayed: replayed(),
		}, "failed retries exhausted; 10, 0"},
	}
}

// endedCases are of what is not owed any more, or never was.
func endedCases(t *testing.T) []verdictCase {
	t.Helper()
	late := attempt(11, trigger.Transient)
	owing := then(t, trigger.Active, "")
	return []verdictCase{
		{"delivered", trigger.Case{Now: hookNow(trigger.Active), Then: owing, Last: attempt(1, trigger.Success)}, "delivered; 1, 0"},
		{"delivered after failures", trigger.Case{Now: hookNow(trigger.Active), Then: owing, Last: attempt(2, trigger.Success)}, "delivered; 2, 0"},
		{"delivered and replayed", trigger.Case{Now: hookNow(trigger.Active), Then: owing, Last: attempt(2, trigger.Success), Replayed: replayed()}, "delivered; 2, 0"},
		{"expired, and delivered by a replay", trigger.Case{Now: hookNow(trigger.Active), Then: owing, Replayed: replayed()}, "delivered; 0, 7"},
		{"failed, and delivered by a replay", trigger.Case{Now: hookNow(trigger.Active), Then: owing, Last: late, Replayed: replayed()}, "delivered; 11, 7"},
		{"delivered, and its attempts dropped", trigger.Case{Now: hookNow(trigger.Active), Then: owing}, "delivered; 0, none"},

		{"not there", trigger.Case{Now: hookNow(trigger.Active)}, "created_later; 0, none"},
		{"not there, gone since", trigger.Case{Now: hookNow(trigger.Gone)}, "created_later; 0, none"},
		{"not there, replayed", trigger.Case{Now: hookNow(trigger.Active), Replayed: replayed()}, "created_later; 0, none"},
	}
}

// filteredCases are of what was filtered.
func filteredCases(t *testing.T) []verdictCase {
	t.Helper()
	owing := then(t, trigger.Active, "")
	return []verdictCase{
		{"types", trigger.Case{Now: hookNow(trigger.Active), Then: then(t, trigger.Active, "", "user.deleted", "order.*")}, "filtered types; 0, none"},
		{"types before content", trigger.Case{
			Now: hookNow(trigger.Active), Then: then(t, trigger.Active, `{"path":"/a","equals":2}`, "user.deleted"),
		}, "filtered types; 0, none"},
		{"content", trigger.Case{
			Now: hookNow(trigger.Active), Then: then(t, trigger.Active, `{"all":[{"path":"/a","equals":1},{"path":"/b/c","prefix":"y"}]}`, "user.*"),
		}, "filtered content /all/1/prefix; 0, none"},
		{"by a paused one's filter", trigger.Case{Now: hookNow(trigger.Gone), Then: then(t, trigger.Paused, "", "no")}, "filtered types; 0, none"},
		{"filtered, replayed", trigger.Case{Now: hookNow(trigger.Active), Then: then(t, trigger.Active, "", "no"), Replayed: replayed()}, "filtered types; 0, none"},
		{"filtered then, picked now", trigger.Case{
			Now: trigger.Webhook{ID: 9, State: trigger.Active, Filter: owing.Filter}, Then: then(t, trigger.Active, "", "no"),
		}, "filtered types; 0, none"},
	}
}

// A notice goes to who names its type, except to the webhook that it is about.
func TestVerdictOnNotices(t *testing.T) {
	t.Parallel()
	n := trigger.Notice{Type: trigger.WebhookGone, About: 9, Once: "1"}
	tests := []struct {
		id      int64
		content string
		types   []string
		want    string
	}{
		{8, "", []string{"webhook.*"}, "delivered; 0, none"},
		{8, `{"path":"/webhook_id","equals":9}`, []string{"webhook.gone"}, "delivered; 0, none"},
		{8, `{"path":"/webhook_id","equals":8}`, []string{"webhook.gone"}, "filtered content /equals; 0, none"},
		{8, "", nil, "filtered operational; 0, none"},
		{8, "", []string{"*"}, "filtered operational; 0, none"},
		{8, "", []string{"*.gone", "order.*"}, "filtered operational; 0, none"},
		{8, `{"path":"/webhook_id","equals":8}`, []string{"*"}, "filtered content /equals; 0, none"},
		{8, "", []string{"order.*"}, "filtered types; 0, none"},
		{9, "", []string{"webhook.*"}, "filtered operational; 0, none"},
		{90, "", []string{"webhook.*"}, "delivered; 0, none"},
	}
	for _, tt := range tests {
		c := trigger.Case{Event: n.Event(3), Now: trigger.Webhook{ID: tt.id, State: trigger.Active}, Then: then(t, trigger.Active, tt.content, tt.types...)}
		if got := judged(c.Verdict()); got != tt.want {
			t.Errorf("%d, %q, %s: %s, want %s", tt.id, tt.types, tt.content, got, tt.want)
		}
	}
}

// Whatever is known of a case, it has one verdict, that agrees with it.
func TestVerdictAgreesWithItsCase(t *testing.T) {
	t.Parallel()
	states := rapid.SampledFrom([]trigger.WebhookState{trigger.Active, trigger.Paused, trigger.Gone, trigger.Deleted})
	outcomes := rapid.SampledFrom([]trigger.Outcome{trigger.Success, trigger.Transient, trigger.Permanent, trigger.ReceiverGone})
	reasons := rapid.SampledFrom([]string{trigger.ReasonExhausted, trigger.ReasonGone, trigger.ReasonExpired, trigger.ReasonNoEvent, "other"})
	at := rapid.Custom(func(t *rapid.T) time.Time { return time.UnixMicro(int64(rapid.IntRange(1, 5).Draw(t, "at"))) })
	attempts := rapid.IntRange(1, 3)
	types := rapid.SliceOfN(rapid.SampledFrom([]string{"*", "user.*", "webhook.*", "*.gone", "order.paid"}), 0, 2)
	rapid.Check(t, func(t *rapid.T) {
		c := trigger.Case{Now: trigger.Webhook{ID: 9, State: states.Draw(t, "now")}}
		if rapid.Bool().Draw(t, "held") {
			c.Now.HeldUntil = at.Draw(t, "held until")
		}
		c.Event = &trigger.Event{Type: "user.created", Payload: []byte(`{"a":1}`)}
		if rapid.Bool().Draw(t, "notice") {
			n := trigger.Notice{Type: trigger.WebhookGone, About: int64(rapid.IntRange(8, 9).Draw(t, "about"))}
			c.Event = n.Event(1)
		}
		if rapid.Bool().Draw(t, "there") {
			filter, err := trigger.ParseFilter(types.Draw(t, "types"), nil)
			if err != nil {
				t.Fatal(err)
			}
			c.Then = &trigger.Webhook{State: states.Draw(t, "then"), Filter: filter}
		}
		if rapid.Bool().Draw(t, "owed") {
			c.Owed = &trigger.Delivery{Attempts: attempts.Draw(t, "attempts"), DueAt: at.Draw(t, "due")}
			if rapid.Bool().Draw(t, "failed") {
				c.Owed.State, c.Owed.Reason = trigger.DeliveryFailed, reasons.Draw(t, "reason")
			}
		}
		if rapid.Bool().Draw(t, "tried") {
			c.Last = &trigger.Attempt{Number: attempts.Draw(t, "number"), Outcome: outcomes.Draw(t, "outcome")}
		}
		before := c
		v := c.Verdict()
		if diff := cmp.Diff(c, before, cmp.AllowUnexported(trigger.Pattern{})); diff != "" {
			t.Fatal(diff)
		}
		if kinds := kindsOf(&c); len(kinds) != 1 || v.Kind != kinds[0] {
			t.Fatalf("%s of %v: %+v", v.Kind, kinds, c)
		}
		checkDetails(t, &c, v)
	})
}

// kindsOf are the kinds that a case may have, each by its own definition.
func kindsOf(c *trigger.Case) (kinds []trigger.VerdictKind) {
	open := c.Owed != nil && c.Owed.State == trigger.DeliveryOpen
	failed := func(reason string) bool { return c.Owed != nil && !open && c.Owed.Reason == reason }
	succeeded := c.Last != nil && c.Last.Outcome == trigger.Success
	closed := c.Owed == nil && !succeeded
	matchable := closed && c.Then != nil && c.Then.State.Receives()
	picked := matchable && c.Then.Filter.Match(c.Event.Type, c.Event.Payload)
	if picked && c.Event.IsNotice() {
		picked = c.Then.Filter.Names(c.Event.Type) && !strings.Contains(c.Event.DedupID, "/9/")
	}
	for _, k := range []struct {
		kind trigger.VerdictKind
		is   bool
	}{
		{trigger.VerdictDelivered, c.Owed == nil && succeeded || picked},
		{trigger.VerdictWaiting, open && c.Now.State == trigger.Active},
		{trigger.VerdictPaused, open && c.Now.State == trigger.Paused},
		{trigger.VerdictGone, open && !c.Now.State.Receives() || failed(trigger.ReasonGone) ||
			closed && c.Then != nil && !c.Then.State.Receives()},
		{trigger.VerdictExpired, failed(trigger.ReasonExpired)},
		{trigger.VerdictFailed, failed(trigger.ReasonExhausted) || failed(trigger.ReasonNoEvent) || failed("other")},
		{trigger.VerdictFiltered, matchable && !picked},
		{trigger.VerdictCreatedLater, closed && c.Then == nil},
	} {
		if k.is {
			kinds = append(kinds, k.kind)
		}
	}
	return kinds
}

// checkDetails holds what a verdict says besides its kind.
func checkDetails(t *rapid.T, c *trigger.Case, v trigger.Verdict) {
	attempts := 0
	switch {
	case c.Owed != nil:
		attempts = c.Owed.Attempts
	case c.Last != nil:
		attempts = c.Last.Number
	}
	switch {
	case v.WebhookID != 9 || v.Last != c.Last || v.Attempts != attempts:
		t.Fatalf("%+v, want %d attempts: %+v", v, attempts, c)
	case (v.Clause != "") != (v.Kind == trigger.VerdictFiltered):
		t.Fatalf("%+v has a clause, or none", v)
	case (v.Reason != "") != (v.Kind == trigger.VerdictFailed || v.Kind == trigger.VerdictGone):
		t.Fatalf("%+v has a reason, or none", v)
	case v.NextAttempt.IsZero() != (v.Kind != trigger.VerdictWaiting):
		t.Fatalf("%+v has a next attempt, or none", v)
	case v.Kind == trigger.VerdictWaiting && (v.NextAttempt.Before(c.Owed.DueAt) || v.NextAttempt.Before(c.Now.HeldUntil)):
		t.Fatalf("%+v will be tried while it is not due, or held: %+v", v, c)
	case v.Kind == trigger.VerdictWaiting && !v.NextAttempt.Equal(c.Owed.DueAt) && !v.NextAttempt.Equal(c.Now.HeldUntil):
		t.Fatalf("%+v will be tried at no time that is known: %+v", v, c)
	}
}
