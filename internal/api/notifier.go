package api

import (
	"context"
	"sync"
	"time"
)

// notifier wakes the requests that wait for an organization's inbox, and lets them
// look into it one after the other. An organization may have hundreds of streams
// and long polls: each new event wakes all of them, and without turns their reads
// would hold up everybody else's.
type notifier struct {
	now func() time.Time // the process's clock

	mu     sync.Mutex
	of     map[int64]*inboxWaiters // by organization; those for which requests wait
	closed bool                    // no request is to wait any longer
}

// inboxWaiters are the requests that wait for one inbox, or look into it.
type inboxWaiters struct {
	*notifier
	organizationID int64
	turn           chan struct{} // holds the token of whose turn it is

	// The notifier's mutex guards these.
	requests int           // that have joined and not left
	lining   int           // of them, those that wait for their turn
	news     chan struct{} // closed when the inbox has something new
	newsAt   time.Time     // when it was last closed
	emptyAt  time.Time     // when the last claim began that found nothing
}

// join returns the waiters of an inbox, as one of them until leave.
func (n *notifier) join(organizationID int64) *inboxWaiters {
	n.mu.Lock()
	defer n.mu.Unlock()
	w := n.of[organizationID]
	if w == nil {
		w = &inboxWaiters{notifier: n, organizationID: organizationID, turn: make(chan struct{}, 1), news: make(chan struct{})}
		w.turn <- struct{}{}
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

// wait returns a channel that is closed when the inbox has something new, or when
// no request is to wait any longer: then open is false. It is to be called before
// a look, so that nothing is missed between the two.
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

// close wakes all requests for good.
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

// inTurn calls look when it is the request's turn, and returns its error, or that
// of ctx if it ends first. While others wait for their turn, the next one begins
// after as long a rest as the look took: so looks into one inbox take half of the
// time at most.
func (w *inboxWaiters) inTurn(ctx context.Context, look func() error) error {
	w.count(1)
	select {
	case <-w.turn:
		w.count(-1)
	case <-ctx.Done():
		w.count(-1)
		return ctx.Err()
	}
	begun := w.now()
	defer func() {
		pass := func() { w.turn <- struct{}{} }
		if took := w.now().Sub(begun); w.count(0) > 0 {
			time.AfterFunc(took, pass)
		} else {
			pass()
		}
	}()
	return look()
}

// count changes how many requests wait for their turn, and returns that.
func (w *inboxWaiters) count(more int) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lining += more
	return w.lining
}

// foundNothing notes that a claim found nothing, which began at the given time.
func (w *inboxWaiters) foundNothing(begun time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if begun.After(w.emptyAt) {
		w.emptyAt = begun
	}
}

// isEmpty reports whether the inbox was empty when somebody looked after its last
// news, and for no longer than maxAge ago.
func (w *inboxWaiters) isEmpty(maxAge time.Duration) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.emptyAt.After(w.newsAt) && w.now().Sub(w.emptyAt) < maxAge
}
