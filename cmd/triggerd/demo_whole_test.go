package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"triggerd/internal/store/storetest"
)

// inboxPage is how many events an inbox shows at most, and so how many each
// organization of the test gets.
const inboxPage = 100

// TestEveryExample sends all real payloads through a whole server and compares
// what its receiver and its inbox get, byte for byte.
func TestEveryExample(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		examples, err := loadExamples()
		if err != nil {
			t.Fatal(err)
		}
		receiver := newRecorder(t, nil)
		s := startServer(t, db, nil)
		posted := make(map[string]example) // by event id
		inboxes := make(map[string][]string)
		webhooks := make(map[string]*standardwebhooks.Webhook) // by the path of their URL
		for part := range slices.Chunk(examples, inboxPage) {
			key := s.newKey(t, "enterprise")
			path := fmt.Sprintf("/%d", len(inboxes))
			_, secret := s.register(t, key, receiver.URL+path, "github.*")
			if webhooks[path], err = standardwebhooks.NewWebhook(secret); err != nil {
				t.Fatal(err)
			}
			inboxes[key] = postExamples(t, s, key, part)
			for i, id := range inboxes[key] {
				posted[id] = part[i]
			}
		}
		if len(posted) != len(examples) {
			t.Fatalf("%d different event ids for %d events", len(posted), len(examples))
		}
		checkDeliveries(t, receiver.wait(t, len(examples)), posted, webhooks)
		s.stop() // its attempts are recorded when it has stopped
		s = startServer(t, db, nil)
		for key, ids := range inboxes {
			checkInbox(t, s, key, ids, posted)
		}
		if n := len(receiver.wait(t, 0)); n != len(examples) {
			t.Errorf("%d deliveries of %d events", n, len(examples))
		}
	})
}

// postExamples posts events, eight at a time, and returns their ids. Their
// dedup ids are the same for each organization.
func postExamples(t *testing.T, s *testServer, key string, examples []example) []string {
	t.Helper()
	ids := make([]string, len(examples))
	var posting sync.WaitGroup
	for worker := range 8 {
		posting.Go(func() {
			for i := worker; i < len(examples); i += 8 {
				answer := s.postEvent(t, key, examples[i].Type, fmt.Sprint("dedup-", i), string(examples[i].Payload))
				if answer.Status != "accepted" {
					t.Errorf("example %d: %+v", i, answer)
				}
				ids[i] = answer.EventID
			}
		})
	}
	posting.Wait()
	return ids
}

func checkDeliveries(t *testing.T, got []received, posted map[string]example, webhooks map[string]*standardwebhooks.Webhook) {
	t.Helper()
	seen := make(map[string]bool)
	for _, r := range got {
		id := r.header.Get("webhook-id")
		if err := webhooks[r.path].Verify(r.body, r.header); err != nil {
			t.Errorf("event %s: %v", id, err)
		}
		var body struct {
			ID        string
			Type      string
			Timestamp string
			Data      json.RawMessage
		}
		if err := json.Unmarshal(r.body, &body); err != nil {
			t.Errorf("event %s: %v", id, err)
		}
		sent, ok := posted[id]
		if !ok || seen[id] || body.ID != id || body.Type != sent.Type || string(body.Data) != string(sent.Payload) {
			t.Errorf("event %s of type %s, accepted %v, arrived before %v: %.200s", id, sent.Type, ok, seen[id], r.body)
		}
		// The frame around the payload's own bytes, whole.
		frame := fmt.Sprintf(`{"id":%q,"type":%q,"timestamp":%q,"data":%s}`, id, sent.Type, body.Timestamp, sent.Payload)
		if _, err := time.Parse("2006-01-02T15:04:05.000Z", body.Timestamp); err != nil || string(r.body) != frame {
			t.Errorf("event %s: the body is %.200s", id, r.body)
		}
		if media := r.header.Get("Content-Type"); media != "application/json" {
			t.Errorf("event %s: Content-Type %q", id, media)
		}
		seen[id] = true
	}
}

// checkInbox wants just these events, as they were posted, and all delivered.
func checkInbox(t *testing.T, s *testServer, key string, ids []string, posted map[string]example) {
	t.Helper()
	var inbox struct {
		Events []struct {
			ID, Type, Status string
			Payload          json.RawMessage
		}
		Count int
	}
	s.get(t, key, fmt.Sprintf("/api/inbox?limit=%d", inboxPage)).into(t, &inbox)
	if inbox.Count != len(ids) || len(inbox.Events) != len(ids) {
		t.Errorf("%d events, count %d, want %d", len(inbox.Events), inbox.Count, len(ids))
	}
	for i, e := range inbox.Events {
		sent := posted[e.ID]
		if !slices.Contains(ids, e.ID) || e.Status != "delivered" || e.Type != sent.Type || string(e.Payload) != string(sent.Payload) {
			t.Errorf("event %s of type %s is %s: %.200s", e.ID, e.Type, e.Status, e.Payload)
		}
		if i > 0 && inbox.Events[i-1].ID <= e.ID {
			t.Errorf("event %s is not newer than %s", inbox.Events[i-1].ID, e.ID)
		}
	}
	for _, status := range []string{"pending", "failed"} {
		if r := s.get(t, key, "/api/inbox?status="+status); r.body != `{"events":[],"count":0}` {
			t.Errorf("%s: %.200s", status, r.body)
		}
	}
}
