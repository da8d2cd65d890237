package client_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"time"

	"triggerd/client"
)

// canned is a server that gives the same answers each time, by method and path.
func canned(answers map[string]string) *httptest.Server {
	return httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, ok := answers[r.Method+" "+r.URL.RequestURI()]
		if !ok {
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(http.StatusNotFound)
			body = `{"type":"/docs/problems#not_found","title":"Not found","status":404,"code":"not_found","detail":"there is no such thing"}`
		}
		_, _ = io.WriteString(w, body)
	}))
}

// Post an event. Its payload arrives as it is, byte for byte.
func Example() {
	server := canned(map[string]string{"POST /v1/events": `{"status":"accepted","id":"01a201d9-e350-7ff3-8000-2e533c0c7570"}`})
	defer server.Close()

	c := &client.Client{BaseURL: server.URL, Key: "sk_…", HTTP: server.Client()}
	accepted, err := c.PostEvent(context.Background(), client.EventInput{
		Type:    "user.created",
		Payload: json.RawMessage(`{"name":"Ada"}`),
		DedupID: "user-1",
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(accepted.Status, accepted.ID)
	// Output: accepted 01a201d9-e350-7ff3-8000-2e533c0c7570
}

// Each event has a verdict of its own.
func ExampleClient_PostEvents() {
	server := canned(map[string]string{"POST /v1/events": `{"index":0,"status":"accepted","id":"01a201d9-e350-7ff3-8000-2e533c0c7570"}
{"index":1,"status":"rejected","problem":{"status":422,"code":"validation_failed","detail":"type is empty"}}
`})
	defer server.Close()

	c := &client.Client{BaseURL: server.URL, Key: "sk_…", HTTP: server.Client()}
	verdicts, err := c.PostEvents(context.Background(), []client.EventInput{
		{Type: "user.created", Payload: json.RawMessage(`{"name":"Ada"}`)},
		{Type: "", Payload: json.RawMessage(`{"name":"Ben"}`)},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, verdict := range verdicts {
		if verdict.Problem != nil {
			fmt.Println(verdict.Index, verdict.Status, verdict.Problem)
			continue
		}
		fmt.Println(verdict.Index, verdict.Status, verdict.ID)
	}
	// Output:
	// 0 accepted 01a201d9-e350-7ff3-8000-2e533c0c7570
	// 1 rejected triggerd: 422 validation_failed type is empty
}

// A list is asked for page by page, while the loop goes on.
func ExampleClient_Events() {
	server := canned(map[string]string{
		"GET /v1/events?status=failed":              `{"data":[{"id":"a","type":"user.created"},{"id":"b","type":"user.deleted"}],"next_cursor":"next"}`,
		"GET /v1/events?cursor=next&status=failed":  `{"data":[],"next_cursor":"other"}`,
		"GET /v1/events?cursor=other&status=failed": `{"data":[{"id":"c","type":"user.created"}],"next_cursor":null}`,
	})
	defer server.Close()

	c := &client.Client{BaseURL: server.URL, Key: "sk_…", HTTP: server.Client()}
	for event, err := range c.Events(context.Background(), client.EventQuery{Status: client.StatusFailed}) {
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(event.ID, event.Type)
	}
	// Output:
	// a user.created
	// b user.deleted
	// c user.created
}

// Work off the inbox: claim, do, acknowledge.
func ExampleClient_ClaimInbox() {
	server := canned(map[string]string{
		"POST /v1/inbox/claim": `{"claim":"5d0c","leased_until":"2026-01-02T03:04:05.678Z","data":[{"id":"a","type":"user.created","payload":{"name":"Ada"},"attempts":1}]}`,
		"POST /v1/inbox/ack":   `{"data":[{"id":"a","status":"acknowledged"}]}`,
	})
	defer server.Close()

	ctx := context.Background()
	c := &client.Client{BaseURL: server.URL, Key: "sk_…", HTTP: server.Client()}
	claim, err := c.ClaimInbox(ctx, client.ClaimInput{Limit: 100, LeaseSeconds: 300, WaitSeconds: 20})
	if err != nil || claim.ID == "" {
		fmt.Println("nothing:", err)
		return
	}
	var done []string
	for _, event := range claim.Data {
		fmt.Printf("%s %s\n", event.Type, event.Payload)
		done = append(done, event.ID)
	}
	results, err := c.AckInbox(ctx, claim.ID, done)
	fmt.Println(results, err)
	// Output:
	// user.created {"name":"Ada"}
	// [{a acknowledged}] <nil>
}

// Follow the inbox. Kept ids let a later stream go on there.
func ExampleClient_StreamInbox() {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		fmt.Fprint(w, ": heartbeat\n\nid: a\ndata: {\"id\":\"a\",\"type\":\"user.created\"}\n\nid: b\ndata: {\"id\":\"b\",\"type\":\"user.deleted\"}\n\n")
	}))
	defer server.Close()

	c := &client.Client{BaseURL: server.URL, Key: "sk_…", HTTP: server.Client()}
	for event, err := range c.StreamInbox(context.Background(), "") {
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(event.ID, event.Type)
		if event.ID == "b" {
			break
		}
	}
	// Output:
	// a user.created
	// b user.deleted
}

// What is not named stays as it is; Null brings the default back.
func ExampleOpt() {
	patch := client.WebhookPatch{
		Types:          client.Set([]string{"user.*"}),
		Rate:           client.Set(10.0),
		TimeoutSeconds: client.Null[float64](),
	}
	b, err := json.Marshal(patch)
	fmt.Println(string(b), err)
	// Output: {"types":["user.*"],"timeout_seconds":null,"rate":10} <nil>
}

func ExampleIsCode() {
	server := canned(nil)
	defer server.Close()

	c := &client.Client{BaseURL: server.URL, Key: "sk_…", HTTP: server.Client()}
	_, err := c.Webhook(context.Background(), 7)
	fmt.Println(client.IsCode(err, client.CodeNotFound))
	fmt.Println(err)
	// Output:
	// true
	// triggerd: 404 not_found there is no such thing
}

// Receive deliveries: what Handler gives to the function is genuine.
func ExampleVerifier_Handler() {
	const secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw" // as the webhook's registration has shown it
	verifier, err := client.NewVerifier(secret)
	if err != nil {
		fmt.Println(err)
		return
	}
	receiver := verifier.Handler(func(_ context.Context, delivery client.Delivery) error {
		fmt.Printf("%s: %s\n", delivery.Type, delivery.Data)
		return nil // done; an error brings the delivery back later
	})

	// This is what triggerd does.
	const body = `{"id":"a","type":"user.created","timestamp":"2026-01-02T03:04:05.678Z","data":{"name":"Ada"}}`
	now := time.Now()
	signature, err := client.Sign(secret, "a", now, []byte(body))
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, of := range []string{body, strings.Replace(body, "Ada", "Eve", 1)} {
		r := httptest.NewRequest(http.MethodPost, "/hook", strings.NewReader(of))
		r.Header.Set(client.HeaderID, "a")
		r.Header.Set(client.HeaderTimestamp, strconv.FormatInt(now.Unix(), 10))
		r.Header.Set(client.HeaderSignature, signature)
		w := httptest.NewRecorder()
		receiver.ServeHTTP(w, r)
		fmt.Println(w.Code)
	}
	// Output:
	// user.created: {"name":"Ada"}
	// 204
	// 401
}

func ExampleSign() {
	at := time.Unix(1614265330, 0) // webhook-timestamp: 1614265330
	signature, err := client.Sign("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "msg_p5jXN8AQM9LWM0D4loKWxJek", at, []byte(`{"test": 2432232314}`))
	fmt.Println(signature, err)
	// Output: v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE= <nil>
}
