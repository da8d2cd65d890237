package store_test

import (
	"database/sql"
	"math/rand/v2"
	"testing"
	"time"

	"triggerd/internal/store"
	"triggerd/internal/store/storetest"
	"triggerd/internal/trigger"
)

// fixture is a database with something of everything.
type fixture struct {
	plain *store.Store // that nobody cuts
	raw   *sql.DB

	org, other                        int64
	hook, paused, gone, late, another int64 // the last two are the other organization's
	events                            []*trigger.Event
	foreign                           *trigger.Event
	key                               trigger.APIKey
	replay                            int64
}

func newFixture(t *testing.T, db *storetest.DB, s *store.Store) *fixture {
	t.Helper()
	f := &fixture{plain: s, raw: db.SQL(t), key: freshKey()}
	var err error
	if f.org, err = s.AddOrganization(t.Context(), trigger.Organization{Name: "Org", Tier: trigger.Free}, f.key, store.Once{}); err != nil {
		t.Fatal(err)
	}
	f.other = storetest.NewOrganization(t, s)
	f.hook, f.paused, f.gone = newWebhook(t, s, f.org, ""), newWebhook(t, s, f.org, "user.*"), newWebhook(t, s, f.org, "")
	f.late, f.another = newWebhook(t, s, f.other, ""), newWebhook(t, s, f.other, "")
	for id, state := range map[int64]trigger.WebhookState{f.paused: trigger.Paused, f.gone: trigger.Gone} {
		if err := s.SetWebhookState(t.Context(), f.org, id, state); err != nil {
			t.Fatal(err)
		}
	}
	for _, dedupID := range []string{"a", "b", ""} {
		f.events = append(f.events, eventAt(s.Now().Add(-time.Minute), f.org, dedupID))
	}
	add(t, s, f.events, f.hook, f.paused, trigger.InboxID)
	f.foreign = eventAt(s.Now().Add(-time.Minute), f.other, "")
	add(t, s, []*trigger.Event{f.foreign}, f.late)
	failed := eventAt(s.Now().Add(-time.Minute), f.org, "")
	add(t, s, []*trigger.Event{failed}, f.hook)
	outcomes := map[trigger.ID]trigger.Outcome{
		f.events[0].ID: trigger.Success, f.events[1].ID: trigger.Permanent, f.events[2].ID: trigger.Transient, failed.ID: trigger.Permanent,
	}
	var results []store.Result
	for _, d := range claimAll(t, s, f.org, f.hook, time.Minute) {
		results = append(results, result(s, d, outcomes[d.EventID]))
	}
	if err := s.Finish(t.Context(), results); err != nil {
		t.Fatal(err)
	}
	f.exec(t, `INSERT INTO webhook_health (webhook_id, organization_id, since, last_at, failures, stage, held_until, holds)
		VALUES ($1, $2, 1, 1, 1, 3, 1, 1) ON CONFLICT (webhook_id) DO UPDATE SET stage = 3, held_until = 1`, f.hook, f.org)
	if err := s.SetOperatorToken(t.Context(), [32]byte{1}); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.SetEventType(t.Context(), f.org, f.eventType()); err != nil {
		t.Fatal(err)
	}
	f.replay = f.newReplay(t)
	return f
}

func (f *fixture) exec(t *testing.T, text string, args ...any) {
	t.Helper()
	if _, err := f.raw.ExecContext(t.Context(), text, args...); err != nil {
		t.Fatal(err)
	}
}

func freshKey() (key trigger.APIKey) {
	for i := range key.Hash {
		key.Hash[i] = byte(rand.Uint32())
	}
	return key
}

func (f *fixture) eventType() trigger.EventType {
	return trigger.EventType{Name: "user.created", Mode: trigger.ValidationReject, Schema: []byte(`{}`)}
}

func (f *fixture) webhook() trigger.Webhook {
	return trigger.Webhook{
		State: trigger.Active, URL: "http://127.0.0.1:9/hook", Secrets: trigger.OneSecret(trigger.NewSecret([32]byte{1})),
	}
}

// past is a replay of all.
func (f *fixture) past() trigger.Replay {
	return trigger.Replay{WebhookID: f.hook, Since: f.plain.Now().Add(-time.Hour), Status: trigger.Delivered}
}

func (f *fixture) newReplay(t *testing.T) int64 {
	t.Helper()
	id, err := f.plain.AddReplay(t.Context(), f.org, f.past(), store.Once{})
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// claimed claims a new event of the inbox, and gives what names the claim.
func (f *fixture) claimed(t *testing.T) (claim trigger.ID, ids []trigger.ID) {
	t.Helper()
	e := event(f.plain, f.org, "")
	add(t, f.plain, []*trigger.Event{e}, trigger.InboxID)
	claim = f.plain.NewClaim()
	list, _, err := f.plain.ClaimInbox(t.Context(), f.org, store.InboxPage{Limit: 100, Bytes: 1 << 20}, claim, time.Hour)
	if err != nil || len(list) == 0 {
		t.Fatalf("%v, %v", list, err)
	}
	return claim, []trigger.ID{e.ID}
}

// bump makes the webhooks that stores remember old ones.
func (f *fixture) bump(t *testing.T) {
	t.Helper()
	f.exec(t, `UPDATE organizations SET version = version + 1`)
}

func (f *fixture) bucket(orgID int64) int16 { return trigger.Bucket(orgID) }

// deliveries are of all events.
func (f *fixture) deliveries() []trigger.Delivery {
	list := owed(f.foreign, f.late)
	for _, e := range f.events {
		list = append(list, owed(e, f.hook)...)
	}
	return list
}

// flow is a call of one method of the store.
type flow struct {
	method string
	// args are those of one call, after the context. Where the call changes
	// something, they are for this call alone.
	args      func(t *testing.T, f *fixture) []any
	fresh     bool // each call returns something else
	remembers bool // a call may read nothing
	verify    func(f *fixture, args, got []any) (wrong string)
}

// flows are calls of all methods that return something beside an error.
func flows() []flow {
	return append(append(readingFlows(), webhookFlows()...), changingFlows()...)
}

// fixed are arguments that need no test.
func fixed(args func(f *fixture) []any) func(*testing.T, *fixture) []any {
	return func(_ *testing.T, f *fixture) []any { return args(f) }
}

func readingFlows() []flow {
	return []flow{
		{method: "Check", args: fixed(func(*fixture) []any { return []any{false} })},
		{method: "Lanes", args: fixed(func(*fixture) []any { return []any{store.Lane{}, 100} })},
		{method: "DueLanes", args: fixed(func(f *fixture) []any {
			of := []store.Lane{{Bucket: f.bucket(f.other), WebhookID: f.late}, {Bucket: f.bucket(f.org), WebhookID: f.paused}}
			return []any{of, f.plain.Now().Add(-time.Hour), f.plain.Now()}
		})},
		{method: "EventsOf", args: fixed(func(f *fixture) []any { return []any{f.deliveries(), 1 << 20} }), verify: verifyEventsOf},
		{method: "Backlog", args: fixed(func(*fixture) []any { return nil })},
		{method: "ListEvents", args: fixed(func(f *fixture) []any { return []any{f.org, trigger.Status(""), 10} })},
		{method: "ListEvents", args: fixed(func(f *fixture) []any { return []any{f.org, trigger.Failed, 10} })},
		{method: "ListEvents", args: fixed(func(f *fixture) []any { return []any{f.other, trigger.Pending, 10} })},
		{method: "Events", args: fixed(func(f *fixture) []any { return []any{f.org, []trigger.ID{f.events[0].ID, f.events[2].ID}} })},
		{method: "Event", args: fixed(func(f *fixture) []any { return []any{f.org, f.events[1].ID} })},
		{method: "SamePayload", args: fixed(func(f *fixture) []any { return []any{f.org, "a", f.events[0].PayloadHash()} })},
		{method: "EventType", args: fixed(func(f *fixture) []any { return []any{f.org, "user.created"} })},
		{method: "ListEventTypes", args: fixed(func(f *fixture) []any { return []any{f.org, "", 10} })},
		{method: "JudgedTypes", args: fixed(func(f *fixture) []any { return []any{f.org} })},
		{method: "Holds", args: fixed(func(*fixture) []any { return nil })},
		{method: "Failing", args: fixed(func(*fixture) []any { return []any{trigger.DefaultEndurance()} })},
		{method: "ListInbox", args: fixed(func(f *fixture) []any { return []any{f.org, trigger.ID{}, store.InboxPage{Limit: 2, Bytes: 1 << 20}} })},
		{method: "DueInbox", args: fixed(func(f *fixture) []any {
			last := f.events[2].ID
			for i := range last {
				last[i] = 0xff
			}
			from := store.Due{At: f.plain.Now().Add(-time.Hour)}
			return []any{f.org, last, from, f.plain.Now(), store.InboxPage{Limit: 2, Bytes: 1 << 20}}
		})},
		{method: "APIKeyByHash", args: fixed(func(f *fixture) []any { return []any{f.key.Hash} })},
		{method: "APIKeysByHash", args: fixed(func(f *fixture) []any { return []any{[][32]byte{f.key.Hash, {1}}} })},
		{method: "APIKey", args: func(t *testing.T, f *fixture) []any { return []any{f.org, f.keyOf(t, f.org)} }},
		{method: "ListAPIKeys", args: fixed(func(f *fixture) []any { return []any{f.org, int64(0), 10} })},
		{method: "LookBack", args: fixed(func(f *fixture) []any {
			span := store.Span{Since: f.plain.Now().Add(-time.Hour), Until: f.plain.Now(), Payloads: true, Limit: 10}
			return []any{f.org, span, func(*trigger.Event) {}}
		})},
		{method: "OperatorToken", args: fixed(func(*fixture) []any { return nil })},
		{method: "Organization", args: fixed(func(f *fixture) []any { return []any{f.org} })},
		{method: "ListOrganizations", args: fixed(func(*fixture) []any { return []any{int64(0), 10} })},
		{method: "ListDeliveries", args: fixed(func(f *fixture) []any { return []any{f.org, store.DeliveryQuery{AnyState: true, Limit: 10}} })},
		{method: "InboxVerdict", args: fixed(func(f *fixture) []any { return []any{f.org, f.events[0].ID} })},
		{method: "FindEvents", args: fixed(func(f *fixture) []any {
			types := []trigger.Pattern{trigger.StoredPattern("user.*")}
			return []any{f.org, store.EventQuery{Types: types, WebhookID: f.hook, OfWebhook: true, Limit: 10}}
		})},
		{method: "FindEvents", args: fixed(func(f *fixture) []any { return []any{f.org, store.EventQuery{DedupID: "b", Limit: 10}} })},
		{method: "FindEvents", args: fixed(func(f *fixture) []any { return []any{f.org, store.EventQuery{Status: trigger.Failed, Limit: 1}} })},
		{method: "RunningReplays", args: fixed(func(*fixture) []any { return []any{int64(0)} })},
		{method: "PreviewReplay", args: fixed(func(f *fixture) []any { return []any{f.org, f.past(), 3} })},
		{method: "Replay", args: fixed(func(f *fixture) []any { return []any{f.org, f.replay} })},
		{method: "ListReplays", args: fixed(func(f *fixture) []any { return []any{f.org, int64(0), 10} })},
		{method: "Why", args: fixed(func(f *fixture) []any { return []any{f.org, f.events[0].ID} })},
		{method: "Attempts", args: fixed(func(f *fixture) []any { return []any{f.org, f.events[0].ID} })},
		{method: "ListAttempts", args: fixed(func(f *fixture) []any { return []any{f.org, store.AttemptFilter{}, trigger.ID{}, 2} })},
	}
}

// keyOf is the id of an organization's first key.
func (f *fixture) keyOf(t *testing.T, orgID int64) int64 {
	t.Helper()
	keys, err := f.plain.ListAPIKeys(t.Context(), orgID, 0, 1)
	if err != nil || len(keys) == 0 {
		t.Fatalf("%v, %v", keys, err)
	}
	return keys[0].ID
}

// verifyEventsOf: some of the events may be left for the next call, and none
// of the others is missing.
func verifyEventsOf(_ *fixture, args, got []any) (wrong string) {
	ds, found, rest := args[0].([]trigger.Delivery), got[0].(map[trigger.ID]*trigger.Event), got[1].([]trigger.Delivery)
	for _, d := range ds[:len(ds)-len(rest)] {
		if found[d.EventID] == nil {
			return "event " + d.EventID.String() + " was not read"
		}
	}
	return ""
}

func webhookFlows() []flow {
	orgs := func(f *fixture) []any { return []any{[]int64{f.org, f.other}} }
	return []flow{
		{method: "Subscribers", args: func(t *testing.T, f *fixture) []any { f.bump(t); return orgs(f) }},
		{method: "RememberedSubscribers", args: fixed(orgs), remembers: true},
		{method: "WebhooksByID", args: func(t *testing.T, f *fixture) []any {
			f.bump(t)
			return []any{[]int64{f.hook, f.paused, f.gone, f.late, f.another, 1 << 40}}
		}},
		{method: "Webhook", args: fixed(func(f *fixture) []any { return []any{f.org, f.hook} })},
		{method: "ListWebhooks", args: fixed(func(f *fixture) []any { return []any{f.org, trigger.WebhookState(""), int64(0), 10} })},
	}
}

func changingFlows() []flow {
	return []flow{
		{method: "AddEvents", fresh: true, args: fixed(func(f *fixture) []any {
			list := []*trigger.Event{event(f.plain, f.org, "a"), event(f.plain, f.org, "")}
			return []any{&store.Batch{Events: list, Deliveries: [][]trigger.Delivery{owed(list[0], f.hook), owed(list[1], f.hook)}}, true}
		}), verify: func(f *fixture, args, got []any) string {
			verdicts := got[0].([]trigger.ID)
			if verdicts[0] != f.events[0].ID || verdicts[1] != args[0].(*store.Batch).Events[1].ID {
				return "wrong verdicts"
			}
			return ""
		}},
		{method: "Claim", fresh: true, args: fixed(func(f *fixture) []any { // for no time: the next call claims again
			wants := []store.Want{
				{Bucket: f.bucket(f.org), WebhookID: f.paused, Room: 10}, {Bucket: f.bucket(f.other), WebhookID: f.late, Room: 10},
			}
			return []any{wants, f.plain.NewClaim(), f.plain.Now(), f.plain.Now().Add(-time.Second)}
		}), verify: func(_ *fixture, _, got []any) string {
			if len(got[0].([]trigger.Delivery)) < 4 {
				return "some were not claimed"
			}
			return ""
		}},
		{method: "StopWebhook", fresh: true, args: func(t *testing.T, f *fixture) []any {
			if err := f.plain.SetWebhookState(t.Context(), f.other, f.another, trigger.Active); err != nil {
				t.Fatal(err)
			}
			return []any{store.Stop{OrganizationID: f.other, WebhookID: f.another, State: trigger.Paused}}
		}},
		{method: "FailWebhook", fresh: true, args: func(t *testing.T, f *fixture) []any {
			add(t, f.plain, []*trigger.Event{event(f.plain, f.other, "")}, f.another)
			return []any{f.other, f.another, trigger.ReasonGone}
		}},
		{method: "Probe", fresh: true, args: func(t *testing.T, f *fixture) []any {
			held := f.plain.Now()
			f.exec(t, `UPDATE webhook_health SET held_until = $1 WHERE webhook_id = $2`, held.UnixMicro(), f.hook)
			return []any{f.hook, held, held.Add(time.Minute)}
		}},
		{method: "ClaimInbox", fresh: true, args: fixed(func(f *fixture) []any {
			return []any{f.org, store.InboxPage{Limit: 2, Bytes: 1 << 20}, f.plain.NewClaim(), -time.Second}
		})},
		{method: "AckInbox", fresh: true, args: func(t *testing.T, f *fixture) []any {
			claim, ids := f.claimed(t)
			return []any{f.org, claim, ids}
		}},
		{method: "ReleaseInbox", fresh: true, args: func(t *testing.T, f *fixture) []any {
			claim, ids := f.claimed(t)
			return []any{f.org, claim, ids, time.Second}
		}},
		{method: "ExtendInbox", fresh: true, args: func(t *testing.T, f *fixture) []any {
			claim, ids := f.claimed(t)
			return []any{f.org, claim, ids, time.Hour}
		}},
		{method: "TakePermits", fresh: true, args: fixed(func(f *fixture) []any { return []any{f.org, 1000, 1} })},
		{method: "TakePermits", fresh: true, args: fixed(func(f *fixture) []any { return []any{f.org, 1, 1} })},
		{method: "AddAPIKey", fresh: true, args: func(t *testing.T, f *fixture) []any {
			key := freshKey()
			key.Scopes = trigger.AllScopes
			return []any{storetest.NewOrganization(t, f.plain), key, store.Once{Key: "k"}}
		}},
		{method: "MakeAPIKey", fresh: true, args: func(t *testing.T, f *fixture) []any {
			org, key := storetest.NewOrganization(t, f.plain), freshKey()
			key.Scopes = trigger.AllScopes
			fill := func(*trigger.APIKey) (trigger.APIKey, error) { return key, nil }
			return []any{org, f.keyOf(t, org), fill, store.Once{Key: "k"}}
		}},
		{method: "RotateAPIKey", fresh: true, args: func(t *testing.T, f *fixture) []any {
			org := storetest.NewOrganization(t, f.plain)
			key := f.keyOf(t, org)
			return []any{store.Rotation{OrganizationID: org, KeyID: key, By: key, Next: freshKey(), Overlap: time.Hour}, store.Once{}}
		}},
		{method: "AddOrganization", fresh: true, args: fixed(func(*fixture) []any {
			return []any{trigger.Organization{Name: "New", Tier: trigger.Free}, freshKey(), store.Once{}}
		})},
		{method: "SetOrganization", fresh: true, args: fixed(func(f *fixture) []any {
			return []any{f.other, func(o *trigger.Organization) error { o.Name = "Other"; return nil }}
		})},
		{method: "SetEventType", fresh: true, args: fixed(func(f *fixture) []any { return []any{f.other, f.eventType()} })},
		{method: "AddWebhook", fresh: true, args: func(t *testing.T, f *fixture) []any {
			return []any{storetest.NewOrganization(t, f.plain), f.webhook(), store.Once{}}
		}},
		{method: "SetWebhook", fresh: true, args: fixed(func(f *fixture) []any {
			return []any{f.org, f.hook, func(w *trigger.Webhook) error { w.Description = "d"; return nil }}
		})},
		{method: "AddReplay", fresh: true, args: fixed(func(f *fixture) []any { return []any{f.org, f.past(), store.Once{}} })},
		{method: "SetReplayState", fresh: true, args: func(t *testing.T, f *fixture) []any {
			return []any{f.org, f.newReplay(t), trigger.ReplayPaused}
		}},
		{method: "FeedReplay", fresh: true, args: func(t *testing.T, f *fixture) []any {
			r, err := f.plain.Replay(t.Context(), f.org, f.newReplay(t))
			if err != nil {
				t.Fatal(err)
			}
			return []any{r}
		}},
		{method: "Resend", fresh: true, args: fixed(func(f *fixture) []any {
			return []any{f.org, f.events[0].ID, f.hook, store.Once{}}
		})},
	}
}
