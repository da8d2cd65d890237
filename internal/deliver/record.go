package deliver

import (
	"context"
	"log/slog"
	"time"

	"triggerd/internal/store"
	"triggerd/internal/trigger"
)

// maxResults is how many results one transaction records.
const maxResults = 250

// recordPatience is how long one group of results is tried at a time. Then it
// is tried again, because a success must not be lost.
const recordPatience = 5 * time.Second

// maxRounds is how often a group is tried, and then, as often, each of its
// results alone: some minutes.
const maxRounds = 30

// If at least crowd results were in the last group, record waits for more: each
// commit costs the database as much as some ten results and delays incoming
// events. No request waits for a result.
const (
	crowd      = 4
	gatherTime = 10 * time.Millisecond
)

// record writes results until the channel is closed. A group has the results
// that arrived during the last write, at most maxResults. After ctx ends, it
// tries each group only for the patience of RunBatch.
func (e *Engine) record(ctx context.Context) {
	for first := range e.results {
		group := []store.Result{first}
		for more := true; more && len(group) < maxResults; {
			select {
			case r, open := <-e.results:
				if more = open; open {
					group = append(group, r)
				}
			default:
				more = false
			}
		}
		for i := range group {
			e.pending.leave(group[i].Attempt.OrganizationID, group[i].Attempt.WebhookID)
		}
		e.finish(ctx, group)
		if len(group) >= crowd && len(group) < maxResults {
			gather(ctx)
		}
	}
}

func gather(ctx context.Context) {
	timer := time.NewTimer(gatherTime)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

func (e *Engine) finish(ctx context.Context, group []store.Result) {
	work := context.WithoutCancel(ctx)
	for round := 1; ; round++ {
		err := store.RunBatch(work, e.Now, recordPatience, group, func(part []store.Result, again bool) error {
			for i := range part {
				part[i].Again = again || round > 1
			}
			return e.Store.Finish(work, part)
		}, func(r store.Result, err error) {
			e.Log.Error("cannot store the result of an attempt", "event_id", r.Attempt.EventID.String(), "error", err)
		})
		if err == nil {
			break
		}
		e.Log.Error("cannot record results of attempts", "results", len(group), "error", err)
		if ctx.Err() != nil || round == maxRounds && len(group) == 1 {
			e.applyDirectives(group)
			return // the leases end, and the deliveries are sent again
		}
		if round == maxRounds { // perhaps only one of them is at fault
			for i := 0; i < len(group) && ctx.Err() == nil; i++ {
				e.finish(ctx, group[i:i+1])
			}
			return
		}
	}
	e.afterRecord(ctx, group)
}

// applyDirectives notes the webhooks whose receivers answered 410 or "disable",
// recorded or not.
func (e *Engine) applyDirectives(group []store.Result) {
	for _, r := range group {
		switch a := r.Attempt; {
		case a.Outcome == trigger.ReceiverGone:
			e.endWebhook(a.WebhookID, ending{organizationID: a.OrganizationID, asOf: a.AsOf, state: trigger.Gone})
		case a.Directive == trigger.Disable:
			e.endWebhook(a.WebhookID, ending{organizationID: a.OrganizationID, asOf: a.AsOf, state: trigger.Paused})
		}
	}
}

// afterRecord applies recorded results: directives, metrics and probes.
func (e *Engine) afterRecord(ctx context.Context, group []store.Result) {
	e.applyDirectives(group)
	soon := e.Store.Now().Add(pollEvery)
	probed := false
	for _, r := range group {
		if r.Next.State == trigger.DeliveryOpen && r.Next.DueAt.Before(soon) {
			e.Wake() // it is due before the next poll
		}
		e.Metrics.Attempts.WithLabelValues(string(r.Attempt.Outcome)).Inc()
		e.Metrics.AttemptSeconds.Observe(r.Attempt.Took.Seconds())
		switch r.Next.State {
		case trigger.DeliveryEnded:
			e.Metrics.Ended.WithLabelValues("delivered").Inc()
		case trigger.DeliveryFailed:
			e.Metrics.Ended.WithLabelValues("failed").Inc()
		}
		probed = probed || r.Attempt.Outcome == trigger.Success && e.isProbing(r.Attempt.WebhookID)
	}
	if probed { // read whether that closed the breaker
		e.readBreakers(ctx)
	}
}

func levelOf(o trigger.Outcome) slog.Level {
	if o == trigger.Success {
		return slog.LevelInfo
	}
	return slog.LevelWarn
}

// attemptAttrs returns the fields of an attempt for its line in the log.
func attemptAttrs(it *item, a trigger.Attempt, next trigger.Delivery) []slog.Attr {
	attrs := []slog.Attr{
		slog.String("event_id", it.event.ID.String()),
		slog.Int64("organization_id", it.event.OrganizationID),
		slog.Int64("webhook_id", it.delivery.WebhookID),
		slog.Int("number", it.delivery.Attempts+1),
		slog.String("outcome", string(a.Outcome)),
		slog.Int("status", a.Status),
		slog.String("error", a.Error),
		slog.Duration("took", a.Took),
	}
	switch next.State {
	case trigger.DeliveryOpen:
		return append(attrs, slog.Time("next_attempt", next.DueAt))
	case trigger.DeliveryFailed:
		return append(attrs, slog.String("failed", next.Reason))
	}
	return attrs
}
