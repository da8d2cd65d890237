package deliver_test

import (
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"triggerd/internal/deliver"
	"triggerd/internal/store"
	"triggerd/internal/store/storetest"
	"triggerd/internal/trigger"
)

// A backlog that is spread over many organizations drains, though attempts
// have little time, leases are short, and the machine may be so busy that events
// are read no faster than leases end.
func TestBacklogOfManyOrganizations(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := db.Open(t)
		r := newReceiver(t, nil)
		const organizations, each = 100, 6
		orgs := make([]int64, organizations)
		for i := range orgs {
			orgs[i] = storetest.NewOrganization(t, s)
			post(t, s, newWebhook(t, s, orgs[i], r.URL), each)
		}
		n := startNode(t, db, s, func(c *deliver.Config) {
			c.Timeout = 3 * time.Second
			c.Schedule = slices.Repeat(trigger.Schedule{time.Second}, 20) // a busy machine may need more time
		})
		until(t, "nothing is open", func() bool {
			b, err := s.Backlog(t.Context())
			return err == nil && b.Open == 0
		})
		n.stop()
		succeeded := 0
		for _, org := range orgs {
			attempts, _, err := s.ListAttempts(t.Context(), org, store.AttemptFilter{}, trigger.ID{}, 1000)
			if err != nil {
				t.Fatal(err)
			}
			for _, a := range attempts {
				if a.Outcome == trigger.Success {
					succeeded++
				}
			}
		}
		if succeeded != organizations*each {
			t.Errorf("%d attempts succeeded, want %d", succeeded, organizations*each)
		}
	})
}

// A stop ends though results cannot be recorded: their leases run out, and
// they are sent again.
func TestStopWithoutDatabase(t *testing.T) {
	t.Parallel()
	db := storetest.SQLite(t)
	s := db.Open(t)
	release := make(chan struct{})
	free := sync.OnceFunc(func() { close(release) })
	t.Cleanup(free)
	r := newReceiver(t, func(http.ResponseWriter, *http.Request) { <-release })
	hook := newWebhook(t, s, storetest.NewOrganization(t, s), r.URL)
	post(t, s, hook, 3)
	n := startNode(t, db, s, nil)
	r.wait(t, 3)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	free()
	n.stop() // hangs, if it does not give up
}

// Pausing is a claim away: nothing of a paused webhook is sent or claimed, and
// all of it when it is active again.
func TestPausedWaits(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := db.Open(t)
		r := newReceiver(t, nil)
		org := storetest.NewOrganization(t, s)
		hook := newWebhook(t, s, org, r.URL)
		other := newWebhook(t, s, org, r.URL+"/other")
		if err := s.SetWebhookState(t.Context(), org, hook.ID, trigger.Paused); err != nil {
			t.Fatal(err)
		}
		waiting := post(t, s, hook, 10)
		n := startNode(t, db, s, nil)
		for _, e := range post(t, s, other, 10) { // a round has passed by when these are done
			untilStatus(t, s, e, trigger.Delivered)
		}
		if got := r.wait(t, 10); len(got) != 10 {
			t.Errorf("%d requests came, want the other's 10", len(got))
		}
		if err := s.SetWebhookState(t.Context(), org, hook.ID, trigger.Active); err != nil {
			t.Fatal(err)
		}
		n.Wake()
		for _, e := range waiting {
			untilStatus(t, s, e, trigger.Delivered)
		}
	})
}
