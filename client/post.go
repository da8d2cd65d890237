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

// MaxBatch is how many events one request can have.
const MaxBatch = 1000

// What becomes of an event that is posted.
const (
	PostAccepted    = "accepted"    // it is committed
	PostDuplicate   = "duplicate"   // its dedup id is known
	PostRejected    = "rejected"    // it can never be accepted, see Problem
	PostUnavailable = "unavailable" // it may be accepted another time, or be already, see Problem
)

// Accepted says what became of an event.
type Accepted struct {
	Status         string       `json:"status"`                   // PostAccepted or PostDuplicate
	ID             string       `json:"id"`                       // of the event; of the first, for a duplicate
	PayloadMatches *bool        `json:"payload_matches,omitzero"` // for a duplicate: whether it has the first one's payload
	Warnings       []FieldError `json:"warnings,omitzero"`        // where the type's schema does not allow it, of ModeWarn
}

// Verdict says what became of one event of several.
type Verdict struct {
	Index          int          `json:"index"`                    // of the event, from 0
	Status         string       `json:"status"`                   // PostAccepted, …
	ID             string       `json:"id,omitzero"`              // as in Accepted
	PayloadMatches *bool        `json:"payload_matches,omitzero"` // as in Accepted
	Warnings       []FieldError `json:"warnings,omitzero"`        // as in Accepted
	Problem        *Error       `json:"problem,omitzero"`         // of PostRejected and PostUnavailable
}

// PostEvent posts an event. Without an error it is committed, and is, or will
// be, delivered; a duplicate was so before.
//
// An event without a dedup id gets a random one of the client's, the same at
// all tries of this call, so that a try which is repeated because its answer was
// lost makes no second event. If the call fails in the end, the event may be
// stored all the same, unless the error [IsRefused]: whoever wants to post it
// again in another call has to give it a DedupID.
func (c *Client) PostEvent(ctx context.Context, in EventInput) (Accepted, error) {
	req := request{method: http.MethodPost, path: eventsPath}
	if in.DedupID == "" {
		req.set("Idempotency-Key", rand.Text())
	}
	accepted, err := call[Accepted](ctx, c, req, in)
	if in.DedupID == "" && accepted.Status == PostDuplicate {
		accepted.Status, accepted.PayloadMatches = PostAccepted, nil // an earlier try's
	}
	return accepted, err
}

// PostEvents posts up to [MaxBatch] events, of 8 MiB together, in one request,
// and gives a verdict for each, in their order. Each stands for itself: some can
// be accepted and others rejected, which is no error. An error says that there
// is no verdict on any; they may be stored all the same, unless it [IsRefused].
//
// Events without a dedup id get one, as in [Client.PostEvent]. Those that are
// unavailable are posted again as often as a call is; where one still is in the
// end, it may be stored or not, as after an error.
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

// PostEventLines is [Client.PostEvents] for events that are JSON already, as the
// server takes them, each on one line. They go out byte for byte, so that the
// server reads what the caller has, and rejects what is wrong; but an object
// without a dedup_id gets one.
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

// identified returns an event with a dedup id if it has none, and whether it has
// got this one. What cannot be read as an object is returned as it is.
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

// batch is events that are posted together.
type batch struct {
	client *Client
	key    string   // begins the dedup ids that are made here
	bodies [][]byte // the events, encoded
	own    []bool   // which of them have a dedup id that was made here
	array  bool     // post an array, since a payload spreads over lines and is to stay as it is
}

func newBatch(c *Client, size int) *batch {
	return &batch{client: c, key: rand.Text() + "#", bodies: make([][]byte, size), own: make([]bool, size)}
}

// id returns the dedup id of an event that has none.
func (b *batch) id(i int) string { return b.key + strconv.Itoa(i) }

// postAll posts the events, and those again that are unavailable.
func (b *batch) postAll(ctx context.Context) ([]Verdict, error) {
	verdicts, err := b.post(ctx, b.bodies)
	for try := 0; err == nil && try < b.client.retries(); try++ {
		if !b.postAgain(ctx, verdicts, try) {
			break
		}
	}
	for i := range verdicts {
		if v := &verdicts[i]; b.own[i] && v.Status == PostDuplicate {
			v.Status, v.PayloadMatches = PostAccepted, nil // an earlier try's
		}
	}
	return verdicts, err
}

// errStillOpen stands for verdicts that are not final.
var errStillOpen = errors.New("triggerd: some events are unavailable")

// postAgain posts those that are unavailable once more, and puts their verdicts
// in place. It reports whether there were any and that has worked: where it has
// not, their verdicts stay.
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

// post posts events in one request, a line each or as an array.
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

// checkVerdicts returns an error if verdicts are not those on some events.
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

// array is JSON values that are encoded.
type array [][]byte

// MarshalJSON writes them as they are.
func (a array) MarshalJSON() ([]byte, error) {
	return append(append([]byte("["), bytes.Join(a, []byte(","))...), ']'), nil
}
