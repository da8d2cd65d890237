package api

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"time"

	"triggerd/internal/trigger"
)

// webhookView is the form of a webhook in /v1. It has no secrets, except one
// that was just made.
type webhookView struct {
	ID          int64             `json:"id"`
	URL         string            `json:"url"`
	State       string            `json:"state"`
	PausedBy    *string           `json:"paused_by"`
	Gone        *goneView         `json:"gone"`
	Types       []string          `json:"types"`
	Content     json.RawMessage   `json:"content"`
	Format      string            `json:"format"`
	Timeout     *float64          `json:"timeout_seconds"`
	Schedule    []float64         `json:"schedule_seconds"`
	Rate        *float64          `json:"rate"`
	Concurrency *int              `json:"concurrency"`
	Headers     []string          `json:"headers"`
	Auth        *string           `json:"auth"`
	Description string            `json:"description"`
	Metadata    map[string]string `json:"metadata"`
	Secrets     []secretView      `json:"secrets"`
	Health      *healthView       `json:"health"`
	CreatedAt   *string           `json:"created_at"`
	Secret      string            `json:"secret,omitempty"`
}

type secretView struct {
	Type      string  `json:"type"`
	PublicKey *string `json:"public_key"`
	ExpiresAt *string `json:"expires_at"`
}

// goneView says why and since when a webhook is gone.
type goneView struct {
	Reason string  `json:"reason"`
	At     *string `json:"at"`
}

type healthView struct {
	FailingSince  *string `json:"failing_since"`
	LastFailureAt *string `json:"last_failure_at"`
	Failures      int     `json:"failures"`
	HeldUntil     *string `json:"held_until"`
}

func showWebhook(w *trigger.Webhook, now time.Time) webhookView {
	v := webhookView{
		ID: w.ID, URL: w.URL, State: w.State.String(), PausedBy: shownText(w.PausedBy),
		Types: w.Filter.TypeStrings(), Content: w.Filter.Content.Raw(),
		Format: cmp.Or(string(w.Format), string(trigger.FormatStandard)), Timeout: shownSeconds(w.Timeout),
		Headers: slices.AppendSeq([]string{}, maps.Keys(w.Headers)), Auth: shownText(authType(w.Auth)),
		Description: w.Description, Metadata: w.Metadata, Secrets: []secretView{}, CreatedAt: shownTime(w.CreatedAt),
	}
	slices.Sort(v.Headers)
	if v.Metadata == nil {
		v.Metadata = map[string]string{}
	}
	if w.Schedule != nil {
		v.Schedule = make([]float64, len(w.Schedule))
		for i, pause := range w.Schedule {
			v.Schedule[i] = pause.Seconds()
		}
	}
	if w.Rate != 0 {
		v.Rate = &w.Rate
	}
	if w.Concurrency != 0 {
		v.Concurrency = &w.Concurrency
	}
	for _, s := range w.Secrets {
		if s.Until.IsZero() || s.Until.After(now) {
			v.Secrets = append(v.Secrets, secretView{secretType(s.Secret), shownText(s.Public()), shownTime(s.Until)})
		}
	}
	if w.State == trigger.Gone {
		v.Gone = &goneView{w.GoneReason, shownTime(w.GoneAt)}
	}
	v.Health = showHealth(w, now)
	return v
}

// showHealth returns nil if the webhook does not fail and its breaker is closed.
func showHealth(w *trigger.Webhook, now time.Time) *healthView {
	v := &healthView{}
	held := w.HeldUntil.After(now)
	if held {
		v.HeldUntil = shownTime(w.HeldUntil)
	}
	h := w.Failing
	if h != nil {
		v.FailingSince, v.LastFailureAt, v.Failures = shownTime(h.Since), shownTime(h.LastAt), h.Failures
	}
	if h == nil && !held {
		return nil
	}
	return v
}

func authType(auth trigger.Auth) string {
	switch {
	case auth == trigger.Auth{}:
		return ""
	case auth.Bearer != "":
		return "bearer"
	}
	return "basic"
}

// postWebhook registers a webhook with a secret, which is shown only this once.
func (a *API) postWebhook(w http.ResponseWriter, r *request) error {
	var in webhookInput
	body, err := a.readBody(w, r, &in)
	if err != nil {
		return err
	}
	o, err := once(r, body)
	if err != nil {
		return err
	}
	hook, err := in.webhook()
	if err == nil {
		err = a.checkTarget(r.Context(), hook.URL)
	}
	if err != nil {
		return err
	}
	id, err := a.Store.AddWebhook(r.Context(), r.orgID(), hook, o)
	made, again, err := repeated(w, err)
	if err != nil {
		return atSchedule(err)
	}
	if !again {
		return a.answerWebhook(w, r, http.StatusCreated, id, hook.Secrets[0].Reveal())
	}
	err = a.answerWebhook(w, r, http.StatusCreated, made, "")
	if err != nil && trigger.KindOf(err) == trigger.NotFound {
		return goneSince(w, "the webhook that this request created was deleted")
	}
	return err
}

// checkTarget checks the URL of a webhook with the guard.
func (a *API) checkTarget(ctx context.Context, url string) error {
	return trigger.AtMember(a.Guard.Target(ctx, url), "#/url")
}

// atSchedule points an error of the store about a webhook's settings to its
// schedule. All else was checked before, but only the store knows how long
// events are kept.
func atSchedule(err error) error {
	if hasCode(err) {
		return err
	}
	return trigger.AtMember(err, "#/schedule_seconds")
}

// answerWebhook answers with the current state of a webhook.
func (a *API) answerWebhook(w http.ResponseWriter, r *request, status int, id int64, secret string) error {
	hook, err := a.webhookThere(r, id)
	if err != nil {
		return err
	}
	view := showWebhook(&hook, a.Store.Now())
	view.Secret = secret
	answer(w, status, view)
	return nil
}

// webhookThere reads a webhook. The error is NotFound if it was deleted.
func (a *API) webhookThere(r *request, id int64) (trigger.Webhook, error) {
	hook, err := a.Store.Webhook(r.Context(), r.orgID(), id)
	if err == nil && hook.State == trigger.Deleted {
		err = notFound()
	}
	if err != nil {
		return trigger.Webhook{}, err
	}
	return hook, nil
}

// listWebhooks lists active and paused webhooks, or those in one state.
func (a *API) listWebhooks(w http.ResponseWriter, r *request) error {
	q, limit, after, err := numbered(r, "state")
	if err != nil {
		return err
	}
	state, err := webhookState(&q)
	if err != nil {
		return err
	}
	page, err := a.Store.ListWebhooks(r.Context(), r.orgID(), state, after, limit+1)
	if err != nil {
		return err
	}
	now := a.Store.Now()
	answer(w, http.StatusOK, newList(&q, page, limit,
		func(w *trigger.Webhook) webhookView { return showWebhook(w, now) },
		func(w *trigger.Webhook) []byte { return placeOf(w.ID) }))
	return nil
}

// webhookState returns the parameter state, or "" if it is absent.
func webhookState(q *query) (trigger.WebhookState, error) {
	name, err := q.oneOf("state", trigger.Active.String(), trigger.Paused.String(), trigger.Gone.String())
	if name == trigger.Gone.String() {
		return trigger.Gone, err
	}
	return trigger.WebhookState(name), err
}

func (a *API) getWebhook(w http.ResponseWriter, r *request) error {
	id, err := r.only("webhook_id")
	if err != nil {
		return err
	}
	return a.answerWebhook(w, r, http.StatusOK, id, "")
}

func (a *API) patchWebhook(w http.ResponseWriter, r *request) error {
	id, err := r.only("webhook_id")
	if err != nil {
		return err
	}
	var in webhookInput
	if _, err := a.readBody(w, r, &in); err != nil {
		return err
	}
	if err := in.checkPatch(); err != nil {
		return err
	}
	if in.URL.Given {
		if err := a.checkTarget(r.Context(), in.URL.Value); err != nil {
			return err
		}
	}
	if _, err := a.Store.SetWebhook(r.Context(), r.orgID(), id, in.patch); err != nil {
		return atSchedule(err)
	}
	a.follow(r, id)
	return a.answerWebhook(w, r, http.StatusOK, id, "")
}

// follow waits until all nodes use the current settings of a webhook. If that
// fails, they do so a little later, and the request succeeds all the same.
func (a *API) follow(r *request, id int64) {
	if err := a.Engine.WaitApplied(r.Context(), id); err != nil {
		a.Log.Warn("cannot apply the change of a webhook on all nodes; they follow later", "webhook_id", id, "error", err)
	}
}

func (a *API) deleteWebhook(w http.ResponseWriter, r *request) error {
	id, err := r.only("webhook_id")
	if err != nil {
		return err
	}
	if err := a.Store.SetWebhookState(r.Context(), r.orgID(), id, trigger.Deleted); err != nil {
		return err
	}
	a.follow(r, id)
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (a *API) pauseWebhook(w http.ResponseWriter, r *request) error {
	return a.setWebhookState(w, r, trigger.Paused)
}

func (a *API) resumeWebhook(w http.ResponseWriter, r *request) error {
	return a.setWebhookState(w, r, trigger.Active)
}

func (a *API) setWebhookState(w http.ResponseWriter, r *request, state trigger.WebhookState) error {
	id, err := r.only("webhook_id")
	if err != nil {
		return err
	}
	if err := a.Store.SetWebhookState(r.Context(), r.orgID(), id, state); err != nil {
		return err
	}
	if state == trigger.Paused {
		a.follow(r, id)
	} else {
		a.Engine.Wake()
	}
	return a.answerWebhook(w, r, http.StatusOK, id, "")
}

// testMemory is the minimal memory of one test, in bytes. It bounds how many
// tests an organization may run at a time.
const testMemory = 2 << 20

// testWebhook sends one request to a webhook and answers with the attempt.
func (a *API) testWebhook(w http.ResponseWriter, r *request) error {
	id, err := r.only("webhook_id")
	if err != nil {
		return err
	}
	var in struct {
		Type opt[string]          `json:"type"`
		Data opt[json.RawMessage] `json:"data"`
	}
	if _, err := a.readBody(w, r, &in); err != nil {
		return err
	}
	event, err := trigger.NewEvent(r.orgID(), in.Type.or("webhook.test"), "", in.Data.or(json.RawMessage("{}")))
	if err != nil {
		return trigger.AtMember(err, "#/type")
	}
	hook, err := a.webhookThere(r, id)
	if err = cmp.Or(err, hook.Broken); err != nil {
		return err
	}
	size := testMemory + 2*event.Size()
	if err := a.used.take(r.orgID(), size); err != nil {
		return err
	}
	defer a.used.give(r.orgID(), size)
	event.ID = trigger.NewID(a.Store.Now(), 0, rand.Uint64())
	_ = http.NewResponseController(w).SetReadDeadline(time.Time{}) // the deadline of bodies is shorter than an attempt may last
	ctx, cancel := a.untilStopped(r.Context())
	defer cancel()
	attempt := a.Engine.Try(ctx, &hook, event)
	if attempt.Status == 0 && ctx.Err() != nil && r.Context().Err() == nil {
		return trigger.NewUnavailable(errors.New("the server is stopping, and the receiver has not answered"), 2*time.Second)
	}
	if err := r.right.ended(); err != nil { // the end of the right has cut the attempt
		return err
	}
	attempt.DeliveryKey = trigger.DeliveryKey{OrganizationID: r.orgID(), EventID: event.ID, WebhookID: id}
	attempt.Number = 1
	answer(w, http.StatusOK, showAttempt(&attempt))
	return nil
}
