package api

import (
	"context"
	"sync"
	"time"
)

// notifier wakes the requests that wait for an organization's inbox, and lets
// them read it one after the other. An organization may have hundreds of streams
// and long polls: each new event wakes all of them, and without turns their
// reads would delay all others.
type notifier struct {
	now func() time.Time // the process's clock

	mu     sync.Mutex
	of     map[int64]*inboxWaiters // by organization, if requests wait
	closed bool                    // requests must not wait any longer
}

// inboxWaiters are the requests that wait for one inbox or read it.
type inboxWaiters struct {
	*notifier
	organizationID int64
	claims         turn // of long polls
	streams        turn

	// The mutex of the notifier guards these.
	requests int           // that have joined and not left
	news     chan struct{} // closed when the inbox has something new
	newsAt   time.Time     // when news was last closed
	emptyAt  time.Time     // when the last claim that found nothing began
}

// join adds a request to the waiters of an inbox, until leave.
func (n *notifier) join(organizationID int64) *inboxWaiters {
	n.mu.Lock()
	defer n.mu.Unlock()
	w := n.of[organizationID]
	if w == nil {
		w = &inboxWaiters{notifier: n, organizationID: organizationID, claims: newTurn(), streams: newTurn(), news: make(chan struct{})}
		if n.of == nil {
			n.of = map[int64]*inboxWaiters{}
		}
		n.of[organizationID] = w
	}
	w.requests++
	return w
}

func (w *inboxWaiters) leave() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.requests--; w.requests == 0 {
		delete(w.of, w.organizationID)
	}
}

// wait returns a channel that is closed when the inbox has something new, or
// when requests must not wait any longer; then open is false. It must be called
// before the inbox is read, so that nothing is missed in between.
func (w *inboxWaiters) wait() (news <-chan struct{}, open bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.news, !w.closed
}

// notify wakes the requests that wait for an organization's inbox.
func (n *notifier) notify(organizationID int64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if w := n.of[organizationID]; w != nil && !n.closed {
		close(w.news)
		w.news, w.newsAt = make(chan struct{}), n.now()
	}
}

// close wakes all requests. They do not wait again.
func (n *notifier) close() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return
	}
	n.closed = true
	for _, w := range n.of {
		close(w.news)
	}
}

// turn lets one request at a time read an inbox. It holds a token, which the
// request takes whose turn it is.
type turn chan struct{}

func newTurn() turn {
	t := make(turn, 1)
	t <- struct{}{}
	return t
}

// do calls look in the request's turn and returns its error, or the error of ctx
// if ctx ends first.
func (t turn) do(ctx context.Context, look func() error) error {
	select {
	case <-t:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { t <- struct{}{} }()
	return look()
}

// size returns the number of requests that wait for the inbox or read it.
func (w *inboxWaiters) size() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.requests
}

// foundNothing records that a claim that began at the given time found nothing.
func (w *inboxWaiters) foundNothing(begun time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if begun.After(w.emptyAt) {
		w.emptyAt = begun
	}
}

// isEmpty reports whether a claim that began after the last news, and less than
// maxAge ago, found nothing.
func (w *inboxWaiters) isEmpty(maxAge time.Duration) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.emptyAt.After(w.newsAt) && w.now().Sub(w.emptyAt) < maxAge
}
