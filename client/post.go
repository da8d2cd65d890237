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
// stored all the same, unless the error is a 4xx: whoever wants to post it again
// in another call has to give it a DedupID.
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
// is no verdict on any; they may be stored all the same, unless it is a 4xx.
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
	bodies, err := encodeEvents(events)
	if err != nil {
		return nil, err
	}
	verdicts, err := c.postBatch(ctx, bodies)
	for try := 0; err == nil && try < c.retries(); try++ {
		if !c.postAgain(ctx, bodies, verdicts, try) {
			break
		}
	}
	for i := range verdicts {
		if v := &verdicts[i]; events[i].DedupID == "" && v.Status == PostDuplicate {
			v.Status, v.PayloadMatches = PostAccepted, nil // an earlier try's
		}
	}
	return verdicts, err
}

// encodeEvents writes each event with a dedup id: those that have none get
// numbered ones.
func encodeEvents(events []EventInput) ([][]byte, error) {
	key := rand.Text() + "#"
	bodies := make([][]byte, len(events))
	for i, event := range events {
		if event.DedupID == "" {
			event.DedupID = key + strconv.Itoa(i)
		}
		var err error
		if bodies[i], err = event.MarshalJSON(); err != nil {
			return nil, fmt.Errorf("event %d: %w", i, err)
		}
	}
	return bodies, nil
}

// errStillOpen stands for verdicts that are not final.
var errStillOpen = errors.New("triggerd: some events are unavailable")

// postAgain posts those that are unavailable once more, and puts their verdicts
// in place. It reports whether there were any and that has worked: where it has
// not, their verdicts stay.
func (c *Client) postAgain(ctx context.Context, bodies [][]byte, verdicts []Verdict, try int) bool {
	var open [][]byte
	var at []int
	for i, verdict := range verdicts {
		if verdict.Status == PostUnavailable {
			open, at = append(open, bodies[i]), append(at, i)
		}
	}
	if open == nil || c.wait(ctx, pause(try, 0), errStillOpen) != nil {
		return false
	}
	again, err := c.postBatch(ctx, open)
	for i, verdict := range again {
		verdict.Index = at[i]
		verdicts[at[i]] = verdict
	}
	return err == nil
}

// postBatch posts events that are encoded, a line each; or as an array where a
// payload spreads over lines itself, since it is to stay as it is.
func (c *Client) postBatch(ctx context.Context, events [][]byte) ([]Verdict, error) {
	req := request{method: http.MethodPost, path: eventsPath}
	var verdicts []Verdict
	if slices.ContainsFunc(events, func(event []byte) bool { return bytes.ContainsAny(event, "\r\n") }) {
		l, err := call[list[Verdict]](ctx, c, req, array(events))
		if err != nil {
			return nil, err
		}
		verdicts = l.Data
	} else {
		req.set("Content-Type", "application/x-ndjson")
		req.set("Accept", "application/x-ndjson, application/json")
		req.body = bytes.Join(append(slices.Clip(events), nil), []byte("\n"))
		res, err := c.do(ctx, req)
		if err != nil {
			return nil, err
		}
		for d := json.NewDecoder(bytes.NewReader(res.body)); d.More(); {
			var verdict Verdict
			if err := d.Decode(&verdict); err != nil {
				return nil, fmt.Errorf("triggerd: the verdicts: %w", err)
			}
			verdicts = append(verdicts, verdict)
		}
	}
	for i, verdict := range verdicts {
		if verdict.Index != i {
			return nil, fmt.Errorf("triggerd: verdict %d has the index %d", i, verdict.Index)
		}
	}
	if len(verdicts) != len(events) {
		return nil, fmt.Errorf("triggerd: %d verdicts on %d events", len(verdicts), len(events))
	}
	return verdicts, nil
}

// array is JSON values that are encoded.
type array [][]byte

// MarshalJSON writes them as they are.
func (a array) MarshalJSON() ([]byte, error) {
	return append(append([]byte("["), bytes.Join(a, []byte(","))...), ']'), nil
}
