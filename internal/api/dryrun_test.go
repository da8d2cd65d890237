package api

import (
	"encoding/json"
	"fmt"
	"math"
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

// dryEvent is an event that dry runs are tried on.
type dryEvent struct {
	id, eventType string
	n             int
}

// matches is the slow model: it knows patterns without a star or with one at
// their end, and conditions on n.
func (e dryEvent) matches(types []string, above int) bool {
	ok := len(types) == 0
	for _, p := range types {
		head, star := strings.CutSuffix(p, "*")
		ok = ok || p == e.eventType || star && strings.HasPrefix(e.eventType, head)
	}
	return ok && e.n >= above
}

func above(n int) json.RawMessage {
	if n == 0 {
		return nil
	}
	return json.RawMessage(fmt.Sprintf(`{"path":"/n","numeric":{"gte":%d}}`, n))
}

// A dry run says what a slow model says, whatever the filters are.
func TestDryRun(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		o := newServer(t, db).newOwner(t)
		var events []dryEvent // the newest first
		names := []string{"a", "a.b", "a.c", "b"}
		for i := range 40 {
			e := dryEvent{eventType: names[i%4], n: i * 7 % 10}
			e.id = o.accept(t, o.key, fmt.Sprintf(`{"type":"%s","payload":{"n": %d}}`, e.eventType, e.n))
			events = append([]dryEvent{e}, events...)
		}
		filters := [][]string{nil, {"a"}, {"a*"}, {"a.*", "b"}, {"c"}}
		for _, types := range filters {
			for _, n := range []int{0, 5, 10} {
				hook := sure(o.CreateWebhook(t.Context(), client.WebhookInput{URL: "https://example.com", Types: types, Content: above(n)}))(t)
				for _, tried := range filters {
					for _, m := range []int{0, 3} {
						o.checkDryRun(t, events, client.DryRunInput{Types: tried, Content: above(m), WebhookID: hook.ID}, m, func(e dryEvent) bool { return e.matches(types, n) })
					}
				}
			}
		}
		for _, tried := range filters {
			o.checkDryRun(t, events, client.DryRunInput{Types: tried, Content: above(3)}, 3, nil)
		}
	})
}

// checkDryRun compares a dry run with the model; had is the webhook that it is
// compared with.
func (o *owner) checkDryRun(t *testing.T, events []dryEvent, in client.DryRunInput, n int, had func(dryEvent) bool) {
	t.Helper()
	got := sure(o.DryRunWebhook(t.Context(), in))(t)
	var matched, added, removed []string
	for _, e := range events {
		picked, before := e.matches(in.Types, n), had != nil && had(e)
		if picked {
			matched = append(matched, e.id)
		}
		if had != nil && picked && !before {
			added = append(added, e.id)
		}
		if before && !picked {
			removed = append(removed, e.id)
		}
	}
	shown := func(of []client.Event) []string {
		ids := []string{}
		for _, e := range of {
			ids = append(ids, e.ID)
		}
		return ids
	}
	type result struct {
		Scanned, Matched, Added, Removed int
		Samples, Plus, Minus             []string
		Complete                         bool
	}
	first := func(ids []string) []string { return append([]string{}, ids[:min(3, len(ids))]...) }
	want := result{len(events), len(matched), len(added), len(removed), first(matched), first(added), first(removed), true}
	found := result{int(got.Scanned), int(got.Matched), 0, 0, shown(got.Samples), []string{}, []string{}, got.Complete}
	if d := got.Difference; d != nil {
		found.Added, found.Removed, found.Plus, found.Minus = int(d.Added), int(d.Removed), shown(d.AddedSamples), shown(d.RemovedSamples)
	}
	if diff := cmp.Diff(want, found); diff != "" || (had == nil) != (got.Difference == nil) {
		t.Errorf("%+v: %s", in, diff)
	}
	if hourly := float64(len(matched)) / 24; math.Abs(got.PerHour-hourly) > 1e-9 {
		t.Errorf("%+v: %v an hour, want %v", in, got.PerHour, hourly)
	}
}

// A dry run looks at the span it is asked for, and shows payloads as they came.
func TestDryRunSpans(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		o := newServer(t, db).newOwner(t)
		ago := func(d time.Duration) time.Time { return o.store.Now().Add(-d) }
		const payload = `{"n": 1.50,  "s":"\u00e9<", "__proto__":null}`
		first := o.accept(t, o.key, `{"type":"a","payload":`+payload+`}`)
		db.Clock.Advance(30 * time.Hour)
		if err := o.store.SyncClock(t.Context()); err != nil {
			t.Fatal(err)
		}
		second := o.accept(t, o.key, `{"type":"a","payload":2}`)
		for _, tt := range []struct {
			since, until time.Time
			want         []string
			hours        float64
		}{
			{time.Time{}, time.Time{}, []string{second}, 24},
			{ago(48 * time.Hour), time.Time{}, []string{second, first}, 48},
			{ago(48 * time.Hour), ago(time.Hour), []string{first}, 47},
			{time.Time{}, ago(29 * time.Hour), []string{first}, 24},
			{ago(25 * time.Hour), ago(time.Hour), nil, 24},
			{ago(10 * time.Hour), ago(-10 * time.Hour), []string{second}, 10}, // until now at most
		} {
			got := sure(o.DryRunWebhook(t.Context(), client.DryRunInput{Since: tt.since, Until: tt.until}))(t)
			var ids []string
			for _, e := range got.Samples {
				ids = append(ids, e.ID)
			}
			if !slices.Equal(ids, tt.want) || int(got.Scanned) != len(tt.want) || !got.Complete || math.Abs(got.PerHour*tt.hours-float64(len(tt.want))) > 0.001 {
				t.Errorf("%s to %s: %+v", tt.since, tt.until, got)
			}
		}
		r := o.ask(t, "POST", "/v1/webhooks/dry-run", `{"types":null,"content":null,"webhook_id":null,"since":"1970-01-01T00:00:00Z","until":null}`)
		if !strings.Contains(r.body, `"payload":`+payload+`,`) || !strings.Contains(r.body, `"status":"pending"`) || !json.Valid([]byte(r.body)) {
			t.Errorf("not as it came: %s", r.body)
		}
		for body, at := range map[string]string{
			`{"since":"x"}`: "#/since", `{"until":"1960-01-01T00:00:00Z"}`: "#/until", `{"since":"2030-01-01T00:00:00Z","until":"2020-01-01T00:00:00Z"}`: "#/since",
			`{"since":"9000-01-01T00:00:00Z"}`: "#/since", `{"types":[""]}`: "#/types/0", `{"content":{"path":"a"}}`: "#/content/path", `{"webhook_id":0}`: "#/webhook_id",
			`{"webhook_id":"1"}`: "#/webhook_id", `{"url":"x"}`: "#/url",
		} {
			o.refuses(t, "POST", "/v1/webhooks/dry-run", body, "validation_failed", at)
		}
		o.refuses(t, "POST", "/v1/webhooks/dry-run", `[]`, "invalid_json", "")
	})
}

// At most 10,000 events are looked at, the newest of them.
func TestDryRunLimit(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		o := newServer(t, db).newOwner(t)
		org, begun := o.keyOf(t, o.key).Organization.ID, o.store.Now().Add(-2*time.Hour)
		at := 0
		add := func(n int, eventType string) {
			t.Helper()
			for n > 0 {
				b := &store.Batch{}
				for range min(n, 1000) {
					at++
					b.Events = append(b.Events, &trigger.Event{
						OrganizationID: org, ID: trigger.NewID(begun.Add(time.Duration(at)*time.Millisecond), 0, uint64(at)), Type: eventType, Payload: []byte(`{"n":1}`),
					})
					b.Deliveries = append(b.Deliveries, nil)
				}
				if _, err := o.store.AddEvents(t.Context(), b, false); err != nil {
					t.Fatal(err)
				}
				n -= len(b.Events)
			}
		}
		add(1, "old")
		add(maxScanned, "new")
		got := sure(o.DryRunWebhook(t.Context(), client.DryRunInput{Types: []string{"old"}, Content: above(1)}))(t)
		if got.Scanned > maxScanned || got.Matched != 0 || got.Complete { // fewer where the machine is slow
			t.Errorf("%+v", got)
		}
		got = sure(o.DryRunWebhook(t.Context(), client.DryRunInput{Types: []string{"new"}}))(t)
		if hours := float64(got.Matched) / got.PerHour; got.Matched != got.Scanned || hours < 1.9 || hours > 2.1 {
			t.Errorf("%+v: %v an hour, which is %v hours", got, got.PerHour, hours)
		}
	})
}

// What the server says about itself is picked by whoever names it.
func TestDryRunOfNotices(t *testing.T) {
	t.Parallel()
	o := newServer(t, storetest.SQLite(t)).newOwner(t)
	teller, gone := o.hook(t, "webhook.*"), o.hook(t, "a")
	if _, err := o.store.StopWebhook(t.Context(), store.Stop{OrganizationID: o.keyOf(t, o.key).Organization.ID, WebhookID: gone.ID, State: trigger.Gone}); err != nil {
		t.Fatal(err)
	}
	got := sure(o.DryRunWebhook(t.Context(), client.DryRunInput{WebhookID: teller.ID}))(t)
	if got.Scanned != 1 || got.Matched != 0 || got.Difference.Removed != 1 || got.Difference.RemovedSamples[0].Type != "webhook.gone" {
		t.Errorf("%+v", got)
	}
}
