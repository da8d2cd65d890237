package api

import (
	"strings"
	"time"

	"triggerd/internal/trigger"
)

// appendEvent appends the form of an event in /v1, with its original payload. It
// omits the status if that is "", for the inbox, which adds members of its own.
func appendEvent(b []byte, e *trigger.Event, status trigger.Status) []byte {
	b = append(b, `{"id":"`...)
	b = append(b, e.ID.String()...)
	b = append(b, `","type":`...)
	b = trigger.AppendString(b, e.Type)
	b = append(b, `,"payload":`...)
	b = append(b, e.Payload...)
	b = append(b, `,"dedup_id":`...)
	if e.DedupID == "" {
		b = append(b, "null"...)
	} else {
		b = trigger.AppendString(b, e.DedupID)
	}
	if status != "" {
		b = append(b, `,"status":"`...)
		b = append(b, status...)
		b = append(b, '"')
	}
	b = append(b, `,"created_at":"`...)
	b = trigger.AppendTime(b, e.ID.Time())
	b = append(b, `","deliver_at":`...)
	b = appendTimeOrNull(b, e.DeliverAt)
	b = append(b, `,"traceparent":`...)
	if e.Traceparent == "" {
		b = append(b, "null"...)
	} else {
		b = trigger.AppendString(b, e.Traceparent)
	}
	b = append(b, `,"cloudevent":`...)
	if e.Cloud == nil {
		b = append(b, "null"...)
	} else {
		b = append(b, e.Cloud.Attributes...)
	}
	return append(b, '}')
}

func appendTimeOrNull(b []byte, t time.Time) []byte {
	if t.IsZero() {
		return append(b, "null"...)
	}
	b = append(b, '"')
	b = trigger.AppendTime(b, t)
	return append(b, '"')
}

// attemptView is the form of an attempt in /v1.
type attemptView struct {
	EventID     string     `json:"event_id"`
	WebhookID   int64      `json:"webhook_id"`
	ReplayID    *int64     `json:"replay_id"`
	Number      int        `json:"number"`
	At          *string    `json:"at"`
	TookSeconds float64    `json:"took_seconds"`
	Outcome     string     `json:"outcome"`
	Status      *int       `json:"status"`
	Error       *string    `json:"error"`
	Response    *string    `json:"response"`
	Timing      timingView `json:"timing"`
}

type timingView struct {
	DNS       *float64 `json:"dns_seconds"`
	Connect   *float64 `json:"connect_seconds"`
	TLS       *float64 `json:"tls_seconds"`
	FirstByte *float64 `json:"first_byte_seconds"`
}

func showAttempt(a *trigger.Attempt) attemptView {
	v := attemptView{
		EventID: a.EventID.String(), WebhookID: a.WebhookID, ReplayID: shownNumber(a.Job), Number: a.Number, At: shownTime(a.At),
		TookSeconds: a.Took.Seconds(), Outcome: string(a.Outcome), Error: shownText(a.Error),
		Timing: timingView{
			DNS: shownSeconds(a.Timing.DNS), Connect: shownSeconds(a.Timing.Connect),
			TLS: shownSeconds(a.Timing.TLS), FirstByte: shownSeconds(a.Timing.FirstByte),
		},
	}
	if a.Status != 0 {
		v.Status = &a.Status
	}
	if len(a.Response) > 0 {
		text := strings.ToValidUTF8(string(a.Response), "\ufffd") // it may be cut within a character
		v.Response = &text
	}
	return v
}

// shownNumber returns an optional id: nil for 0.
func shownNumber(n int64) *int64 {
	if n == 0 {
		return nil
	}
	return &n
}

// shownSeconds returns an optional duration: nil for 0.
func shownSeconds(d time.Duration) *float64 {
	if d == 0 {
		return nil
	}
	s := d.Seconds()
	return &s
}

// whyView is the form of a verdict in /v1.
type whyView struct {
	WebhookID     int64        `json:"webhook_id"`
	Verdict       string       `json:"verdict"`
	Clause        *string      `json:"clause"`
	Reason        *string      `json:"reason"`
	NextAttemptAt *string      `json:"next_attempt_at"`
	Attempts      int          `json:"attempts"`
	LastAttempt   *attemptView `json:"last_attempt"`
}

func showVerdict(v *trigger.Verdict) whyView {
	w := whyView{
		WebhookID: v.WebhookID, Verdict: string(v.Kind), Clause: shownText(v.Clause), Reason: shownText(v.Reason),
		NextAttemptAt: shownTime(v.NextAttempt), Attempts: v.Attempts,
	}
	if v.Last != nil {
		last := showAttempt(v.Last)
		w.LastAttempt = &last
	}
	return w
}
