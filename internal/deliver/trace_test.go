package deliver_test

import (
	"math/rand/v2"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"triggerd/internal/deliver"
	"triggerd/internal/store"
	"triggerd/internal/store/storetest"
	"triggerd/internal/trigger"
)

// Each attempt is a span of its own in the sender's trace, or in the event's
// where there is none; and a CloudEvent is given back as it came.
func TestTraceAndCloudEvent(t *testing.T) {
	t.Parallel()
	const trace, parent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
	traceparent := regexp.MustCompile(`^00-([0-9a-f]{32})-([0-9a-f]{16})-(0[01])$`)
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := db.Open(t)
		org := storetest.NewOrganization(t, s)
		r := newReceiver(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) })
		w := trigger.Webhook{
			State: trigger.Active, URL: r.URL, Secrets: trigger.OneSecret(trigger.NewSecret([32]byte{7})), Format: trigger.FormatCloudEvents,
		}
		id, err := s.AddWebhook(t.Context(), org, w, store.Once{})
		if err != nil {
			t.Fatal(err)
		}
		const attributes = `{"specversion":"1.0","id":"1","source":"/s","type":"t","time":"2026-01-01T00:00:00.000001+01:00","n":1,"ext":"<\u00e9>\/"`
		at := s.Now()
		sent := []*trigger.Event{
			{Type: "t", Payload: []byte(`1e400`)},
			{Type: "t", Payload: []byte(`{ "a": 1 }`), Traceparent: "00-" + trace + "-" + parent + "-01", Cloud: &trigger.CloudEvent{Attributes: []byte(attributes + "}")}},
			{Type: "t", Payload: []byte(`"AAE="`), Traceparent: "cc-" + trace + "-" + parent + "-00-later", Cloud: &trigger.CloudEvent{Attributes: []byte(attributes + "}"), Base64: true}},
		}
		b := &store.Batch{}
		for i, e := range sent {
			e.OrganizationID, e.ID = org, trigger.NewID(at, uint16(i), rand.Uint64())
			b.Events = append(b.Events, e)
			b.Deliveries = append(b.Deliveries, []trigger.Delivery{{DeliveryKey: trigger.DeliveryKey{OrganizationID: org, EventID: e.ID, WebhookID: id}, DueAt: at}})
		}
		if _, err := s.AddEvents(t.Context(), b, false); err != nil {
			t.Fatal(err)
		}
		startNode(t, db, s, func(c *deliver.Config) { c.Schedule = trigger.Schedule{time.Second, time.Second, time.Hour} })
		spans := map[string]bool{parent: true}
		tries := map[string]int{}
		bodies := map[string]string{}
		for _, got := range r.wait(t, 9) {
			event, m := got.header.Get("Webhook-Id"), traceparent.FindStringSubmatch(got.header.Get("Traceparent"))
			if m == nil || len(got.header.Values("Traceparent")) != 1 {
				t.Fatalf("Traceparent %q", got.header.Values("Traceparent"))
			}
			want := strings.ReplaceAll(event, "-", "") + " 00"
			switch event {
			case sent[1].ID.String():
				want = trace + " 01"
			case sent[2].ID.String():
				want = trace + " 00"
			}
			if m[1]+" "+m[3] != want || spans[m[2]] || m[2] == strings.Repeat("0", 16) {
				t.Errorf("try %d of %s: %s, want trace %s and a new span", tries[event], event, m[0], want)
			}
			spans[m[2]] = true
			tries[event]++
			bodies[event] = got.body
		}
		for i, want := range []string{`"data":1e400}`, attributes + `,"data":{ "a": 1 }}`, attributes + `,"data_base64":"AAE="}`} {
			if got := bodies[sent[i].ID.String()]; i == 0 && !strings.HasSuffix(got, want) || i > 0 && got != want {
				t.Errorf("event %d was sent as %s, want %s", i, got, want)
			}
		}
	})
}
