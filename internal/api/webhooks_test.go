package api

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"triggerd/client"
	"triggerd/internal/store/storetest"
	"triggerd/internal/trigger"
)

// owner is an organization that speaks /v1.
type owner struct {
	*server
	*client.Client
	key string
}

func (s *server) newOwner(t *testing.T) *owner {
	t.Helper()
	key := s.newKey(t, "enterprise")
	s.engine.attempt = trigger.Attempt{At: s.store.Now(), Outcome: trigger.Success, Status: 204}
	return &owner{s, &client.Client{BaseURL: s.URL, Key: key, HTTP: s.Client(), Retries: -1}, key}
}

// ask sends a request as it stands; each header is "Name: value".
func (o *owner) ask(t *testing.T, method, path, body string, headers ...string) reply {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, o.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Api-Key", o.key)
	for _, line := range headers {
		name, value, _ := strings.Cut(line, ": ")
		req.Header.Set(name, value)
	}
	res, err := o.server.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return reply{res.StatusCode, res.Header, string(text)}
}

// refuses wants a problem, which is at a member of the body or a parameter, ""
// for neither.
func (o *owner) refuses(t *testing.T, method, path, body, code, at string, headers ...string) {
	t.Helper()
	r := o.ask(t, method, path, body, headers...)
	var p client.Error
	_ = json.Unmarshal([]byte(r.body), &p) // then there is no code
	where := ""
	if len(p.Errors) > 0 {
		where = p.Errors[0].Pointer + p.Errors[0].Parameter
	}
	if _, status := codes(code); p.Code != code || where != at || r.status != status || internal.MatchString(p.Detail) {
		t.Errorf("%s %s %.200s: %d %.400s, want %s at %q", method, path, body, r.status, r.body, code, at)
	}
}

// isCode reports an error of another code.
func isCode(t *testing.T, what string, err error, code string) {
	t.Helper()
	if !client.IsCode(err, code) {
		t.Errorf("%s: %v, want %s", what, err, code)
	}
}

// sure gives what was made, and ends the test at an error.
func sure[T any](made T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return made
	}
}

func (o *owner) hook(t *testing.T, types ...string) client.Webhook {
	t.Helper()
	return sure(o.CreateWebhook(t.Context(), client.WebhookInput{URL: "https://example.com/hook", Types: types}))(t)
}

func webhookPath(id int64, more string) string { return fmt.Sprintf("/v1/webhooks/%d%s", id, more) }

// fullInput names every setting; fullBody is how it is written.
func fullInput() client.WebhookInput {
	return client.WebhookInput{
		URL: "https://example.com/full?a=b", Types: []string{"user.*", "order.paid"}, Content: json.RawMessage(`{"path":"/a","equals":1.50}`),
		Format: client.FormatCloudEvents, TimeoutSeconds: 2.01, ScheduleSeconds: []float64{0, 2.03, 604800}, Rate: 0.5, Concurrency: 64,
		Headers: map[string]string{"X-Team": "header-value", "x-b": ""}, Auth: &client.WebhookAuth{Type: client.AuthBasic, User: "lovelace", Password: "pass-word"},
		Description: "für Ada", Metadata: map[string]string{"a/b~c": "ü", "": "x"}, Signature: client.SecretEd25519, State: client.WebhookPaused,
	}
}

// Every setting is read as it was set, is changed by itself, and goes back to
// its default.
func TestWebhookSettings(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		o := newServer(t, db).newOwner(t)
		in := fullInput()
		delete(in.Metadata, "") // must not be
		made := sure(o.CreateWebhook(t.Context(), in))(t)
		if !strings.HasPrefix(made.Secret, "whsk_") || !strings.HasPrefix(made.Secrets[0].PublicKey, "whpk_") || made.CreatedAt.IsZero() {
			t.Errorf("made as %+v", made)
		}
		want := client.Webhook{
			ID: made.ID, URL: in.URL, State: "paused", PausedBy: "owner", Types: in.Types, Content: in.Content, Format: in.Format,
			TimeoutSeconds: 2.01, ScheduleSeconds: in.ScheduleSeconds, Rate: 0.5, Concurrency: 64, Headers: []string{"X-Team", "x-b"}, Auth: "basic",
			Description: in.Description, Metadata: in.Metadata, CreatedAt: made.CreatedAt,
			Secrets: []client.WebhookSecret{{Type: "ed25519", PublicKey: made.Secrets[0].PublicKey}},
		}
		check := func(what string, got client.Webhook, err error) {
			t.Helper()
			read, err2 := o.Webhook(t.Context(), made.ID)
			if err != nil || err2 != nil {
				t.Fatalf("%s: %v, %v", what, err, err2)
			}
			if diff := cmp.Diff(want, got) + cmp.Diff(want, read); diff != "" {
				t.Errorf("%s:\n%s", what, diff)
			}
		}
		got, err := o.Webhook(t.Context(), made.ID)
		check("read", got, err)
		type patch = client.WebhookPatch
		steps := []struct {
			what   string
			in     patch
			change func()
		}{
			{"nothing", patch{}, func() {}},
			{"url", patch{URL: client.Set("https://example.com/")}, func() { want.URL = "https://example.com/" }},
			{"types", patch{Types: client.Set([]string{"a*"})}, func() { want.Types = []string{"a*"} }},
			{"types by null", patch{Types: client.Null[[]string]()}, func() { want.Types = []string{} }},
			{"content", patch{Content: client.Set(json.RawMessage(`{"path":"/b","exists":true}`))}, func() { want.Content = json.RawMessage(`{"path":"/b","exists":true}`) }},
			{"content by null", patch{Content: client.Null[json.RawMessage]()}, func() { want.Content = json.RawMessage("null") }},
			{"format", patch{Format: client.Set("payload")}, func() { want.Format = "payload" }},
			{"format by null", patch{Format: client.Null[string]()}, func() { want.Format = "standard" }},
			{"timeout", patch{TimeoutSeconds: client.Set(30.0)}, func() { want.TimeoutSeconds = 30 }},
			{"timeout by null", patch{TimeoutSeconds: client.Null[float64]()}, func() { want.TimeoutSeconds = 0 }},
			{"schedule", patch{ScheduleSeconds: client.Set([]float64{})}, func() { want.ScheduleSeconds = []float64{} }},
			{"schedule by null", patch{ScheduleSeconds: client.Null[[]float64]()}, func() { want.ScheduleSeconds = nil }},
			{"rate", patch{Rate: client.Set(10_000.0)}, func() { want.Rate = 10_000 }},
			{"rate by null", patch{Rate: client.Null[float64]()}, func() { want.Rate = 0 }},
			{"concurrency", patch{Concurrency: client.Set(1)}, func() { want.Concurrency = 1 }},
			{"concurrency by null", patch{Concurrency: client.Null[int]()}, func() { want.Concurrency = 0 }},
			{"headers", patch{Headers: client.Set(map[string]string{"X-A": "1"})}, func() { want.Headers = []string{"X-A"} }},
			{"headers by null", patch{Headers: client.Null[map[string]string]()}, func() { want.Headers = []string{} }},
			{"auth", patch{Auth: client.Set(client.WebhookAuth{Type: "bearer", Token: "t0ken"})}, func() { want.Auth = "bearer" }},
			{"auth by null", patch{Auth: client.Null[client.WebhookAuth]()}, func() { want.Auth = "" }},
			{"description", patch{Description: client.Set("")}, func() { want.Description = "" }},
			{"metadata", patch{Metadata: client.Set(map[string]string{"k": ""})}, func() { want.Metadata = map[string]string{"k": ""} }},
			{"metadata by null", patch{Metadata: client.Null[map[string]string]()}, func() { want.Metadata = map[string]string{} }},
		}
		for i, step := range steps {
			step.change()
			got, err := o.UpdateWebhook(t.Context(), made.ID, step.in)
			check(step.what, got, err)
			if n := len(o.engine.followed); n != i+1 || o.engine.followed[i] != made.ID {
				t.Errorf("%s is not waited for: %v", step.what, o.engine.followed)
			}
		}
		stored, err := o.store.Webhook(t.Context(), o.keyOf(t, o.key).Organization.ID, made.ID)
		if err != nil || stored.Schedule != nil || stored.Timeout != 0 || stored.Format != "" || stored.Filter.Content != nil {
			t.Errorf("stored as %+v, %v", stored, err)
		}
	})
}

// What is wrong is refused where it stands, and changes nothing.
func TestWebhookRefusals(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		o := newServer(t, db).newOwner(t)
		made := o.hook(t)
		bad := map[string]string{ // members, by where the problem is
			`"url":5`: "#/url", `"url":""`: "#/url", `"url":"ftp://example.com"`: "#/url", `"url":"http://127.0.0.1/"`: "#/url",
			`"url":"http://inside.example/"`: "#/url", `"url":"https://u:p@example.com"`: "#/url", `"url":null`: "#/url",
			`"types":"a"`: "#/types", `"types":["a",""]`: "#/types/1", `"types":[null]`: "#/types/0", `"types":[5]`: "#/types",
			`"types":["` + strings.Repeat("a", 256) + `"]`: "#/types/0", `"types":["*********"]`: "#/types/0",
			`"types":[` + strings.Repeat(`"a",`, 20) + `"a"]`: "#/types",
			`"content":{}`: "#/content", `"content":5`: "#/content", `"content":{"all":[{"path":"/a","is":1}]}`: "#/content/all/0",
			`"content":{"path":"/a","equals":"` + strings.Repeat("a", 4096) + `"}`: "#/content",
			`"format":"xml"`: "#/format", `"format":""`: "#/format", `"format":1`: "#/format",
			`"timeout_seconds":0`: "#/timeout_seconds", `"timeout_seconds":0.999`: "#/timeout_seconds", `"timeout_seconds":30.001`: "#/timeout_seconds",
			`"timeout_seconds":"5"`: "#/timeout_seconds", `"timeout_seconds":1e400`: "#/timeout_seconds",
			`"schedule_seconds":[1,-1]`: "#/schedule_seconds/1", `"schedule_seconds":[604800.1]`: "#/schedule_seconds/0", `"schedule_seconds":[null]`: "#/schedule_seconds/0",
			`"schedule_seconds":[0,0.5,5,0.999,0]`:                   "#/schedule_seconds",
			`"schedule_seconds":[` + strings.Repeat("1,", 50) + `1]`: "#/schedule_seconds", `"schedule_seconds":5`: "#/schedule_seconds",
			`"rate":0`: "#/rate", `"rate":0.0166`: "#/rate", `"rate":10000.1`: "#/rate", `"rate":-1`: "#/rate",
			`"concurrency":0`: "#/concurrency", `"concurrency":65`: "#/concurrency", `"concurrency":1.5`: "#/concurrency",
			`"headers":[]`: "#/headers", `"headers":{"X-A":null}`: "#/headers/X-A", `"headers":{"X-A":"1","X-A":"2"}`: "#/headers/X-A",
			`"headers":{"X-A":"1","x-a":"2"}`: "#/headers", `"headers":{"webhook-id":"1"}`: "#/headers", `"headers":{"X A":"1"}`: "#/headers",
			`"headers":{"X-A":"` + strings.Repeat("a", 4097) + `"}`: "#/headers", `"headers":{` + members(21) + `}`: "#/headers",
			`"auth":"bearer"`: "#/auth", `"auth":{}`: "#/auth/type", `"auth":{"type":"digest"}`: "#/auth/type", `"auth":{"type":"bearer"}`: "#/auth/token",
			`"auth":{"type":"bearer","token":""}`: "#/auth", `"auth":{"type":"bearer","token":"a","user":"b"}`: "#/auth/user", `"auth":{"type":"basic","user":"a"}`: "#/auth/password", `"auth":{"type":"bearer","token":"a","password":null}`: "#/auth/password",
			`"auth":{"type":"basic","user":"a:b","password":""}`: "#/auth", `"auth":{"type":"bearer","token":"a","x":1}`: "#/auth/x", `"auth":{"type":"bearer","token":5}`: "#/auth/token",
			`"description":"` + strings.Repeat("a", 1025) + `"`: "#/description", `"description":"\u0000"`: "#/description",
			`"metadata":{"a":1}`: "#/metadata/a", `"metadata":{"":"a"}`: "#/metadata", `"metadata":{` + members(21) + `}`: "#/metadata",
			`"metadata":{"a":"` + strings.Repeat("a", 4097) + `"}`: "#/metadata",
			`"nothing":1`: "#/nothing", `"URL":1`: "#/URL", `"id":1`: "#/id", `"rate":1,"rate":1`: "#/rate",
		}
		for body, at := range bad {
			o.refuses(t, "PATCH", webhookPath(made.ID, ""), "{"+body+"}", "validation_failed", at)
			if !strings.Contains(body, `"url"`) {
				body = `"url":"https://example.com",` + body
			}
			o.refuses(t, "POST", "/v1/webhooks", "{"+body+"}", "validation_failed", at)
		}
		for body, at := range map[string]string{
			``: "#/url", `{"url":"https://example.com","secret":""}`: "#/secret", `{"url":"https://example.com","secret":"whsec_AAAA"}`: "#/secret",
			`{"url":"https://example.com","signature":"rsa"}`: "#/signature", `{"url":"https://example.com","state":"gone"}`: "#/state", `{"url":"https://example.com","state":""}`: "#/state",
			`{"url":"https://example.com","signature":"ed25519","secret":"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}`: "#/signature",
		} {
			o.refuses(t, "POST", "/v1/webhooks", body, "validation_failed", at)
		}
		for _, name := range []string{"secret", "signature", "state"} {
			o.refuses(t, "PATCH", webhookPath(made.ID, ""), `{"`+name+`":null}`, "validation_failed", "#/"+name)
		}
		for _, body := range []string{`{`, `[]`, `5`, "\xff"} {
			o.refuses(t, "POST", "/v1/webhooks", body, "invalid_json", "")
			o.refuses(t, "PATCH", webhookPath(made.ID, ""), body, "invalid_json", "")
		}
		o.refuses(t, "POST", "/v1/webhooks", `{}`, "unsupported_media_type", "", "Content-Type: text/plain")
		if len(o.engine.followed) != 0 {
			t.Errorf("a refused change is waited for: %v", o.engine.followed)
		}
		read := sure(o.Webhook(t.Context(), made.ID))(t)
		if made.Secret = ""; cmp.Diff(made, read) != "" {
			t.Errorf("it is %+v, and was %+v", read, made)
		}
		if page := sure(o.WebhooksPage(t.Context(), 0, ""))(t); len(page.Data) != 1 {
			t.Errorf("%d webhooks", len(page.Data))
		}
	})
}

// members writes n members of an object.
func members(n int) string {
	list := make([]string, n)
	for i := range list {
		list[i] = fmt.Sprintf(`"X-%d":"v"`, i)
	}
	return strings.Join(list, ",")
}

// What is just within its limits passes.
func TestWebhookLimits(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		o := newServer(t, db).newOwner(t)
		for _, body := range []string{
			`"types":[` + strings.Repeat(`"a",`, 19) + `"` + strings.Repeat("é", 127) + `"]`, `"types":["********"]`, `"types":[]`,
			`"timeout_seconds":1`, `"timeout_seconds":30`, `"schedule_seconds":[` + strings.Repeat("604800,", 49) + `0]`, `"schedule_seconds":[0,0,0,1]`,
			`"rate":0.016666666666666666`, `"rate":10000`, `"concurrency":1`, `"concurrency":64`,
			`"headers":{` + members(20) + `}`, `"headers":{"X-A":"` + strings.Repeat("a", 4096) + `"}`, `"headers":{}`,
			`"auth":{"type":"basic","user":"","password":"a"}`, `"auth":{"type":"basic","user":"a","password":""}`, `"auth":{"type":"bearer","token":"a"}`,
			`"description":"` + strings.Repeat("a", 1024) + `"`, `"metadata":{` + members(20) + `}`, `"metadata":{}`,
			`"secret":null,"signature":null,"state":null,"types":null,"content":null,"format":null,"auth":null,"rate":null`,
		} {
			r := o.ask(t, "POST", "/v1/webhooks", `{"url":"https://example.com",`+body+`}`)
			if r.status != 201 {
				t.Errorf("%.200s: %d %.300s", body, r.status, r.body)
			}
		}
		for n := len(sure(o.WebhooksPage(t.Context(), 100, ""))(t).Data); n < trigger.MaxWebhooks; n++ {
			o.hook(t)
		}
		_, err := o.CreateWebhook(t.Context(), client.WebhookInput{URL: "https://example.com"})
		isCode(t, "one too many", err, client.CodeConflict)
		o.do(t, "POST", "/api/webhook/register", o.key, `{"url":"https://example.com"}`).wants(t, "by the original contract", 400, "at most 50")
		var seen []int64
		for w, err := range o.Webhooks(t.Context()) {
			seen = append(seen, sure(w.ID, err)(t))
		}
		if len(seen) != trigger.MaxWebhooks || !slices.IsSorted(seen) {
			t.Errorf("listed as %v", seen)
		}
		if err := o.DeleteWebhook(t.Context(), seen[7]); err != nil {
			t.Fatal(err)
		}
		o.hook(t)
	})
}

// Retries must be over a day before events go.
func TestWebhookSchedulesEndInTime(t *testing.T) {
	t.Parallel()
	db := storetest.SQLite(t)
	db.Options.Retention = 7 * 24 * time.Hour
	o := newServer(t, db).newOwner(t)
	made := o.hook(t)
	const long = `"schedule_seconds":[604800]`
	o.refuses(t, "POST", "/v1/webhooks", `{"url":"https://example.com",`+long+`}`, "validation_failed", "#/schedule_seconds")
	o.refuses(t, "PATCH", webhookPath(made.ID, ""), `{`+long+`}`, "validation_failed", "#/schedule_seconds")
}
