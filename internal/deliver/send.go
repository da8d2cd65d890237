package deliver

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"math"
	"math/rand/v2"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"golang.org/x/time/rate"

	"triggerd/internal/store"
	"triggerd/internal/trigger"
)

// Bounds in bytes of the part of an answer that is read, and of the part that
// is kept.
const (
	maxAnswer  = 64 << 10
	keptAnswer = 16 << 10
	keptLater  = 1 << 10 // of answers to later attempts than fullAnswers
)

// fullAnswers is the number of attempts of a delivery whose answers are kept up
// to keptAnswer. A schedule can have 50 attempts without a pause.
const fullAnswers = 10

// work sends the items of a lane until it is empty.
func (e *Engine) work(abort context.Context, l *lane) {
	for it := e.next(l); it != nil; it = e.next(l) {
		var a *trigger.Attempt
		if e.throttle(l) {
			e.enter(l.receiver, it.delivery.DeliveryKey)
			a = e.attempt(abort, l, it)
			e.slots.leave(it.delivery.OrganizationID, it.delivery.WebhookID)
		} else {
			e.abandon(it)
		}
		e.done(l, it, a)
	}
}

// throttle sleeps until the limits of the webhook and of the replay allow one
// more attempt. It returns false if the attempt must not be made, because the
// engine is closed or live deliveries have taken a replay's place.
func (e *Engine) throttle(l *lane) (ok bool) {
	e.mu.Lock()
	now, delay := e.Now(), time.Duration(0)
	for _, limiter := range []*rate.Limiter{l.limiter, l.receiver.limiter} {
		if limiter != nil {
			delay = max(delay, limiter.ReserveN(now, 1).DelayFrom(now))
		}
	}
	idle := delay > 0 && l.job != 0
	if idle { // its place is free for live deliveries meanwhile
		l.receiver.running--
		e.startAllWorkers(l.receiver)
	}
	e.mu.Unlock()
	if delay == 0 {
		return true
	}
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
		ok = true
	case <-e.closing:
	}
	if idle {
		e.mu.Lock()
		defer e.mu.Unlock()
		l.receiver.running++
		ok = ok && !l.isOver()
	}
	return ok
}

// enter waits for a slot for an attempt.
func (e *Engine) enter(r *receiver, key trigger.DeliveryKey) {
	begun := e.Now()
	e.slots.enter(key.OrganizationID, key.WebhookID)
	waited := elapsed(e.Now(), begun)
	e.mu.Lock()
	defer e.mu.Unlock()
	r.waited = max(waited, r.waited+(waited-r.waited)/32)
}

// abandon requeues an item that is not sent.
func (e *Engine) abandon(it *item) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.requeue(it.delivery, it.event)
}

// attempt sends one delivery and queues its result to be recorded. It returns
// nil if nothing was sent.
func (e *Engine) attempt(abort context.Context, l *lane, it *item) *trigger.Attempt {
	e.mu.Lock()
	open, w := !l.cancelled && l.receiver.admits(it) && e.isFresh(l.receiver) && e.inTime(l.receiver, it), l.receiver.webhook
	e.mu.Unlock()
	if !open {
		e.abandon(it)
		return nil
	}
	if !e.leased(it, w) {
		e.Metrics.Dropped.Inc()
		e.mu.Lock()
		e.forget(it.event)
		e.mu.Unlock()
		return nil
	}
	a := e.send(abort, it, w)
	if abort.Err() != nil && a.Outcome == trigger.Transient && a.Status == 0 { // a stop of this node is not a failed attempt
		e.abandon(it)
		return nil
	}
	e.applyDirective(l.receiver, &a)
	next := e.conclude(it.delivery, a, it.event, w)
	if level := levelOf(a.Outcome); e.Log.Enabled(abort, level) {
		e.Log.LogAttrs(abort, level, "attempt", attemptAttrs(it, a, next)...)
	}
	return &a
}

// conclude decides what follows from an attempt and queues the result. event
// and webhook are nil if the event no longer exists.
func (e *Engine) conclude(d trigger.Delivery, a trigger.Attempt, event *trigger.Event, w *trigger.Webhook) trigger.Delivery {
	a.DeliveryKey, a.Claim, a.Number = d.DeliveryKey, d.Claim, d.Attempts+1
	next := d.After(a, e.scheduleOf(w), e.Store.Now(), 2*rand.Float64()-1)
	result := store.Result{Attempt: a, Next: next}
	if next.State == trigger.DeliveryFailed && a.Outcome != trigger.ReceiverGone && event != nil && !event.IsNotice() {
		result.Notice = &trigger.Notice{
			Type: trigger.DeliveryExhausted, About: d.WebhookID, Once: d.EventID.String() + "/" + d.Claim.String(),
			EventID: d.EventID, Attempts: next.Attempts, Reason: next.Reason,
		}
	}
	e.pending.enter(d.OrganizationID, d.WebhookID) // in turn, so that organizations with many results do not delay others
	e.results <- result
	return next
}

// leased reports whether the rest of the lease is long enough for a whole
// attempt.
func (e *Engine) leased(it *item, w *trigger.Webhook) bool {
	return it.lease-elapsed(e.Now(), it.claimedAt) >= e.timeoutOf(w)+margin/2
}

// Try makes one attempt at a webhook, for its owner to see. The attempt belongs
// to no delivery and is not recorded. Otherwise it is like any other.
func (e *Engine) Try(ctx context.Context, w *trigger.Webhook, event *trigger.Event) trigger.Attempt {
	return e.send(ctx, &item{event: event}, w)
}

// send makes one HTTP request, with one deadline for all of it. It decides
// nothing: it reports what happened.
func (e *Engine) send(ctx context.Context, it *item, w *trigger.Webhook) (a trigger.Attempt) {
	ctx, cancel := context.WithTimeout(ctx, e.timeoutOf(w))
	defer cancel()
	begun := e.Now()
	a = trigger.Attempt{AsOf: w.AsOf, At: e.Store.Now(), Outcome: trigger.Transient}
	defer func() { // a panic costs only its own attempt
		if p := recover(); p != nil {
			e.Log.Error("panic in an attempt", "event_id", it.event.ID.String(), "panic", p, "stack", string(debug.Stack()))
			a.Outcome, a.Status, a.Error = trigger.Transient, 0, trigger.ReasonPanic
		}
	}()
	watch := stopwatch{now: e.Now, begun: begun}
	a.Error = e.post(ctx, &watch, it, w, &a)
	a.Connected = watch.connected
	if a.Error == "" {
		a.Outcome = trigger.OutcomeOf(a.Status, a.Directive)
		switch a.Outcome {
		case trigger.Success:
		case trigger.Permanent:
			a.Error = trigger.ReasonAborted
		default:
			a.Error = "status " + strconv.Itoa(a.Status) + watch.leadsTo
		}
	}
	a.Took, a.Timing = e.Now().Sub(begun), watch.timing()
	return a
}

// post sends the event, signed now, by Standard Webhooks, and reads the answer
// into a. If there is no answer, failure is the reason in a few words. The
// status and headers make an answer, even if its body cannot be read.
func (e *Engine) post(ctx context.Context, watch *stopwatch, it *item, w *trigger.Webhook, a *trigger.Attempt) (failure string) {
	target, err := e.target(w)
	if err != nil {
		return trigger.MessageOf(err)
	}
	body := it.event.AppendBody(make([]byte, 0, len(it.event.Payload)+len(it.event.Type)+192), w.Format)
	traced := context.WithValue(httptrace.WithClientTrace(ctx, watch.trace()), attemptContext{}, ctx)
	traced = context.WithValue(traced, stopwatchKey{}, watch)
	req, err := http.NewRequestWithContext(traced, http.MethodPost, target.String(), nil)
	if err != nil {
		return "url cannot be requested"
	}
	id, at := it.event.ID.String(), e.Store.Now()
	req.Header = e.header(it, w, id, at)
	req.Header["Webhook-Signature"] = []string{w.Secrets.Sign(it.event.ID, at, body)}
	resp, err := e.roundTrip(req, body, watch)
	if err != nil {
		return reason(err, watch.certificateWanted.Load())
	}
	defer resp.Body.Close()
	a.Status = resp.StatusCode
	a.RetryAfter = trigger.ParseRetryAfter(strings.Join(resp.Header.Values("Retry-After"), ","), at)
	a.Directive = trigger.ParseDirective(strings.Join(resp.Header.Values("Webhook-Delivery"), ","))
	watch.leadsTo = redirectTo(resp, w)
	if watch.conn != nil {
		watch.conn.keptAlive(strings.Join(resp.Header.Values("Keep-Alive"), ","), e.Now())
	}
	answer, cut := readAnswer(ctx, resp, watch.conn)
	kept := keptAnswer
	if it.delivery.Attempts >= fullAnswers {
		kept = keptLater
	}
	a.Response = keptOf(answer, cut, w, kept)
	return ""
}

// roundTrip sends a request. If a kept connection failed before anything was
// written to it, roundTrip sends it again at once: the receiver had closed the
// connection, or it was too old. After a write the receiver may have the
// request. The transport itself never repeats a request without a GetBody; it
// would repeat one with an Idempotency-Key, even after a write.
func (e *Engine) roundTrip(req *http.Request, body []byte, watch *stopwatch) (resp *http.Response, err error) {
	for range trigger.MaxConcurrency + 1 { // one more than the transport keeps idle
		watch.connected, watch.conn, watch.reused = false, nil, false
		req.Body, req.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
		resp, err = e.Transport.RoundTrip(req)
		unsent := watch.conn != nil && watch.reused && !watch.conn.written.Load()
		if err == nil || !unsent || req.Context().Err() != nil {
			break
		}
	}
	return resp, err
}

// target returns the URL of a webhook's requests.
func (e *Engine) target(w *trigger.Webhook) (*url.URL, error) {
	if e.Guard == nil {
		return trigger.ParseTarget(w.URL)
	}
	return e.Guard.URL(w.URL)
}

// readAnswer returns the beginning of an answer's body, as far as it arrives in
// time, and whether it was cut. An answer with 101 has no body: the connection
// has another protocol, and net/http does not end it with the request.
func readAnswer(ctx context.Context, resp *http.Response, conn *receiverConn) (answer []byte, cut bool) {
	if resp.Body == http.NoBody || resp.StatusCode < 200 {
		return nil, false
	}
	if conn != nil { // the deadline ends the reading in any case
		stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
		defer stop()
	}
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer)) // on error the answer is what was read
	return answer, err != nil || len(answer) == maxAnswer
}

// keptOf returns the kept part of an answer: its beginning, without the
// credentials of the webhook. If it is cut off, it may end in part of one.
func keptOf(answer []byte, cut bool, w *trigger.Webhook, kept int) []byte {
	if len(answer) == 0 {
		return answer
	}
	if len(answer) > kept {
		answer, cut = answer[:kept], true
	}
	most := len(answer)
	if cut {
		most = math.MaxInt
	}
	return bytes.Clone(newRedactor(w, most).answer(answer, cut))
}

// header returns the header of a request: the fields of the webhook's owner,
// then ours.
func (e *Engine) header(it *item, w *trigger.Webhook, id string, at time.Time) http.Header {
	h := make(http.Header, 8+len(w.Headers))
	for name, value := range w.Headers {
		h.Set(name, value)
	}
	if auth := w.Auth.Header(); auth != "" {
		h["Authorization"] = []string{auth}
	}
	h["Content-Type"] = []string{w.Format.ContentType()}
	h["User-Agent"] = []string{e.UserAgent}
	h["Webhook-Id"] = []string{id}
	h["Webhook-Timestamp"] = []string{strconv.FormatInt(at.Unix(), 10)}
	var span [8]byte
	binary.BigEndian.PutUint64(span[:], rand.Uint64()|1)
	h["Traceparent"] = []string{it.event.Trace(span)}
	if it.delivery.Job != 0 {
		h["Webhook-Replay"] = []string{strconv.FormatInt(it.delivery.Job, 10)}
	}
	return h
}
