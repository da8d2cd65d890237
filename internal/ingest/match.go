package ingest

import (
	"context"
	"time"

	"triggerd/internal/fair"
	"triggerd/internal/trigger"
)

// matchTime is how long the events of one request may wait for turns and be
// compared with content filters.
const matchTime = 3 * time.Second

// Comparing a payload with a content filter costs one step, see
// [fair.Millisecond], for this many bytes.
const (
	payloadBytesPerStep = 20
	contentBytesPerStep = 64
)

// match compares events with content filters before they are queued. A payload
// of 1 MB takes about 5 ms per filter, and each webhook may have one. In the
// commit loop, this would delay the events of all other organizations. So each
// request does it in its organization's turn. The commit loop uses the result if
// the webhooks are still the same, see [waiting.webhooksOf]. match skips events
// of organizations without content filters. On error the events were not
// compared.
func (w *Writer) match(ctx context.Context, list ...*waiting) error {
	ctx, cancel := context.WithTimeout(ctx, matchTime)
	defer cancel()
	for _, wait := range list {
		s := w.Store.PeekSubscribers(wait.event.OrganizationID)
		if s == nil || !s.HasContent() { // the commit loop reads them if necessary
			continue
		}
		if err := w.matchInTurn(ctx, wait, s); err != nil {
			late := trigger.NewUnavailable(err, retryAfter)
			late.Message = "Comparing the event with the content filters of the webhooks took too long: send it again, with fewer events in a request"
			return late
		}
	}
	return nil
}

// matchInTurn compares one event with the webhooks of its organization. After
// each filter that took long, it lets other organizations go first.
func (w *Writer) matchInTurn(ctx context.Context, wait *waiting, s *trigger.Subscribers) error {
	e := wait.event
	if err := w.Turns.Take(ctx, e.OrganizationID); err != nil {
		return err
	}
	var webhooks []*trigger.Webhook
	work := 0
	for i := range s.Webhooks {
		hook := &s.Webhooks[i]
		if hook.Matches(e.Type, e.Payload) {
			webhooks = append(webhooks, hook)
		}
		if hook.Filter.Content == nil {
			continue
		}
		work += 1 + len(e.Payload)/payloadBytesPerStep + len(hook.Filter.Content.Raw())/contentBytesPerStep
		if work < fair.Millisecond {
			continue
		}
		if w.Turns.MustYield(e.OrganizationID, work) {
			w.Turns.Done(e.OrganizationID, 0)
			if err := w.Turns.Take(ctx, e.OrganizationID); err != nil {
				return err
			}
		}
		work = 0
	}
	w.Turns.Done(e.OrganizationID, work)
	wait.webhooks, wait.matched = webhooks, s
	return nil
}

// webhooksOf returns the webhooks that get an event. ok is false if the event
// must be compared with content filters first, or again because the webhooks
// have changed. That must not happen in the commit loop.
func (wait *waiting) webhooksOf(s *trigger.Subscribers) (webhooks []*trigger.Webhook, ok bool) {
	switch {
	case !s.HasContent():
		return s.Match(nil, wait.event.Type, wait.event.Payload), true
	case wait.matched != nil && wait.matched.Version == s.Version:
		return wait.webhooks, true
	}
	return nil, false
}

// matchAgain compares events with the current webhooks, outside of the commit
// loop, and queues them again.
func (w *Writer) matchAgain(ctx context.Context, list []*waiting) {
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
			if err := w.match(ctx, wait); err != nil && !wait.abandoned.Load() {
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
