package deliver

import (
	lists "container/list"
	"sync"
)

// slots limits the attempts under way. Each attempt has an organization and a
// webhook, and waits for a slot:
//
//   - An organization has at most half as many slots as are free. If n
//     organizations take all they can, 2/(n+2) of the slots are left for others.
//   - A webhook has at most as many slots as its organization may still take, so
//     that its other webhooks find some.
//
// So a new organization finds free slots, however slow the receivers of others
// are. If several wait, organizations take turns, and so do the webhooks of
// each.
type slots struct {
	most int

	mu      sync.Mutex
	used    int
	of      map[int64]*organizationSlots // with slots or waiting attempts
	waiting lists.List                   // of *organizationSlots, the next first
}

// organizationSlots are the slots of one organization.
type organizationSlots struct {
	id      int64
	used    int
	of      map[int64]*webhookSlots
	waiting lists.List     // of *webhookSlots, the next first
	turn    *lists.Element // in slots.waiting; nil: no attempt waits
}

// webhookSlots are the slots of one webhook.
type webhookSlots struct {
	id      int64
	used    int
	waiting []chan struct{} // closed when the slot is assigned
	turn    *lists.Element  // in organizationSlots.waiting; nil: no attempt waits
}

func newSlots(most int) *slots { return &slots{most: most, of: map[int64]*organizationSlots{}} }

// enter waits for a slot, which leave frees.
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

// leave frees a slot and hands out free ones.
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

// find returns the slots of a webhook. It creates them if needed.
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

// tidy removes entries without slots and waiting attempts.
func (s *slots) tidy(o *organizationSlots, w *webhookSlots) {
	if w.used == 0 && w.turn == nil {
		delete(o.of, w.id)
	}
	if len(o.of) == 0 {
		delete(s.of, o.id)
	}
}

// room returns how many more slots an organization may have.
func (s *slots) room(o *organizationSlots) int { return (s.most-s.used)/sharePart - o.used }

// mayHave reports whether a webhook may have one more slot.
func (s *slots) mayHave(o *organizationSlots, w *webhookSlots) bool { return w.used < s.room(o) }

func (s *slots) give(o *organizationSlots, w *webhookSlots) {
	s.used++
	o.used++
	w.used++
}

// handOut assigns a slot to the next waiting attempt that may have it, and
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
