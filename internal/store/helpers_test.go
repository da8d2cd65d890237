package store_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"triggerd/internal/store"
	"triggerd/internal/trigger"
)

// patience is for how long a test waits for what must come. It measures nothing,
// so it suits a machine with much other work.
const patience = 3 * time.Minute

// newWebhook stores an active webhook and gives its id.
func newWebhook(t *testing.T, s *store.Store, orgID int64, filter string) int64 {
	t.Helper()
	f, err := trigger.ParseFilter([]string{filter}, nil)
	if err != nil {
		t.Fatal(err)
	}
	id, err := s.AddWebhook(t.Context(), orgID, trigger.Webhook{
		State: trigger.Active, URL: "http://127.0.0.1:9/hook", Filter: f, Secrets: trigger.OneSecret(trigger.NewSecret([32]byte{1})),
	}, store.Once{})
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// event makes an event of the store's present time.
func event(s *store.Store, orgID int64, dedupID string) *trigger.Event {
	return eventAt(s.Now(), orgID, dedupID)
}

func eventAt(at time.Time, orgID int64, dedupID string) *trigger.Event {
	return &trigger.Event{
		OrganizationID: orgID, ID: trigger.NewID(at, uint16(rand.Uint32()), rand.Uint64()),
		Type: "user.created", Payload: []byte(`{"n": 9007199254740993, "s":"é\u0000"}`), DedupID: dedupID,
	}
}

// owed makes deliveries of an event to webhooks, due at once.
func owed(e *trigger.Event, webhooks ...int64) (ds []trigger.Delivery) {
	for _, id := range webhooks {
		ds = append(ds, trigger.Delivery{
			DeliveryKey: trigger.DeliveryKey{OrganizationID: e.OrganizationID, EventID: e.ID, WebhookID: id},
			DueAt:       e.ID.Time(),
		})
	}
	return ds
}

// add stores events, each owed to the same webhooks, and gives the verdicts.
func add(t *testing.T, s *store.Store, events []*trigger.Event, webhooks ...int64) []trigger.ID {
	t.Helper()
	b := &store.Batch{Events: events}
	for _, e := range events {
		b.Deliveries = append(b.Deliveries, owed(e, webhooks...))
	}
	verdicts, err := s.AddEvents(t.Context(), b, false)
	if err != nil {
		t.Fatal(err)
	}
	return verdicts
}

// events makes n events without dedup ids.
func events(s *store.Store, orgID int64, n int) (list []*trigger.Event) {
	for range n {
		list = append(list, event(s, orgID, ""))
	}
	return list
}

// claimAll claims up to 1000 due deliveries of a webhook.
func claimAll(t *testing.T, s *store.Store, orgID, webhookID int64, lease time.Duration) []trigger.Delivery {
	t.Helper()
	now := s.Now()
	ds, err := s.Claim(t.Context(), []store.Want{{Bucket: trigger.Bucket(orgID), WebhookID: webhookID, Room: 1000}},
		s.NewClaim(), now, now.Add(lease))
	if err != nil {
		t.Fatal(err)
	}
	return ds
}

// result makes the result of an attempt at a delivery.
func result(s *store.Store, d trigger.Delivery, outcome trigger.Outcome) store.Result {
	a := trigger.Attempt{DeliveryKey: d.DeliveryKey, Claim: d.Claim, At: s.Now(), Took: time.Millisecond, Outcome: outcome, Status: 200}
	return store.Result{Attempt: a, Next: d.After(a, trigger.DefaultSchedule(), s.Now(), 0)}
}

// statuses lists the events of an organization as id=status.
func statuses(t *testing.T, s *store.Store, orgID int64, status trigger.Status, limit int) (list []string) {
	t.Helper()
	page, err := s.ListEvents(t.Context(), orgID, status, limit)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range page {
		list = append(list, fmt.Sprintf("%s=%s", e.ID, e.Status))
	}
	return list
}
