package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

// MaxDelivery is the maximum size of the body of a delivery, in bytes.
const MaxDelivery = 10 << 20

// Delivery is the body of a delivery in the format FormatStandard.
type Delivery struct {
	ID        string          `json:"id"` // the event's id; the same for each repeat
	Type      string          `json:"type"`
	Timestamp time.Time       `json:"timestamp"` // when the event was accepted
	Data      json.RawMessage `json:"data"`      // the payload, byte for byte
}

// ParseDelivery decodes the body of a delivery in the format FormatStandard.
// Verify the body first.
func ParseDelivery(body []byte) (Delivery, error) {
	var d Delivery
	if err := json.Unmarshal(body, &d); err != nil {
		return Delivery{}, fmt.Errorf("triggerd: a delivery: %w", err)
	}
	if d.ID == "" || d.Type == "" || d.Data == nil {
		return Delivery{}, errors.New("triggerd: a delivery has no id, type or data")
	}
	return d, nil
}

// Middleware calls next only for requests that Verify accepts; next can read
// the body again. It answers 401 to other requests, before it reads their body
// if the headers or the age are wrong; 413 to those with a body over
// MaxDelivery; and 400 to those with an incomplete body.
func (v *Verifier) Middleware(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := v.verifyHeader(r.Header); err != nil {
			http.Error(w, "not a genuine delivery", http.StatusUnauthorized)
			return
		}
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, MaxDelivery))
		if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
			http.Error(w, "the body is over 10 MiB", http.StatusRequestEntityTooLarge)
			return
		}
		if err != nil {
			http.Error(w, "the body does not come to its end", http.StatusBadRequest)
			return
		}
		if err := v.Verify(r.Header, body); err != nil {
			http.Error(w, "not a genuine delivery", http.StatusUnauthorized)
			return
		}
		r = r.WithContext(r.Context()) // a copy, which may be changed
		r.Body = io.NopCloser(bytes.NewReader(body))
		r.ContentLength = int64(len(body))
		next.ServeHTTP(w, r)
	})
}

// Handler returns a receiver: it verifies deliveries like Middleware, and
// passes them to receive. If receive returns nil, it answers 204, and the
// delivery is done; if receive returns an error, it answers 500, and the
// delivery will be retried. It answers 400 to a genuine delivery that does not
// have the format FormatStandard.
func (v *Verifier) Handler(receive func(context.Context, Delivery) error) http.Handler {
	return v.Middleware(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body) // in memory
		delivery, err := ParseDelivery(body)
		if err != nil {
			http.Error(w, "not a delivery in the standard format", http.StatusBadRequest)
			return
		}
		if err := receive(r.Context(), delivery); err != nil {
			http.Error(w, "not taken", http.StatusInternalServerError)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	}))
}
