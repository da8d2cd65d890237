package deliver

import (
	"context"
	"log/slog"
	"time"

	"triggerd/internal/store"
	"triggerd/internal/trigger"
)

// maxResults is how many results one transaction takes.
const maxResults = 500

// recordPatience is for how long one group of results is tried. They are not
// given up then: they are tried again, since a success is a fact.
const recordPatience = 5 * time.Second

// record writes results in groups, whatever has gathered while the last one
// was written, until the channel is closed. Once ctx has ended each group is
// tried only for as long as Settle's patience.
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
		e.finish(ctx, group)
	}
}

func (e *Engine) finish(ctx context.Context, group []store.Result) {
	work := context.WithoutCancel(ctx)
	for {
		err := store.Settle(work, e.Store, recordPatience, group, func(part []store.Result, _ bool) error {
			return e.Store.Finish(work, part)
		}, func(r store.Result, err error) {
			e.Log.Error("a result cannot be stored", "event_id", r.Attempt.EventID.String(), "error", err)
		})
		if err == nil {
			break
		}
		e.Log.Error("results are not recorded yet", "results", len(group), "error", err)
		if ctx.Err() != nil {
			return // leases run out, and the deliveries are sent again
		}
	}
	for _, r := range group {
		e.Metrics.Attempts.WithLabelValues(string(r.Attempt.Outcome)).Inc()
		e.Metrics.AttemptSeconds.Observe(r.Attempt.Took.Seconds())
		switch r.Next.State {
		case trigger.DeliveryEnded:
			e.Metrics.Ended.WithLabelValues("delivered").Inc()
		case trigger.DeliveryFailed:
			e.Metrics.Ended.WithLabelValues("failed").Inc()
		}
		if r.Attempt.Outcome == trigger.ReceiverGone {
			e.endWebhook(work, r.Attempt.OrganizationID, r.Attempt.WebhookID)
		}
	}
}

// endWebhook makes a webhook gone whose receiver said so, then ends what it
// is still owed. If the process dies in between, the next claim goes on.
func (e *Engine) endWebhook(ctx context.Context, orgID, webhookID int64) {
	err := e.Store.SetWebhookState(ctx, orgID, webhookID, trigger.Gone)
	if err != nil && trigger.KindOf(err) != trigger.NotFound { // gone already
		e.Log.Error("a webhook that is gone cannot be marked", "webhook_id", webhookID, "error", err)
		return
	}
	e.failWebhook(ctx, orgID, webhookID)
}

func (e *Engine) failWebhook(ctx context.Context, orgID, webhookID int64) {
	for done := false; !done; {
		n, finished, err := e.Store.FailWebhook(ctx, orgID, webhookID, trigger.ReasonGone)
		if err != nil {
			e.Log.Error("the deliveries of a gone webhook cannot be ended", "webhook_id", webhookID, "error", err)
			return
		}
		e.Metrics.Ended.WithLabelValues("failed").Add(float64(n))
		done = finished
	}
}

func levelOf(o trigger.Outcome) slog.Level {
	if o == trigger.Success {
		return slog.LevelInfo
	}
	return slog.LevelWarn
}

// attemptAttrs are all the facts of an attempt, for its one line in the log.
func attemptAttrs(it *item, a trigger.Attempt) []slog.Attr {
	return []slog.Attr{
		slog.String("event_id", it.event.ID.String()),
		slog.Int64("organization_id", it.event.OrganizationID),
		slog.Int64("webhook_id", it.webhook.ID),
		slog.Int("number", it.delivery.Attempts+1),
		slog.String("outcome", string(a.Outcome)),
		slog.Int("status", a.Status),
		slog.String("error", a.Error),
		slog.Duration("took", a.Took),
	}
}
