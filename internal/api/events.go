package api

import (
	"context"
	"net/http"
	"strings"

	"triggerd/internal/ingest"
	"triggerd/internal/store"
	"triggerd/internal/trigger"
)

// acceptEvent checks an event of the original contract, in this order: rate
// limit, type of the body, its size, its content. Then it commits the event.
func (a *API) acceptEvent(w http.ResponseWriter, r *request) (result ingest.Result, err error) {
	org := r.key.Organization
	limit := a.limitOf(&org)
	if ok, wait := a.rates.Allow(r.Context(), org.ID, limit, 1, a.Now()); !ok {
		return result, rateLimited(limit, wait)
	}
	body, free, err := a.readJSON(w, r)
	if err != nil {
		return result, err
	}
	defer free()
	event, err := parseEnvelope(org.ID, body)
	if err != nil {
		return result, err
	}
	if err := a.validate(r, event); err != nil {
		return result, err
	}
	// The commit ignores a client that leaves. One that only closed its side of
	// the connection, for example nc -N, still waits for the answer.
	return a.Writer.Add(context.WithoutCancel(r.Context()), event)
}

// validate validates a request's only event against the schema of its type.
func (a *API) validate(r *request, event *trigger.Event) error {
	judging := a.types.judging(r.Context(), &r.key.Organization)
	defer judging.end()
	_, err := judging.validate(event)
	return err
}

// reasonOf returns the reason of an error for the metrics.
func reasonOf(err error) string {
	return strings.ToLower(http.StatusText(statusOf(trigger.KindOf(err))))
}

// optionsEvents answers the handshake of CloudEvents webhooks: any client with a
// key may send, up to its rate limit.
func (a *API) optionsEvents(w http.ResponseWriter, r *request) error {
	w.Header().Set("Allow", "GET, HEAD, OPTIONS, POST")
	if origin := r.Header.Get("WebHook-Request-Origin"); origin != "" {
		w.Header().Set("WebHook-Allowed-Origin", origin)
		w.Header().Set("WebHook-Allowed-Rate", "*")
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// listEvents lists events by filters, newest or oldest first.
func (a *API) listEvents(w http.ResponseWriter, r *request) error {
	q, err := parameters(r, "limit", "cursor", "status", "type", "since", "until", "dedup_id", "webhook_id", "order")
	if err != nil {
		return err
	}
	want, err := eventQuery(&q)
	if err != nil {
		return err
	}
	page, next, err := a.Store.FindEvents(r.Context(), r.orgID(), want)
	if err != nil {
		return err
	}
	var cursor *string
	if !next.IsZero() {
		cursor = q.next(next[:])
	}
	return a.writeEvents(w, r, `{"data":[`, page, appendEvent, func(int) []byte {
		if cursor == nil {
			return []byte(`],"next_cursor":null}`)
		}
		return []byte(`],"next_cursor":"` + *cursor + `"}`)
	})
}

func eventQuery(q *query) (want store.EventQuery, err error) {
	if want.Limit, err = q.limit(); err != nil {
		return want, err
	}
	if want.After, err = q.placeID(); err != nil {
		return want, err
	}
	status, err := q.oneOf("status", string(trigger.Pending), string(trigger.Delivered), string(trigger.Failed))
	if err != nil {
		return want, err
	}
	want.Status = trigger.Status(status)
	if want.Types, err = q.pattern("type"); err != nil {
		return want, err
	}
	if want.Since, err = q.time("since"); err != nil {
		return want, err
	}
	if want.Until, err = q.time("until"); err != nil {
		return want, err
	}
	want.DedupID = q.values.Get("dedup_id")
	if _, err := trigger.NewEvent(0, "t", want.DedupID, nil); err != nil || q.values.Has("dedup_id") && want.DedupID == "" {
		return want, wrongParameter("dedup_id", "dedup_id must have 1 to %d bytes of UTF-8 without NUL", trigger.MaxDedupID)
	}
	if want.WebhookID, want.OfWebhook, err = q.number("webhook_id"); err != nil {
		return want, err
	}
	order, err := q.oneOf("order", "newest", "oldest")
	want.Oldest = order == "oldest"
	return want, err
}

// getEvent shows an event and its outcome at each webhook.
func (a *API) getEvent(w http.ResponseWriter, r *request) error {
	id, err := r.eventID()
	if err != nil {
		return err
	}
	event, status, err := a.Store.Event(r.Context(), r.orgID(), id)
	if err != nil {
		return err
	}
	size := 2 * event.Size()
	h := a.holderOf(r)
	if err := a.used.takeFor(h, size); err != nil {
		return err
	}
	defer a.used.giveFor(h, size)
	why, err := a.why(r, id)
	if err != nil {
		return err
	}
	b := appendEvent(nil, event, status)
	b = append(b[:len(b)-1], `,"deliveries":`...)
	b = append(b, marshal(why)...)
	answerJSON(w, http.StatusOK, append(b, '}'))
	return nil
}

// getWhy says why an event was, or was not, sent to each webhook.
func (a *API) getWhy(w http.ResponseWriter, r *request) error {
	id, err := r.eventID()
	if err != nil {
		return err
	}
	why, err := a.why(r, id)
	if err != nil {
		return err
	}
	answer(w, http.StatusOK, struct {
		Data []whyView `json:"data"`
	}{why})
	return nil
}

// why returns the verdicts of an event, first that of the inbox if it gets the
// event.
func (a *API) why(r *request, id trigger.ID) ([]whyView, error) {
	verdicts, err := a.Store.Why(r.Context(), r.orgID(), id)
	if err != nil {
		return nil, err
	}
	inbox, owed, err := a.Store.InboxVerdict(r.Context(), r.orgID(), id)
	if err != nil {
		return nil, err
	}
	views := []whyView{}
	if owed {
		views = append(views, showVerdict(&inbox))
	}
	for i := range verdicts {
		views = append(views, showVerdict(&verdicts[i]))
	}
	return views, nil
}

// getEventAttempts lists the attempts of an event, in their order.
func (a *API) getEventAttempts(w http.ResponseWriter, r *request) error {
	id, err := r.eventID()
	if err != nil {
		return err
	}
	if _, _, err := a.Store.Event(r.Context(), r.orgID(), id); err != nil {
		return err
	}
	attempts, err := a.Store.Attempts(r.Context(), r.orgID(), id)
	if err != nil {
		return err
	}
	views := []attemptView{}
	for i := range attempts {
		views = append(views, showAttempt(&attempts[i]))
	}
	answer(w, http.StatusOK, struct {
		Data []attemptView `json:"data"`
	}{views})
	return nil
}

// deleteEvent deletes an event. If it was to be delivered later, it never is.
func (a *API) deleteEvent(w http.ResponseWriter, r *request) error {
	id, err := r.eventID()
	if err != nil {
		return err
	}
	if err := a.Store.DeleteEvent(r.Context(), r.orgID(), id); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}
