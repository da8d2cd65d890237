package api

import (
	"fmt"
	"net/http"
	"time"

	"triggerd/internal/trigger"
)

// replayView is the form of a replay in /v1.
type replayView struct {
	ID        int64    `json:"id"`
	WebhookID int64    `json:"webhook_id"`
	State     string   `json:"state"`
	Since     *string  `json:"since"`
	Until     *string  `json:"until"`
	Types     []string `json:"types"`
	Status    *string  `json:"status"`
	Pace      *float64 `json:"pace"`
	Queued    int      `json:"queued"`
	Delivered int      `json:"delivered"`
	Failed    int      `json:"failed"`
	CreatedAt *string  `json:"created_at"`
}

func showReplay(r *trigger.Replay) replayView {
	v := replayView{
		ID: r.ID, WebhookID: r.WebhookID, State: string(r.State), Until: shownTime(r.Until),
		Types: (&trigger.Filter{Types: r.Types}).TypeStrings(), Status: shownText(string(r.Status)),
		Queued: r.Queued, Delivered: r.Delivered, Failed: r.Failed, CreatedAt: shownTime(r.CreatedAt),
	}
	if r.Since.After(time.Unix(0, 0)) { // else it starts at the beginning
		v.Since = shownTime(r.Since)
	}
	if r.Pace != 0 {
		v.Pace = &r.Pace
	}
	return v
}

type replayInput struct {
	WebhookID opt[int64]     `json:"webhook_id"`
	Since     opt[string]    `json:"since"`
	Until     opt[string]    `json:"until"`
	Types     opt[[]*string] `json:"types"`
	Status    opt[string]    `json:"status"`
	Pace      opt[float64]   `json:"pace"`
}

// replay returns the replay that the body describes.
func (in *replayInput) replay() (r trigger.Replay, err error) {
	if r.WebhookID, err = webhookID(&in.WebhookID); err != nil {
		return r, err
	}
	if r.Since, err = timeOf("since", &in.Since); err != nil {
		return r, err
	}
	if r.Until, err = timeOf("until", &in.Until); err != nil {
		return r, err
	}
	if r.Types, err = patterns(in.Types.Value); err != nil {
		return r, err
	}
	r.Status = trigger.Status(in.Status.Value)
	if in.Status.Given && !in.Status.Null && r.Status != trigger.Failed && r.Status != trigger.Delivered {
		return r, invalid("#/status", "status must be failed or delivered; got %.60q", in.Status.Value)
	}
	r.Pace = in.Pace.or(trigger.DefaultPace)
	if r.Pace != 0 && !(r.Pace >= trigger.MinRate && r.Pace <= trigger.MaxRate) {
		return r, invalid("#/pace", "pace must be 0 or from one a minute to %v deliveries a second; got %v", trigger.MaxRate, r.Pace)
	}
	return r, nil
}

// webhookID returns a member that is the id of a webhook.
func webhookID(o *opt[int64]) (int64, error) {
	switch {
	case !o.Given || o.Null:
		return 0, invalid("#/webhook_id", "webhook_id is missing")
	case o.Value < 1:
		return 0, invalid("#/webhook_id", "webhook_id must be an integer from 1, for example 42; got %d", o.Value)
	}
	return o.Value, nil
}

// timeOf returns a member that is a time, or zero if it is absent.
func timeOf(name string, o *opt[string]) (t time.Time, err error) {
	if !o.Given || o.Null {
		return t, nil
	}
	t, ok := parseRFC3339(o.Value)
	if !ok || t.Before(time.Unix(0, 0)) {
		return t, invalid("#/"+name, "%s must be an RFC 3339 time from 1970 on, for example 2026-01-02T03:04:05Z; got %.60q", name, o.Value)
	}
	return t, nil
}

// atSince points an error of the store about a replay to since. All else was
// checked before, but only the store knows the current time.
func atSince(err error) error {
	if hasCode(err) {
		return err
	}
	return trigger.AtMember(err, "#/since")
}

// postReplay starts a replay.
func (a *API) postReplay(w http.ResponseWriter, r *request) error {
	var in replayInput
	body, err := a.readBody(w, r, &in)
	if err != nil {
		return err
	}
	o, err := once(r, body)
	if err != nil {
		return err
	}
	replay, err := in.replay()
	if err != nil {
		return err
	}
	id, err := a.Store.AddReplay(r.Context(), r.orgID(), replay, o)
	made, again, err := repeated(w, err)
	if err != nil {
		return atSince(err)
	}
	if again {
		id = made
	}
	a.Engine.Wake()
	replay, err = a.Store.Replay(r.Context(), r.orgID(), id)
	if err != nil {
		return err
	}
	answer(w, http.StatusCreated, showReplay(&replay))
	return nil
}

// previewReplay answers with what a replay would send, without starting it.
func (a *API) previewReplay(w http.ResponseWriter, r *request) error {
	var in replayInput
	if _, err := a.readBody(w, r, &in); err != nil {
		return err
	}
	replay, err := in.replay()
	if err != nil {
		return err
	}
	p, err := a.Store.PreviewReplay(r.Context(), r.orgID(), replay, maxSamples)
	if err != nil {
		return atSince(err)
	}
	b := fmt.Appendf(nil, `{"scanned":%d,"matched":%d,"complete":%t,"samples":`, p.Scanned, p.Matched, p.All)
	return a.answerSamples(w, r, b, samples{"}", p.Newest})
}

func (a *API) listReplays(w http.ResponseWriter, r *request) error {
	q, limit, before, err := numbered(r)
	if err != nil {
		return err
	}
	page, err := a.Store.ListReplays(r.Context(), r.orgID(), before, limit+1)
	if err != nil {
		return err
	}
	answer(w, http.StatusOK, newList(&q, page, limit, showReplay, func(r *trigger.Replay) []byte { return placeOf(r.ID) }))
	return nil
}

func (a *API) getReplay(w http.ResponseWriter, r *request) error {
	id, err := r.only("replay_id")
	if err != nil {
		return err
	}
	replay, err := a.Store.Replay(r.Context(), r.orgID(), id)
	if err != nil {
		return err
	}
	answer(w, http.StatusOK, showReplay(&replay))
	return nil
}

func (a *API) pauseReplay(w http.ResponseWriter, r *request) error {
	return a.setReplayState(w, r, trigger.ReplayPaused)
}

func (a *API) resumeReplay(w http.ResponseWriter, r *request) error {
	return a.setReplayState(w, r, trigger.ReplayRunning)
}

func (a *API) cancelReplay(w http.ResponseWriter, r *request) error {
	return a.setReplayState(w, r, trigger.ReplayCancelling)
}

func (a *API) setReplayState(w http.ResponseWriter, r *request, state trigger.ReplayState) error {
	id, err := r.only("replay_id")
	if err != nil {
		return err
	}
	replay, err := a.Store.SetReplayState(r.Context(), r.orgID(), id, state)
	if err != nil {
		return err
	}
	a.Engine.Wake()
	answer(w, http.StatusOK, showReplay(&replay))
	return nil
}

// resendEvent makes another delivery of an event to a webhook, due now.
func (a *API) resendEvent(w http.ResponseWriter, r *request) error {
	var in struct {
		WebhookID opt[int64] `json:"webhook_id"`
	}
	body, err := a.readBody(w, r, &in)
	if err != nil {
		return err
	}
	o, err := once(r, body)
	if err != nil {
		return err
	}
	event, err := r.eventID()
	if err != nil {
		return err
	}
	webhook, err := webhookID(&in.WebhookID)
	if err != nil {
		return err
	}
	job, err := a.Store.Resend(r.Context(), r.orgID(), event, webhook, o)
	made, again, err := repeated(w, err)
	if err != nil {
		return err
	}
	if again {
		job = made
	}
	a.Engine.Wake()
	answer(w, http.StatusAccepted, struct {
		EventID   string `json:"event_id"`
		WebhookID int64  `json:"webhook_id"`
		ReplayID  *int64 `json:"replay_id"`
	}{event.String(), webhook, shownNumber(job)})
	return nil
}
