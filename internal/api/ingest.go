package api

import (
	"bytes"
	"context"
	"net/http"
	"strconv"
	"strings"
	"time"

	"triggerd/internal/ingest"
	"triggerd/internal/trigger"
)

// maxBatchBody is the limit of a body with several events, in bytes.
const maxBatchBody = 8 << 20

// posted is an event of a request on its way.
type posted struct {
	event    *trigger.Event
	warnings []trigger.Field // how its payload violates the schema of its type
	result   ingest.Result
	known    bool // it is a duplicate that could not be validated in time
	matches  bool // a duplicate has the same payload
	err      error
}

// postEvents accepts one event, or several, in one of the forms of /v1. It
// answers with the outcome of each.
func (a *API) postEvents(w http.ResponseWriter, r *request) (err error) {
	defer func() {
		if err != nil {
			a.Metrics.Rejected.WithLabelValues(reasonOf(err)).Inc()
		}
	}()
	if _, err := parameters(r); err != nil {
		return err
	}
	org := &r.key.Organization
	limit := a.limitOf(org)
	if blocked, wait := a.rates.Blocked(org.ID, limit, a.Now()); blocked {
		return rateLimited(limit, wait)
	}
	form, ok := formOf(r.Header)
	if !ok {
		return unsupportedMedia(r.Header, "JSON, NDJSON or a CloudEvents type in JSON")
	}
	body, free, err := a.readAll(w, r, max(maxBatchBody, a.MaxBody))
	if err != nil {
		return err
	}
	defer free()
	key, err := idempotencyKey(r)
	if err != nil {
		return err
	}
	if form == formJSON && bytes.HasPrefix(bytes.TrimLeft(body, jsonSpace), []byte("[")) {
		form = formArray
	}
	if form.isBatch() {
		return a.postBatch(w, r, form, body, key)
	}
	if len(body) > a.MaxBody {
		return tooLarge(a.MaxBody)
	}
	if ok, wait := a.rates.Allow(r.Context(), org.ID, limit, 1, a.Now()); !ok {
		return rateLimited(limit, wait)
	}
	p := a.prepareAll(r, form, [][]byte{body}, key)[0]
	if a.commit(r, &p); p.err != nil {
		return p.err
	}
	status := http.StatusCreated
	if p.result.Duplicate {
		status = http.StatusOK
	}
	answerJSON(w, status, append(p.appendVerdict([]byte{'{'}), '}'))
	return nil
}

// commit commits the only event of a request. If the client leaves, commit goes
// on, as in acceptEvent.
func (a *API) commit(r *request, p *posted) {
	ctx := context.WithoutCancel(r.Context())
	if p.err == nil && !p.known {
		p.result, p.err = a.Writer.Add(ctx, p.event)
	}
	a.compare(ctx, r, p)
}

// form is the format of a body with events.
type form int

const (
	formJSON       form = iota + 1 // an event of /v1
	formArray                      // an array of events of /v1
	formLines                      // an event of /v1 in each line
	formBinary                     // a CloudEvent, with its attributes in headers
	formStructured                 // a CloudEvent
	formBatch                      // an array of CloudEvents
)

func (f form) isBatch() bool { return f == formArray || f == formLines || f == formBatch }

// formOf returns the form that the headers name; ok is false if it is
// unsupported.
func formOf(h http.Header) (f form, ok bool) {
	if encoding := h.Get("Content-Encoding"); encoding != "" && !strings.EqualFold(encoding, "identity") {
		return 0, false
	}
	mode, ok := cloudMode(h)
	switch {
	case !ok:
		return 0, false
	case mode == modeBinary:
		return formBinary, true
	case mode == modeStructured:
		return formStructured, true
	case mode == modeBatch:
		return formBatch, true
	}
	switch mediaType(h.Get("Content-Type")) {
	case "application/x-ndjson", "application/ndjson", "application/jsonl":
		return formLines, true
	}
	return formJSON, isJSON(h)
}

// postBatch accepts several events, each with an outcome of its own.
func (a *API) postBatch(w http.ResponseWriter, r *request, f form, body []byte, key string) error {
	split := splitArray
	if f == formLines {
		split = splitLines
	}
	parts, err := split(body)
	if err != nil {
		return err
	}
	org := &r.key.Organization
	limit := a.limitOf(org)
	if limit > 0 && len(parts) > limit {
		return trigger.Errorf(trigger.Invalid, "a batch of %d events exceeds the rate limit of %d events a minute: send fewer at once", len(parts), limit)
	}
	if ok, wait := a.rates.Allow(r.Context(), org.ID, limit, len(parts), a.Now()); !ok {
		return rateLimited(limit, wait)
	}
	list := a.prepareAll(r, f, parts, key)
	var events []*trigger.Event
	for i := range list {
		if list[i].err == nil && !list[i].known {
			events = append(events, list[i].event)
		}
	}
	ctx := context.WithoutCancel(r.Context()) // as in acceptEvent
	verdicts := a.Writer.AddAll(ctx, events)
	ctx, cancel := context.WithTimeout(ctx, compareTimeout)
	defer cancel()
	for i := range list {
		p := &list[i]
		if p.err == nil && !p.known {
			p.result, p.err = verdicts[0].Result, verdicts[0].Err
			verdicts = verdicts[1:]
		}
		a.compare(ctx, r, p)
	}
	return answerBatch(w, f, list)
}

// prepareAll parses the events of a request and checks everything that needs no
// commit.
func (a *API) prepareAll(r *request, f form, parts [][]byte, key string) []posted {
	judging := a.types.judging(r.Context(), &r.key.Organization)
	defer judging.end()
	list := make([]posted, len(parts))
	for i, part := range parts {
		at := i
		if !f.isBatch() {
			at = -1
		}
		list[i] = a.prepare(r, f, part, key, at)
	}
	a.judgeAll(judging, list)
	return list
}

// judgeAll validates events against the schemas of their types, known duplicates
// last. So a batch that ran out of time can be sent again until it is complete.
// A duplicate that cannot be validated in time is still a duplicate.
func (a *API) judgeAll(judging *judging, list []posted) {
	if judging == nil {
		return
	}
	var again []*posted
	for i := range list {
		p := &list[i]
		if p.err != nil {
			continue
		}
		if p.result, p.known = a.Writer.Known(p.event); p.known {
			again = append(again, p)
			continue
		}
		p.warnings, p.err = judging.validate(p.event)
	}
	for _, p := range again {
		warnings, err := judging.validate(p.event)
		if trigger.KindOf(err) == trigger.Unavailable && err != nil {
			continue
		}
		p.warnings, p.err, p.known, p.result = warnings, err, false, ingest.Result{}
	}
}

// prepare parses an event. i is its index in a batch, or -1 for a single one.
func (a *API) prepare(r *request, f form, body []byte, key string, i int) (p posted) {
	org := &r.key.Organization
	if len(body) > a.MaxBody {
		p.err = tooLarge(a.MaxBody)
		return p
	}
	now := a.Store.Now()
	switch f {
	case formBinary:
		p.event, p.err = parseBinaryCloudEvent(org.ID, r.Header, body)
	case formStructured, formBatch:
		p.event, p.err = parseCloudEvent(org.ID, body)
	default:
		p.event, p.err = parseEvent(org.ID, body, now)
	}
	e := p.event
	if p.err != nil {
		return p
	}
	if e.Traceparent == "" && i < 0 && validTraceparent(r.Header.Get("Traceparent")) {
		e.Traceparent = r.Header.Get("Traceparent")
	}
	if p.err = identify(e, key, i); p.err != nil {
		return p
	}
	if a.Ahead > 0 && e.DeliverAt.Sub(now) > a.Ahead {
		p.err = trigger.Errorf(trigger.Invalid, "deliver_at must be at most %s from now", a.Ahead).At("#/deliver_at")
	}
	return p
}

// identify sets the dedup id of an event by the Idempotency-Key. i is its index
// in a batch, or -1 for a single one. CloudEvents have an identity of their own.
func identify(e *trigger.Event, key string, i int) error {
	switch {
	case key == "" || e.Cloud != nil || i >= 0 && e.DedupID != "":
	case i >= 0:
		e.DedupID = key + "#" + strconv.Itoa(i)
	case e.DedupID == "":
		e.DedupID = key
	case e.DedupID != key:
		return trigger.Errorf(trigger.Invalid, "dedup_id and Idempotency-Key must be the same where both are given").At("#/dedup_id")
	}
	return nil
}

// compareTimeout bounds the comparison of all duplicates of a request.
const compareTimeout = 5 * time.Second

// compare compares a duplicate's payload with the first event's. If
// deduplication is strict, a difference is an error.
func (a *API) compare(ctx context.Context, r *request, p *posted) {
	if p.err != nil || !p.result.Duplicate {
		return
	}
	differs, known := p.result.Differs(p.event)
	p.matches = !differs
	if !known {
		same, err := a.Store.SamePayload(ctx, r.orgID(), p.event.DedupID, p.event.PayloadHash())
		if trigger.KindOf(err) == trigger.NotFound && err != nil { // it was forgotten a moment ago, so a retry will be the first
			err = trigger.NewUnavailable(err, time.Second)
		}
		if err != nil {
			p.err = err
			return
		}
		p.matches = same
	}
	if !p.matches && r.key.Organization.Deduplication == trigger.Strict {
		e := trigger.Errorf(trigger.Invalid, "the dedup_id belongs to an event with another payload").At("#/payload")
		e.Code, e.EventID = "payload_differs", p.result.EventID
		p.err = e
	}
}

// appendVerdict appends the members with the outcome of an event.
func (p *posted) appendVerdict(b []byte) []byte {
	switch {
	case p.err != nil:
		status := "rejected"
		if trigger.KindOf(p.err) == trigger.Unavailable || trigger.KindOf(p.err) == trigger.Internal {
			status = "unavailable"
		}
		shown, _ := problemOf(p.err)
		b = append(b, `"status":"`+status+`","problem":`...)
		return append(b, marshal(shown)...)
	case p.result.Duplicate:
		b = append(b, `"status":"duplicate","id":"`...)
	default:
		b = append(b, `"status":"accepted","id":"`...)
	}
	b = append(b, p.result.EventID.String()...)
	b = append(b, '"')
	if p.result.Duplicate {
		b = strconv.AppendBool(append(b, `,"payload_matches":`...), p.matches)
	}
	if len(p.warnings) > 0 {
		b = append(append(b, `,"warnings":`...), marshal(p.warnings)...)
	}
	return b
}

// answerBatch answers with the outcomes, in the order of the events. If all
// events failed because the server is unavailable, it returns an error.
func answerBatch(w http.ResponseWriter, f form, list []posted) error {
	bad, unavailable := 0, 0
	b := []byte(`{"data":[`)
	if f == formLines {
		b = b[:0]
	}
	for i := range list {
		p := &list[i]
		if p.err != nil {
			bad++
		}
		if kind := trigger.KindOf(p.err); p.err != nil && kind == trigger.Unavailable {
			unavailable++
		}
		if i > 0 && f != formLines {
			b = append(b, ',')
		}
		b = append(b, `{"index":`...)
		b = append(strconv.AppendInt(b, int64(i), 10), ',')
		b = append(p.appendVerdict(b), '}')
		if f == formLines {
			b = append(b, '\n')
		}
	}
	switch {
	case unavailable == len(list):
		return list[0].err
	case f == formLines:
		w.Header().Set("Content-Type", "application/x-ndjson")
		w.WriteHeader(http.StatusOK)
		_, _ = w.Write(b) // the client may be gone
	case bad > 0:
		answerJSON(w, http.StatusMultiStatus, append(b, "]}"...))
	default:
		answerJSON(w, http.StatusOK, append(b, "]}"...))
	}
	return nil
}
