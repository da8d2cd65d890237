package ingest

import (
	"context"
	"time"

	"triggerd/internal/trigger"
)

// matchTime is the time in which the events of one request must be compared with
// content filters, including the wait for turns.
const matchTime = 3 * time.Second

// bytesPerStep is how many bytes of a payload and of content filters are read in one
// step of [fair.Millisecond].
const bytesPerStep = 20

// match compares events with content filters before they are queued. For a payload
// of 1 MB that takes some 5 ms: in the commit loop it would delay the events of
// every other organization. So each request does it for itself, in its
// organization's turn; the commit loop uses the result if the webhooks are still
// the same, see [pending.webhooksOf]. Events of organizations without content
// filters are left to the commit loop. If the time is over, match returns how many
// events it has compared, and an error for the others.
func (w *Writer) match(ctx context.Context, list ...*pending) (done int, err error) {
	for i, wait := range list {
		if w.filtering(wait) != nil { // for most organizations there is none, and no need of a timer
			done, err = w.matchInTime(ctx, list[i:])
			return i + done, err
		}
	}
	return len(list), nil
}

// filtering returns the webhooks of an event's organization if any of them has a
// content filter, as far as this node remembers them.
func (w *Writer) filtering(wait *pending) *trigger.Subscribers {
	if s := w.Store.PeekSubscribers(wait.event.OrganizationID); s != nil && s.ContentSize() > 0 {
		return s
	}
	return nil
}

// matchInTime is match within matchTime.
func (w *Writer) matchInTime(ctx context.Context, list []*pending) (done int, err error) {
	ctx, cancel := context.WithTimeout(ctx, matchTime)
	defer cancel()
	for i, wait := range list {
		s, e := w.filtering(wait), wait.event
		if s == nil {
			continue
		}
		if err := w.Turns.Take(ctx, e.OrganizationID); err != nil {
			late := trigger.NewUnavailable(err, retryAfter)
			late.Message = "Comparing the event with the content filters of the webhooks took too long: send it again, with fewer events in a request"
			return i, late
		}
		wait.webhooks, wait.matched = s.Match(nil, e.Type, e.Payload), s
		w.Turns.Done(e.OrganizationID, 1+(len(e.Payload)+s.ContentSize())/bytesPerStep)
	}
	return len(list), nil
}

// webhooksOf returns the webhooks that get an event. ok is false if the event
// must be compared with content filters first, or again because the webhooks
// have changed. That must not happen in the commit loop.
func (wait *pending) webhooksOf(s *trigger.Subscribers) (webhooks []*trigger.Webhook, ok bool) {
	switch {
	case s.ContentSize() == 0:
		return s.Match(nil, wait.event.Type, wait.event.Payload), true
	case wait.matched != nil && wait.matched.Version == s.Version:
		return wait.webhooks, true
	}
	return nil, false
}

// matchAgain compares events with the current webhooks, outside of the commit
// loop, and queues them again.
func (w *Writer) matchAgain(ctx context.Context, list []*pending) {
	if len(list) == 0 {
		return
	}
	w.mu.Lock()
	w.away++
	w.mu.Unlock()
	go func() {
		ctx, cancel := context.WithTimeout(ctx, maxWait)
		defer cancel()
		again := list[:0]
		for _, wait := range list {
			if _, err := w.match(ctx, wait); err != nil && !wait.abandoned.Load() {
				w.reply(wait, answer{err: err})
				continue
			}
			again = append(again, wait)
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		w.away--
		w.queue.putBack(again)
		w.signal()
	}()
}
