package torture

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

// verifier checks signatures; the library of Standard Webhooks implements it.
type verifier interface {
	Verify(payload []byte, headers http.Header) error
	VerifyIgnoringTimestamp(payload []byte, headers http.Header) error
}

// mood is how a webhook's endpoint behaves for some seconds.
type mood int

const (
	good mood = iota
	failing
	slow
	hanging
	cutting    // reads everything and closes the connection without an answer
	halving    // sends less than its Content-Length
	babbling   // sends something that is not HTTP
	sending    // an answer without an end
	forwarding // a redirect, which must not be followed
	refusing   // too many requests
	unavailable

	// The moods of spells, in which an answer begins and never ends.
	switching // answers 101 and then sends nothing
	hinting   // answers 103 repeatedly
	stalling  // leaves TLS handshakes unanswered
)

// moodTime is how long a mood lasts.
const moodTime = 5 * time.Second

// receiver is the endpoint of all webhooks. It verifies each delivery and the
// payload's own checksum.
type receiver struct {
	book     *book
	seed     uint64
	now      func() time.Time
	begun    time.Time
	windows  *windows
	listener net.Listener
	secure   net.Listener // for https
	server   http.Server
	casting  sync.Mutex            // locked by a spell
	spell    atomic.Pointer[spell] // nil: none
	held     held
	healed   atomic.Bool
	ahead    atomic.Bool  // the database's clock is ahead, or soon will be
	calm     atomic.Int32 // not zero: only the good mood, because no event may come twice
	dawdles  atomic.Bool  // endpoints are slow, and nothing else
	followed atomic.Int64
}

// newReceiver starts a receiver on a port of its own.
func newReceiver(b *book, seed uint64, windows *windows) (*receiver, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	r := &receiver{book: b, seed: seed, now: b.now, begun: b.now(), windows: windows, listener: listener}
	r.server.Handler, r.server.ErrorLog = r, log.New(io.Discard, "", 0) // because handshakes are cut
	go func() { _ = r.server.Serve(listener) }()                        // until close
	return r, nil
}

func (r *receiver) close() error {
	r.closeHeld(func(*heldConn) {})
	return r.server.Close()
}

// url returns the URL of a path of the receiver.
func (r *receiver) url(path string) string { return "http://" + r.listener.Addr().String() + path }

// anyURL returns the URL of a path. A third of the webhooks use https.
func (r *receiver) anyURL(path string, n int) string {
	if n%3 != 0 {
		return r.url(path)
	}
	return "https://" + r.secure.Addr().String() + path
}

// calmDown sets every endpoint to a good mood until end is called. Several
// faults may use it at a time.
func (r *receiver) calmDown() (end func()) {
	r.calm.Add(1)
	return func() { r.calm.Add(-1) }
}

// rest closes idle connections.
func (r *receiver) rest() {
	r.server.SetKeepAlivesEnabled(false)
	r.server.SetKeepAlivesEnabled(true)
}

// canary is the target of redirects.
const canary = "/canary"

// ServeHTTP handles a delivery.
func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	if req.URL.Path == canary {
		r.followed.Add(1)
		return
	}
	h, v := r.book.hook(req.URL.Path)
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return // cut by the sender, so not received
	}
	if h == nil {
		r.book.stray(fmt.Sprintf("a request to %s, which is not registered", req.URL.Path))
		return
	}
	if v == nil {
		return // its registration had no answer
	}
	n, number, ok := r.read(h, v, req.Header, body)
	if !ok {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	event := req.Header.Get(standardwebhooks.HeaderWebhookID)
	switch m := r.mood(h); {
	case h.poisoned != good && r.book.isPoison(n):
		r.answer(w, req, h.poisoned)
	case m == switching:
		r.hang(w, h, event, "101", 0, switchingAnswer)
	case m == hinting:
		r.hang(w, h, event, "103", earlyEvery, earlyAnswer)
	case r.answer(w, req, m) && n != notice:
		r.book.answered(h, n, number)
	}
}

// notice is the number of an operational event.
const notice = -1

// isNotice reports whether a type is the type of an operational event.
func isNotice(eventType string) bool {
	return slices.Contains([]string{
		"webhook.failing", "webhook.paused", "webhook.gone", "webhook.recovered", "delivery.exhausted", "delivery.expired",
	}, eventType)
}

// read verifies a delivery and records it in the book.
func (r *receiver) read(h *hook, v verifier, header http.Header, body []byte) (n, number int, ok bool) {
	var d struct {
		ID   string
		Type string
		Data json.RawMessage
	}
	verify := v.Verify
	if r.ahead.Load() { // signatures have the database's time
		verify = v.VerifyIgnoringTimestamp
	}
	if err := verify(body, header); err != nil {
		r.book.stray(fmt.Sprintf("%s: webhook %d: %v", badSignature, h.n, err))
		return 0, 0, false
	}
	if json.Unmarshal(body, &d) != nil || d.ID != header.Get(standardwebhooks.HeaderWebhookID) {
		r.book.stray(fmt.Sprintf("%s: webhook %d: %.300q", changed, h.n, body))
		return 0, 0, false
	}
	if isNotice(d.Type) && !strings.HasPrefix(h.filter, "*") && h.filter != "" && matches(h.filter, d.Type) {
		r.book.count(func(n *counts) { n.Notices++ })
		return notice, 0, true
	}
	c, intact := readPayload(d.Data)
	if !intact {
		r.book.stray(fmt.Sprintf("%s: webhook %d, event %s: %.300q", changed, h.n, d.ID, d.Data))
		return 0, 0, false
	}
	if c.Tenant != h.tenant.n {
		r.book.stray(fmt.Sprintf("%s: webhook %d of tenant %d got event %d of tenant %d", foreign, h.n, h.tenant.n, c.N, c.Tenant))
		return 0, 0, false
	}
	number, known := r.book.arrived(h, c.N, d.ID, header.Get(markHeader))
	if !known || c.Refused {
		r.book.stray(fmt.Sprintf("%s: webhook %d got event %d", neverSent, h.n, c.N))
		return 0, 0, false
	}
	return c.N, number, true
}

// mood returns the current mood of a webhook's endpoint.
func (r *receiver) mood(h *hook) mood {
	switch {
	case r.healed.Load(), h.poisoned != good:
		return good
	case r.dawdles.Load():
		return slow
	case r.calm.Load() > 0:
		return good
	}
	for _, m := range []mood{switching, hinting} {
		if r.under(m, h.n) {
			return m
		}
	}
	phase := uint64(r.now().Sub(r.begun) / moodTime)
	switch x := rand.New(rand.NewPCG(r.seed^uint64(h.n), phase)).IntN(100); {
	case x < 50:
		return good
	case x < 65:
		return slow
	case x < 72:
		return hanging
	case x < 79:
		return failing
	case x < 82:
		return refusing
	default:
		return []mood{cutting, halving, babbling, sending, forwarding}[x%5]
	}
}

// answer answers by the mood and reports whether it was a complete 2xx.
func (r *receiver) answer(w http.ResponseWriter, req *http.Request, m mood) bool {
	switch m {
	case unavailable:
		w.WriteHeader(http.StatusServiceUnavailable)
	case failing:
		w.WriteHeader(http.StatusInternalServerError)
	case slow:
		_ = pause(req.Context(), attemptTimeout/5)
		w.WriteHeader(http.StatusAccepted)
		return req.Context().Err() == nil
	case hanging:
		_ = pause(req.Context(), 2*attemptTimeout)
		panic(http.ErrAbortHandler) // a return would answer 200
	case cutting:
		panic(http.ErrAbortHandler)
	case halving:
		w.Header().Set("Content-Length", "100000")
		_, _ = io.WriteString(w, "not all of it")
		panic(http.ErrAbortHandler)
	case babbling:
		babble(w)
	case sending:
		stream(req.Context(), w)
	case forwarding:
		http.Redirect(w, req, r.url(canary), http.StatusTemporaryRedirect)
	case refusing:
		w.Header().Set("Retry-After", []string{"1", "-5", "soon", "", "0"}[rand.IntN(5)])
		w.WriteHeader(http.StatusTooManyRequests)
	default:
		w.WriteHeader(http.StatusNoContent)
		return true
	}
	return false
}

// babble sends something that is not HTTP.
func babble(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	_, _ = io.WriteString(conn, "200 OK, I think\r\n\r\n")
	_ = conn.Close()
}

// stream answers 500 with a long body, until the client closes the connection.
func stream(ctx context.Context, w http.ResponseWriter) {
	w.WriteHeader(http.StatusInternalServerError)
	for range 1000 {
		if _, err := w.Write(make([]byte, 1<<10)); err != nil || pause(ctx, time.Millisecond) != nil {
			return
		}
	}
}
