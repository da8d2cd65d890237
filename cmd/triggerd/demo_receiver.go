package main

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

// receive returns the endpoint of a webhook: it verifies each delivery like any
// receiver, with the library of Standard Webhooks, and records it in the
// ledger.
func receive(webhook *standardwebhooks.Webhook, l *ledger) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(w, "the body ended early", http.StatusBadRequest)
			return
		}
		a := readArrival(webhook, r.Header, body)
		a.at = time.Now()
		l.arrived(a)
		if a.trouble == badlySigned {
			http.Error(w, "not signed by the webhook's secret", http.StatusUnauthorized)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	}
}

// readArrival verifies signature and timestamp, and parses the body.
func readArrival(webhook *standardwebhooks.Webhook, header http.Header, body []byte) arrival {
	a := arrival{eventID: header.Get(standardwebhooks.HeaderWebhookID), size: len(body)}
	if strings.Contains(a.eventID, ".") || webhook.Verify(body, header) != nil { // the library accepts dots
		a.trouble = badlySigned
		return a
	}
	var event struct {
		ID        string
		Type      string
		Timestamp time.Time
		Data      json.RawMessage
	}
	if err := json.Unmarshal(body, &event); err != nil || event.ID != a.eventID || event.Timestamp.IsZero() {
		a.trouble = changed
	}
	a.eventType, a.data = event.Type, event.Data
	return a
}
