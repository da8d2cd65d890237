package main

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"syscall"
	"testing"
	"time"

	"triggerd/internal/store"
	"triggerd/internal/store/storetest"
	"triggerd/internal/trigger"
)

// replayOf prepares a database: events of the past, and a replay of them to a
// webhook that came later.
func replayOf(t *testing.T, db *storetest.DB, url string, n int) (orgID, job int64) {
	t.Helper()
	s, err := store.Open(t.Context(), db.Options)
	if err != nil {
		t.Fatal(err)
	}
	orgID = storetest.NewOrganization(t, s)
	past := s.Now().Add(-time.Hour)
	for range n / 500 {
		b := &store.Batch{}
		for i := range 500 {
			past = past.Add(time.Millisecond)
			e := &trigger.Event{
				OrganizationID: orgID, ID: trigger.NewID(past, uint16(i), rand.Uint64()),
				Type: "user.created", Payload: fmt.Appendf(nil, `{"n":%d}`, i),
			}
			key := trigger.DeliveryKey{OrganizationID: orgID, EventID: e.ID}
			b.Events, b.Deliveries = append(b.Events, e), append(b.Deliveries, []trigger.Delivery{{DeliveryKey: key, DueAt: past}})
		}
		if _, err := s.AddEvents(t.Context(), b, false); err != nil {
			t.Fatal(err)
		}
	}
	hook, err := s.AddWebhook(t.Context(), orgID, trigger.Webhook{
		State: trigger.Active, URL: url, Secrets: trigger.OneSecret(trigger.NewSecret([32]byte{1})),
	}, store.Once{})
	if err != nil {
		t.Fatal(err)
	}
	job, err = s.AddReplay(t.Context(), orgID, trigger.Replay{
		WebhookID: hook, Since: past.Add(-time.Hour), Until: s.Now().Add(-10 * time.Minute),
	}, store.Once{})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return orgID, job
}

// The process is killed in the middle of a replay, twice: the replay goes on
// where it was, owes each event once, and all of them come.
func TestKillWhileReplaying(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		const n = 3000
		rec := newRecorder(t, nil)
		orgID, job := replayOf(t, db, rec.URL+"/hook", n)
		p := startProcess(t, db)
		for _, killAt := range []int{300, 1400} {
			rec.wait(t, killAt)
			p.end(t, syscall.SIGKILL)
			p = startProcess(t, db)
		}
		came := map[string]int{}
		for at := n; len(came) < n; at++ {
			clear(came)
			for _, r := range rec.wait(t, at) {
				came[r.header.Get("Webhook-Id")]++
				if got := r.header.Get("Webhook-Replay"); got != strconv.FormatInt(job, 10) {
					t.Fatalf("a delivery of replay %q, want %d", got, job)
				}
			}
		}
		ended := func() trigger.Replay {
			p.end(t, syscall.SIGTERM)
			s := db.Open(t)
			r, err := s.Replay(t.Context(), orgID, job)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := s.FeedReplay(t.Context(), r); err != nil {
				t.Fatal(err)
			}
			if r, err = s.Replay(t.Context(), orgID, job); err != nil {
				t.Fatal(err)
			}
			return r
		}()
		if ended.State != trigger.ReplayDone || ended.Queued != n || ended.Delivered != n || ended.Failed != 0 {
			t.Errorf("the replay is %s: %d made, %d delivered, %d failed", ended.State, ended.Queued, ended.Delivered, ended.Failed)
		}
		t.Logf("%d deliveries came twice", len(rec.wait(t, 0))-n)
	})
}
