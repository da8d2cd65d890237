package client

import (
	"cmp"
	"context"
	"encoding/json"
	"iter"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
)

// use calls a method for its request alone.
func use[T any](_ T, err error) error { return err }

// first takes one item of an iterator.
func first[T any](items iter.Seq2[T, error]) error {
	for _, err := range items {
		return err
	}
	return nil
}

var (
	since = time.Date(2026, 1, 2, 3, 4, 5, 678_000_000, time.FixedZone("", 3600))
	until = since.Add(24 * time.Hour)
)

const eventID = "01a201d9-e350-7ff3-8000-2e533c0c7570"

type route struct {
	name string
	do   func(ctx context.Context, c *Client) error
	want string // method and URI, and after a space the body
	res  string // "": anyAnswer
}

// eventRoutes are all calls about events, and what goes out for them.
func eventRoutes() []route {
	inbox, raw := int64(0), json.RawMessage(`{ "a": "<" }`)
	full := EventQuery{Status: StatusFailed, Type: "user.*", Since: since, Until: until, DedupID: "a b", WebhookID: &inbox, Order: OrderOldest, Limit: 7}
	return []route{
		{"PostEvent", func(ctx context.Context, c *Client) error {
			return use(c.PostEvent(ctx, EventInput{Type: "a<b", Payload: raw, DedupID: "d", DeliverAt: since, Traceparent: "00-1"}))
		}, `POST /v1/events {"type":"a<b","dedup_id":"d","deliver_at":"2026-01-02T03:04:05.678+01:00","traceparent":"00-1","payload":{ "a": "<" }}`, ""},
		{"PostEvents", func(ctx context.Context, c *Client) error {
			return use(c.PostEvents(ctx, []EventInput{{Type: "a", Payload: raw, DedupID: "d"}, {Type: "b", DedupID: "e"}}))
		}, "POST /v1/events " + `{"type":"a","dedup_id":"d","payload":{ "a": "<" }}` + "\n" + `{"type":"b","dedup_id":"e"}` + "\n", `{"index":0,"status":"accepted","id":"e"}{"index":1,"status":"accepted","id":"f"}`},
		{"PostCloudEvent", func(ctx context.Context, c *Client) error { return use(c.PostCloudEvent(ctx, raw)) }, `POST /v1/events { "a": "<" }`, ""},
		{"PostCloudEvents", func(ctx context.Context, c *Client) error {
			return use(c.PostCloudEvents(ctx, []json.RawMessage{raw, raw}))
		}, `POST /v1/events [{ "a": "<" },{ "a": "<" }]`, `{"data":[{"index":0,"status":"accepted","id":"e"},{"index":1,"status":"duplicate","id":"f"}]}`},
		{"PostEventLines", func(ctx context.Context, c *Client) error {
			return use(c.PostEventLines(ctx, [][]byte{[]byte(`{"dedup_id":"\u00e9", "type": 1}`), []byte(" caf\xe9\r\n")}))
		}, "POST /v1/events " + `{"dedup_id":"\u00e9", "type": 1}` + "\ncaf\xe9\n", `{"index":0,"status":"accepted","id":"e"}{"index":1,"status":"rejected","problem":{}}`},
		{"EventsPage", func(ctx context.Context, c *Client) error { return use(c.EventsPage(ctx, EventQuery{}, "")) }, "GET /v1/events", ""},
		{
			"EventsPage, all", func(ctx context.Context, c *Client) error { return use(c.EventsPage(ctx, full, "x y")) },
			"GET /v1/events?cursor=x+y&dedup_id=a+b&limit=7&order=oldest&since=2026-01-02T02%3A04%3A05.678Z&status=failed&type=user.%2A&until=2026-01-03T02%3A04%3A05.678Z&webhook_id=0", "",
		},
		{"Events", func(ctx context.Context, c *Client) error { return first(c.Events(ctx, EventQuery{Type: "a"})) }, "GET /v1/events?type=a", ""},
		{"Event", func(ctx context.Context, c *Client) error { return use(c.Event(ctx, eventID)) }, "GET /v1/events/" + eventID, ""},
		{"EventWhy", func(ctx context.Context, c *Client) error { return use(c.EventWhy(ctx, eventID)) }, "GET /v1/events/" + eventID + "/why", ""},
		{"EventAttempts", func(ctx context.Context, c *Client) error { return use(c.EventAttempts(ctx, eventID)) }, "GET /v1/events/" + eventID + "/attempts", ""},
		{"DeleteEvent", func(ctx context.Context, c *Client) error { return c.DeleteEvent(ctx, eventID) }, "DELETE /v1/events/" + eventID, ""},
		{"ResendEvent", func(ctx context.Context, c *Client) error { return use(c.ResendEvent(ctx, eventID, 7)) }, "POST /v1/events/" + eventID + `/resend {"webhook_id":7}`, ""},
		{"Samples", func(ctx context.Context, c *Client) error { return use(c.Samples(ctx, "user.*", 2)) }, "GET /v1/samples?limit=2&type=user.%2A", "[]"},
		{"Deliveries", func(ctx context.Context, c *Client) error {
			return first(c.Deliveries(ctx, DeliveryQuery{DeliveryOpen, &inbox, 3}))
		}, "GET /v1/deliveries?limit=3&status=open&webhook_id=0", ""},
		{"DeliveriesPage", func(ctx context.Context, c *Client) error { return use(c.DeliveriesPage(ctx, DeliveryQuery{}, "c")) }, "GET /v1/deliveries?cursor=c", ""},
		{"Attempts", func(ctx context.Context, c *Client) error {
			return first(c.Attempts(ctx, AttemptQuery{&inbox, OutcomeGone, 2, 3}))
		}, "GET /v1/attempts?limit=3&outcome=gone&replay_id=2&webhook_id=0", ""},
		{"AttemptsPage", func(ctx context.Context, c *Client) error { return use(c.AttemptsPage(ctx, AttemptQuery{}, "")) }, "GET /v1/attempts", ""},
		{"EventTypes", func(ctx context.Context, c *Client) error { return first(c.EventTypes(ctx)) }, "GET /v1/event-types?limit=100", ""},
		{"EventTypesPage", func(ctx context.Context, c *Client) error { return use(c.EventTypesPage(ctx, 0, "c")) }, "GET /v1/event-types?cursor=c", ""},
		{"EventType", func(ctx context.Context, c *Client) error { return use(c.EventType(ctx, "a/b?c%")) }, "GET /v1/event-types/a%2Fb%3Fc%25", ""},
		{"PutEventType", func(ctx context.Context, c *Client) error {
			return use(c.PutEventType(ctx, "a", EventTypeInput{raw, ModeReject, "d"}))
		}, `PUT /v1/event-types/a {"mode":"reject","description":"d","schema":{ "a": "<" }}`, ""},
		{"PutEventType, nothing", func(ctx context.Context, c *Client) error { return use(c.PutEventType(ctx, "a", EventTypeInput{})) }, `PUT /v1/event-types/a {}`, ""},
		{"DeleteEventType", func(ctx context.Context, c *Client) error { return c.DeleteEventType(ctx, "a") }, "DELETE /v1/event-types/a", ""},
		{"Inbox", func(ctx context.Context, c *Client) error { return first(c.Inbox(ctx)) }, "GET /v1/inbox", ""},
		{"InboxPage", func(ctx context.Context, c *Client) error { return use(c.InboxPage(ctx, 2, "c")) }, "GET /v1/inbox?cursor=c&limit=2", ""},
		{"ClaimInbox", func(ctx context.Context, c *Client) error { return use(c.ClaimInbox(ctx, ClaimInput{})) }, "POST /v1/inbox/claim {}", ""},
		{"ClaimInbox, all", func(ctx context.Context, c *Client) error { return use(c.ClaimInbox(ctx, ClaimInput{1, 2.5, 3})) }, `POST /v1/inbox/claim {"limit":1,"lease_seconds":2.5,"wait_seconds":3}`, ""},
		{"AckInbox", func(ctx context.Context, c *Client) error { return use(c.AckInbox(ctx, "c", []string{"a", "b"})) }, `POST /v1/inbox/ack {"claim":"c","ids":["a","b"]}`, ""},
		{"ReleaseInbox", func(ctx context.Context, c *Client) error { return use(c.ReleaseInbox(ctx, "c", []string{"a"}, 1.5)) }, `POST /v1/inbox/release {"claim":"c","ids":["a"],"delay_seconds":1.5}`, ""},
		{"ExtendInbox", func(ctx context.Context, c *Client) error { return use(c.ExtendInbox(ctx, "c", []string{"a"}, 9)) }, `POST /v1/inbox/extend {"claim":"c","ids":["a"],"lease_seconds":9}`, ""},
		{"OpenAPI", func(ctx context.Context, c *Client) error { return use(c.OpenAPI(ctx)) }, "GET /openapi.yaml", ""},
		{"Handshake", func(ctx context.Context, c *Client) error { return use(c.Handshake(ctx, "me")) }, "OPTIONS /v1/events", ""},
	}
}

// settingRoutes are the calls about everything else.
func settingRoutes() []route {
	zero := 0.0
	limit, condition := 0, json.RawMessage(`{"a":1}`)
	const sk, whsec = `{"id":1,"key":"sk_1"}`, `{"id":1,"secret":"whsec_1"}`
	return []route{
		{"Webhooks", func(ctx context.Context, c *Client) error { return first(c.Webhooks(ctx)) }, "GET /v1/webhooks?limit=100", ""},
		{"WebhooksPage", func(ctx context.Context, c *Client) error { return use(c.WebhooksPage(ctx, 5, "")) }, "GET /v1/webhooks?limit=5", ""},
		{"WebhooksIn", func(ctx context.Context, c *Client) error {
			return first(c.WebhooksIn(ctx, WebhookQuery{State: WebhookGone}))
		}, "GET /v1/webhooks?state=gone", ""},
		{"WebhooksInPage", func(ctx context.Context, c *Client) error {
			return use(c.WebhooksInPage(ctx, WebhookQuery{WebhookPaused, 3}, "c"))
		}, "GET /v1/webhooks?cursor=c&limit=3&state=paused", ""},
		{"Webhook", func(ctx context.Context, c *Client) error { return use(c.Webhook(ctx, 7)) }, "GET /v1/webhooks/7", ""},
		{"CreateWebhook", func(ctx context.Context, c *Client) error {
			return use(c.CreateWebhook(ctx, WebhookInput{URL: "https://a/?b&c"}))
		}, `POST /v1/webhooks {"url":"https://a/?b&c"}`, whsec},
		{"CreateWebhook, all", func(ctx context.Context, c *Client) error {
			return use(c.CreateWebhook(ctx, WebhookInput{
				"u",
				[]string{"a.*"},
				condition, FormatPayload, 1.5,
				[]float64{},
				2, 3,
				map[string]string{"X-A": "b"},
				&WebhookAuth{Type: AuthBasic, User: "u"}, "d",
				map[string]string{"k": "v"},
				"whsec_1", SecretSymmetric, WebhookPaused,
			}))
		}, `POST /v1/webhooks {"url":"u","types":["a.*"],"content":{"a":1},"format":"payload","timeout_seconds":1.5,"schedule_seconds":[],"rate":2,"concurrency":3,` +
			`"headers":{"X-A":"b"},"auth":{"password":"","type":"basic","user":"u"},"description":"d","metadata":{"k":"v"},"secret":"whsec_1","signature":"symmetric","state":"paused"}`, ""},
		{"UpdateWebhook, nothing", func(ctx context.Context, c *Client) error { return use(c.UpdateWebhook(ctx, 7, WebhookPatch{})) }, "PATCH /v1/webhooks/7 {}", ""},
		{"UpdateWebhook", func(ctx context.Context, c *Client) error {
			return use(c.UpdateWebhook(ctx, 7, WebhookPatch{
				URL: Set("https://a/?b&c"), Types: Set([]string{}), Content: Set(condition), TimeoutSeconds: Null[float64](),
				Rate: Set(0.0), Auth: Set(WebhookAuth{Type: AuthBearer, Token: "t"}), Metadata: Null[map[string]string](),
			}))
		}, `PATCH /v1/webhooks/7 {"url":"https://a/?b&c","types":[],"content":{"a":1},"timeout_seconds":null,"rate":0,"auth":{"token":"t","type":"bearer"},"metadata":null}`, ""},
		{"DeleteWebhook", func(ctx context.Context, c *Client) error { return c.DeleteWebhook(ctx, 7) }, "DELETE /v1/webhooks/7", ""},
		{"PauseWebhook", func(ctx context.Context, c *Client) error { return use(c.PauseWebhook(ctx, 7)) }, "POST /v1/webhooks/7/pause", ""},
		{"ResumeWebhook", func(ctx context.Context, c *Client) error { return use(c.ResumeWebhook(ctx, 7)) }, "POST /v1/webhooks/7/resume", ""},
		{"RotateWebhookSecret", func(ctx context.Context, c *Client) error {
			return use(c.RotateWebhookSecret(ctx, 7, SecretRotation{OverlapSeconds: &zero, Signature: SecretEd25519}))
		}, `POST /v1/webhooks/7/rotate-secret {"signature":"ed25519","overlap_seconds":0}`, whsec},
		{"TestWebhook", func(ctx context.Context, c *Client) error {
			return use(c.TestWebhook(ctx, 7, TestInput{"t", json.RawMessage(`[ 1]`)}))
		}, `POST /v1/webhooks/7/test {"type":"t","data":[ 1]}`, ""},
		{"TestWebhook, nothing", func(ctx context.Context, c *Client) error { return use(c.TestWebhook(ctx, 7, TestInput{})) }, `POST /v1/webhooks/7/test {}`, ""},
		{"DryRunWebhook", func(ctx context.Context, c *Client) error {
			return use(c.DryRunWebhook(ctx, DryRunInput{[]string{"a"}, condition, 7, since, until}))
		}, `POST /v1/webhooks/dry-run {"types":["a"],"content":{"a":1},"webhook_id":7,"since":"2026-01-02T03:04:05.678+01:00","until":"2026-01-03T03:04:05.678+01:00"}`, ""},
		{"Replays", func(ctx context.Context, c *Client) error { return first(c.Replays(ctx)) }, "GET /v1/replays?limit=100", ""},
		{"ReplaysPage", func(ctx context.Context, c *Client) error { return use(c.ReplaysPage(ctx, 0, "")) }, "GET /v1/replays", ""},
		{"Replay", func(ctx context.Context, c *Client) error { return use(c.Replay(ctx, 7)) }, "GET /v1/replays/7", ""},
		{"CreateReplay", func(ctx context.Context, c *Client) error {
			return use(c.CreateReplay(ctx, ReplayInput{WebhookID: 1, Status: StatusFailed, Pace: &zero}))
		}, `POST /v1/replays {"webhook_id":1,"status":"failed","pace":0}`, ""},
		{"PreviewReplay", func(ctx context.Context, c *Client) error {
			return use(c.PreviewReplay(ctx, ReplayInput{WebhookID: 1, Types: []string{"a"}}))
		}, `POST /v1/replays/preview {"webhook_id":1,"types":["a"]}`, ""},
		{"PauseReplay", func(ctx context.Context, c *Client) error { return use(c.PauseReplay(ctx, 7)) }, "POST /v1/replays/7/pause", ""},
		{"ResumeReplay", func(ctx context.Context, c *Client) error { return use(c.ResumeReplay(ctx, 7)) }, "POST /v1/replays/7/resume", ""},
		{"CancelReplay", func(ctx context.Context, c *Client) error { return use(c.CancelReplay(ctx, 7)) }, "POST /v1/replays/7/cancel", ""},
		{"Keys", func(ctx context.Context, c *Client) error { return first(c.Keys(ctx)) }, "GET /v1/keys?limit=100", ""},
		{"KeysPage", func(ctx context.Context, c *Client) error { return use(c.KeysPage(ctx, 1, "c")) }, "GET /v1/keys?cursor=c&limit=1", ""},
		{"KeyByID", func(ctx context.Context, c *Client) error { return use(c.KeyByID(ctx, 7)) }, "GET /v1/keys/7", ""},
		{"CreateKey", func(ctx context.Context, c *Client) error { return use(c.CreateKey(ctx, KeyInput{})) }, "POST /v1/keys {}", sk},
		{"CreateKey, all", func(ctx context.Context, c *Client) error {
			return use(c.CreateKey(ctx, KeyInput{"n", []string{ScopeRead}, since, []string{"::1/128"}}))
		}, `POST /v1/keys {"name":"n","scopes":["read"],"expires_at":"2026-01-02T03:04:05.678+01:00","networks":["::1/128"]}`, sk},
		{"RotateKey", func(ctx context.Context, c *Client) error { return use(c.RotateKey(ctx, 7, nil)) }, "POST /v1/keys/7/rotate {}", sk},
		{"RotateKey, at once", func(ctx context.Context, c *Client) error { return use(c.RotateKey(ctx, 7, &zero)) }, `POST /v1/keys/7/rotate {"overlap_seconds":0}`, sk},
		{"DeleteKey", func(ctx context.Context, c *Client) error { return c.DeleteKey(ctx, 7) }, "DELETE /v1/keys/7", ""},
		{"Organizations", func(ctx context.Context, c *Client) error { return first(c.Organizations(ctx)) }, "GET /v1/organizations?limit=100", ""},
		{"OrganizationsPage", func(ctx context.Context, c *Client) error { return use(c.OrganizationsPage(ctx, 0, "")) }, "GET /v1/organizations", ""},
		{"Organization", func(ctx context.Context, c *Client) error { return use(c.Organization(ctx, 7)) }, "GET /v1/organizations/7", ""},
		{"CreateOrganization", func(ctx context.Context, c *Client) error {
			return use(c.CreateOrganization(ctx, OrganizationInput{Name: "n", RateLimit: &limit}))
		}, `POST /v1/organizations {"name":"n","rate_limit":0}`, `{"organization":{"id":1},"key":` + sk + `}`},
		{"UpdateOrganization", func(ctx context.Context, c *Client) error {
			return use(c.UpdateOrganization(ctx, 7, OrganizationPatch{RateLimit: Null[int](), Suspended: Set(false), Name: Set("")}))
		}, `PATCH /v1/organizations/7 {"name":"","rate_limit":null,"suspended":false}`, ""},
		{"DeleteOrganization", func(ctx context.Context, c *Client) error { return c.DeleteOrganization(ctx, 7) }, "DELETE /v1/organizations/7", ""},
		{"CreateOrganizationKey", func(ctx context.Context, c *Client) error {
			return use(c.CreateOrganizationKey(ctx, 7, KeyInput{Name: "n"}))
		}, `POST /v1/organizations/7/keys {"name":"n"}`, sk},
		{"Me", func(ctx context.Context, c *Client) error { return use(c.Me(ctx)) }, "GET /v1/me", ""},
		{"UpdateMe", func(ctx context.Context, c *Client) error {
			return use(c.UpdateMe(ctx, MePatch{Inbox: Set(InboxEverything), Deduplication: Null[string]()}))
		}, `PATCH /v1/me {"inbox":"everything","deduplication":null}`, ""},
	}
}

// TestRoutes holds what goes out for each method.
func TestRoutes(t *testing.T) {
	t.Parallel()
	creates := map[string]bool{
		"CreateWebhook": true, "CreateWebhook, all": true, "CreateReplay": true, "CreateKey": true, "CreateKey, all": true,
		"RotateKey": true, "RotateKey, at once": true, "CreateOrganization": true, "CreateOrganizationKey": true, "ResendEvent": true,
	}
	for _, tt := range append(eventRoutes(), settingRoutes()...) {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var got string
			c := fake(func(r *http.Request) (*http.Response, error) {
				got = r.Method + " " + r.URL.RequestURI()
				if body := bodyOf(t, r); body != "" {
					got += " " + body
				}
				diff(t, "Authorization", r.Header.Get("Authorization"), "Bearer sk_test")
				diff(t, "User-Agent", r.Header.Get("User-Agent"), "triggerd-client")
				diff(t, "Idempotency-Key", len(r.Header.Get("Idempotency-Key")) > 20, creates[tt.name])
				return reply("200", cmp.Or(tt.res, anyAnswer(r.Method, r.URL.Path))), nil
			}).client()
			if err := tt.do(t.Context(), c); err != nil {
				t.Error(err)
			}
			if d := gocmp.Diff(tt.want, got); d != "" {
				t.Error(d)
			}
		})
	}
}

// The tables above have all methods.
func TestAllMethodsAreTried(t *testing.T) {
	t.Parallel()
	tried := map[string]bool{"CloseIdleConnections": true, "StreamInbox": true} // elsewhere
	for _, tt := range append(eventRoutes(), settingRoutes()...) {
		name, _, _ := strings.Cut(tt.name, ",")
		tried[name] = true
	}
	for method := range reflect.TypeFor[*Client]().Methods() {
		if !tried[method.Name] {
			t.Errorf("%s is not tried", method.Name)
		}
	}
}

func TestContentTypes(t *testing.T) {
	t.Parallel()
	want := map[string]string{
		"PostEvent": "application/json", "PostEventLines": "application/x-ndjson", "PostEvents": "application/x-ndjson", "PostCloudEvent": "application/cloudevents+json",
		"PostCloudEvents": "application/cloudevents-batch+json", "UpdateMe": "application/json", "PauseReplay": "", "Me": "",
	}
	for _, tt := range append(eventRoutes(), settingRoutes()...) {
		kind, ok := want[tt.name]
		if !ok {
			continue
		}
		c := fake(func(r *http.Request) (*http.Response, error) {
			diff(t, tt.name, r.Header.Get("Content-Type"), kind)
			return reply("200", anyAnswer(r.Method, r.URL.Path)), nil
		}).client()
		_ = tt.do(t.Context(), c)
		delete(want, tt.name)
	}
	diff(t, "not tried", len(want), 0)
}

// The operator names the organization in which it acts, and nobody else does.
func TestOrganizationID(t *testing.T) {
	t.Parallel()
	for id, want := range map[int64]string{0: "", 42: "42"} {
		var got http.Header
		c := fake(func(r *http.Request) (*http.Response, error) {
			got = r.Header
			return reply("200", anyAnswer(r.Method, r.URL.Path)), nil
		}).client()
		c.OrganizationID = id
		if _, err := c.Me(t.Context()); err != nil {
			t.Fatal(err)
		}
		diff(t, "Triggerd-Organization", got.Get("Triggerd-Organization"), want)
	}
}
