package deliver_test

import (
	"context"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"triggerd/internal/deliver"
	"triggerd/internal/store"
	"triggerd/internal/store/storetest"
	"triggerd/internal/trigger"
)

// slowLooks is a store in which each look at all lanes takes ten seconds, as it
// does in PostgreSQL beside a snapshot that is hours old.
type slowLooks struct {
	*store.Store
	took  *atomic.Int64 // nanoseconds, of all looks
	looks atomic.Int64
}

func (s *slowLooks) Lanes(ctx context.Context, after store.Lane, limit int) ([]store.Lane, error) {
	s.looks.Add(1)
	s.took.Add(int64(10 * time.Second))
	return s.Store.Lanes(ctx, after, limit)
}

// Where a look at all lanes takes long, there is one in a minute; and what
// comes due meanwhile is delivered all the same: retries, what others have
// accepted, and more than is claimed at once.
func TestSlowLooks(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		var refused, took atomic.Int64
		r := newReceiver(t, func(w http.ResponseWriter, _ *http.Request) {
			if refused.Add(1) == 1 {
				w.WriteHeader(http.StatusServiceUnavailable)
			}
		})
		s := &slowLooks{Store: db.Open(t), took: &took}
		org := storetest.NewOrganization(t, s.Store)
		hook, other := newWebhook(t, s.Store, org, r.URL), newWebhook(t, s.Store, org, r.URL)
		post(t, s.Store, hook, 1)
		startNode(t, db, s.Store, func(c *deliver.Config) {
			c.Store, c.Schedule = s, trigger.Schedule{time.Second, time.Second}
			c.Now = func() time.Time { return db.Clock.Now().Add(time.Duration(took.Load())) }
		})
		r.wait(t, 2) // the retry
		post(t, s.Store, hook, 1500)
		r.wait(t, 1502)
		if n := s.looks.Load(); n != 1 {
			t.Errorf("%d looks at all lanes, want 1", n)
		}
		post(t, s.Store, other, 1) // this node has not heard of it
		took.Add(int64(time.Minute))
		r.wait(t, 1503)
		if n := s.looks.Load(); n < 2 {
			t.Errorf("%d looks at all lanes, want another one", n)
		}
	})
}

// When the database's clock goes back, looks begin anew: what another node has
// stored by the right clock, before this one knew of it, is found at once, and
// not by the next look at all lanes, which is not made for a minute.
func TestLooksAfterStepBack(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		var took atomic.Int64
		r := newReceiver(t, nil)
		s, begun := &slowLooks{Store: db.Open(t), took: &took}, time.Now()
		org := storetest.NewOrganization(t, s.Store)
		hook := newWebhook(t, s.Store, org, r.URL)
		db.Clock.Advance(dayLong)
		post(t, s.Store, hook, 1)
		startNode(t, db, s.Store, func(c *deliver.Config) {
			c.Store = s
			c.Now = func() time.Time { return begun.Add(time.Duration(took.Load())) } // which does not come to the next look
		})
		r.wait(t, 1)
		e := &trigger.Event{OrganizationID: org, ID: trigger.NewID(s.Now(), 0, 1), Type: "t", Payload: []byte("1")}
		key := trigger.DeliveryKey{OrganizationID: org, EventID: e.ID, WebhookID: hook.ID}
		owed := []trigger.Delivery{{DeliveryKey: key, DueAt: s.Now().Add(-dayLong - 10*time.Second)}}
		if _, err := s.AddEvents(t.Context(), &store.Batch{Events: []*trigger.Event{e}, Deliveries: [][]trigger.Delivery{owed}}, false); err != nil {
			t.Fatal(err)
		}
		db.Clock.Advance(-dayLong)
		r.wait(t, 2)
	})
}

// watched is a store that notes of which webhooks it is asked what is due.
type watched struct {
	*slowLooks
	mu    sync.Mutex
	asked map[int64]int // by webhook
}

func (s *watched) DueLanes(ctx context.Context, of []store.Lane, from, until time.Time) ([]store.Lane, error) {
	s.mu.Lock()
	for _, l := range of {
		s.asked[l.WebhookID]++
	}
	s.mu.Unlock()
	return s.slowLooks.DueLanes(ctx, of, from, until)
}

// Webhooks that get nothing now, since they are paused or their breaker is open,
// are not looked at between two looks at all: what comes due of others is found
// as fast as without them. When one is resumed, what it is owed comes at once.
func TestLooksWithoutPausedWebhooks(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		var took atomic.Int64
		r := newReceiver(t, nil)
		s := &watched{slowLooks: &slowLooks{Store: db.Open(t), took: &took}, asked: map[int64]int{}}
		org := storetest.NewOrganization(t, s.Store)
		var idle []*trigger.Webhook
		for range 10 {
			w := newWebhook(t, s.Store, org, r.URL+"/paused")
			post(t, s.Store, w, 1)
			if err := s.SetWebhookState(t.Context(), org, w.ID, trigger.Paused); err != nil {
				t.Fatal(err)
			}
			idle = append(idle, w)
		}
		busy := newWebhook(t, s.Store, org, r.URL)
		post(t, s.Store, busy, 1)
		n := startNode(t, db, s.Store, func(c *deliver.Config) {
			c.Store = s
			c.Now = func() time.Time { return db.Clock.Now().Add(time.Duration(took.Load())) }
		})
		r.wait(t, 1)
		post(t, s.Store, idle[0], 1) // while it is paused
		asked := func(id int64) int {
			s.mu.Lock()
			defer s.mu.Unlock()
			return s.asked[id]
		}
		before := asked(busy.ID)
		until(t, "the busy webhook is asked for ten times", func() bool { n.Wake(); return asked(busy.ID) >= before+10 })
		for _, w := range idle {
			if got := asked(w.ID); got > 0 {
				t.Errorf("a paused webhook is asked for %d times, want none", got)
			}
		}
		if err := s.SetWebhookState(t.Context(), org, idle[0].ID, trigger.Active); err != nil {
			t.Fatal(err)
		}
		if err := n.WaitApplied(t.Context(), idle[0].ID); err != nil {
			t.Fatal(err)
		}
		n.Wake()
		r.wait(t, 3)
		if looks := s.looks.Load(); looks != 1 {
			t.Errorf("%d looks at all lanes, want 1", looks)
		}
	})
}

// An event for later is sent when it comes due by the node that has accepted it,
// though a look at all webhooks is not made for long.
func TestExpectedDelivery(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		var took atomic.Int64
		r := newReceiver(t, nil)
		s := &slowLooks{Store: db.Open(t), took: &took}
		org := storetest.NewOrganization(t, s.Store)
		first, later := newWebhook(t, s.Store, org, r.URL), newWebhook(t, s.Store, org, r.URL+"/later")
		post(t, s.Store, first, 1)
		n := startNode(t, db, s.Store, func(c *deliver.Config) {
			c.Store = s
			c.Now = func() time.Time { return db.Clock.Now().Add(time.Duration(took.Load())) }
		})
		r.wait(t, 1)
		e := &trigger.Event{OrganizationID: org, ID: trigger.NewID(s.Now(), 0, 1), Type: "t", Payload: []byte("1")}
		d := trigger.Delivery{DeliveryKey: trigger.DeliveryKey{OrganizationID: org, EventID: e.ID, WebhookID: later.ID}, DueAt: s.Now().Add(300 * time.Millisecond)}
		if _, err := s.AddEvents(t.Context(), &store.Batch{Events: []*trigger.Event{e}, Deliveries: [][]trigger.Delivery{{d}}}, false); err != nil {
			t.Fatal(err)
		}
		read, err := s.WebhooksByID(t.Context(), []int64{later.ID})
		if err != nil {
			t.Fatal(err)
		}
		n.Expect(d, read[later.ID], db.Clock.Now().Add(time.Duration(took.Load())))
		r.wait(t, 2)
		if looks := s.looks.Load(); looks != 1 {
			t.Errorf("%d looks at all lanes, want 1", looks)
		}
	})
}
