package ingest

import (
	"errors"
	"math"

	"triggerd/internal/trigger"
)

// Bounds of the events that wait or are being committed. One organization may
// use at most as much as it leaves free.
const (
	maxQueueEvents = 20_000
	maxQueueBytes  = 64 << 20
)

// turnCost is how much is taken of one organization before the next one's turn.
// An event costs 1, plus 1 for each KiB and each delivery.
const turnCost = 100

// unknownFanOut is the assumed number of deliveries of the first event of a
// line.
const unknownFanOut = 10

// queue holds the events that wait for a commit, in a line for each
// organization. The next turn goes to the line of which least was taken. So an
// organization with many events, or with many deliveries for each, does not
// delay the others. The mutex of its Writer guards it.
type queue struct {
	lines   map[int64]*line // by organization, if it has events that are not answered
	waiting int             // events that wait
	held    load            // of all events that are not answered
}

// line is the queue of one organization, oldest first.
type line struct {
	time    int64 // virtual time: increases by the cost of what is taken
	fanOut  int   // deliveries of the last charged event, the guess for the next; -1 before the first
	waiting []*pending
	held    load
}

// load is a number of events and of bytes.
type load struct{ events, bytes int }

func (l load) plus(e *trigger.Event, sign int) load {
	return load{l.events + sign, l.bytes + sign*e.Size()}
}

// add queues the events of a request behind the others of their organizations.
// It takes all or none.
func (q *queue) add(list []*pending) error {
	all, of := q.held, map[int64]load{}
	for _, wait := range list {
		id := wait.event.OrganizationID
		all, of[id] = all.plus(wait.event, 1), of[id].plus(wait.event, 1)
	}
	for id, more := range of {
		if l := q.lines[id]; l != nil {
			more = load{more.events + l.held.events, more.bytes + l.held.bytes}
		}
		if more.events > maxQueueEvents-all.events || more.bytes > maxQueueBytes-all.bytes {
			return trigger.NewUnavailable(errors.New("the queue is full"), retryAfter)
		}
	}
	for _, wait := range list {
		l := q.line(wait.event.OrganizationID)
		l.waiting, l.held = append(l.waiting, wait), l.held.plus(wait.event, 1)
	}
	q.waiting, q.held = q.waiting+len(list), all
	return nil
}

// line returns the line of an organization. A new one is just ahead of all
// others.
func (q *queue) line(id int64) *line {
	if l := q.lines[id]; l != nil {
		return l
	}
	l := &line{fanOut: -1, time: math.MaxInt64}
	for _, other := range q.lines {
		l.time = min(l.time, other.time)
	}
	if l.time--; len(q.lines) == 0 {
		l.time = 0
	}
	if q.lines == nil {
		q.lines = map[int64]*line{}
	}
	q.lines[id] = l
	return l
}

// take removes the next group from the queue, in turns. It drops abandoned
// events, whose requests have got a 503.
func (q *queue) take() (group []*pending) {
	size, deliveries := 0, 0
	for q.waiting > 0 {
		l := q.next()
		for end := l.time + turnCost; len(l.waiting) > 0 && l.time < end; {
			wait := l.waiting[0]
			gone := wait.abandoned.Load()
			if !gone {
				size += wait.event.Size()
				deliveries += max(0, l.fanOut)
				if len(group) == maxBatchEvents || len(group) > 0 && (size > maxBatchBytes || deliveries > maxBatchDeliveries) {
					return group
				}
				group = append(group, wait)
				wait.cost = costOf(wait.event, l.expected())
				l.time += wait.cost
			}
			l.waiting[0] = nil
			l.waiting = l.waiting[1:]
			q.waiting--
			if gone {
				q.answered(wait.event)
			}
		}
	}
	return group
}

// next returns the line whose turn it is. At least one line must have events.
func (q *queue) next() (next *line) {
	for _, l := range q.lines {
		if len(l.waiting) > 0 && (next == nil || l.time < next.time) {
			next = l
		}
	}
	return next
}

// expected returns how many deliveries the next event may have.
func (l *line) expected() int {
	if l.fanOut < 0 {
		return unknownFanOut
	}
	return l.fanOut
}

// costOf returns the cost of an event with its deliveries.
func costOf(e *trigger.Event, deliveries int) int64 {
	return 1 + int64(e.Size()>>10) + int64(deliveries)
}

// charge records how many deliveries a taken event has.
func (q *queue) charge(wait *pending, deliveries int) {
	l, cost := q.lines[wait.event.OrganizationID], costOf(wait.event, deliveries)
	l.time += cost - wait.cost
	wait.cost, l.fanOut = cost, deliveries
}

// putBack queues taken events again, before all others of their organizations.
func (q *queue) putBack(group []*pending) {
	front := map[int64][]*pending{}
	for _, wait := range group {
		id := wait.event.OrganizationID
		front[id] = append(front[id], wait)
	}
	for id, list := range front {
		l := q.lines[id]
		for _, wait := range list {
			l.time -= wait.cost
		}
		l.waiting = append(list, l.waiting...)
	}
	q.waiting += len(group)
}

// answered removes an event from the counts.
func (q *queue) answered(e *trigger.Event) {
	q.held = q.held.plus(e, -1)
	l := q.lines[e.OrganizationID]
	l.held = l.held.plus(e, -1)
	if l.held.events == 0 {
		delete(q.lines, e.OrganizationID)
	}
}
