package client

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
)

// MaxBatch is the maximum number of events in one request.
const MaxBatch = 1000

// The statuses of a posted event.
const (
	PostAccepted    = "accepted"    // the event is committed
	PostDuplicate   = "duplicate"   // its dedup id is already known
	PostRejected    = "rejected"    // it can never be accepted, see Problem
	PostUnavailable = "unavailable" // it may be accepted later, or already be stored, see Problem
)

// Accepted is the result of posting an event.
type Accepted struct {
	Status         string       `json:"status"`                   // PostAccepted or PostDuplicate
	ID             string       `json:"id"`                       // of the event; of the first, for a duplicate
	PayloadMatches *bool        `json:"payload_matches,omitzero"` // for a duplicate: whether it has the payload of the first event
	Warnings       []FieldError `json:"warnings,omitzero"`        // violations of the type's schema, in ModeWarn
}

// Verdict is the result of posting one of several events.
type Verdict struct {
	Index          int          `json:"index"`                    // of the event, from 0
	Status         string       `json:"status"`                   // PostAccepted, …
	ID             string       `json:"id,omitzero"`              // as in Accepted
	PayloadMatches *bool        `json:"payload_matches,omitzero"` // as in Accepted
	Warnings       []FieldError `json:"warnings,omitzero"`        // as in Accepted
	Problem        *Error       `json:"problem,omitzero"`         // of PostRejected and PostUnavailable
}

// PostEvent posts an event. If it returns no error, the event is committed, and
// is or will be delivered; a duplicate was committed before.
//
// An event without a dedup id gets a random one, the same for all tries of this
// call, so a retry after a lost answer creates no second event. If the call
// fails, the event may still be stored, unless the error [IsRefused]. To post
// it again in another call, set a DedupID.
func (c *Client) PostEvent(ctx context.Context, in EventInput) (Accepted, error) {
	req := request{method: http.MethodPost, path: eventsPath}
	if in.DedupID == "" {
		req.set("Idempotency-Key", rand.Text())
	}
	accepted, err := call[Accepted](ctx, c, req, in)
	if in.DedupID == "" && accepted.Status == PostDuplicate {
		accepted.Status, accepted.PayloadMatches = PostAccepted, nil // this is the answer to an earlier try
	}
	return accepted, err
}

// PostEvents posts up to [MaxBatch] events, of 8 MiB together, in one request,
// and returns a verdict for each, in their order. Some can be accepted and
// others rejected; this is not an error. An error means that there are no
// verdicts; the events may still be stored, unless it [IsRefused].
//
// Events without a dedup id get one, as in [Client.PostEvent]. Unavailable
// events are posted again as often as a call is retried. An event that is still
// unavailable then may or may not be stored, as after an error.
func (c *Client) PostEvents(ctx context.Context, events []EventInput) ([]Verdict, error) {
	if len(events) == 0 {
		return nil, nil
	}
	if len(events) > MaxBatch {
		return nil, fmt.Errorf("triggerd: %d events are over the %d of a request", len(events), MaxBatch)
	}
	b := newBatch(c, len(events))
	for i, event := range events {
		if b.own[i] = event.DedupID == ""; b.own[i] {
			event.DedupID = b.id(i)
		}
		body, err := event.MarshalJSON()
		if err != nil {
			return nil, fmt.Errorf("event %d: %w", i, err)
		}
		b.bodies[i], b.array = body, b.array || bytes.ContainsAny(body, "\r\n")
	}
	return b.postAll(ctx)
}

// PostEventLines is like [Client.PostEvents] for events that are already
// encoded as JSON in the form that the server accepts, each on one line. They
// are sent byte for byte, so the server sees the caller's input and rejects
// invalid events; but an object without a dedup_id gets one.
func (c *Client) PostEventLines(ctx context.Context, lines [][]byte) ([]Verdict, error) {
	if len(lines) == 0 {
		return nil, nil
	}
	if len(lines) > MaxBatch {
		return nil, fmt.Errorf("triggerd: %d events are over the %d of a request", len(lines), MaxBatch)
	}
	b := newBatch(c, len(lines))
	for i, line := range lines {
		if line = bytes.Trim(line, " \t\r\n"); len(line) == 0 || bytes.IndexByte(line, '\n') >= 0 {
			return nil, fmt.Errorf("triggerd: event %d must be one line, and not empty", i)
		}
		b.bodies[i], b.own[i] = identified(line, b.id(i))
	}
	return b.postAll(ctx)
}

// identified returns an event with the dedup id if it has none, and whether the
// id was added. It returns an event that is not an object unchanged.
func identified(event []byte, id string) (with []byte, own bool) {
	if event[0] != '{' || !json.Valid(event) {
		return event, false
	}
	d := json.NewDecoder(bytes.NewReader(event))
	_, _ = d.Token() // {
	empty := !d.More()
	for d.More() {
		name, err := d.Token()
		var value json.RawMessage
		if err != nil || d.Decode(&value) != nil {
			return event, false
		}
		if end := d.InputOffset(); name == "dedup_id" {
			if string(value) != "null" {
				return event, false
			}
			return slices.Concat(event[:end-int64(len(value))], []byte(strconv.Quote(id)), event[end:]), true
		}
	}
	member := `{"dedup_id":` + strconv.Quote(id)
	if !empty {
		member += ","
	}
	return append([]byte(member), event[1:]...), true
}

// batch is a set of events that are posted together.
type batch struct {
	client *Client
	key    string   // prefix of generated dedup ids
	bodies [][]byte // the events, encoded
	own    []bool   // which of them have a generated dedup id
	array  bool     // post an array, because a payload has several lines and must stay unchanged
}

func newBatch(c *Client, size int) *batch {
	return &batch{client: c, key: rand.Text() + "#", bodies: make([][]byte, size), own: make([]bool, size)}
}

// id returns the dedup id for an event without one.
func (b *batch) id(i int) string { return b.key + strconv.Itoa(i) }

// postAll posts the events, and posts unavailable ones again.
func (b *batch) postAll(ctx context.Context) ([]Verdict, error) {
	verdicts, err := b.post(ctx, b.bodies)
	for try := 0; err == nil && try < b.client.retries(); try++ {
		if !b.postAgain(ctx, verdicts, try) {
			break
		}
	}
	for i := range verdicts {
		if v := &verdicts[i]; b.own[i] && v.Status == PostDuplicate {
			v.Status, v.PayloadMatches = PostAccepted, nil // this is the answer to an earlier try
		}
	}
	return verdicts, err
}

// errStillOpen means that some verdicts are not final.
var errStillOpen = errors.New("triggerd: some events are unavailable")

// postAgain posts unavailable events once more, and replaces their verdicts. It
// reports whether there were any and the call succeeded; if it failed, their
// verdicts stay.
func (b *batch) postAgain(ctx context.Context, verdicts []Verdict, try int) bool {
	var open [][]byte
	var at []int
	for i, verdict := range verdicts {
		if verdict.Status == PostUnavailable {
			open, at = append(open, b.bodies[i]), append(at, i)
		}
	}
	if open == nil || b.client.wait(ctx, pause(try, 0), errStillOpen) != nil {
		return false
	}
	again, err := b.post(ctx, open)
	for i, verdict := range again {
		verdict.Index = at[i]
		verdicts[at[i]] = verdict
	}
	return err == nil
}

// post posts events in one request, one per line or as an array.
func (b *batch) post(ctx context.Context, events [][]byte) ([]Verdict, error) {
	req := request{method: http.MethodPost, path: eventsPath}
	if b.array {
		l, err := call[list[Verdict]](ctx, b.client, req, array(events))
		if err == nil {
			err = checkVerdicts(&req, l.Data, len(events))
		}
		if err != nil {
			return nil, err
		}
		return l.Data, nil
	}
	req.set("Content-Type", "application/x-ndjson")
	req.set("Accept", "application/x-ndjson, application/json")
	req.body = bytes.Join(append(slices.Clip(events), nil), []byte("\n"))
	res, err := b.client.do(ctx, req)
	if err != nil {
		return nil, err
	}
	var verdicts []Verdict
	for d := json.NewDecoder(bytes.NewReader(res.body)); d.More(); {
		var raw json.RawMessage
		if err := d.Decode(&raw); err != nil {
			return nil, req.foreign(fmt.Errorf("%w: verdict %d: %s", ErrForeign, len(verdicts), unreadable(err)))
		}
		verdict, err := readAnswer[Verdict](raw)
		if err != nil {
			return nil, req.foreign(err)
		}
		verdicts = append(verdicts, verdict)
	}
	if err := checkVerdicts(&req, verdicts, len(events)); err != nil {
		return nil, err
	}
	return verdicts, nil
}

// checkVerdicts returns an error if the verdicts do not match the number of
// events.
func checkVerdicts(req *request, verdicts []Verdict, events int) error {
	for i, verdict := range verdicts {
		name := verdict.missing()
		switch {
		case name != "":
			return req.foreign(fmt.Errorf("%w: verdict %d has no %s", ErrForeign, i, name))
		case verdict.Index != i:
			return req.foreign(fmt.Errorf("%w: verdict %d has the index %d", ErrForeign, i, verdict.Index))
		}
	}
	if len(verdicts) != events {
		return req.foreign(fmt.Errorf("%w: %d verdicts on %d events", ErrForeign, len(verdicts), events))
	}
	return nil
}

// array is a list of encoded JSON values.
type array [][]byte

// MarshalJSON encodes them unchanged.
func (a array) MarshalJSON() ([]byte, error) {
	return append(append([]byte("["), bytes.Join(a, []byte(","))...), ']'), nil
}
