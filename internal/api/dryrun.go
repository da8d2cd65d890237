package api

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"triggerd/internal/store"
	"triggerd/internal/trigger"
)

const (
	maxSamples = 3
	maxScanned = 10_000 // events that a dry run reads
	dryRunSpan = 24 * time.Hour
)

// tally counts events and keeps the ids of the first few.
type tally struct {
	count   int
	samples []trigger.ID
}

func (t *tally) add(id trigger.ID) {
	if t.count++; len(t.samples) < maxSamples {
		t.samples = append(t.samples, id)
	}
}

// dryRun is the trial of a filter on past events, with its result.
type dryRun struct {
	span    store.Span
	filter  trigger.Webhook
	present *trigger.Webhook // the webhook to compare with; nil: none

	scanned                 int
	oldest                  time.Time // the time of the oldest event read
	matched, added, removed tally
}

// look tries the filter on one event. Operational events match only filters that
// name their type, as in replays.
func (d *dryRun) look(e *trigger.Event) {
	var every trigger.Replay
	d.scanned++
	d.oldest = e.ID.Time()
	picked := every.Picks(&d.filter, e)
	if picked {
		d.matched.add(e.ID)
	}
	if d.present == nil {
		return
	}
	switch had := every.Picks(d.present, e); {
	case picked && !had:
		d.added.add(e.ID)
	case had && !picked:
		d.removed.add(e.ID)
	}
}

// perHour returns how many events per hour match, over the time that was read.
func (d *dryRun) perHour(all bool) float64 {
	begin := d.span.Since
	if !all && d.scanned > 0 {
		begin = d.oldest
	}
	hours := d.span.Until.Sub(begin).Hours()
	if hours <= 0 {
		return 0
	}
	return float64(d.matched.count) / hours
}

// dryRunWebhook answers with the past events that a filter would have matched.
func (a *API) dryRunWebhook(w http.ResponseWriter, r *request) error {
	var in struct {
		Types     opt[[]*string]       `json:"types"`
		Content   opt[json.RawMessage] `json:"content"`
		WebhookID opt[int64]           `json:"webhook_id"`
		Since     opt[string]          `json:"since"`
		Until     opt[string]          `json:"until"`
	}
	if _, err := a.readBody(w, r, &in); err != nil {
		return err
	}
	var d dryRun
	settings := webhookInput{Types: in.Types, Content: in.Content}
	err := settings.applyFilter(&d.filter)
	if err != nil {
		return err
	}
	if d.span, err = spanOf(&in.Since, &in.Until, a.Store.Now()); err != nil {
		return err
	}
	d.span.Limit, d.span.Payloads = maxScanned, d.filter.Filter.Content != nil
	if in.WebhookID.Given && !in.WebhookID.Null {
		id, err := webhookID(&in.WebhookID)
		if err != nil {
			return err
		}
		hook, err := a.webhookThere(r, id)
		if err != nil {
			return err
		}
		d.present = &hook
		d.span.Payloads = d.span.Payloads || hook.Filter.Content != nil
	}
	all, err := a.Store.LookBack(r.Context(), r.orgID(), d.span, d.look)
	if err != nil {
		return err
	}
	return a.answerDryRun(w, r, &d, all)
}

// spanOf parses the members since and until. The default is the last 24 hours.
func spanOf(since, until *opt[string], now time.Time) (s store.Span, err error) {
	if s.Since, err = timeOf("since", since); err != nil {
		return s, err
	}
	if s.Until, err = timeOf("until", until); err != nil {
		return s, err
	}
	if s.Until.IsZero() || s.Until.After(now) {
		s.Until = now
	}
	if s.Since.IsZero() {
		if s.Since = s.Until.Add(-dryRunSpan); s.Since.Before(time.Unix(0, 0)) {
			s.Since = time.Unix(0, 0)
		}
	}
	if !s.Since.Before(s.Until) {
		return s, invalid("#/since", "since must be before until")
	}
	return s, nil
}

func (a *API) answerDryRun(w http.ResponseWriter, r *request, d *dryRun, all bool) error {
	b := fmt.Appendf(nil, `{"scanned":%d,"matched":%d,"complete":%t,"per_hour":`, d.scanned, d.matched.count, all)
	b = strconv.AppendFloat(b, d.perHour(all), 'f', -1, 64)
	b = append(b, `,"samples":`...)
	if d.present == nil {
		return a.answerSamples(w, r, b, samples{`,"difference":null}`, d.matched.samples})
	}
	difference := fmt.Sprintf(`,"difference":{"added":%d,"removed":%d,"added_samples":`, d.added.count, d.removed.count)
	return a.answerSamples(w, r, b, samples{difference, d.matched.samples},
		samples{`,"removed_samples":`, d.added.samples}, samples{`}}`, d.removed.samples})
}

// samples are some events of an answer, and the text after them.
type samples struct {
	after string
	ids   []trigger.ID
}

// answerSamples answers with lists of events, with their original payloads,
// after a beginning. It omits events that were deleted since they were found.
func (a *API) answerSamples(w http.ResponseWriter, r *request, b []byte, lists ...samples) error {
	held := 0
	defer func() { a.used.give(r.orgID(), held) }()
	for _, l := range lists {
		b = append(b, '[')
		first := true
		for _, id := range l.ids {
			e, status, err := a.Store.Event(r.Context(), r.orgID(), id)
			if trigger.KindOf(err) == trigger.NotFound && err != nil {
				continue
			}
			if err != nil {
				return err
			}
			if err := a.used.take(r.orgID(), 2*e.Size()); err != nil {
				return err
			}
			held += 2 * e.Size()
			if !first {
				b = append(b, ',')
			}
			b, first = appendEvent(b, e, status), false
		}
		b = append(append(b, ']'), l.after...)
	}
	answerJSON(w, http.StatusOK, b)
	return nil
}
