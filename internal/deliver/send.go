package deliver

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"runtime/debug"
	"strconv"
	"syscall"
	"time"

	"triggerd/internal/store"
	"triggerd/internal/trigger"
)

// How much of an answer is read, and how much of it is kept, in bytes.
const (
	maxAnswer  = 64 << 10
	keptAnswer = 16 << 10
)

// newClient makes the client for all webhooks. It asks the guard about each
// address it connects to, uses no proxy, follows no redirect, unpacks nothing,
// and keeps enough idle connections for a lane at full speed.
func newClient(c Config) *http.Client {
	client := &http.Client{
		Transport:     c.Transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	if c.Transport == nil {
		client.Transport = newTransport(c.Guard)
	}
	return client
}

func newTransport(g *Guard) *http.Transport {
	dialer := &net.Dialer{Control: g.Control}
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	return &http.Transport{
		DialContext:            dialer.DialContext,
		Protocols:              &protocols,
		DisableCompression:     true,
		MaxIdleConns:           2048,
		MaxIdleConnsPerHost:    concurrency * 2,
		IdleConnTimeout:        30 * time.Second,
		MaxResponseHeaderBytes: 64 << 10,
		WriteBufferSize:        8 << 10,
	}
}

// work sends what is in a lane until it is empty.
func (e *Engine) work(abort context.Context, l *lane) {
	for it := e.next(l); it != nil; it = e.next(l) {
		e.slots <- struct{}{}
		a := e.attempt(abort, l, it)
		<-e.slots
		e.done(l, it, a)
	}
}

// attempt tries one delivery, and has its result recorded. It returns nil if
// nothing was sent.
func (e *Engine) attempt(abort context.Context, l *lane, it *item) *trigger.Attempt {
	e.mu.Lock()
	gone := l.gone
	e.mu.Unlock()
	if gone || !e.leased(it) {
		e.Metrics.Dropped.Inc()
		return nil
	}
	a := e.send(abort, it)
	if abort.Err() != nil && a.Outcome == trigger.Transient {
		e.mu.Lock()
		e.unsent = append(e.unsent, it.delivery)
		e.mu.Unlock()
		return nil
	}
	next := e.conclude(it.delivery, a)
	e.Log.LogAttrs(abort, levelOf(a.Outcome), "attempt", attemptAttrs(it, a, next)...)
	return &a
}

// conclude decides what follows from an attempt, and has it recorded.
func (e *Engine) conclude(d trigger.Delivery, a trigger.Attempt) trigger.Delivery {
	a.DeliveryKey, a.Claim, a.Number = d.DeliveryKey, d.Claim, d.Attempts+1
	next := d.After(a, e.Schedule, e.Store.Now(), 2*rand.Float64()-1)
	e.results <- store.Result{Attempt: a, Next: next}
	return next
}

// leased judges whether the lease is long enough for a whole attempt: by the
// wall clock and by the monotonic one, whichever has gone further, since a
// suspended machine's monotonic clock may stand still.
func (e *Engine) leased(it *item) bool {
	now := e.Now()
	gone := max(now.Sub(it.claimedAt), now.Round(0).Sub(it.claimedAt.Round(0)))
	return e.Lease()-gone >= e.Timeout+margin/2
}

// send makes one HTTP request, with one deadline for all of it. It takes no
// decision: it tells what happened.
func (e *Engine) send(ctx context.Context, it *item) (a trigger.Attempt) {
	ctx, cancel := context.WithTimeout(ctx, e.Timeout)
	defer cancel()
	begun := e.Now()
	a = trigger.Attempt{At: e.Store.Now(), Outcome: trigger.Transient}
	defer func() { // what panics costs its own attempts, and nobody else's
		if p := recover(); p != nil {
			e.Log.Error("panic in an attempt", "event_id", it.event.ID.String(), "panic", p, "stack", string(debug.Stack()))
			a.Outcome, a.Error = trigger.Transient, "internal error"
		}
	}()
	a.Status, a.Response, a.RetryAfter, a.Error = e.post(ctx, it)
	if a.Error == "" {
		a.Outcome = trigger.OutcomeOf(a.Status)
		if a.Outcome != trigger.Success {
			a.Error = "status " + strconv.Itoa(a.Status)
		}
	}
	a.Took = e.Now().Sub(begun)
	return a
}

// post sends the event, signed now, by Standard Webhooks, and reads the
// answer. failure says in a few words why there was none.
func (e *Engine) post(ctx context.Context, it *item) (status int, kept []byte, retryAfter time.Duration, failure string) {
	body := it.event.AppendBody(make([]byte, 0, len(it.event.Payload)+len(it.event.Type)+128))
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, it.webhook.URL, bytes.NewReader(body))
	if err != nil {
		return 0, nil, 0, "url cannot be requested"
	}
	id, at := it.event.ID.String(), e.Store.Now()
	req.Header = http.Header{
		"Content-Type":      {"application/json"},
		"User-Agent":        {e.UserAgent},
		"Webhook-Id":        {id},
		"Webhook-Timestamp": {strconv.FormatInt(at.Unix(), 10)},
		"Webhook-Signature": {it.webhook.Secret.Sign(id, at, body)},
	}
	resp, err := e.client.Do(req)
	if err != nil {
		return 0, nil, 0, reason(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return resp.StatusCode, nil, 0, reason(err)
	}
	retryAfter = trigger.ParseRetryAfter(resp.Header.Get("Retry-After"), at)
	return resp.StatusCode, bytes.Clone(answer[:min(len(answer), keptAnswer)]), retryAfter, ""
}

// reason says in a few words why an attempt failed, and names no address.
func reason(err error) string {
	var dns *net.DNSError
	var cert *tls.CertificateVerificationError
	var timeout interface{ Timeout() bool }
	switch {
	case errors.Is(err, ErrTarget):
		return ErrTarget.Error()
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return "timeout"
	case errors.As(err, &dns):
		return "host not found"
	case errors.As(err, &cert):
		return "certificate not valid"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection refused"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET):
		return "connection closed"
	}
	return "no valid HTTP answer"
}
