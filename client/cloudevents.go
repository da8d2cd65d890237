package client

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
)

// PostCloudEvent posts an event in the structured form of CloudEvents 1.0
// (JSON), byte for byte. Its source and id together are its dedup id.
func (c *Client) PostCloudEvent(ctx context.Context, event json.RawMessage) (Accepted, error) {
	return postCloudEvents[Accepted](ctx, c, "application/cloudevents+json", array{event})
}

// PostCloudEvents posts up to [MaxBatch] events as a batch of CloudEvents 1.0,
// and returns a verdict for each, in their order, like [Client.PostEvents]. It
// does not post unavailable events again.
func (c *Client) PostCloudEvents(ctx context.Context, events []json.RawMessage) ([]Verdict, error) {
	if len(events) == 0 {
		return nil, nil
	}
	batch := make(array, len(events))
	for i, event := range events {
		batch[i] = event
	}
	l, err := postCloudEvents[list[Verdict]](ctx, c, "application/cloudevents-batch+json", batch)
	if err == nil {
		err = checkVerdicts(&request{method: http.MethodPost, path: eventsPath}, l.Data, len(events))
	}
	if err != nil {
		return nil, err
	}
	return l.Data, nil
}

func postCloudEvents[T complete](ctx context.Context, c *Client, kind string, events array) (none T, err error) {
	for i, event := range events {
		if !json.Valid(event) {
			return none, fmt.Errorf("triggerd: event %d is not JSON", i)
		}
	}
	req := request{method: http.MethodPost, path: eventsPath, body: events[0]}
	if kind != "application/cloudevents+json" {
		req.body, _ = events.MarshalJSON() // never fails
	}
	req.set("Content-Type", kind)
	return call[T](ctx, c, req, nil)
}
