package ingest

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	"triggerd/internal/trigger"
)

func events(organizationID int64, n, size int) (list []*pending) {
	for range n {
		list = append(list, &pending{event: &trigger.Event{OrganizationID: organizationID, Payload: make([]byte, size)}})
	}
	return list
}

// However much, or however costly, is what organizations have in the queue:
// whoever comes with little is in the next group, near its front.
func TestQueueTakesTurns(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ greedy, events, size, fanOut int }{
		{1, 9000, 10, 0}, {1, 9000, 10, 50}, {3, 2000, 10, 50}, {3, 4000, 10, 1}, {2, 100, 200 << 10, 3}, {20, 200, 2000, 50},
	} {
		var q queue
		for id := range c.greedy {
			if err := q.add(events(int64(id), c.events, c.size)); err != nil {
				t.Fatal(err)
			}
		}
		sum := map[int64]int{}
		for round := range 20 {
			if err := q.add(events(-1, 2, 10)); err != nil {
				t.Fatal(err)
			}
			group := q.take()
			ahead := slices.IndexFunc(group, func(wait *pending) bool { return wait.event.OrganizationID == -1 })
			if most := c.greedy * (1 + turnCost/(1+c.size>>10+min(c.fanOut, unknownFanOut))); round > 0 && (ahead < 0 || ahead > most) {
				t.Fatalf("%+v: in round %d there are %d of %d events before those of whoever has two", c, round, ahead, len(group))
			}
			total := 0
			for i, wait := range group {
				fanOut := c.fanOut
				if wait.event.OrganizationID < 0 {
					fanOut = 1
				}
				if total+fanOut > maxBatchDeliveries {
					q.putBack(group[i:])
					group = group[:i]
					break
				}
				total += fanOut
				q.charge(wait, fanOut)
				sum[wait.event.OrganizationID] += 1 + fanOut
			}
			for _, wait := range group {
				q.answered(wait.event)
			}
			if q.waiting == 0 {
				break
			}
		}
		least, most := sum[0], sum[0]
		for id := range c.greedy {
			least, most = min(least, sum[int64(id)]), max(most, sum[int64(id)])
		}
		if most-least > 2*(turnCost+turnCost*c.fanOut) {
			t.Errorf("%+v: organizations with as much had from %d to %d of the turns", c, least, most)
		}
	}
}

// Nothing is lost or counted twice, and events of one organization keep their
// order.
func TestQueueKeepsCount(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var q queue
		var taken []*pending
		due := map[int64][]*pending{} // in order
		held := load{}
		t.Repeat(map[string]func(*rapid.T){
			"add": func(t *rapid.T) {
				id := rapid.Int64Range(1, 4).Draw(t, "organization")
				list := events(id, rapid.IntRange(1, 1500).Draw(t, "events"), rapid.IntRange(0, 40_000).Draw(t, "size"))
				if q.add(list) != nil {
					return
				}
				due[id] = append(due[id], list...)
				for _, wait := range list {
					held = held.plus(wait.event, 1)
				}
			},
			"give up": func(t *rapid.T) {
				for _, list := range due {
					for i, wait := range list {
						if i%7 == 3 && wait.abandoned.CompareAndSwap(false, true) {
							held = held.plus(wait.event, -1)
						}
					}
				}
			},
			"take": func(*rapid.T) {
				group := q.take()
				for _, wait := range group {
					id := wait.event.OrganizationID
					due[id] = slices.DeleteFunc(due[id], func(w *pending) bool { return w.abandoned.Load() })
					if due[id][0] != wait {
						t.Fatalf("an event of organization %d is taken out of order", id)
					}
					due[id] = due[id][1:]
				}
				if size := sizeOf(group); len(group) > maxBatchEvents || len(group) > 1 && size > maxBatchBytes {
					t.Fatalf("a group of %d events and %d bytes", len(group), size)
				}
				taken = append(taken, group...)
			},
			"put back": func(t *rapid.T) {
				n := rapid.IntRange(0, len(taken)).Draw(t, "events")
				q.putBack(taken[n:])
				back := map[int64][]*pending{}
				for _, wait := range taken[n:] {
					back[wait.event.OrganizationID] = append(back[wait.event.OrganizationID], wait)
				}
				for id, list := range back {
					due[id] = append(list, due[id]...)
				}
				taken = taken[:n]
			},
			"answer": func(*rapid.T) {
				for _, wait := range taken {
					q.charge(wait, 3)
					q.answered(wait.event)
					held = held.plus(wait.event, -1)
				}
				taken = nil
			},
			"": func(*rapid.T) {
				abandoned := load{}
				waits := 0
				for _, l := range q.lines {
					waits += len(l.waiting)
					for _, wait := range l.waiting {
						if wait.abandoned.Load() {
							abandoned = abandoned.plus(wait.event, 1)
						}
					}
				}
				if got := (load{q.held.events - abandoned.events, q.held.bytes - abandoned.bytes}); got != held || waits != q.waiting {
					t.Fatalf("%+v are held, want %+v; %d wait, %d by lines", got, held, q.waiting, waits)
				}
			},
		})
		for _, wait := range taken {
			q.answered(wait.event)
		}
		for q.waiting > 0 {
			for _, wait := range q.take() {
				q.answered(wait.event)
			}
		}
		if len(q.lines) != 0 || q.held != (load{}) {
			t.Fatalf("%d lines are left, with %+v", len(q.lines), q.held)
		}
	})
}

func sizeOf(group []*pending) (size int) {
	for _, wait := range group {
		size += wait.event.Size()
	}
	return size
}
