package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"

	"triggerd/client"
	"triggerd/internal/trigger"
)

// forwarder sends events to a receiver on this machine, in the same form as the
// deliveries of a webhook with the standard format.
type forwarder struct {
	url, secret string
	timeout     time.Duration
	now         func() time.Time
	http        *http.Client
}

// newForwarder returns a forwarder that sends requests like the server: over
// HTTP/1.1, without a proxy, following no redirect.
func newForwarder(url, secret string, timeout time.Duration, now func() time.Time) *forwarder {
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	return &forwarder{
		url: url, secret: secret, timeout: timeout, now: now,
		http: &http.Client{
			Transport:     &http.Transport{DialContext: (&net.Dialer{}).DialContext, Protocols: &protocols, DisableCompression: true},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
}

// forwarded is the result of one request.
type forwarded struct {
	status  int    // 0: without an answer
	failure string // why there is no answer
	took    time.Duration
}

func (f forwarded) ok() bool { return f.status >= 200 && f.status <= 299 }

// again reports whether a retry may help: the answer is missing, or depends on
// the receiver's state and not on the event.
func (f forwarded) again() bool {
	return f.status == 0 || f.status == http.StatusTooManyRequests || f.status >= 500
}

func (f forwarded) String() string {
	if f.status == 0 {
		return f.failure
	}
	return strconv.Itoa(f.status)
}

// maxForwardAnswer is the maximum number of bytes read of an answer, the same
// as in the server.
const maxForwardAnswer = 64 << 10

// forward sends an event once.
func (f *forwarder) forward(ctx context.Context, event client.Event) (result forwarded) {
	ctx, cancel := context.WithTimeout(ctx, f.timeout)
	defer cancel()
	begun := f.now()
	defer func() { result.took = f.now().Sub(begun) }()
	req, err := f.request(ctx, event)
	if err != nil {
		return forwarded{failure: err.Error()}
	}
	res, err := f.http.Do(req)
	if err != nil {
		return forwarded{failure: reasonOf(err)}
	}
	defer res.Body.Close()
	if _, err := io.Copy(io.Discard, io.LimitReader(res.Body, maxForwardAnswer)); err != nil {
		return forwarded{failure: reasonOf(err)}
	}
	return forwarded{status: res.StatusCode}
}

// request makes a delivery with the body and headers that the server sends.
func (f *forwarder) request(ctx context.Context, in client.Event) (*http.Request, error) {
	id, err := trigger.ParseID(in.ID)
	if err != nil {
		return nil, fmt.Errorf("event %q has no id: %w", in.ID, err)
	}
	event := trigger.Event{ID: id, Type: in.Type, Payload: in.Payload, Traceparent: in.Traceparent}
	body := event.AppendBody(nil, trigger.FormatStandard)
	at := f.now()
	signature, err := client.Sign(f.secret, in.ID, at, body)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, f.url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	var span [8]byte
	_, _ = rand.Read(span[:]) // never fails
	span[7] |= 1
	req.Header.Set("Content-Type", trigger.FormatStandard.ContentType())
	req.Header.Set("User-Agent", "triggerd/"+version)
	req.Header.Set("Traceparent", event.Trace(span))
	req.Header.Set(client.HeaderID, in.ID)
	req.Header.Set(client.HeaderTimestamp, strconv.FormatInt(at.Unix(), 10))
	req.Header.Set(client.HeaderSignature, signature)
	return req, nil
}

// newSecret generates a secret that signs deliveries.
func newSecret() string {
	var random [32]byte
	_, _ = rand.Read(random[:]) // never fails
	return trigger.NewSecret(random).Reveal()
}
