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

// MaxDelivery is the largest body of a delivery that is read, in bytes.
const MaxDelivery = 10 << 20

// Delivery is the body of a delivery in the format FormatStandard.
type Delivery struct {
	ID        string          `json:"id"` // the event's; the same if it comes again
	Type      string          `json:"type"`
	Timestamp time.Time       `json:"timestamp"` // when the event was accepted
	Data      json.RawMessage `json:"data"`      // the payload, byte for byte
}

// ParseDelivery reads the body of a delivery in the format FormatStandard, which
// is to be verified before.
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

// Middleware lets those requests through to next alone that Verify finds
// genuine, with the body to be read again. It answers others with 401, before
// their body is read where the headers or the age are wrong; those with a body
// over MaxDelivery with 413, and those whose body does not come to its end with
// 400.
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
		r = r.WithContext(r.Context()) // a copy, which is ours to change
		r.Body = io.NopCloser(bytes.NewReader(body))
		r.ContentLength = int64(len(body))
		next.ServeHTTP(w, r)
	})
}

// Handler is a receiver: it verifies deliveries as Middleware does, and gives
// them to receive. Where that gives nil, it answers 204, and the delivery is
// done; where it gives an error, 500, and the delivery will come again. What is
// genuine, but not of the format FormatStandard, is answered with 400.
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
