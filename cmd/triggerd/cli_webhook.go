package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"triggerd/client"
)

type webhookList struct {
	memberCommand
	listing
	State string `help:"Only webhooks in this state: active, paused or gone. Default: active and paused."`
}

// Run lists the webhooks.
func (c *webhookList) Run(ctx context.Context, s *session) error {
	return list(s, c, c.Limit, func(api *client.Client, limit int, cursor string) (client.Page[client.Webhook], error) {
		return api.WebhooksInPage(ctx, client.WebhookQuery{State: c.State, Limit: limit}, cursor)
	}, table[client.Webhook]{
		[]string{"ID", "STATE", "URL", "TYPES", "FAILING SINCE", "CREATED", "DESCRIPTION"},
		func(h client.Webhook) []string {
			failing := ""
			if h.Health != nil && h.Health.Failures > 0 {
				failing = localTime(h.Health.FailingSince)
			}
			return []string{id(h.ID), stateOf(h), h.URL, orAll(h.Types), failing, localTime(h.CreatedAt), h.Description}
		},
	})
}

// stateOf returns the state, with who has paused a webhook, or since when it is
// gone.
func stateOf(h client.Webhook) string {
	switch {
	case h.Gone != nil:
		return h.State + " since " + localTime(h.Gone.At)
	case h.PausedBy != "":
		return h.State + " by " + h.PausedBy
	}
	return h.State
}

// stateWithReason also has the reason why a webhook is gone.
func stateWithReason(h client.Webhook) string {
	if h.Gone == nil {
		return stateOf(h)
	}
	return stateOf(h) + ": " + h.Gone.Reason
}

func writeWebhook(w io.Writer, h client.Webhook) {
	content := string(h.Content)
	if content == "null" {
		content = ""
	}
	writeFields(w, "webhook", id(h.ID), "url", h.URL, "state", stateWithReason(h), "types", orAll(h.Types), "content", content,
		"format", h.Format, "timeout", duration(h.TimeoutSeconds), "schedule", scheduleText(h.ScheduleSeconds),
		"rate", number(h.Rate), "concurrency", number(h.Concurrency), "headers", strings.Join(h.Headers, " "), "auth", h.Auth,
		"description", h.Description, "metadata", metadataText(h.Metadata), "secrets", secretsText(h.Secrets),
		"health", healthText(h.Health), "created", localTime(h.CreatedAt))
}

// scheduleText formats pauses in the form of the flag; "" for the server's
// schedule.
func scheduleText(seconds []float64) string {
	if seconds == nil {
		return ""
	}
	parts := make([]string, len(seconds))
	for i, pause := range seconds {
		parts[i] = duration(pause)
	}
	if len(parts) == 0 {
		return "none"
	}
	return strings.Join(parts, ",")
}

func metadataText(metadata map[string]string) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(metadata)) {
		parts = append(parts, name+"="+metadata[name])
	}
	return strings.Join(parts, " ")
}

func secretsText(secrets []client.WebhookSecret) string {
	var parts []string
	for _, secret := range secrets {
		text := secret.Type
		if secret.PublicKey != "" {
			text += " " + secret.PublicKey
		}
		if !secret.ExpiresAt.IsZero() {
			text += " until " + localTime(secret.ExpiresAt)
		}
		parts = append(parts, text)
	}
	return strings.Join(parts, ", ")
}

func healthText(h *client.WebhookHealth) string {
	if h == nil {
		return "ok"
	}
	var parts []string
	if h.Failures > 0 {
		parts = append(parts, fmt.Sprintf("%d failures in a row since %s, the last at %s", h.Failures, localTime(h.FailingSince), localTime(h.LastFailureAt)))
	}
	if !h.HeldUntil.IsZero() {
		parts = append(parts, "breaker open until "+localTime(h.HeldUntil))
	}
	return strings.Join(parts, ", ")
}

// showSecret shows a webhook with its new secret.
func (s *session) showSecret(w io.Writer, h client.Webhook) {
	writeWebhook(w, h)
	if h.Secret == "" {
		return
	}
	fmt.Fprintf(w, "\n%s\n", clean(h.Secret))
	fmt.Fprintln(s.errOut, "The secret is shown only once. The receiver needs it to verify deliveries.")
}

type oneWebhook struct {
	memberCommand
	ID int64 `arg:"" help:"The webhook's id."`
}

// show makes a call and shows the webhook that it returns.
func (c *oneWebhook) show(s *session, call func(*client.Client) (client.Webhook, error)) error {
	return show(s, c, call, writeWebhook)
}

type webhookShow struct{ oneWebhook }

// Run shows a webhook.
func (c *webhookShow) Run(ctx context.Context, s *session) error {
	return c.show(s, func(api *client.Client) (client.Webhook, error) { return api.Webhook(ctx, c.ID) })
}

type webhookPause struct{ oneWebhook }

// Run pauses a webhook.
func (c *webhookPause) Run(ctx context.Context, s *session) error {
	return c.show(s, func(api *client.Client) (client.Webhook, error) { return api.PauseWebhook(ctx, c.ID) })
}

type webhookResume struct{ oneWebhook }

// Run resumes a webhook.
func (c *webhookResume) Run(ctx context.Context, s *session) error {
	return c.show(s, func(api *client.Client) (client.Webhook, error) { return api.ResumeWebhook(ctx, c.ID) })
}

type webhookDelete struct{ oneWebhook }

// Run deletes a webhook.
func (c *webhookDelete) Run(ctx context.Context, s *session) error {
	return do(s, c, func(api *client.Client) error { return api.DeleteWebhook(ctx, c.ID) }, fmt.Sprintf("webhook %d is deleted", c.ID))
}

type webhookRotate struct {
	oneWebhook
	Secret    string `help:"The new secret, whsec_… or whsk_…. Default: the server generates one."`
	Signature string `help:"Type of the generated secret: symmetric or ed25519. Default: symmetric."`
	Overlap   *days  `help:"How long the old secret also signs, for example 1h or 7d. Default: a day."`
}

// Run replaces the secret of a webhook, and shows it.
func (c *webhookRotate) Run(ctx context.Context, s *session) error {
	in := client.SecretRotation{Secret: c.Secret, Signature: c.Signature, OverlapSeconds: secondsOf(c.Overlap)}
	return show(s, c, func(api *client.Client) (client.Webhook, error) { return api.RotateWebhookSecret(ctx, c.ID, in) }, s.showSecret)
}

type webhookTest struct {
	oneWebhook
	Type string `help:"The event's type. Default: webhook.test."`
	Data string `help:"Its payload: JSON, @file, or - for standard input. Default: {}."`
}

// Run tests a webhook, and fails if the receiver does not accept the request.
func (c *webhookTest) Run(ctx context.Context, s *session) error {
	data, err := s.value(ctx, "--data", c.Data)
	if err != nil {
		return err
	}
	var attempt client.Attempt
	err = show(s, c, func(api *client.Client) (_ client.Attempt, err error) {
		attempt, err = api.TestWebhook(ctx, c.ID, client.TestInput{Type: c.Type, Data: data})
		return attempt, err
	}, writeAttempt)
	if err == nil && attempt.Outcome != client.OutcomeSuccess {
		return errors.New("the receiver did not accept it: " + clean(attemptText(attempt)))
	}
	return err
}

func writeAttempt(w io.Writer, a client.Attempt) {
	t := a.Timing
	writeFields(w, "event", a.EventID, "at", localTime(a.At), "outcome", a.Outcome, "status", number(a.Status), "error", a.Error,
		"took", duration(a.TookSeconds), "dns", duration(t.DNSSeconds), "connect", duration(t.ConnectSeconds),
		"tls", duration(t.TLSSeconds), "first byte", duration(t.FirstByteSeconds))
	if a.Response != "" {
		fmt.Fprintf(w, "\n%s\n", cleanLines(a.Response))
	}
}

type webhookDryRun struct {
	memberCommand
	filterFlags
	Webhook int64   `help:"Compare with the current filter of this webhook."`
	Since   *moment `help:"Events created then or later: a time, or a span back from now. Default: 24h."`
	Until   *moment `help:"Events created before. Default: now."`
}

// Run shows which events a filter matches.
func (c *webhookDryRun) Run(ctx context.Context, s *session) error {
	content, err := s.value(ctx, "--content", c.contentText())
	if err != nil {
		return err
	}
	now := s.now()
	in := client.DryRunInput{
		Types: c.Type, Content: content, WebhookID: c.Webhook, Since: c.Since.before(now), Until: c.Until.before(now),
	}
	return show(s, c, func(api *client.Client) (client.DryRun, error) { return api.DryRunWebhook(ctx, in) }, writeDryRun)
}

func writeDryRun(w io.Writer, r client.DryRun) {
	writeScan(w, r.Matched, r.Scanned, r.Complete)
	fmt.Fprintf(w, "%.4g per hour\n", r.PerHour)
	writeSamples(w, "for example", r.Samples)
	if d := r.Difference; d != nil {
		fmt.Fprintf(w, "\ncompared with the current filter: %d more, %d fewer\n", d.Added, d.Removed)
		writeSamples(w, "more", d.AddedSamples)
		writeSamples(w, "fewer", d.RemovedSamples)
	}
}
