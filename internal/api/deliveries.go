package api

import (
	"encoding/binary"
	"net/http"
	"time"

	"triggerd/internal/store"
	"triggerd/internal/trigger"
)

// deliveryView is the form of a delivery in /v1.
type deliveryView struct {
	EventID     string  `json:"event_id"`
	WebhookID   int64   `json:"webhook_id"`
	ReplayID    *int64  `json:"replay_id"`
	Status      string  `json:"status"`
	Attempts    int     `json:"attempts"`
	NextAttempt *string `json:"next_attempt_at"`
	Claimed     bool    `json:"claimed"`
	Reason      *string `json:"reason"`
}

const (
	statusOpen   = "open"
	statusFailed = "failed"
)

func showDelivery(d *trigger.Delivery, now time.Time) deliveryView {
	v := deliveryView{
		EventID: d.EventID.String(), WebhookID: d.WebhookID, ReplayID: shownNumber(d.Job), Status: statusFailed,
		Attempts: d.Attempts, Reason: shownText(d.Reason),
	}
	if d.State == trigger.DeliveryOpen {
		v.Status = statusOpen
		if v.Claimed = !d.Claim.IsZero() && d.DueAt.After(now); !v.Claimed {
			v.NextAttempt = shownTime(d.DueAt)
		}
	}
	return v
}

// deliveryPlace is the size of a delivery's position in its list: the event, the
// webhook, and the replay.
const deliveryPlace = len(trigger.ID{}) + 8 + 8

func placeOfDelivery(d *trigger.Delivery) []byte {
	b := append(make([]byte, 0, deliveryPlace), d.EventID[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(d.WebhookID))
	return binary.BigEndian.AppendUint64(b, uint64(d.Job))
}

func (q *query) placeDelivery() (key trigger.DeliveryKey, err error) {
	raw, err := q.place(deliveryPlace)
	if raw == nil {
		return key, err
	}
	n := copy(key.EventID[:], raw)
	key.WebhookID = int64(binary.BigEndian.Uint64(raw[n:]))
	key.Job = int64(binary.BigEndian.Uint64(raw[n+8:]))
	return key, nil
}

// listDeliveries lists open and failed deliveries, newest events first.
func (a *API) listDeliveries(w http.ResponseWriter, r *request) error {
	q, err := parameters(r, "limit", "cursor", "status", "webhook_id")
	if err != nil {
		return err
	}
	limit, err := q.limit()
	if err != nil {
		return err
	}
	want := store.DeliveryQuery{Limit: limit + 1}
	status, err := q.oneOf("status", statusOpen, statusFailed)
	if err != nil {
		return err
	}
	if want.AnyState = status == ""; status == statusFailed {
		want.State = trigger.DeliveryFailed
	}
	if want.WebhookID, want.OfWebhook, err = q.number("webhook_id"); err != nil {
		return err
	}
	if want.After, err = q.placeDelivery(); err != nil {
		return err
	}
	page, err := a.Store.ListDeliveries(r.Context(), r.orgID(), want)
	if err != nil {
		return err
	}
	now := a.Store.Now()
	answer(w, http.StatusOK, newList(&q, page, limit,
		func(d *trigger.Delivery) deliveryView { return showDelivery(d, now) }, placeOfDelivery))
	return nil
}

// listAttempts lists attempts, newest events first. A page has all attempts of
// its last event.
func (a *API) listAttempts(w http.ResponseWriter, r *request) error {
	q, err := parameters(r, "limit", "cursor", "webhook_id", "outcome", "replay_id")
	if err != nil {
		return err
	}
	limit, err := q.limit()
	if err != nil {
		return err
	}
	var want store.AttemptFilter
	if want.WebhookID, want.OfWebhook, err = q.number("webhook_id"); err != nil {
		return err
	}
	outcome, err := q.oneOf("outcome",
		string(trigger.Success), string(trigger.Transient), string(trigger.Permanent), string(trigger.ReceiverGone))
	if err != nil {
		return err
	}
	want.Outcome = trigger.Outcome(outcome)
	job, given, err := q.number("replay_id")
	if want.Job = job; err != nil || given && job == 0 {
		return wrongParameter("replay_id", "replay_id must be an integer from 1, for example 42; got %.60q", q.values.Get("replay_id"))
	}
	before, err := q.placeID()
	if err != nil {
		return err
	}
	page, next, err := a.Store.ListAttempts(r.Context(), r.orgID(), want, before, limit)
	if err != nil {
		return err
	}
	shown := list[attemptView]{Data: make([]attemptView, len(page))}
	for i := range page {
		shown.Data[i] = showAttempt(&page[i])
	}
	if !next.IsZero() {
		shown.NextCursor = q.next(next[:])
	}
	answer(w, http.StatusOK, shown)
	return nil
}
