package deliver_test

import (
	"context"
	"net/http"
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
