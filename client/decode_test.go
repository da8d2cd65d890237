package client

import (
	"encoding/json"
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var at = time.Date(2026, 1, 2, 3, 4, 5, 678_000_000, time.UTC)

const (
	attemptJSON = `{"event_id":"e","webhook_id":1,"replay_id":null,"number":2,"at":"2026-01-02T03:04:05.678Z","took_seconds":0.012,"outcome":"transient",` +
		`"status":500,"error":"e","response":"r","timing":{"dns_seconds":null,"connect_seconds":0.001,"tls_seconds":0.002,"first_byte_seconds":0.003}}`
	eventJSON = `{"id":"e","type":"t","payload":{ "b": 1.0, "a": "<\u003c" },"dedup_id":null,"status":"pending","created_at":"2026-01-02T03:04:05.678Z",` +
		`"deliver_at":null,"traceparent":null,"cloudevent":{"id":"1","source":"/s"}}`
	webhookJSON = `{"id":1,"url":"u","state":"paused","paused_by":"owner","gone":null,"types":[],"content":{"all":[]},"format":"standard","timeout_seconds":null,` +
		`"schedule_seconds":[5,300],"rate":10.5,"concurrency":8,"headers":["X-Team"],"auth":"bearer","description":"d","metadata":{"k":"v"},` +
		`"secrets":[{"type":"ed25519","public_key":"whpk_1","expires_at":"2026-01-02T03:04:05.678Z"}],` +
		`"health":{"failing_since":"2026-01-02T03:04:05.678Z","last_failure_at":"2026-01-02T03:04:05.678Z","failures":3,"held_until":null},` +
		`"created_at":"2026-01-02T03:04:05.678Z","more":true}`
	organizationJSON = `{"id":1,"name":"n","tier":"free","rate_limit":0,"inbox":"unmatched","deduplication":"lenient","suspended":true,"created_at":"2026-01-02T03:04:05.678Z"}`
	keyJSON          = `{"id":1,"name":"n","prefix":"sk_abc123","scopes":["read"],"networks":[],"created_at":"2026-01-02T03:04:05.678Z","expires_at":null,"last_used_at":"2026-01-02T03:04:05.678Z"}`
	replayJSON       = `{"id":1,"webhook_id":2,"state":"running","since":null,"until":"2026-01-02T03:04:05.678Z","types":["a"],"status":"failed","pace":null,` +
		`"queued":1,"delivered":2,"failed":3,"created_at":"2026-01-02T03:04:05.678Z"}`
)

// decoded holds a text, as the server writes it, against what is made of it.
func decoded[T complete](t *testing.T, text string, want T) {
	t.Helper()
	c := fake(func(*http.Request) (*http.Response, error) { return reply("200", text), nil }).client()
	got, err := get[T](t.Context(), c, "/")
	if err != nil {
		t.Error(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("%T: %s", want, d)
	}
}

func TestAnswersAreRead(t *testing.T) {
	t.Parallel()
	attempt := Attempt{
		EventID: "e", WebhookID: 1, Number: 2, At: at, TookSeconds: 0.012, Outcome: OutcomeTransient, Status: 500, Error: "e", Response: "r",
		Timing: Timing{0, 0.001, 0.002, 0.003},
	}
	event := Event{
		ID: "e", Type: "t", Payload: json.RawMessage(`{ "b": 1.0, "a": "<\u003c" }`), Status: StatusPending, CreatedAt: at,
		CloudEvent: map[string]any{"id": "1", "source": "/s"},
	}
	zero := 0
	organization := Organization{1, "n", TierFree, &zero, InboxUnmatched, DeduplicationLenient, true, at}
	key := Key{ID: 1, Name: "n", Prefix: "sk_abc123", Scopes: []string{ScopeRead}, Networks: []string{}, CreatedAt: at, LastUsedAt: at}
	decoded(t, attemptJSON, attempt)
	decoded(t, eventJSON, event)
	decoded(t, `{"data":[`+eventJSON+`],"next_cursor":null}`, Page[Event]{[]Event{event}, ""})
	decoded(t, eventJSON[:len(eventJSON)-1]+`,"deliveries":[{"webhook_id":0,"verdict":"failed","clause":null,"reason":"expired","next_attempt_at":null,"attempts":2,"last_attempt":`+attemptJSON+`}]}`,
		EventDetail{event, []Why{{0, VerdictFailed, "", "expired", time.Time{}, 2, &attempt}}})
	decoded(t, eventJSON[:len(eventJSON)-1]+`,"attempts":2,"claimed_until":"2026-01-02T03:04:05.678Z"}`, InboxEvent{event, 2, at})
	decoded(t, `{"claim":null,"leased_until":null,"data":[]}`, Claim{Data: []InboxEvent{}})
	decoded(t, `{"claim":"c","leased_until":"2026-01-02T03:04:05.678Z","data":[]}`, Claim{"c", at, []InboxEvent{}})
	decoded(t, `{"leased_until":"2026-01-02T03:04:05.678Z","data":[{"id":"e","status":"lost"}]}`, Extension{at, []InboxResult{{"e", InboxLost}}})
	decoded(t, webhookJSON, Webhook{
		ID: 1, URL: "u", State: WebhookPaused, PausedBy: "owner", Types: []string{}, Content: json.RawMessage(`{"all":[]}`), Format: FormatStandard,
		ScheduleSeconds: []float64{5, 300}, Rate: 10.5, Concurrency: 8, Headers: []string{"X-Team"}, Auth: AuthBearer, Description: "d",
		Metadata: map[string]string{"k": "v"}, Secrets: []WebhookSecret{{SecretEd25519, "whpk_1", at}},
		Health: &WebhookHealth{FailingSince: at, LastFailureAt: at, Failures: 3}, CreatedAt: at,
	})
	decoded(t, `{"id":1,"url":"u","state":"gone","paused_by":null,"gone":{"reason":"r","at":"2026-01-02T03:04:05.678Z"}}`,
		Webhook{ID: 1, URL: "u", State: WebhookGone, Gone: &WebhookEnd{"r", at}})
	decoded(t, `{"organization":`+organizationJSON+`,"key":`+keyJSON+`,"rate_limit":{"limit":1000,"window_seconds":60}}`, Me{organization, key, &RateLimit{1000, 60}})
	decoded(t, `{"organization":`+organizationJSON+`,"key":`+keyJSON+`,"rate_limit":null}`, Me{organization, key, nil})
	decoded(t, replayJSON, Replay{1, 2, ReplayRunning, time.Time{}, at, []string{"a"}, StatusFailed, 0, 1, 2, 3, at})
	decoded(t, `{"name":"a","mode":"warn","schema":{ "a":1e2},"description":"d","created_at":"2026-01-02T03:04:05.678Z","updated_at":"2026-01-02T03:04:05.678Z"}`,
		EventType{"a", ModeWarn, json.RawMessage(`{ "a":1e2}`), "d", at, at})
	decoded(t, `{"data":[{"event_id":"e","webhook_id":1,"replay_id":3,"status":"open","attempts":4,"next_attempt_at":"2026-01-02T03:04:05.678Z","claimed":true,"reason":null}]}`,
		Page[OwedDelivery]{Data: []OwedDelivery{{"e", 1, 3, DeliveryOpen, 4, at, true, ""}}})
	decoded(t, `[{"id":"e","type":"t","timestamp":"2026-01-02T03:04:05.678Z","data":null}]`, samples{{"e", "t", at, json.RawMessage("null")}})
	decoded(t, `{"scanned":1200,"matched":34,"complete":true,"per_hour":1.4,"samples":[],"difference":{"added":3,"removed":1,"added_samples":[`+eventJSON+`],"removed_samples":[]}}`,
		DryRun{1200, 34, true, 1.4, []Event{}, &FilterDifference{3, 1, []Event{event}, []Event{}}})
}

// What was made by a try whose answer was lost comes without its secret.
func TestLostSecrets(t *testing.T) {
	t.Parallel()
	c := fake(func(*http.Request) (*http.Response, error) {
		return reply("201 Idempotency-Replayed=true", `{"id":7,"organization":{"id":7}}`), nil
	}).client()
	key, err := c.CreateKey(t.Context(), KeyInput{})
	diff(t, "key", key.ID, 7)
	diff(t, "lost", errors.Is(err, ErrSecretLost), true)
	made, err := c.CreateOrganization(t.Context(), OrganizationInput{})
	diff(t, "organization", made.Organization.ID, 7)
	diff(t, "lost", errors.Is(err, ErrSecretLost), true)
	webhook, err := c.CreateWebhook(t.Context(), WebhookInput{})
	diff(t, "webhook", webhook.ID, 7)
	diff(t, "lost", errors.Is(err, ErrSecretLost), true)
	webhook, err = c.CreateWebhook(t.Context(), WebhookInput{Secret: "whsec_mine"})
	diff(t, "secret", webhook.Secret, "whsec_mine")
	diff(t, "error", err, nil)
}

func TestOpt(t *testing.T) {
	t.Parallel()
	type members struct {
		A Opt[string] `json:"a,omitzero"`
	}
	for text, want := range map[string]Opt[string]{`{}`: {}, `{"a":null}`: Null[string](), `{"a":""}`: Set(""), `{"a":"<&>"}`: Set("<&>")} {
		var got members
		if err := json.Unmarshal([]byte(text), &got); err != nil {
			t.Error(err)
		}
		diff(t, text, got.A, want)
		b, err := encode(members{want})
		diff(t, "encoded", string(b), text)
		diff(t, "error", err, nil)
		value, ok := want.Get()
		diff(t, "there", ok, !want.IsNull() && !want.IsZero())
		diff(t, "empty", value == "", text != `{"a":"<&>"}`)
	}
	var got members
	diff(t, "wrong type", json.Unmarshal([]byte(`{"a":1}`), &got) != nil, true)
}
