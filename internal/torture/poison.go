package torture

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"
)

// poisonPatience is how late a good event may be, beside ones that a receiver
// refuses for good although it can be reached.
const poisonPatience = 10 * time.Second

// poisonSchedule is that of the webhooks of poisoned tenants, so that what they
// refuse has failed before the run has settled.
const poisonSchedule = `,"schedule_seconds":[1,1]`

// poison gives a new tenant a webhook that refuses some of its events whenever
// they come, by a 500, by a 503, or by no answer. The good ones among them
// are waited for.
func poison(ctx context.Context, r *run, random *rand.Rand) error {
	begun := r.Now()
	t, err := r.client.newPoisoned(ctx, random)
	if err != nil {
		return nil // another fault is in the way
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
			_ = pause(ctx, time.Duration(random.IntN(2000))*time.Millisecond) // the first have been refused by now
		}
		r.client.insist(ctx, e, random)
	}
	late := 0
	h := t.hooks[0]
	_ = until(ctx, poisonPatience, "", func(ctx context.Context) bool {
		late = r.book.late(good, h)
		return late == 0
	})
	hung := h.poisoned == hanging // a breaker may open for that, and settling waits for it
	if hung || r.windows.cover(begun, r.Now()) {
		return nil
	}
	for range late {
		r.report.breach(poisoned, "webhook %d, which refuses others, has not got them within %v", h.n, poisonPatience)
	}
	shown, err := pagesOf[shownHook](ctx, r, t, "/v1/webhooks")
	if err == nil && len(shown) == 1 && !shown[0].Health.HeldUntil.IsZero() && !r.windows.cover(begun, r.Now()) {
		r.report.breach(poisoned, "the breaker of webhook %d is open until %v, since it refuses some", h.n, shown[0].Health.HeldUntil)
	}
	return nil
}

// newPoisoned signs up an organization with one webhook that refuses what is
// poison.
func (c *client) newPoisoned(ctx context.Context, random *rand.Rand) (*tenant, error) {
	limited, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	t, err := c.signUp(limited, random)
	if err != nil {
		return nil, err
	}
	h := &hook{tenant: t, busy: true, poisoned: []mood{failing, failing, unavailable, hanging}[random.IntN(4)]}
	if err := c.newHookOnce(limited, random, h, "/poisoned/"+t.key[len(t.key)-8:], poisonSchedule); err != nil {
		return nil, err
	}
	c.book.addTenant(t)
	return t, nil
}

// late counts those of some events that were acknowledged, and have not come.
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

// isPoison reports whether a webhook refuses an event.
func (b *book) isPoison(n int) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return n >= 0 && b.events[n].poison
}
