package main

import (
	"context"

	"triggerd/client"
)

type deliveryList struct {
	memberCommand
	listing
	Status  string `help:"Only deliveries with this status: open or failed."`
	Webhook *int64 `help:"Only deliveries to this webhook. 0: to the inbox."`
}

// Run lists deliveries.
func (c *deliveryList) Run(ctx context.Context, s *session) error {
	q := client.DeliveryQuery{Status: c.Status, WebhookID: c.Webhook}
	return list(s, c, c.Limit, func(api *client.Client, limit int, cursor string) (client.Page[client.OwedDelivery], error) {
		q.Limit = limit
		return api.DeliveriesPage(ctx, q, cursor)
	}, table[client.OwedDelivery]{
		[]string{"EVENT", "WEBHOOK", "REPLAY", "STATUS", "ATTEMPTS", "NEXT", "REASON"},
		func(d client.OwedDelivery) []string {
			next := localTime(d.NextAttemptAt)
			if d.Claimed {
				next = "now"
			}
			return []string{d.EventID, webhookID(d.WebhookID), number(d.ReplayID), d.Status, number(d.Attempts), next, d.Reason}
		},
	})
}

type deliveryAttempts struct {
	memberCommand
	listing
	Webhook *int64 `help:"Only attempts of this webhook. 0: of the inbox."`
	Outcome string `help:"Only attempts with this outcome: success, transient, permanent or gone."`
	Replay  int64  `help:"Only attempts of this replay."`
}

// Run lists attempts.
func (c *deliveryAttempts) Run(ctx context.Context, s *session) error {
	q := client.AttemptQuery{WebhookID: c.Webhook, Outcome: c.Outcome, ReplayID: c.Replay}
	return list(s, c, c.Limit, func(api *client.Client, limit int, cursor string) (client.Page[client.Attempt], error) {
		q.Limit = limit
		return api.AttemptsPage(ctx, q, cursor)
	}, attemptTable())
}

func attemptTable() table[client.Attempt] {
	return table[client.Attempt]{
		[]string{"AT", "EVENT", "WEBHOOK", "REPLAY", "NUMBER", "OUTCOME", "STATUS", "TOOK", "ERROR"},
		func(a client.Attempt) []string {
			return []string{
				localTime(a.At), a.EventID, webhookID(a.WebhookID), number(a.ReplayID), number(a.Number), a.Outcome,
				number(a.Status), duration(a.TookSeconds), a.Error,
			}
		},
	}
}
