package api

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"

	"triggerd/internal/store/storetest"
)

// TestOriginalSmoke is the smoke test of the original, which failed from its
// second run on: ten runs against one server must all pass, and leave nothing
// behind. It is not parallel, since it counts what the whole process holds.
func TestOriginalSmoke(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := newServer(t, db)
		s.smoke(t, 0) // opens the connections to the database that are kept
		before := s.settled(t)
		for run := 1; run <= 10; run++ {
			s.smoke(t, run)
		}
		after := held{}
		defer func() {
			if t.Failed() {
				t.Logf("held before %+v, after %+v", before, after)
			}
		}()
		eventually(t, "goroutines, descriptors and connections are back at the start value", func() bool {
			after = s.held(t)
			return after.goroutines <= before.goroutines && after.descriptors <= before.descriptors && after.connections == 0
		})
	})
}

// smoke is one run.
func (s *server) smoke(t *testing.T, run int) {
	t.Helper()
	s.do(t, "GET", "/health", "", "").wants(t, "1 health", 200, `"status":"ok"`)
	s.do(t, "GET", "/stats/cache", "", "").wants(t, "2 cache stats", 200, `"hit-rate":`)
	r := s.do(t, "POST", "/api/keys/generate", "", `{"organization_name":"Test Organization","tier":"free"}`)
	r.wants(t, "3 key generation", 200, `"api-key":"sk_`)
	key := r.member(t, "api-key")
	event := fmt.Sprintf(`{"type":"user.created","payload":{"user_id":%d},"dedup_id":"smoke-test"}`, run)
	s.post(t, "", event).isExactly(t, "4 without a key", 401, `{"error":"Missing API key"}`)
	id := s.accept(t, key, event)
	s.post(t, key, event).isExactly(t, "6 duplicate", 200, `{"status":"duplicate","event-id":"`+id+`","message":"Event already exists"}`)
	page := s.inbox(t, key, "?status=pending&limit=10")
	if page.Count != 1 || page.Events[0].ID != id || page.Events[0].Status != "pending" ||
		string(page.Events[0].Payload) != fmt.Sprintf(`{"user_id":%d}`, run) {
		t.Errorf("7 inbox: %+v", page)
	}
	s.post(t, "sk_wrong", event).isExactly(t, "8 a wrong key", 401, `{"error":"Invalid API key"}`)
	if t.Failed() {
		t.Fatalf("run %d failed", run)
	}
}

// held is what a process must give back.
type held struct{ goroutines, descriptors, connections int }

// settled is what is held when nothing changes any more.
func (s *server) settled(t *testing.T) (h held) {
	t.Helper()
	same := 0
	eventually(t, "nothing changes", func() bool {
		now := s.held(t)
		if same++; now != h {
			h, same = now, 0
		}
		return same == 10
	})
	return h
}

// held counts what is held while no client is connected.
func (s *server) held(t *testing.T) held {
	t.Helper()
	s.Client().CloseIdleConnections()
	s.CloseClientConnections()
	h := held{goroutines: runtime.NumGoroutine(), connections: s.store.Stats().InUse}
	if runtime.GOOS == "linux" {
		list, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		for _, entry := range list {
			if name, _ := os.Readlink("/proc/self/fd/" + entry.Name()); !strings.HasPrefix(name, "/proc/") {
				h.descriptors++
			}
		}
	}
	return h
}
