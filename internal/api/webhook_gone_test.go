package api

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"triggerd/client"
	"triggerd/internal/store"
	"triggerd/internal/store/storetest"
	"triggerd/internal/trigger"
)

// goneHook makes a webhook that is gone, since its receiver has answered 410.
func (o *owner) goneHook(t *testing.T, types ...string) client.Webhook {
	t.Helper()
	made := o.hook(t, types...)
	if _, err := o.store.StopWebhook(t.Context(), store.Stop{OrganizationID: o.keyOf(t, o.key).Organization.ID, WebhookID: made.ID, State: trigger.Gone}); err != nil {
		t.Fatal(err)
	}
	return made
}

// listed are the ids of the webhooks in a state, read by pages of two.
func (o *owner) listed(t *testing.T, state string) (ids []int64) {
	t.Helper()
	for w, err := range o.WebhooksIn(t.Context(), client.WebhookQuery{State: state, Limit: 2}) {
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, w.ID)
	}
	return ids
}

func wantIDs(t *testing.T, what string, got []int64, want ...int64) {
	t.Helper()
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%s: webhooks %v, want %v", what, got, want)
	}
}

// conflicts wants an error to be the 409 of a client's call.
func conflicts(t *testing.T, what string, err error) {
	t.Helper()
	if e, ok := errors.AsType[*client.Error](err); !ok || e.Status != 409 || e.Code != "conflict" {
		t.Errorf("%s: %v, want a conflict", what, err)
	}
}

// A webhook whose receiver answered 410 is shown as gone, with the reason and
// the time, and listed where that state is asked for.
func TestGoneWebhookIsShown(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		o := newServer(t, db).newOwner(t)
		active, paused := o.hook(t), o.hook(t)
		sure(o.PauseWebhook(t.Context(), paused.ID))(t)
		before := o.store.Now().Truncate(time.Millisecond)
		first, second, third := o.goneHook(t), o.goneHook(t), o.goneHook(t)
		w := sure(o.Webhook(t.Context(), first.ID))(t)
		if w.State != client.WebhookGone || w.Gone == nil || w.Gone.Reason != "its receiver has answered 410" || w.Gone.At.Before(before) ||
			w.PausedBy != "" || w.URL != first.URL {
			t.Errorf("shown as %+v, %+v", w, w.Gone)
		}
		if w := sure(o.Webhook(t.Context(), paused.ID))(t); w.Gone != nil {
			t.Errorf("a paused one is gone: %+v", w.Gone)
		}
		wantIDs(t, "by default", o.listed(t, ""), active.ID, paused.ID)
		wantIDs(t, "active", o.listed(t, client.WebhookActive), active.ID)
		wantIDs(t, "paused", o.listed(t, client.WebhookPaused), paused.ID)
		wantIDs(t, "gone", o.listed(t, client.WebhookGone), first.ID, second.ID, third.ID)
		page := sure(o.WebhooksInPage(t.Context(), client.WebhookQuery{State: client.WebhookGone, Limit: 1}, ""))(t)
		o.refuses(t, "GET", "/v1/webhooks?state=paused&cursor="+page.NextCursor, "", "invalid_cursor", "cursor")
		o.refuses(t, "GET", "/v1/webhooks?cursor="+page.NextCursor, "", "invalid_cursor", "cursor")
		if err := o.DeleteWebhook(t.Context(), second.ID); err != nil {
			t.Fatal(err)
		}
		o.isNotThere(t, second.ID)
		wantIDs(t, "gone, one of them deleted", o.listed(t, client.WebhookGone), first.ID, third.ID)
		wantIDs(t, "another organization's", o.newOwner(t).listed(t, client.WebhookGone))
	})
}

// The owner of a gone webhook can test and change it, and resume it where there
// is room for it. Nothing else is sent to it, and it cannot be paused.
func TestGoneWebhookIsResumed(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		o := newServer(t, db).newOwner(t)
		made := o.goneHook(t, "a")
		event := o.accept(t, o.key, `{"type":"a","payload":1}`)
		why := sure(o.EventWhy(t.Context(), event))(t)
		if len(why) != 2 || why[0].WebhookID != 0 || why[1].Verdict != client.VerdictGone || why[1].Reason != "its receiver has answered 410" {
			t.Errorf("an event of that time: %+v", why)
		}
		_, err := o.PauseWebhook(t.Context(), made.ID)
		conflicts(t, "pause", err)
		_, err = o.CreateReplay(t.Context(), client.ReplayInput{WebhookID: made.ID})
		conflicts(t, "replay", err)
		_, err = o.ResendEvent(t.Context(), event, made.ID)
		conflicts(t, "resend", err)
		sure(o.PreviewReplay(t.Context(), client.ReplayInput{WebhookID: made.ID}))(t)
		sure(o.DryRunWebhook(t.Context(), client.DryRunInput{WebhookID: made.ID}))(t)
		sure(o.TestWebhook(t.Context(), made.ID, client.TestInput{}))(t)
		sure(o.RotateWebhookSecret(t.Context(), made.ID, client.SecretRotation{}))(t)
		const moved = "https://example.com/moved"
		w := sure(o.UpdateWebhook(t.Context(), made.ID, client.WebhookPatch{URL: client.Set(moved)}))(t)
		if w.State != client.WebhookGone || w.Gone == nil || w.URL != moved || len(w.Secrets) != 2 {
			t.Errorf("changed to %+v", w)
		}
		others := make([]client.Webhook, trigger.MaxWebhooks)
		for i := range others {
			others[i] = o.hook(t)
		}
		_, err = o.ResumeWebhook(t.Context(), made.ID)
		conflicts(t, "resume beside 50 others", err)
		if err := o.DeleteWebhook(t.Context(), others[0].ID); err != nil {
			t.Fatal(err)
		}
		woken := o.engine.woken
		for range 2 {
			w = sure(o.ResumeWebhook(t.Context(), made.ID))(t)
			if w.State != client.WebhookActive || w.Gone != nil || w.URL != moved || w.Health != nil {
				t.Errorf("resumed as %+v", w)
			}
		}
		if o.engine.woken != woken+2 {
			t.Errorf("woken %d times", o.engine.woken-woken)
		}
		sure(o.ResendEvent(t.Context(), event, made.ID))(t)
	})
}

// The operational event names the webhook, its URL and the reason.
func TestGoneWebhookIsTold(t *testing.T) {
	t.Parallel()
	o := newServer(t, storetest.SQLite(t)).newOwner(t)
	o.hook(t, "webhook.*")
	made := o.goneHook(t)
	page := sure(o.EventsPage(t.Context(), client.EventQuery{Type: "webhook.gone"}, ""))(t)
	if len(page.Data) != 1 {
		t.Fatalf("told of by %+v", page.Data)
	}
	want := fmt.Sprintf(`{"webhook_id":%d,"url":%q,"reason":"its receiver has answered 410"}`, made.ID, made.URL)
	if got := string(page.Data[0].Payload); got != want {
		t.Errorf("told of as %s, want %s", got, want)
	}
}

// Operational events have the payloads that the description says.
func TestOperationalEventsAreDescribed(t *testing.T) {
	t.Parallel()
	compiler := jsonschema.NewCompiler()
	compiler.DefaultDraft(jsonschema.Draft2020)
	compiler.AssertFormat()
	must(compiler.AddResource(described2020, description().root))
	id := trigger.NewID(time.UnixMilli(1), 2, 3)
	told := []trigger.Notice{
		{Type: trigger.WebhookFailing, About: 1, Since: time.UnixMilli(1), Failures: 3, Reason: "why"},
		{Type: trigger.WebhookPaused, About: 1, Since: time.UnixMilli(1), Failures: 30, Reason: "why"},
		{Type: trigger.WebhookPaused, About: 1, Reason: "why"},
		{Type: trigger.WebhookGone, About: 1, URL: "https://example.com/?a=1&b=2", Reason: trigger.GoneByReceiver},
		{Type: trigger.WebhookRecovered, About: 1, Since: time.UnixMilli(1)},
		{Type: trigger.DeliveryExhausted, About: 1, EventID: id, Attempts: 10, Reason: "why"},
		{Type: trigger.DeliveryExpired, Expired: []trigger.Lost{{EventID: id, WebhookID: 1}}},
	}
	for _, n := range told {
		schema, err := compiler.Compile(described2020 + "#/webhooks/" + n.Type + "/post/requestBody/content/application~1json/schema")
		must(err)
		body := fmt.Sprintf(`{"id":%q,"type":%q,"timestamp":"2026-01-02T03:04:05.678Z","data":%s}`, id, n.Type, n.Event(1).Payload)
		if err := validate(schema, []byte(body)); err != nil {
			t.Errorf("%s: %v", body, err)
		}
	}
}
