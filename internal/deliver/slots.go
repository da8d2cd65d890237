package deliver

import (
	lists "container/list"
	"sync"
)

// slots are the attempts that may be under way at a time. Each attempt has an
// organization and a webhook, and waits until it has a slot:
//
//   - an organization has at most half as many slots as are free: n
//     organizations that take all they can leave two parts of n+2 to others;
//   - a webhook has at most as many as its organization could have besides: so
//     there are some for its other webhooks.
//
// So whoever comes finds free slots, however slow the receivers of others are.
// Where several wait, organizations take turns, and so do the webhooks of each.
type slots struct {
	most int

	mu      sync.Mutex
	used    int
	of      map[int64]*organizationSlots // those that have some, or wait
	waiting lists.List                   // of *organizationSlots, the next one first
}

// organizationSlots are those of one organization.
type organizationSlots struct {
	id      int64
	used    int
	of      map[int64]*webhookSlots
	waiting lists.List     // of *webhookSlots, the next one first
	turn    *lists.Element // in slots.waiting; nil: nothing waits
}

// webhookSlots are those of one webhook.
type webhookSlots struct {
	id      int64
	used    int
	waiting []chan struct{} // closed with the slot
	turn    *lists.Element  // in organizationSlots.waiting; nil: nothing waits
}

func newSlots(most int) *slots { return &slots{most: most, of: map[int64]*organizationSlots{}} }

// enter waits for a slot, which leave gives back.
func (s *slots) enter(organizationID, webhookID int64) {
	s.mu.Lock()
	o, w := s.find(organizationID, webhookID)
	if len(w.waiting) == 0 && s.mayHave(o, w) {
		s.give(o, w)
		s.mu.Unlock()
		return
	}
	ready := make(chan struct{})
	w.waiting = append(w.waiting, ready)
	if w.turn == nil {
		w.turn = o.waiting.PushBack(w)
	}
	if o.turn == nil {
		o.turn = s.waiting.PushBack(o)
	}
	s.mu.Unlock()
	<-ready
}

// leave gives a slot back, and hands out what is free now.
func (s *slots) leave(organizationID, webhookID int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o, w := s.find(organizationID, webhookID)
	s.used--
	o.used--
	w.used--
	for s.handOut() {
	}
	s.tidy(o, w)
}

// find finds or makes the slots of a webhook.
func (s *slots) find(organizationID, webhookID int64) (*organizationSlots, *webhookSlots) {
	o := s.of[organizationID]
	if o == nil {
		o = &organizationSlots{id: organizationID, of: map[int64]*webhookSlots{}}
		s.of[organizationID] = o
	}
	w := o.of[webhookID]
	if w == nil {
		w = &webhookSlots{id: webhookID}
		o.of[webhookID] = w
	}
	return o, w
}

// tidy forgets what has no slot and does not wait.
func (s *slots) tidy(o *organizationSlots, w *webhookSlots) {
	if w.used == 0 && w.turn == nil {
		delete(o.of, w.id)
	}
	if len(o.of) == 0 {
		delete(s.of, o.id)
	}
}

// room is how many more slots an organization may have.
func (s *slots) room(o *organizationSlots) int { return (s.most-s.used)/sharePart - o.used }

// mayHave reports whether a webhook may have one more.
func (s *slots) mayHave(o *organizationSlots, w *webhookSlots) bool { return w.used < s.room(o) }

func (s *slots) give(o *organizationSlots, w *webhookSlots) {
	s.used++
	o.used++
	w.used++
}

// handOut gives a slot to the next attempt that waits and may have it, and
// reports whether there was one.
func (s *slots) handOut() bool {
	for at := s.waiting.Front(); at != nil; at = at.Next() {
		o := at.Value.(*organizationSlots)
		if s.room(o) <= 0 {
			continue
		}
		for turn := o.waiting.Front(); turn != nil; turn = turn.Next() {
			if w := turn.Value.(*webhookSlots); s.mayHave(o, w) {
				s.give(o, w)
				close(w.waiting[0])
				w.waiting = w.waiting[1:]
				s.moveOn(o, w)
				return true
			}
		}
	}
	return false
}

// moveOn ends the turn of a webhook, and of its organization.
func (s *slots) moveOn(o *organizationSlots, w *webhookSlots) {
	if o.waiting.MoveToBack(w.turn); len(w.waiting) == 0 {
		o.waiting.Remove(w.turn)
		w.turn, w.waiting = nil, nil
	}
	if s.waiting.MoveToBack(o.turn); o.waiting.Len() == 0 {
		s.waiting.Remove(o.turn)
		o.turn = nil
	}
}

// waits returns how many attempts wait for a slot.
func (s *slots) waits() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, o := range s.of {
		for _, w := range o.of {
			n += len(w.waiting)
		}
	}
	return n
}
