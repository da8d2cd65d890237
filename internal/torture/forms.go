package torture

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// form is how a single event is posted. A repeat may have another form with the
// same dedup id.
type form int

const (
	original   form = iota // the original API
	plain                  // to /v1/events
	keyed                  // with an Idempotency-Key instead of the dedup id
	structured             // as a CloudEvent
	binary                 // likewise, with the attributes in headers
)

// cloudSource is the source of all CloudEvents. With the id it is the dedup id.
const cloudSource = "/torture"

// cloudID returns the id of an event as a CloudEvent; "" if it cannot be one.
func (e *event) cloudID() string {
	id, _ := strings.CutPrefix(e.dedupID, cloudSource+" ")
	if id == e.dedupID || !e.deliverAt.IsZero() {
		return ""
	}
	return id
}

// anyForm returns a random form that the event may have.
func (e *event) anyForm(random *rand.Rand) form {
	forms := []form{plain}
	if e.deliverAt.IsZero() {
		forms = append(forms, original, original)
	}
	if strings.HasPrefix(e.dedupID, cloudSource) { // in ASCII, as the header requires
		forms = append(forms, keyed)
	}
	if e.cloudID() != "" || e.refused {
		forms = append(forms, structured)
	}
	if e.cloudID() != "" {
		forms = append(forms, binary)
	}
	return forms[random.IntN(len(forms))]
}

// request returns the request that posts an event.
func (e *event) request(f form, seed uint64) request {
	q := request{method: http.MethodPost, path: "/v1/events", key: e.tenant.key, header: map[string]string{}}
	switch f {
	case original:
		q.path = "/api/events"
		q.body = e.object(seed, e.dedupID)
	case keyed:
		q.header["Idempotency-Key"] = `"` + e.dedupID + `"`
		q.body = e.object(seed, "")
	case structured:
		q.header["Content-Type"] = "application/cloudevents+json"
		q.body = e.cloudObject(seed)
	case binary:
		q.header["Ce-Specversion"], q.header["Ce-Id"], q.header["Ce-Source"] = "1.0", e.cloudID(), cloudSource
		q.header["Ce-Type"] = url.PathEscape(e.eventType)
		q.body = newPayload(seed, e.n, e.tenant.n, false)
	default:
		q.body = e.object(seed, e.dedupID)
	}
	return q
}

// object returns an event as JSON, with the dedup id unless it is "". If the
// event must be refused, the JSON is cut and never valid.
func (e *event) object(seed uint64, dedupID string) []byte {
	b := fmt.Appendf(nil, `{"type":%q`, e.eventType)
	if dedupID != "" {
		b = fmt.Appendf(b, `,"dedup_id":%q`, dedupID)
	}
	if !e.deliverAt.IsZero() {
		b = fmt.Appendf(b, `,"deliver_at":%q`, e.deliverAt.UTC().Format(time.RFC3339Nano))
	}
	return e.end(fmt.Appendf(b, `,"payload":%s`, newPayload(seed, e.n, e.tenant.n, e.refused)))
}

// cloudObject returns an event as a CloudEvent.
func (e *event) cloudObject(seed uint64) []byte {
	id := e.cloudID()
	if e.refused {
		id = "refused"
	}
	return e.end(fmt.Appendf(nil, `{"specversion":"1.0","id":%q,"source":%q,"type":%q,"data":%s`,
		id, cloudSource, e.eventType, newPayload(seed, e.n, e.tenant.n, e.refused)))
}

func (e *event) end(b []byte) []byte {
	if e.refused {
		return b
	}
	return append(b, '}')
}

// manyForm is how several events are posted in one request.
type manyForm int

const (
	array manyForm = iota
	lines
	cloudBatch
)

// batch is several events in one request.
type batch struct {
	form   manyForm
	key    string   // the Idempotency-Key; may be empty
	cut    bool     // the array does not end, so the whole batch must be refused
	events []*event // in order; a repeated one must be a duplicate
}

// repeatable reports whether the batch can be posted again without creating
// second events.
func (b *batch) repeatable() bool {
	return !slices.ContainsFunc(b.events, func(e *event) bool { return e.dedupID == "" && !e.refused })
}

// dedupOf returns the dedup id to write into an element; "" if it has none or
// the one of its place.
func (b *batch) dedupOf(i int) string {
	if id := b.events[i].dedupID; b.key == "" || id != placeID(b.key, i) {
		return id
	}
	return ""
}

// placeID returns the dedup id of an element by the Idempotency-Key.
func placeID(key string, i int) string { return fmt.Sprintf("%s#%d", key, i) }

// request returns the request that posts a batch, with the same bytes each
// time.
func (b *batch) request(seed uint64) request {
	q := request{method: http.MethodPost, path: "/v1/events", key: b.events[0].tenant.key, header: map[string]string{}}
	if b.key != "" {
		q.header["Idempotency-Key"] = b.key
	}
	switch b.form {
	case lines:
		q.header["Content-Type"] = "application/x-ndjson"
	case cloudBatch:
		q.header["Content-Type"] = "application/cloudevents-batch+json"
	}
	for i, e := range b.events {
		var one []byte
		if b.form == cloudBatch {
			one = e.cloudObject(seed)
		} else {
			one = e.object(seed, b.dedupOf(i))
		}
		switch {
		case b.form == lines:
			q.body = append(append(q.body, one...), []string{"\n", "\r\n", "\n\n"}[i%3]...)
			continue
		case e.refused && b.form == cloudBatch:
			one = []byte(strings.Replace(string(one)+"}", `"specversion":"1.0"`, `"specversion":"0.3"`, 1))
		case e.refused:
			one = append(one, `,"surplus":1}`...)
		}
		q.body = append(append(q.body, "[,"[min(i, 1)]), one...)
	}
	if b.form != lines && !b.cut {
		q.body = append(q.body, ']')
	}
	return q
}
