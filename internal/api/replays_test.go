package api

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"triggerd/client"
	"triggerd/internal/store"
	"triggerd/internal/store/storetest"
	"triggerd/internal/trigger"
)

// settleReplay ends the open deliveries of a replay with an outcome.
func (o *owner) settleReplay(t *testing.T, job int64, outcome trigger.Outcome) {
	t.Helper()
	now, org := o.store.Now(), o.keyOf(t, o.key).Organization.ID
	want := store.Want{Bucket: trigger.Bucket(org), Job: job, Room: 100}
	taken, err := o.store.Claim(t.Context(), []store.Want{want}, o.store.NewClaim(), now, now.Add(time.Minute))
	if err != nil || len(taken) == 0 {
		t.Fatalf("claimed %d: %v", len(taken), err)
	}
	results := make([]store.Result, len(taken))
	for i, d := range taken {
		a := trigger.Attempt{DeliveryKey: d.DeliveryKey, Claim: d.Claim, Number: 1, At: now, Outcome: outcome}
		results[i] = store.Result{Attempt: a, Next: d.After(a, trigger.DefaultSchedule(), now, 0)}
	}
	if err := o.store.Finish(t.Context(), results); err != nil {
		t.Fatal(err)
	}
}

// feed goes on with all replays, as the engine does.
func (o *owner) feed(t *testing.T, db *storetest.DB) {
	t.Helper()
	db.Clock.Advance(time.Minute)
	if err := o.store.SyncClock(t.Context()); err != nil {
		t.Fatal(err)
	}
	list, err := o.store.RunningReplays(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range list {
		if _, err := o.store.FeedReplay(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
}

// A replay is shown as it was begun, and how far it has come.
func TestReplayLife(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		o := newServer(t, db).newOwner(t)
		hook := o.hook(t, "a", "b").ID
		for _, name := range []string{"a", "b", "a", "c"} {
			o.accept(t, o.key, `{"type":"`+name+`","payload":1}`)
		}
		db.Clock.Advance(time.Minute)
		if err := o.store.SyncClock(t.Context()); err != nil {
			t.Fatal(err)
		}
		until := o.store.Now().Truncate(time.Millisecond).UTC()
		since, pace := until.Add(-time.Hour), 0.5
		r := sure(o.CreateReplay(t.Context(), client.ReplayInput{WebhookID: hook, Since: since, Until: until, Types: []string{"a"}, Pace: &pace}))(t)
		want := client.Replay{
			ID: r.ID, WebhookID: hook, State: "running", Since: since, Until: until, Types: []string{"a"}, Pace: 0.5, CreatedAt: r.CreatedAt,
		}
		if diff := cmp.Diff(want, r); diff != "" || o.store.Now().Sub(r.CreatedAt).Abs() > time.Minute {
			t.Errorf("begun as %s", diff)
		}
		if o.engine.woken != 1 {
			t.Errorf("woken %d times", o.engine.woken)
		}
		for _, step := range []struct {
			do   func() (client.Replay, error)
			want string
		}{
			{func() (client.Replay, error) { return o.ResumeReplay(t.Context(), r.ID) }, "running"},
			{func() (client.Replay, error) { return o.PauseReplay(t.Context(), r.ID) }, "paused"},
			{func() (client.Replay, error) { return o.PauseReplay(t.Context(), r.ID) }, "paused"},
			{func() (client.Replay, error) { return o.Replay(t.Context(), r.ID) }, "paused"},
			{func() (client.Replay, error) { return o.ResumeReplay(t.Context(), r.ID) }, "running"},
		} {
			if got, err := step.do(); err != nil || got.State != step.want {
				t.Errorf("%+v, %v, want %s", got, err, step.want)
			}
		}
		o.feed(t, db)
		o.settleReplay(t, r.ID, trigger.Success)
		o.feed(t, db)
		want.State, want.Queued, want.Delivered = "done", 2, 2
		if got := sure(o.Replay(t.Context(), r.ID))(t); cmp.Diff(want, got) != "" {
			t.Errorf("done as %s", cmp.Diff(want, got))
		}
		for _, do := range []string{"pause", "resume", "cancel"} {
			o.refuses(t, "POST", fmt.Sprintf("/v1/replays/%d/%s", r.ID, do), "", "conflict", "")
		}
	})
}

// To cancel is no error while it is cancelled, or was; nothing else is
// possible then.
func TestCancelReplay(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		o := newServer(t, db).newOwner(t)
		hook := o.hook(t).ID
		r := sure(o.CreateReplay(t.Context(), client.ReplayInput{WebhookID: hook}))(t)
		if !r.Since.IsZero() || r.Pace != trigger.DefaultPace || r.Status != "" || len(r.Types) != 0 || r.Until.IsZero() {
			t.Errorf("defaults: %+v", r)
		}
		sure(o.PauseReplay(t.Context(), r.ID))(t)
		for _, want := range []string{"cancelling", "cancelled"} {
			for range 2 {
				if got, err := o.CancelReplay(t.Context(), r.ID); err != nil || got.State != want {
					t.Errorf("%+v, %v, want %s", got, err, want)
				}
			}
			for _, do := range []string{"pause", "resume"} {
				o.refuses(t, "POST", fmt.Sprintf("/v1/replays/%d/%s", r.ID, do), "", "conflict", "")
			}
			o.feed(t, db)
		}
		other := o.newOwner(t)
		for _, do := range []string{"pause", "resume", "cancel"} {
			other.refuses(t, "POST", fmt.Sprintf("/v1/replays/%d/%s", r.ID, do), "", "not_found", "")
			o.refuses(t, "POST", fmt.Sprintf("/v1/replays/%d/%s", r.ID+1, do), "", "not_found", "")
		}
		other.refuses(t, "GET", fmt.Sprintf("/v1/replays/%d", r.ID), "", "not_found", "")
	})
}

// What is wrong with a replay is refused where it stands, also by the preview.
func TestReplayRefusals(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		o := newServer(t, db).newOwner(t)
		hook := o.hook(t).ID
		id := fmt.Sprintf(`"webhook_id":%d`, hook)
		for body, at := range map[string]string{
			``: "#/webhook_id", `{"webhook_id":null}`: "#/webhook_id", `{"webhook_id":0}`: "#/webhook_id", `{"webhook_id":"1"}`: "#/webhook_id", `{"webhook_id":1.5}`: "#/webhook_id",
			`{` + id + `,"since":"today"}`: "#/since", `{` + id + `,"since":"1969-12-31T23:59:59Z"}`: "#/since", `{` + id + `,"since":"9000-01-01T00:00:00Z"}`: "#/since",
			`{` + id + `,"until":"x"}`: "#/until", `{` + id + `,"since":"2020-01-01T00:00:00Z","until":"2020-01-01T00:00:00Z"}`: "#/since",
			`{` + id + `,"types":[""]}`: "#/types/0", `{` + id + `,"types":[` + strings.Repeat(`"a",`, 20) + `"a"]}`: "#/types",
			`{` + id + `,"status":"pending"}`: "#/status", `{` + id + `,"status":""}`: "#/status", `{` + id + `,"status":1}`: "#/status",
			`{` + id + `,"pace":-1}`: "#/pace", `{` + id + `,"pace":0.0166}`: "#/pace", `{` + id + `,"pace":10000.1}`: "#/pace", `{` + id + `,"id":1}`: "#/id",
		} {
			o.refuses(t, "POST", "/v1/replays", body, "validation_failed", at)
			o.refuses(t, "POST", "/v1/replays/preview", body, "validation_failed", at)
		}
		o.refuses(t, "POST", "/v1/replays", `[]`, "invalid_json", "")
		for body, want := range map[string]string{
			`,"pace":0`: `"pace":null`, `,"pace":null`: `"pace":100`, `,"pace":10000`: `"pace":10000`, `,"pace":0.016666666666666666`: `"pace":0.016666666666666666`,
			`,"since":"1970-01-01T00:00:00Z"`: `"since":null`, `,"status":"failed"`: `"status":"failed"`, `,"status":null,"types":null,"since":null,"until":null`: `"status":null`,
			`,"until":"9000-01-01T00:00:00Z"`: `"until":"20`, `,"since":"2020-01-01T01:00:00.5+01:00"`: `"since":"2020-01-01T00:00:00.500Z"`,
		} {
			o.ask(t, "POST", "/v1/replays", `{`+id+body+`}`).wants(t, body, 201, want)
		}
	})
}

// The list goes from the newest on, and a request that is repeated begins
// nothing.
func TestReplaysAreListedAndBegunOnce(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		o := newServer(t, db).newOwner(t)
		hook := o.hook(t).ID
		const key = "Idempotency-Key: once"
		body := fmt.Sprintf(`{"webhook_id":%d}`, hook)
		first, again := o.ask(t, "POST", "/v1/replays", body, key), o.ask(t, "POST", "/v1/replays", body, key)
		if first.status != 201 || again.status != 201 || first.body != again.body || again.header.Get("Idempotency-Replayed") != "true" {
			t.Errorf("%v, and again %v", first, again)
		}
		o.refuses(t, "POST", "/v1/replays", strings.Replace(body, "}", " }", 1), "idempotency_conflict", "", key)
		for range 4 {
			sure(o.CreateReplay(t.Context(), client.ReplayInput{WebhookID: hook}))(t)
		}
		var seen []int64
		for cursor, more := "", true; more; more = cursor != "" {
			page := sure(o.ReplaysPage(t.Context(), 2, cursor))(t)
			for _, r := range page.Data {
				seen = append(seen, r.ID)
			}
			cursor = page.NextCursor
		}
		if len(seen) != 5 || !slices.IsSortedFunc(seen, func(a, b int64) int { return int(b - a) }) {
			t.Errorf("listed as %v", seen)
		}
		if page := sure(o.newOwner(t).ReplaysPage(t.Context(), 0, ""))(t); len(page.Data) != 0 {
			t.Errorf("another organization's: %+v", page)
		}
	})
}

// At most 1,000 are under way, events that are sent again included.
func TestReplayLimit(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		o := newServer(t, db).newOwner(t)
		hook := o.hook(t, "a").ID
		event := o.accept(t, o.key, `{"type":"b","payload":1}`)
		r := sure(o.CreateReplay(t.Context(), client.ReplayInput{WebhookID: hook}))(t)
		if _, err := db.SQL(t).ExecContext(t.Context(), `INSERT INTO replays
			(organization_id, webhook_id, state, since, until, types, status, pace, cursor, queued, delivered, failed, created_at)
			SELECT organization_id, webhook_id, state, since, until, types, status, pace, cursor, queued, delivered, failed, created_at
			FROM replays, (WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 998) SELECT i FROM n) AS many`); err != nil {
			t.Fatal(err)
		}
		sure(o.ResendEvent(t.Context(), event, hook))(t)
		_, err := o.ResendEvent(t.Context(), event, hook)
		isCode(t, "one resend too many", err, client.CodeConflict)
		_, err = o.CreateReplay(t.Context(), client.ReplayInput{WebhookID: hook})
		isCode(t, "one too many", err, client.CodeConflict)
		sure(o.CancelReplay(t.Context(), r.ID))(t)
		o.feed(t, db)
		sure(o.CreateReplay(t.Context(), client.ReplayInput{WebhookID: hook}))(t)
	})
}

// A preview counts, and shows the newest, byte for byte.
func TestPreviewReplay(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		o := newServer(t, db).newOwner(t)
		hook := o.hook(t, "a").ID
		const payload = `{"n": 1.50,  "s":"\u00e9<"}`
		var posted []string
		for range 5 {
			posted = append(posted, o.accept(t, o.key, `{"type":"a","payload":`+payload+`}`))
			o.accept(t, o.key, `{"type":"b","payload":1}`)
		}
		r := o.ask(t, "POST", "/v1/replays/preview", fmt.Sprintf(`{"webhook_id":%d}`, hook))
		var p client.ReplayPreview
		if err := json.Unmarshal([]byte(r.body), &p); err != nil || p.Scanned != 10 || p.Matched != 5 || !p.Complete || len(p.Samples) != 3 {
			t.Fatalf("%v in %s", err, r.body)
		}
		for i, e := range p.Samples {
			if e.ID != posted[4-i] || e.Status != "pending" || string(e.Payload) != payload {
				t.Errorf("sample %d is %+v", i, e)
			}
		}
		if n := strings.Count(r.body, `"payload":`+payload+`,`); n != 3 {
			t.Errorf("%d payloads as they came: %s", n, r.body)
		}
		o.settle(t, o.key, hook, trigger.Permanent)
		if p := sure(o.PreviewReplay(t.Context(), client.ReplayInput{WebhookID: hook, Status: "delivered"}))(t); p.Matched != 0 || p.Scanned != 10 || p.Samples == nil {
			t.Errorf("delivered: %+v", p)
		}
		if p := sure(o.PreviewReplay(t.Context(), client.ReplayInput{WebhookID: hook, Status: "failed"}))(t); p.Matched != 5 {
			t.Errorf("failed: %+v", p)
		}
		if page := sure(o.ReplaysPage(t.Context(), 0, ""))(t); len(page.Data) != 0 {
			t.Errorf("a preview has begun %+v", page)
		}
	})
}

// An event is sent again: reopened where it failed, due where it waits, and
// else by a replay of its own.
func TestResendEvent(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		o := newServer(t, db).newOwner(t)
		hook := o.hook(t, "a").ID
		event := o.accept(t, o.key, `{"type":"a","payload":1}`)
		resend := func(wantReplay bool) client.Resent {
			t.Helper()
			r := sure(o.ResendEvent(t.Context(), event, hook))(t)
			if r.EventID != event || r.WebhookID != hook || (r.ReplayID != 0) != wantReplay {
				t.Errorf("resent as %+v", r)
			}
			return r
		}
		resend(false) // it waits
		o.settle(t, o.key, hook, trigger.Permanent)
		resend(false) // it had failed
		o.settle(t, o.key, hook, trigger.Success)
		r := resend(true) // it was delivered
		if o.engine.woken != 3 {
			t.Errorf("woken %d times", o.engine.woken)
		}
		o.settleReplay(t, r.ReplayID, trigger.Success)
		o.feed(t, db)
		if got := sure(o.Replay(t.Context(), r.ReplayID))(t); got.State != "done" || got.Queued != 1 || got.Delivered != 1 {
			t.Errorf("the replay is %+v", got)
		}
		path, body := "/v1/events/"+event+"/resend", fmt.Sprintf(`{"webhook_id":%d}`, hook)
		const key = "Idempotency-Key: once"
		first, again := o.ask(t, "POST", path, body, key), o.ask(t, "POST", path, body, key)
		if first.status != 202 || again.status != 202 || first.body != again.body || again.header.Get("Idempotency-Replayed") != "true" {
			t.Errorf("%v, and again %v", first, again)
		}
		for bad, at := range map[string]string{``: "#/webhook_id", `{"webhook_id":0}`: "#/webhook_id", `{"webhook_id":1,"x":1}`: "#/x"} {
			o.refuses(t, "POST", path, bad, "validation_failed", at)
		}
		o.refuses(t, "POST", path, `{"webhook_id":2}`, "idempotency_conflict", "", key)
		for _, none := range []string{"x", "01a201d9-e350-7ff3-8000-2e533c0c7570"} {
			o.refuses(t, "POST", "/v1/events/"+none+"/resend", body, "not_found", "")
		}
		other := o.newOwner(t)
		other.refuses(t, "POST", path, body, "not_found", "")
		waiting := o.accept(t, o.key, `{"type":"a","payload":1}`)
		path = "/v1/events/" + waiting + "/resend"
		const once = "Idempotency-Key: waits"
		first, again = o.ask(t, "POST", path, body, once), o.ask(t, "POST", path, body, once)
		first.wants(t, "what waits", 202, `"replay_id":null`)
		if first.body != again.body || again.header.Get("Idempotency-Replayed") != "true" {
			t.Errorf("%v, and again %v", first, again)
		}
	})
}
