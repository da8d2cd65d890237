package deliver

import (
	"math/rand/v2"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"triggerd/internal/telemetry"
	"triggerd/internal/trigger"
)

// take asks for n slots for each of the webhooks 1 to m of an organization.
func (s *slots) take(organizationID int64, m, n int) {
	for i := range m * n {
		go s.enter(organizationID, int64(i%m)+1)
	}
}

// Whatever organizations, and webhooks of one, take: whoever comes next gets
// slots at once, and nobody waits for what is free.
func TestSlotShares(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ greedy, webhooks, each, next int }{
		{1, 1, 1000, 266},
		{1, 100, 100, 222},
		{2, 100, 100, 166},
		{6, 100, 16, 83},
		{60, 20, 20, 9},
		{200, 2, 20, 4},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := newSlots(1000)
			for i := range c.greedy {
				s.take(int64(i)+1, c.webhooks, c.each)
			}
			synctest.Wait()
			s.turnOver(3)
			most, least := 0, s.most
			for _, o := range s.of {
				most, least = max(most, o.used), min(least, o.used)
			}
			if most > s.most/(c.greedy+sharePart)+1 || most-least > 2 {
				t.Errorf("%+v: organizations have from %d to %d slots", c, least, most)
			}
			s.take(9999, c.next, 1)
			synctest.Wait()
			if used := s.of[9999].used; used != c.next {
				t.Errorf("%+v: the next organization got %d slots at once, want %d", c, used, c.next)
			}
			inner := int64(c.webhooks) + 1 // one more of the first one's webhooks
			go s.enter(1, inner)
			synctest.Wait()
			for turn := 0; s.of[1].of[inner] == nil || s.of[1].of[inner].used == 0; turn++ {
				if s.turnOver(1); turn > c.webhooks {
					t.Fatalf("%+v: a webhook got none while each of its organization had a turn", c)
				}
			}
			s.end()
			if synctest.Wait(); s.used != 0 || len(s.of) != 0 || s.waiting.Len() != 0 || s.waits() != 0 {
				t.Errorf("%+v: at the end %d slots of %d organizations are used", c, s.used, len(s.of))
			}
		})
	}
}

// turnOver ends n attempts for each slot there is, those of the organization that
// has most first; each is followed by another one.
func (s *slots) turnOver(n int) {
	for range n * s.most {
		var o *organizationSlots
		for _, other := range s.of {
			if o == nil || other.used > o.used {
				o = other
			}
		}
		webhook := busiest(o)
		go s.enter(o.id, webhook)
		synctest.Wait()
		s.leave(o.id, webhook)
	}
	synctest.Wait()
}

// busiest is the webhook of an organization with the most slots.
func busiest(o *organizationSlots) (id int64) {
	most := 0
	for _, w := range o.of {
		if w.used > most {
			id, most = w.id, w.used
		}
	}
	return id
}

// end gives back slots until nobody has any.
func (s *slots) end() {
	for s.used > 0 {
		for _, o := range s.of {
			if o.used > 0 {
				s.leave(o.id, busiest(o))
			}
			break
		}
		synctest.Wait()
	}
}

// In any order of coming and going: no more slots than there are, and nobody
// waits who may have one.
func TestSlotsAreHandedOut(t *testing.T) {
	t.Parallel()
	for seed := range uint64(50) {
		synctest.Test(t, func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 0))
			s := newSlots(1 + r.IntN(40))
			for range 400 {
				o, w := int64(r.IntN(4)), int64(r.IntN(4))
				if known := s.of[o]; r.IntN(2) == 0 && known != nil && known.of[w] != nil && known.of[w].used > 0 {
					s.leave(o, w)
				} else {
					go s.enter(o, w)
				}
				synctest.Wait()
				sum := 0
				for _, o := range s.of {
					ofIts := 0
					for _, w := range o.of {
						ofIts += w.used
						if len(w.waiting) > 0 && s.mayHave(o, w) {
							t.Fatalf("seed %d: %d waits with %d slots, which may have one more", seed, w.id, w.used)
						}
					}
					if sum += ofIts; ofIts != o.used {
						t.Fatalf("seed %d: webhooks have %d slots of %d", seed, ofIts, o.used)
					}
				}
				if sum != s.used || s.used > s.most {
					t.Fatalf("seed %d: %d slots are used, %d by organizations, of %d", seed, s.used, sum, s.most)
				}
			}
			s.end()
		})
	}
}

// The memory of a node is shared in the same way as its slots.
func TestMemoryShares(t *testing.T) {
	t.Parallel()
	begun := time.Now()
	e := New(Config{Store: &known{}, Timeout: time.Minute, Now: func() time.Time { return begun }, Metrics: telemetry.New(), Transport: http.DefaultTransport})
	e.closed, e.breakersSeen = false, begun
	fill := func(organization, webhooks int64, size int) (items int) {
		for w := range webhooks {
			for e.Reserve(trigger.DeliveryKey{OrganizationID: organization, WebhookID: organization*1_000_000 + w}, size) {
				items++
			}
		}
		return items
	}
	room := maxItems
	for i := range int64(9) {
		got := fill(i, 10_000, 100)
		if got < room/3-1 || got > room/3+1 {
			t.Errorf("organization %d got room for %d deliveries of %d", i, got, room)
		}
		room -= got
	}
	if got := fill(10, 1, 0); got < room/5-1 || got > room/5+1 { // and leaves room for its others
		t.Errorf("a webhook alone got room for %d deliveries of %d", got, room)
	}
	e.total, e.of = load{}, map[int64]load{}
	if got := fill(100, 10_000, 1<<20); got != maxItemBytes>>20/3 {
		t.Errorf("an organization got room for %d events of 1 MiB of %d", got, maxItemBytes>>20)
	}
	if got := fill(101, 10_000, 1<<20); got != maxItemBytes>>20*2/9 {
		t.Errorf("the next one got room for %d events of 1 MiB of %d", got, maxItemBytes>>20)
	}
}
