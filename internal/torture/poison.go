package torture

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"
)

// poisonPatience is how late a good event may be if its receiver answers others
// with 500.
const poisonPatience = 10 * time.Second

// poisonSchedule is the schedule of poisoned webhooks. It is short, so that the
// refused events have failed when the run has settled.
const poisonSchedule = `,"schedule_seconds":[1,1]`

// poison creates a tenant whose webhook always refuses some events: with 500,
// with 503, or by no answer. The other events of the webhook must come. If the
// answer is 500, they must come soon, and the breaker must stay closed, because
// the receiver can be reached. For 503 and no answer it may open, and settling
// waits for it.
func poison(ctx context.Context, r *run, random *rand.Rand) error {
	begun := r.Now()
	t, err := r.client.newPoisoned(ctx, random)
	if err != nil {
		if r.windows.cover(begun, r.Now()) { // because of another fault
			return nil
		}
		return err
	}
	var good []*event
	for i, n := 0, 15+random.IntN(15); i < n+5; i++ {
		e := &event{tenant: t, eventType: types()[random.IntN(len(types()))], poison: i < n || random.IntN(2) == 0}
		r.book.addEvent(e)
		e.dedupID = fmt.Sprintf("poison %d", e.n)
		if !e.poison {
			good = append(good, e)
		}
		if i == n {
			_ = pause(ctx, time.Duration(random.IntN(2000))*time.Millisecond) // until the first ones were refused
		}
		r.client.insist(ctx, e, random)
	}
	late, h := 0, t.hooks[0]
	if h.mayHold() {
		return nil
	}
	_ = until(ctx, poisonPatience, "", func(ctx context.Context) bool {
		late = r.book.late(good, h)
		return late == 0
	})
	if r.windows.cover(begun, r.Now()) {
		return nil
	}
	for range late {
		r.report.breach(poisoned, "webhook %d, which refuses others, has not got them within %v", h.n, poisonPatience)
	}
	shown, err := pagesOf[shownHook](ctx, r, t, "/v1/webhooks")
	if err == nil && len(shown) == 1 && !shown[0].Health.HeldUntil.IsZero() && !r.windows.cover(begun, r.Now()) {
		r.report.breach(poisoned, "the breaker of webhook %d is open until %v, because it refuses some", h.n, shown[0].Health.HeldUntil)
	}
	return nil
}

// mayHold reports whether the answers to poison may open the breaker.
func (h *hook) mayHold() bool { return h.poisoned == unavailable || h.poisoned == hanging }

// newPoisoned creates an organization with one webhook that refuses poison.
func (c *client) newPoisoned(ctx context.Context, random *rand.Rand) (*tenant, error) {
	limited, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	t, err := c.signUp(limited, random)
	if err != nil {
		return nil, err
	}
	h := &hook{tenant: t, busy: true, poisoned: []mood{failing, failing, failing, failing, unavailable, hanging}[random.IntN(6)]}
	if err := c.newHookOnce(limited, random, h, "/poisoned/"+t.key[len(t.key)-8:], poisonSchedule); err != nil {
		return nil, err
	}
	c.book.addTenant(t)
	return t, nil
}

// late counts the acknowledged events that have not come.
func (b *book) late(events []*event, h *hook) (n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, e := range events {
		if e.acknowledged() && !b.answeredSince(e, h, time.Time{}) {
			n++
		}
	}
	return n
}

// isPoison reports whether webhooks refuse the n-th event.
func (b *book) isPoison(n int) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return n >= 0 && b.events[n].poison
}
