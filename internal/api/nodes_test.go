package api

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"triggerd/internal/store/storetest"
	"triggerd/internal/trigger"
)

// TestTwoNodes holds what is promised over all nodes of one database.
func TestTwoNodes(t *testing.T) {
	t.Parallel()
	storetest.OnPostgres(t, func(t *testing.T, db *storetest.DB) {
		limited := func(a *API) { a.Limits[trigger.Free] = 60 }
		nodes := []*server{newServer(t, db, limited), newServer(t, db, limited)}
		if err := nodes[0].store.TouchNode(t.Context()); err != nil { // it came first, and was alone
			t.Fatal(err)
		}
		t.Run("a dedup id", func(t *testing.T) { sameDedupIDOnAll(t, nodes) })
		t.Run("the rate limit", func(t *testing.T) { rateLimitOverAll(t, nodes) })
		t.Run("a webhook", func(t *testing.T) {
			key := nodes[0].newKey(t, "free")
			nodes[1].accept(t, key, `{"type":"t","payload":1}`) // now its webhooks are cached: none
			id := nodes[0].newWebhook(t, key, `{"url":"https://example.com/"}`)
			nodes[1].accept(t, key, `{"type":"t","payload":1}`)
			if n := (&tenants{server: nodes[1]}).claimable(t, id, key); n != 1 {
				t.Errorf("%d events are owed to a webhook that the other node registered, want 1", n)
			}
		})
		t.Run("a revoked key", func(t *testing.T) {
			key := nodes[0].newKey(t, "free")
			stored := nodes[0].keyOf(t, key)
			nodes[0].addKey(t, key, trigger.AllScopes) // the last one cannot be revoked
			nodes[1].inbox(t, key, "")
			if err := nodes[0].store.RevokeAPIKey(t.Context(), stored.Organization.ID, stored.ID); err != nil {
				t.Fatal(err)
			}
			nodes[1].clock.Advance(5 * time.Second)
			nodes[1].do(t, "GET", "/api/inbox", key, "").isExactly(t, "revoked", 401, `{"error":"Invalid API key"}`)
		})
	})
}

// postAtOnce posts n events, to each node in turn, and counts the answers.
func postAtOnce(t *testing.T, nodes []*server, key, body string, n int) map[string]int {
	var clients sync.WaitGroup
	var mu sync.Mutex
	answers := map[string]int{}
	for i := range n {
		clients.Go(func() {
			r := nodes[i%len(nodes)].post(t, key, body)
			mu.Lock()
			defer mu.Unlock()
			answers[fmt.Sprint(r.status)]++
			answers[r.body]++
		})
	}
	clients.Wait()
	return answers
}

func sameDedupIDOnAll(t *testing.T, nodes []*server) {
	key := nodes[0].newKey(t, "professional")
	answers := postAtOnce(t, nodes, key, `{"type":"t","payload":1,"dedup_id":"d"}`, 100)
	page := nodes[1].inbox(t, key, "")
	if page.Count != 1 {
		t.Fatalf("%d events", page.Count)
	}
	id := page.Events[0].ID
	if answers[`{"status":"accepted","event-id":"`+id+`"}`] != 1 ||
		answers[`{"status":"duplicate","event-id":"`+id+`","message":"Event already exists"}`] != 99 {
		t.Errorf("answers: %v", answers)
	}
}

func rateLimitOverAll(t *testing.T, nodes []*server) {
	key := nodes[0].newKey(t, "free")
	answers := postAtOnce(t, nodes, key, `{"type":"t","payload":1}`, 100)
	stored := nodes[0].inbox(t, key, "?limit=100").Count
	if passed := answers["200"]; passed < 60 || passed > 63 || answers["429"] != 100-passed || stored != passed {
		t.Errorf("%d are stored, want 60 and 5 %% at most; answers: %v", stored, answers)
	}
}
