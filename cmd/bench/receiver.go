package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// mood is how a webhook's endpoint behaves.
type mood int32

const (
	prompt   mood = iota
	slow          // answers after slowness
	sluggish      // answers after sluggishness, or up to twice as long
	hanging       // reads the request but does not answer until released
	refusing      // answers 503
)

// How long slow and sluggish endpoints take.
const (
	slowness     = 100 * time.Millisecond
	sluggishness = 6 * time.Second
)

// hook is a webhook: one endpoint, and the events for it.
type hook struct {
	id        int
	key       string // of its organization
	eventType string
	mood      atomic.Int32
	open      atomic.Int64 // events sent but not yet received
	hung      atomic.Int64 // requests that hung
	webhookID int64        // in the server
	replay    atomic.Int64 // the replay that all its deliveries must come from; 0: none
}

func (h *hook) be(m mood) { h.mood.Store(int32(m)) }

// receiver is the endpoint of all webhooks. Each has its own loopback address,
// like real receivers, and so its own connections.
type receiver struct {
	book     *book
	server   http.Server
	released chan struct{} // closed when hanging requests must be answered

	mu    sync.RWMutex
	hooks map[string]*hook // by path
}

func newReceiver(b *book) *receiver {
	r := &receiver{book: b, released: make(chan struct{}), hooks: map[string]*hook{}}
	r.server.Handler = r
	return r
}

// add opens the endpoint of a webhook and returns its URL.
func (r *receiver) add(h *hook) (string, error) {
	ip := net.IPv4(127, 0, byte(1+h.id/250), byte(1+h.id%250))
	listener, err := net.Listen("tcp", net.JoinHostPort(ip.String(), "0"))
	if err != nil {
		return "", err
	}
	path := "/" + strconv.Itoa(h.id)
	r.mu.Lock()
	r.hooks[path] = h
	r.mu.Unlock()
	go func() {
		if err := r.server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			r.book.fail(fmt.Errorf("the receiver of webhook %d: %w", h.id, err))
		}
	}()
	return "http://" + listener.Addr().String() + path, nil
}

func (r *receiver) close() error { return r.server.Close() }

// release makes all hanging requests answer.
func (r *receiver) release() { close(r.released) }

// ServeHTTP handles a delivery. Its time is when its body has been read or, if
// it hangs, when it is released.
func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	r.mu.RLock()
	h := r.hooks[req.URL.Path]
	r.mu.RUnlock()
	body, err := io.ReadAll(req.Body)
	at := r.book.now()
	if err != nil {
		return // cut by the server, so not received
	}
	if h == nil {
		r.book.fail(fmt.Errorf("a request to %q, which nobody registered", req.URL.Path))
		return
	}
	n, sent, err := readPayload(body)
	if err != nil {
		r.book.fail(err)
		return
	}
	if job, _ := strconv.ParseInt(req.Header.Get("Webhook-Replay"), 10, 64); job != h.replay.Load() {
		r.book.fail(fmt.Errorf("webhook %d got a delivery of replay %d, want %d", h.id, job, h.replay.Load()))
	}
	switch mood(h.mood.Load()) {
	case slow:
		if pause(req.Context(), slowness) != nil {
			return
		}
	case sluggish:
		h.hung.Add(1)
		if pause(req.Context(), sluggishness+rand.N(sluggishness)) != nil {
			return
		}
	case refusing:
		r.book.refuse(n)
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	case hanging:
		h.hung.Add(1)
		select {
		case <-req.Context().Done():
			panic(http.ErrAbortHandler) // a return would answer 200
		case <-r.released:
			at = r.book.now()
		}
	}
	w.WriteHeader(http.StatusNoContent)
	r.book.arrive(h, n, sent, at)
}

// appendPayload appends a payload of about a size. It contains the number of
// the event and when it was sent.
func appendPayload(to []byte, n int, sent time.Duration, size int) []byte {
	begun := len(to)
	to = append(to, `{"bench":[`...)
	to = strconv.AppendInt(to, int64(n), 10)
	to = append(to, ',')
	to = strconv.AppendInt(to, int64(sent), 10)
	to = append(to, `],"fill":"`...)
	for len(to)-begun < size-2 {
		to = append(to, 'x')
	}
	return append(to, `"}`...)
}

// readPayload parses the values of appendPayload in the body of a delivery.
func readPayload(body []byte) (n int, sent time.Duration, err error) {
	_, rest, _ := bytes.Cut(body, []byte(`"bench":[`))
	numbers, _, _ := bytes.Cut(rest, []byte("]"))
	first, second, _ := bytes.Cut(numbers, []byte(","))
	n, err = strconv.Atoi(string(first))
	at, atErr := strconv.ParseInt(string(second), 10, 64)
	if err != nil || atErr != nil {
		return 0, 0, fmt.Errorf("a delivery that is none of ours: %.200q", body)
	}
	return n, time.Duration(at), nil
}
