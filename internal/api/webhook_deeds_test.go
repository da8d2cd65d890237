package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"triggerd/client"
	"triggerd/internal/store"
	"triggerd/internal/store/storetest"
	"triggerd/internal/trigger"
)

// A request that is repeated makes nothing more, and its answer has no secret.
func TestWebhooksAreMadeOnce(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := newServer(t, db)
		o, other := s.newOwner(t), s.newOwner(t)
		const body, key = `{"url":"https://example.com","secret":"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}`, `Idempotency-Key: "a \"key\""`
		first := o.ask(t, "POST", "/v1/webhooks", body, key)
		again := o.ask(t, "POST", "/v1/webhooks", body, `Idempotency-Key: a "key"`)
		without := strings.Replace(first.body, `,"secret":"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"`, "", 1)
		if first.status != 201 || again.status != 201 || again.body != without || first.body == without ||
			first.header.Get("Idempotency-Replayed") != "" || again.header.Get("Idempotency-Replayed") != "true" {
			t.Errorf("%v, and again %v", first, again)
		}
		o.refuses(t, "POST", "/v1/webhooks", `{"url":"https://example.com/other"}`, "idempotency_conflict", "", key)
		o.refuses(t, "POST", "/v1/webhooks", body, "validation_failed", "", "Idempotency-Key: "+strings.Repeat("a", 201))
		if r := other.ask(t, "POST", "/v1/webhooks", body, key); r.status != 201 || r.header.Get("Idempotency-Replayed") != "" {
			t.Errorf("another organization's: %v", r)
		}
		made := sure(o.WebhooksPage(t.Context(), 0, ""))(t).Data
		if len(made) != 1 {
			t.Fatalf("%d webhooks", len(made))
		}
		renamed := sure(o.UpdateWebhook(t.Context(), made[0].ID, client.WebhookPatch{Description: client.Set("renamed")}))(t)
		if r := o.ask(t, "POST", "/v1/webhooks", body, key); r.status != 201 || !strings.Contains(r.body, `"renamed"`) {
			t.Errorf("not as it is now: %v", r)
		}
		if err := o.DeleteWebhook(t.Context(), renamed.ID); err != nil {
			t.Fatal(err)
		}
		o.refuses(t, "POST", "/v1/webhooks", body, "conflict", "", key)
	})
}

// What is secret is in the answer that makes it, and in no other.
func TestSecretsAreNotShown(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		o := newServer(t, db).newOwner(t)
		in := fullInput()
		delete(in.Metadata, "")
		in.Signature = ""
		made := sure(o.CreateWebhook(t.Context(), in))(t)
		rotated := sure(o.RotateWebhookSecret(t.Context(), made.ID, client.SecretRotation{Signature: client.SecretEd25519}))(t)
		if rotated.Secret == "" || rotated.Secret == made.Secret {
			t.Errorf("rotated to %q", rotated.Secret)
		}
		hidden := []string{made.Secret, rotated.Secret, "header-value", "pass-word", "lovelace"}
		for _, r := range []reply{
			o.ask(t, "GET", webhookPath(made.ID, ""), ""), o.ask(t, "GET", "/v1/webhooks", ""),
			o.ask(t, "PATCH", webhookPath(made.ID, ""), `{"auth":{"type":"basic","user":"lovelace","password":"pass-word"}}`),
			o.ask(t, "PATCH", webhookPath(made.ID, ""), `{"auth":{"type":"basic","user":"lovelace:","password":"pass-word"}}`),
			o.ask(t, "POST", webhookPath(made.ID, "/pause"), ""), o.ask(t, "POST", webhookPath(made.ID, "/resume"), ""),
			o.ask(t, "POST", webhookPath(made.ID, "/test"), ""),
			{body: o.log.String()},
		} {
			for _, secret := range hidden {
				if strings.Contains(r.body, strings.TrimPrefix(secret, "whsec_")) {
					t.Errorf("%q is in %s", secret, r.body)
				}
			}
			if strings.Contains(r.body, `"secret":`) || strings.Contains(r.body, "whsk_") {
				t.Errorf("a secret is in %s", r.body)
			}
		}
	})
}

// A new secret comes before the others, which go on for the overlap.
func TestRotateSecret(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		o := newServer(t, db).newOwner(t)
		made := o.hook(t)
		org := o.keyOf(t, o.key).Organization.ID
		rotate := func(in client.SecretRotation) client.Webhook {
			t.Helper()
			w := sure(o.RotateWebhookSecret(t.Context(), made.ID, in))(t)
			stored := sure(o.store.Webhook(t.Context(), org, made.ID))(t)
			if stored.Secrets[0].Reveal() != w.Secret || o.engine.followed[len(o.engine.followed)-1] != made.ID {
				t.Errorf("%+v is shown as %+v", stored.Secrets, w)
			}
			return w
		}
		types := func(w client.Webhook) (list []string) {
			for _, s := range w.Secrets {
				list = append(list, s.Type)
			}
			return list
		}
		w := rotate(client.SecretRotation{})
		if got := types(w); !slices.Equal(got, []string{"symmetric", "symmetric"}) || !w.Secrets[0].ExpiresAt.IsZero() || w.Secret == made.Secret {
			t.Errorf("rotated to %+v", w)
		}
		if left := w.Secrets[1].ExpiresAt.Sub(o.store.Now()); left > 24*time.Hour || left < 24*time.Hour-time.Minute {
			t.Errorf("the old one goes on for %s", left)
		}
		if w = rotate(client.SecretRotation{Signature: "ed25519"}); !slices.Equal(types(w), []string{"ed25519", "symmetric", "symmetric"}) || !strings.HasPrefix(w.Secret, "whsk_") {
			t.Errorf("rotated to %+v", w)
		}
		none := 0.0
		if w = rotate(client.SecretRotation{OverlapSeconds: &none}); !slices.Equal(types(w), []string{"ed25519"}) {
			t.Errorf("without an overlap, and of the type that it has: %+v", w)
		}
		const own = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
		for range 2 {
			if w = rotate(client.SecretRotation{Secret: own}); w.Secret != own || !slices.Equal(types(w), []string{"symmetric", "ed25519"}) {
				t.Errorf("rotated to one of its own: %+v", w)
			}
		}
		db.Clock.Advance(25 * time.Hour)
		if err := o.store.SyncClock(t.Context()); err != nil {
			t.Fatal(err)
		}
		if w = sure(o.Webhook(t.Context(), made.ID))(t); !slices.Equal(types(w), []string{"symmetric"}) {
			t.Errorf("a day later: %+v", w)
		}
		path := webhookPath(made.ID, "/rotate-secret")
		for body, at := range map[string]string{
			`{"overlap_seconds":-1}`: "#/overlap_seconds", `{"overlap_seconds":2592000.1}`: "#/overlap_seconds", `{"secret":"x"}`: "#/secret", `{"secret":"whsec_"}`: "#/secret",
			`{"signature":"x"}`: "#/signature", `{"signature":"ed25519","secret":"` + own + `"}`: "#/signature", `{"x":1}`: "#/x", `{"secret":5}`: "#/secret",
		} {
			o.refuses(t, "POST", path, body, "validation_failed", at)
		}
		if r := o.ask(t, "POST", path, `{"overlap_seconds":2592000,"secret":null,"signature":null}`); r.status != 200 {
			t.Errorf("the longest overlap: %v", r)
		}
	})
}

// Webhooks are paused and resumed, also what failures have paused, and deleted
// for ever.
func TestWebhookStates(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		o := newServer(t, db).newOwner(t)
		made := o.hook(t)
		org := o.keyOf(t, o.key).Organization.ID
		for range 2 {
			if w, err := o.PauseWebhook(t.Context(), made.ID); err != nil || w.State != "paused" || w.PausedBy != "owner" {
				t.Errorf("paused as %+v, %v", w, err)
			}
		}
		if n := len(o.engine.followed); n != 2 || o.engine.woken != 0 {
			t.Errorf("%d pauses were waited for, woken %d times", n, o.engine.woken)
		}
		for range 2 {
			if w, err := o.ResumeWebhook(t.Context(), made.ID); err != nil || w.State != "active" || w.PausedBy != "" {
				t.Errorf("resumed as %+v, %v", w, err)
			}
		}
		if o.engine.woken != 2 {
			t.Errorf("woken %d times", o.engine.woken)
		}
		o.accept(t, o.key, `{"type":"a","payload":1}`)
		o.settle(t, o.key, made.ID, trigger.Transient)
		w := sure(o.Webhook(t.Context(), made.ID))(t)
		if w.Health == nil || w.Health.Failures != 1 || w.Health.FailingSince.IsZero() || !w.Health.LastFailureAt.Equal(w.Health.FailingSince) || !w.Health.HeldUntil.IsZero() {
			t.Errorf("health %+v", w.Health)
		}
		now := o.store.Now()
		if err := o.store.SetBreaker(t.Context(), store.BreakerChange{OrganizationID: org, WebhookID: made.ID, Until: now.Add(time.Hour)}); err != nil {
			t.Fatal(err)
		}
		if w = sure(o.Webhook(t.Context(), made.ID))(t); w.Health.HeldUntil.Sub(now).Round(time.Minute) != time.Hour {
			t.Errorf("held until %s", w.Health.HeldUntil)
		}
		if _, err := o.store.StopWebhook(t.Context(), store.Stop{OrganizationID: org, WebhookID: made.ID, State: trigger.Paused}); err != nil {
			t.Fatal(err)
		}
		if w = sure(o.Webhook(t.Context(), made.ID))(t); w.PausedBy != "receiver" || w.State != "paused" {
			t.Errorf("by its receiver: %+v", w)
		}
		if w, err := o.ResumeWebhook(t.Context(), made.ID); err != nil || w.State != "active" || w.Health != nil {
			t.Errorf("resumed as %+v, %v", w, err)
		}
		if err := o.store.SetBreaker(t.Context(), store.BreakerChange{OrganizationID: org, WebhookID: made.ID, Until: now.Add(time.Hour), Asked: true}); err != nil {
			t.Fatal(err)
		}
		w = sure(o.Webhook(t.Context(), made.ID))(t)
		if w.Health == nil || w.Health.HeldUntil.IsZero() || w.Health.Failures != 0 || !w.Health.FailingSince.IsZero() {
			t.Errorf("held without a failure: %+v", w.Health)
		}
		before := len(o.engine.followed)
		if err := o.DeleteWebhook(t.Context(), made.ID); err != nil || len(o.engine.followed) != before+1 {
			t.Errorf("deleted: %v, waited for %v", err, o.engine.followed)
		}
		o.isNotThere(t, made.ID)
		if page := sure(o.WebhooksPage(t.Context(), 0, ""))(t); len(page.Data) != 0 {
			t.Errorf("listed: %+v", page.Data)
		}
		o.isNotThere(t, made.ID+1000)
		other := o.newOwner(t)
		other.isNotThere(t, o.hook(t).ID)
	})
}

// isNotThere wants every route to know nothing of a webhook.
func (o *owner) isNotThere(t *testing.T, id int64) {
	t.Helper()
	event := o.accept(t, o.key, `{"type":"a","payload":1}`)
	body := fmt.Sprintf(`{"webhook_id":%d}`, id)
	for _, ask := range [][3]string{
		{"GET", webhookPath(id, "")},
		{"PATCH", webhookPath(id, ""), `{"rate":1}`},
		{"DELETE", webhookPath(id, "")},
		{"POST", webhookPath(id, "/pause")},
		{"POST", webhookPath(id, "/resume")},
		{"POST", webhookPath(id, "/rotate-secret")},
		{"POST", webhookPath(id, "/test")},
		{"POST", "/v1/webhooks/dry-run", body},
		{"POST", "/v1/replays", body},
		{"POST", "/v1/replays/preview", body},
		{"POST", "/v1/events/" + event + "/resend", body},
	} {
		if r := o.ask(t, ask[0], ask[1], ask[2]); r.status != 404 || !strings.Contains(r.body, `"code":"not_found","detail":"Not found"}`) {
			t.Errorf("%s %s %s: %d %s", ask[0], ask[1], ask[2], r.status, r.body)
		}
	}
}

// A test is one attempt at an event that is not stored.
func TestTestWebhook(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		o := newServer(t, db).newOwner(t)
		made := o.hook(t, "only.this")
		sure(o.PauseWebhook(t.Context(), made.ID))(t)
		o.engine.attempt = trigger.Attempt{
			At: o.store.Now(), Took: 12 * time.Millisecond, Outcome: trigger.Transient, Status: 500, Error: "status 500", Response: []byte("no"),
			Timing: trigger.Timing{Connect: time.Millisecond},
		}
		a := sure(o.TestWebhook(t.Context(), made.ID, client.TestInput{}))(t)
		if a.WebhookID != made.ID || a.Number != 1 || a.Outcome != "transient" || a.Status != 500 || a.Error != "status 500" || a.Response != "no" ||
			a.ReplayID != 0 || a.TookSeconds != 0.012 || a.Timing.ConnectSeconds != 0.001 || a.At.IsZero() {
			t.Errorf("answered %+v", a)
		}
		const data = `{"n": 1.50,  "s":"\u00e9<"}`
		b := sure(o.TestWebhook(t.Context(), made.ID, client.TestInput{Type: "user.created", Data: json.RawMessage(data)}))(t)
		first, second := o.engine.tried[0], o.engine.tried[1]
		if first.Type != "webhook.test" || string(first.Payload) != "{}" || second.Type != "user.created" || string(second.Payload) != data {
			t.Errorf("sent %+v and %+v", first, second)
		}
		if a.EventID == b.EventID || first.ID.String() != a.EventID || o.store.Now().Sub(first.ID.Time()).Abs() > time.Minute {
			t.Errorf("events %s and %s, sent %s", a.EventID, b.EventID, first.ID)
		}
		o.ask(t, "POST", webhookPath(made.ID, "/test"), `{"type":null,"data":null}`).wants(t, "null", 200, `"number":1`)
		if last := o.engine.tried[2]; last.Type != "webhook.test" || string(last.Payload) != "{}" {
			t.Errorf("sent %+v for null", last)
		}
		for body, at := range map[string]string{
			`{"type":""}`: "#/type", `{"type":"` + strings.Repeat("a", 256) + `"}`: "#/type", `{"type":5}`: "#/type", `{"x":5}`: "#/x",
		} {
			o.refuses(t, "POST", webhookPath(made.ID, "/test"), body, "validation_failed", at)
		}
		if page := o.inbox(t, o.key, "?limit=100"); page.Count != 0 || len(o.engine.tried) != 3 {
			t.Errorf("stored: %+v, tried %d", page, len(o.engine.tried))
		}
	})
}

// Tests in great numbers do not fill the memory.
func TestTestsAreBounded(t *testing.T) {
	t.Parallel()
	o := newServer(t, storetest.SQLite(t)).newOwner(t)
	made := o.hook(t)
	org := o.keyOf(t, o.key).Organization.ID
	if err := o.api.used.take(org, maxBodies/2-testMemory); err != nil {
		t.Fatal(err)
	}
	o.refuses(t, "POST", webhookPath(made.ID, "/test"), `{}`, "unavailable", "")
	o.api.used.give(org, maxBodies/2-testMemory)
	sure(o.TestWebhook(t.Context(), made.ID, client.TestInput{}))(t)
	if n := o.api.used.used; n != 0 {
		t.Errorf("%d bytes are still held", n)
	}
}

// Unknown parameters, and ids that are none, are refused; cursors are bound to
// their list.
func TestWebhookParameters(t *testing.T) {
	t.Parallel()
	o := newServer(t, storetest.SQLite(t)).newOwner(t)
	for range 3 {
		o.hook(t)
	}
	page := sure(o.WebhooksPage(t.Context(), 2, ""))(t)
	rest := sure(o.WebhooksPage(t.Context(), 2, page.NextCursor))(t)
	if len(page.Data) != 2 || page.NextCursor == "" || len(rest.Data) != 1 || rest.NextCursor != "" || rest.Data[0].ID <= page.Data[1].ID {
		t.Errorf("pages %+v and %+v", page, rest)
	}
	if whole := sure(o.WebhooksPage(t.Context(), 3, ""))(t); len(whole.Data) != 3 || whole.NextCursor != "" {
		t.Errorf("page %+v", whole)
	}
	for query, at := range map[string]string{
		"limit=0": "limit", "limit=101": "limit", "limit=x": "limit", "type=a": "type", "limit=1&limit=1": "limit",
		"state=": "state", "state=ended": "state", "state=deleted": "state", "state=Gone": "state", "state=gone&state=gone": "state",
	} {
		o.refuses(t, "GET", "/v1/webhooks?"+query, "", "invalid_parameter", at)
	}
	o.refuses(t, "GET", "/v1/webhooks?cursor=x", "", "invalid_cursor", "cursor")
	o.refuses(t, "GET", "/v1/replays?cursor="+page.NextCursor, "", "invalid_cursor", "cursor")
	other := o.newOwner(t)
	other.refuses(t, "GET", "/v1/webhooks?cursor="+page.NextCursor, "", "invalid_cursor", "cursor")
	id := page.Data[0].ID
	for _, ask := range [][2]string{
		{"POST", "/v1/webhooks"},
		{"GET", webhookPath(id, "")},
		{"PATCH", webhookPath(id, "")},
		{"DELETE", webhookPath(id, "")},
		{"POST", webhookPath(id, "/pause")},
		{"POST", webhookPath(id, "/resume")},
		{"POST", webhookPath(id, "/rotate-secret")},
		{"POST", webhookPath(id, "/test")},
		{"POST", "/v1/webhooks/dry-run"},
		{"POST", "/v1/replays"},
		{"POST", "/v1/replays/preview"},
		{"POST", "/v1/replays/1/pause"},
	} {
		o.refuses(t, ask[0], ask[1]+"?x=1", `{"url":"https://example.com"}`, "invalid_parameter", "x")
	}
	for _, none := range []string{"0", "-1", "01", "x", "99999999999999999999"} {
		o.refuses(t, "GET", "/v1/webhooks/"+none, "", "not_found", "")
		o.refuses(t, "GET", "/v1/replays/"+none, "", "not_found", "")
	}
	o.refuses(t, "PUT", webhookPath(id, ""), "", "method_not_allowed", "")
}

// That a change cannot be waited for does not undo it.
func TestFollowMayFail(t *testing.T) {
	t.Parallel()
	o := newServer(t, storetest.SQLite(t), func(a *API) { a.Engine = deafEngine{&engine{}} }).newOwner(t)
	made := o.hook(t)
	if w, err := o.PauseWebhook(t.Context(), made.ID); err != nil || w.State != "paused" {
		t.Errorf("%+v, %v", w, err)
	}
}

type deafEngine struct{ *engine }

func (deafEngine) WaitApplied(context.Context, int64) error { return errors.New("no answer") }

// What is stored of a webhook's credentials stays with the receiver that it was
// given for: with another origin it must be given anew, or dropped.
func TestCredentialsStayWithTheirOrigin(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		o := newServer(t, db).newOwner(t)
		const there = "https://example.com/hook"
		stored := map[string]client.WebhookInput{
			"auth":    {URL: there, Auth: &client.WebhookAuth{Type: client.AuthBearer, Token: "t0ken"}},
			"headers": {URL: there, Headers: map[string]string{"X-Secret": "s3cret"}},
			"both": {
				URL: there, Auth: &client.WebhookAuth{Type: client.AuthBasic, User: "u", Password: "pass-word"},
				Headers: map[string]string{"X-Secret": "s3cret"},
			},
			"none": {URL: there},
		}
		const elsewhere = `"url":"https://other.example/hook"`
		for _, c := range []struct{ patch, auth, headers, both string }{ // where it is refused
			{`{` + elsewhere + `}`, "#/auth", "#/headers", "#/auth #/headers"},
			{`{"url":"https://example.com:8443/hook"}`, "#/auth", "#/headers", "#/auth #/headers"},
			{`{"url":"http://example.com/hook"}`, "#/auth", "#/headers", "#/auth #/headers"},
			{`{` + elsewhere + `,"auth":null}`, "", "#/headers", "#/headers"},
			{`{` + elsewhere + `,"headers":{}}`, "#/auth", "", "#/auth"},
			{`{` + elsewhere + `,"auth":null,"headers":null}`, "", "", ""},
			{`{` + elsewhere + `,"auth":{"type":"bearer","token":"n3w"},"headers":{"X-New":"1"}}`, "", "", ""},
			{`{"url":"https://EXAMPLE.com:443/other?a=b"}`, "", "", ""},
			{`{"rate":1}`, "", "", ""},
		} {
			for name, want := range map[string]string{"auth": c.auth, "headers": c.headers, "both": c.both, "none": ""} {
				hook := sure(o.CreateWebhook(t.Context(), stored[name]))(t)
				r := o.ask(t, "PATCH", webhookPath(hook.ID, ""), c.patch)
				var p client.Error
				_ = json.Unmarshal([]byte(r.body), &p) // a webhook has no errors
				var at []string
				for _, field := range p.Errors {
					at = append(at, field.Pointer)
				}
				if got := strings.Join(at, " "); got != want || (r.status == 422) != (want != "") || want == "" && r.status != 200 {
					t.Errorf("%s is stored, %s: %d at %q, want it at %q: %s", name, c.patch, r.status, got, want, r.body)
				}
				if now := sure(o.Webhook(t.Context(), hook.ID))(t); want != "" && now.URL != there {
					t.Errorf("%s is stored, %s: it is at %s", name, c.patch, now.URL)
				}
				if strings.Contains(r.body, "t0ken") || strings.Contains(r.body, "s3cret") || strings.Contains(r.body, "pass-word") {
					t.Errorf("%s: %s", c.patch, r.body)
				}
				if err := o.DeleteWebhook(t.Context(), hook.ID); err != nil {
					t.Fatal(err)
				}
			}
		}
	})
}
