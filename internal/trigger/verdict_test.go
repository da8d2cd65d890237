package trigger_test

import (
	"fmt"
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

func TestVerdict(t *testing.T) {
	t.Parallel()
	var (
		noon    = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)
		event   = trigger.Event{Type: "user.created", Payload: []byte(`{"a":1,"b":{"c":"x"}}`), DedupID: "triggerd/user.createdx/9/"}
		active  = trigger.Webhook{ID: 9, State: trigger.Active}
		paused  = trigger.Webhook{ID: 9, State: trigger.Paused}
		gone    = trigger.Webhook{ID: 9, State: trigger.Gone}
		held    = trigger.Webhook{ID: 9, State: trigger.Active, HeldUntil: noon.Add(time.Hour)}
		heldYet = trigger.Webhook{ID: 9, State: trigger.Active, HeldUntil: noon.Add(-time.Hour)}
		owing   = then(t, trigger.Active, "")
	)
	open := func(attempts int) *trigger.Delivery { return &trigger.Delivery{Attempts: attempts, DueAt: noon} }
	failed := func(attempts int, reason string) *trigger.Delivery {
		return &trigger.Delivery{State: trigger.DeliveryFailed, Attempts: attempts, DueAt: noon, Reason: reason}
	}
	claimed := open(0)
	claimed.Claim, claimed.DueAt = trigger.ID{1}, noon.Add(30*time.Minute)
	attempt := func(number int, outcome trigger.Outcome) *trigger.Attempt {
		return &trigger.Attempt{Number: number, Outcome: outcome}
	}
	success, second, late := attempt(1, trigger.Success), attempt(2, trigger.Success), attempt(11, trigger.Transient)
	replayed := attempt(1, trigger.Success)
	replayed.Job = 7

	tests := []struct {
		name string
		c    trigger.Case
		want string
	}{
		{"not tried yet", trigger.Case{Now: active, Then: owing, Owed: open(0)}, "waiting 12:00; 0, none"},
		{"claimed", trigger.Case{Now: active, Then: owing, Owed: claimed}, "waiting 12:30; 0, none"},
		{"tried", trigger.Case{Now: active, Then: owing, Owed: open(2), Last: attempt(2, trigger.Transient)}, "waiting 12:00; 2, 0"},
		{"held", trigger.Case{Now: held, Then: owing, Owed: open(1), Last: late}, "waiting 13:00; 1, 0"},
		{"held till before", trigger.Case{Now: heldYet, Then: owing, Owed: open(1), Last: late}, "waiting 12:00; 1, 0"},
		{"claimed and held", trigger.Case{Now: held, Then: owing, Owed: claimed}, "waiting 13:00; 0, none"},
		{"reopened", trigger.Case{Now: active, Then: owing, Owed: open(0), Last: late}, "waiting 12:00; 0, 0"},
		{"owed, then its filter changed", trigger.Case{
			Now: trigger.Webhook{ID: 9, State: trigger.Active, Filter: then(t, "", "", "no").Filter}, Then: owing, Owed: open(0),
		}, "waiting 12:00; 0, none"},
		{"open and replayed", trigger.Case{Now: active, Then: owing, Owed: open(0), Replayed: replayed}, "waiting 12:00; 0, none"},

		{"paused", trigger.Case{Now: paused, Then: owing, Owed: open(0)}, "paused; 0, none"},
		{"paused then, too", trigger.Case{Now: paused, Then: then(t, trigger.Paused, ""), Owed: open(0)}, "paused; 0, none"},
		{"paused while claimed", trigger.Case{Now: paused, Then: owing, Owed: claimed, Last: late}, "paused; 0, 0"},
		{"paused and failed", trigger.Case{Now: paused, Then: owing, Owed: failed(3, "no"), Last: late}, "failed no; 3, 0"},
		{"paused and delivered", trigger.Case{Now: paused, Then: owing, Last: success}, "delivered; 1, 0"},
		{"resumed", trigger.Case{Now: active, Then: then(t, trigger.Paused, ""), Owed: open(0)}, "waiting 12:00; 0, none"},

		{"gone while open", trigger.Case{Now: gone, Then: owing, Owed: open(1), Last: late}, "gone; 1, 0"},
		{"gone while claimed", trigger.Case{Now: gone, Then: owing, Owed: claimed}, "gone; 0, none"},
		{"ended with its webhook", trigger.Case{Now: gone, Then: owing, Owed: failed(0, trigger.ReasonGone)}, "gone; 0, none"},
		{"answered 410 a moment ago", trigger.Case{
			Now: active, Then: owing, Owed: failed(1, trigger.ReasonGone), Last: attempt(1, trigger.ReceiverGone),
		}, "gone; 1, 0"},
		{"failed, then gone", trigger.Case{Now: gone, Then: owing, Owed: failed(10, trigger.ReasonExhausted), Last: late}, "failed retries exhausted; 10, 0"},
		{"delivered, then gone", trigger.Case{Now: gone, Then: owing, Last: success}, "delivered; 1, 0"},
		{"gone then", trigger.Case{Now: gone, Then: then(t, trigger.Gone, "")}, "gone; 0, none"},
		{"gone then, whatever its filter", trigger.Case{Now: gone, Then: then(t, trigger.Gone, "", "no")}, "gone; 0, none"},

		{"exhausted", trigger.Case{Now: active, Then: owing, Owed: failed(10, trigger.ReasonExhausted), Last: late}, "failed retries exhausted; 10, 0"},
		{"aborted", trigger.Case{
			Now: active, Then: owing, Owed: failed(1, trigger.ReasonAborted), Last: attempt(1, trigger.Permanent),
		}, "failed aborted by the receiver; 1, 0"},
		{"without its event", trigger.Case{Now: active, Then: owing, Owed: failed(1, trigger.ReasonNoEvent)}, "failed event deleted; 1, none"},
		{"for no reason", trigger.Case{Now: active, Then: owing, Owed: failed(1, "")}, "failed; 1, none"},
		{"expired untried", trigger.Case{Now: active, Then: owing, Owed: failed(0, trigger.ReasonExpired)}, "expired; 0, none"},
		{"expired after attempts", trigger.Case{Now: active, Then: owing, Owed: failed(4, trigger.ReasonExpired), Last: late}, "expired; 4, 0"},
		{"expired, then gone", trigger.Case{Now: gone, Then: owing, Owed: failed(0, trigger.ReasonExpired)}, "expired; 0, none"},
		{"failed again in a replay", trigger.Case{
			Now: active, Then: owing, Owed: failed(10, trigger.ReasonExhausted), Last: late, Replayed: replayed,
		}, "failed retries exhausted; 10, 0"},

		{"delivered", trigger.Case{Now: active, Then: owing, Last: success}, "delivered; 1, 0"},
		{"delivered after failures", trigger.Case{Now: active, Then: owing, Last: second}, "delivered; 2, 0"},
		{"delivered and replayed", trigger.Case{Now: active, Then: owing, Last: second, Replayed: replayed}, "delivered; 2, 0"},
		{"expired, and delivered by a replay", trigger.Case{Now: active, Then: owing, Replayed: replayed}, "delivered; 0, 7"},
		{"failed, and delivered by a replay", trigger.Case{Now: active, Then: owing, Last: late, Replayed: replayed}, "delivered; 11, 7"},
		{"delivered, and its attempts dropped", trigger.Case{Now: active, Then: owing}, "delivered; 0, none"},

		{"not there", trigger.Case{Now: active}, "created_later; 0, none"},
		{"not there, gone since", trigger.Case{Now: gone}, "created_later; 0, none"},
		{"not there, replayed", trigger.Case{Now: active, Replayed: replayed}, "created_later; 0, none"},

		{"types", trigger.Case{Now: active, Then: then(t, trigger.Active, "", "user.deleted", "order.*")}, "filtered types; 0, none"},
		{"types before content", trigger.Case{
			Now: active, Then: then(t, trigger.Active, `{"path":"/a","equals":2}`, "user.deleted"),
		}, "filtered types; 0, none"},
		{"content", trigger.Case{
			Now: active, Then: then(t, trigger.Active, `{"all":[{"path":"/a","equals":1},{"path":"/b/c","prefix":"y"}]}`, "user.*"),
		}, "filtered content /all/1/prefix; 0, none"},
		{"by a paused one's filter", trigger.Case{Now: gone, Then: then(t, trigger.Paused, "", "no")}, "filtered types; 0, none"},
		{"filtered, replayed", trigger.Case{Now: active, Then: then(t, trigger.Active, "", "no"), Replayed: replayed}, "filtered types; 0, none"},
		{"filtered then, picked now", trigger.Case{
			Now: trigger.Webhook{ID: 9, State: trigger.Active, Filter: owing.Filter}, Then: then(t, trigger.Active, "", "no"),
		}, "filtered types; 0, none"},
	}
	for _, tt := range tests {
		tt.c.Event = &event
		got := tt.c.Verdict()
		if got.WebhookID != 9 || judged(got) != tt.want {
			t.Errorf("%s: webhook %d %s, want %s", tt.name, got.WebhookID, judged(got), tt.want)
		}
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
	states := rapid.SampledFrom([]trigger.WebhookState{trigger.Active, trigger.Paused, trigger.Gone})
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
	matchable := closed && c.Then != nil && c.Then.State != trigger.Gone
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
		{trigger.VerdictGone, open && c.Now.State == trigger.Gone || failed(trigger.ReasonGone) ||
			closed && c.Then != nil && c.Then.State == trigger.Gone},
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
	case (v.Reason != "") != (v.Kind == trigger.VerdictFailed):
		t.Fatalf("%+v has a reason, or none", v)
	case v.NextAttempt.IsZero() != (v.Kind != trigger.VerdictWaiting):
		t.Fatalf("%+v has a next attempt, or none", v)
	case v.Kind == trigger.VerdictWaiting && (v.NextAttempt.Before(c.Owed.DueAt) || v.NextAttempt.Before(c.Now.HeldUntil)):
		t.Fatalf("%+v will be tried while it is not due, or held: %+v", v, c)
	case v.Kind == trigger.VerdictWaiting && !v.NextAttempt.Equal(c.Owed.DueAt) && !v.NextAttempt.Equal(c.Now.HeldUntil):
		t.Fatalf("%+v will be tried at no time that is known: %+v", v, c)
	}
}
