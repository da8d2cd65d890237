package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2"
	cehttp "github.com/cloudevents/sdk-go/v2/protocol/http"
	"github.com/cloudevents/sdk-go/v2/types"
	gocmp "github.com/google/go-cmp/cmp"

	"triggerd/internal/store/storetest"
)

// TestCloudEventsOfGo has the CloudEvents SDK for Go post events in each mode,
// and receive each again from a webhook of the format cloudevents.
func TestCloudEventsOfGo(t *testing.T) {
	t.Parallel()
	came := make(chan cloudevents.Event, 100)
	receiver := startCloudReceiver(t, came)
	s := startServer(t, storetest.SQLite(t), nil)
	key := s.newKey(t, "free")
	webhook := fmt.Sprintf(`{"url":%q,"types":["order.*"],"format":"cloudevents"}`, receiver)
	if r := s.post(t, key, "/v1/webhooks", webhook); r.status != http.StatusCreated {
		t.Fatalf("%d %s", r.status, r.body)
	}
	sent := map[string]cloudevents.Event{}
	for _, events := range [][]cloudevents.Event{
		s.sendEach(t, key, "binary", cloudevents.WithEncodingBinary(t.Context())),
		s.sendEach(t, key, "structured", cloudevents.WithEncodingStructured(t.Context())),
		s.sendBatch(t, key),
	} {
		for _, e := range events {
			sent[e.ID()] = e
		}
	}
	got := map[string]cloudevents.Event{}
	for len(got) < len(sent) {
		select {
		case e := <-came:
			if before, ok := got[e.ID()]; ok {
				t.Fatalf("%s came after %s", e, before)
			}
			got[e.ID()] = e
		case <-time.After(patience):
			t.Fatalf("%d of %d events have come", len(got), len(sent))
		}
	}
	for id, e := range sent {
		received := got[id]
		if diff := gocmp.Diff(contentOf(&e), contentOf(&received)); diff != "" {
			t.Errorf("%s (-sent +received):\n%s", id, diff)
		}
	}
}

// startCloudReceiver runs the receiver of the SDK, and returns its URL. Start
// it before the servers that deliver to it, as it ends after them then.
func startCloudReceiver(t *testing.T, came chan<- cloudevents.Event) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	client, err := cloudevents.NewClientHTTP(cehttp.WithListener(listener), cehttp.WithShutdownTimeout(patience))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- client.StartReceiver(ctx, func(e cloudevents.Event) { came <- e }) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the receiver ended: %v", err)
		}
	})
	return "http://" + listener.Addr().String()
}

// cloudEventsOf are events of all kinds of data, each with all attributes.
func cloudEventsOf(t *testing.T, mode string) (events []cloudevents.Event) {
	t.Helper()
	for name, data := range map[string]struct {
		media string
		data  any
	}{
		"object": {cloudevents.ApplicationJSON, json.RawMessage(`{"total":12.50,"n":12345678901234567890,"name":"Zoë 🚀"}`)},
		"list":   {cloudevents.ApplicationJSON, json.RawMessage(`[1,"two",null]`)},
		"text":   {cloudevents.TextPlain, "two\nlines, \"quoted\""},
		"bytes":  {"image/png", []byte{0x89, 'P', 0xff, 0, 0xfe}},
		"none":   {}, // comes back as null
	} {
		e := cloudevents.NewEvent()
		e.SetID(mode + " " + name)
		e.SetType("order." + name)
		e.SetSource("https://example.com/orders?shop=1")
		e.SetSubject(`orders/Zoë 日本 "x" 100%`)
		e.SetDataSchema("https://example.com/schema#1")
		e.SetTime(time.Date(2026, 1, 2, 3, 4, 5, 678_901_234, time.UTC))
		e.SetExtension("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
		e.SetExtension("count", 3)
		e.SetExtension("paid", true)
		if data.media != "" {
			if err := e.SetData(data.media, data.data); err != nil {
				t.Fatal(err)
			}
		}
		events = append(events, e)
	}
	return events
}

// sendEach posts events one by one with the client of the SDK, and then again:
// the same source and id are the same event, in either mode; another source
// makes another one, which the webhook does not get.
func (s *testServer) sendEach(t *testing.T, key, mode string, ctx context.Context) []cloudevents.Event {
	t.Helper()
	client, err := cloudevents.NewClientHTTP(cloudevents.WithTarget(s.URL+"/v1/events"), cloudevents.WithHeader("X-Api-Key", key),
		cehttp.WithClient(*s.client))
	if err != nil {
		t.Fatal(err)
	}
	send := func(ctx context.Context, e cloudevents.Event, want int) {
		var result *cehttp.Result
		if sent := client.Send(ctx, e); !cloudevents.ResultAs(sent, &result) || result.StatusCode != want {
			t.Errorf("%s of %s: %v, want %d", e.ID(), e.Source(), sent, want)
		}
	}
	events := cloudEventsOf(t, mode)
	for _, e := range events {
		send(ctx, e, http.StatusCreated)
		send(cloudevents.WithEncodingBinary(t.Context()), e, http.StatusOK)
		send(cloudevents.WithEncodingStructured(t.Context()), e, http.StatusOK)
		other := e.Clone()
		other.SetSource("/other")
		other.SetType("not.received")
		send(ctx, other, http.StatusCreated)
	}
	return events
}

// sendBatch posts events at once, and then again.
func (s *testServer) sendBatch(t *testing.T, key string) []cloudevents.Event {
	t.Helper()
	events := cloudEventsOf(t, "batch")
	for _, want := range []string{"accepted", "duplicate"} {
		req, err := cehttp.NewHTTPRequestFromEvents(t.Context(), s.URL+"/v1/events", events)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("X-Api-Key", key)
		resp, err := s.client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if n := strings.Count(string(body), `"status":"`+want+`"`); err != nil || resp.StatusCode != http.StatusOK || n != len(events) {
			t.Errorf("%d %s (%v), want %d that are %s", resp.StatusCode, body, err, len(events), want)
		}
	}
	return events
}

// contentOf is all that an event says, as it can be compared. In binary mode
// extensions lose their types, hence their texts are compared.
func contentOf(e *cloudevents.Event) map[string]string {
	content := map[string]string{
		"id": e.ID(), "source": e.Source(), "type": e.Type(), "specversion": e.SpecVersion(), "subject": e.Subject(),
		"time": e.Time().Format(time.RFC3339Nano), "dataschema": e.DataSchema(), "datacontenttype": e.DataContentType(),
		"data": cmp.Or(string(e.Data()), "null"),
	}
	for name, value := range e.Extensions() {
		text, err := types.Format(value)
		content[name] = fmt.Sprint(text, err)
	}
	return content
}
