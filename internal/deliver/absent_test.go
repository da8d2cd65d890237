package deliver

import (
	"context"
	"net/http"
	"slices"
	"testing"
	"time"

	"triggerd/internal/store"
	"triggerd/internal/telemetry"
	"triggerd/internal/trigger"
)

// known is a store that knows some webhooks, and refuses all that changes
// something: it has no methods for that.
type known struct {
	Store
	hooks map[int64]*trigger.Webhook
}

func (k *known) WebhooksByID(context.Context, []int64) (map[int64]*trigger.Webhook, error) {
	return k.hooks, nil
}

func (k *known) Now() time.Time     { return time.Now() }
func (k *known) Nodes() int         { return 1 }
func (k *known) ClockTrusted() bool { return true }

// A webhook that the store does not have gets nothing, and nothing else follows
// from it: it is not ended, and no breaker of it is stored.
func TestAbsentWebhook(t *testing.T) {
	t.Parallel()
	s := &known{hooks: map[int64]*trigger.Webhook{}}
	e := New(Config{Store: s, Timeout: time.Minute, Now: time.Now, Metrics: telemetry.New(), Transport: http.DefaultTransport})
	e.closed = false
	waiting := trigger.Delivery{DeliveryKey: trigger.DeliveryKey{WebhookID: 1}}
	r, l := e.receiver(1), e.lane(laneKey{1, 0})
	r.webhook = &trigger.Webhook{ID: 1, OrganizationID: 7, State: trigger.Active}
	e.hold(7, load{items: 2})
	l.running, r.running = 1, 1
	l.queue = []*item{{delivery: waiting, event: &trigger.Event{OrganizationID: 7}}}
	if err := e.readWebhooks(t.Context(), []int64{1}); err != nil {
		t.Fatal(err)
	}
	if r.wants() || len(l.queue) != 0 || !slices.Equal(e.unsent, []trigger.Delivery{waiting}) {
		t.Errorf("it wants attempts: %v, with %d in the lane and %v given back", r.wants(), len(l.queue), e.unsent)
	}
	for range tripAt { // of what was under way
		e.done(l, &item{event: &trigger.Event{OrganizationID: 7}}, &trigger.Attempt{Outcome: trigger.Transient, Took: time.Minute})
	}
	if err := e.readWebhooks(t.Context(), []int64{1}); err != nil || len(e.ending) != 0 || len(e.breakers) != 0 {
		t.Errorf("%v, to be ended: %v, to be held: %v", err, e.ending, e.breakers)
	}
	if hooks, err := e.activeWebhooks(t.Context(), []store.Lane{{WebhookID: 1}}); err != nil || len(hooks) != 0 || len(e.ending) != 0 {
		t.Errorf("claimed of %v, %v, to be ended: %v", hooks, err, e.ending)
	}
	s.hooks[1] = &trigger.Webhook{ID: 1, OrganizationID: 7, State: trigger.Active}
	if err := e.readWebhooks(t.Context(), []int64{1}); err != nil || !r.wants() {
		t.Errorf("%v, it wants attempts again: %v", err, r.wants())
	}
}
