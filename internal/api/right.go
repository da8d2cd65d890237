package api

import (
	"context"
	"net/http"
	"sync"
	"time"

	"triggerd/internal/store"
	"triggerd/internal/trigger"
)

// A right that ends on one node ends on the others after at most keyTTL,
// rightAgain and rightGrace, together less than 5 s.
const (
	rightAgain = 500 * time.Millisecond // between two checks of a long request
	rightGrace = time.Second            // to finish writing after the right has ended
)

// right checks, while a request lasts, whether its key still allows it. The
// right ends when the key is revoked or expires, or when the organization is
// suspended or deleted. It does not end if the database fails.
//
// A request that reads or waits is checked to its end: its context is cancelled
// with the reason. A request that changes something is checked until its body
// has arrived, because a change in progress must not be cut. A nil right does
// not end.
type right struct {
	api    *API
	route  *route
	r      *request
	out    *recorder
	cancel context.CancelCauseFunc // nil if the route changes something

	mu      sync.Mutex
	timer   *time.Timer
	reading bool  // the body is being read
	done    bool  // the right is not needed any longer
	err     error // why the right has ended
}

// readsOnly reports whether the route may be cut at any time. In an inbox, ack
// and release may be repeated, so they count as reading.
func (rt *route) readsOnly() bool {
	return rt.method == http.MethodGet || rt.scope == scopeRead || rt.path == "/v1/webhooks/{webhook_id}/test"
}

// watch begins to check the right to an authorized request. The caller must call
// release after the request.
func (a *API) watch(rt *route, w *recorder, r *request) *right {
	g := &right{api: a, route: rt, r: r, out: w}
	if !rt.needsKey() {
		g.done = true
		return g
	}
	if ctx := r.Context(); rt.scope != scopeIngest { // accepting an event uses nothing that organizations share
		ctx = store.WithOrganization(ctx, r.orgID())
		if rt.readsOnly() {
			ctx, g.cancel = context.WithCancelCause(ctx)
		}
		r.Request = r.WithContext(ctx)
	}
	g.mu.Lock() // check uses the timer
	defer g.mu.Unlock()
	g.timer = time.AfterFunc(rightAgain, g.check)
	return g
}

// check runs every rightAgain until the right has ended or is not needed.
func (g *right) check() {
	err := g.api.stillMay(g.route, g.r)
	g.mu.Lock()
	defer g.mu.Unlock()
	switch kind := trigger.KindOf(err); {
	case g.done:
	case err == nil || kind != trigger.Unauthorized && kind != trigger.Forbidden:
		g.timer.Reset(rightAgain)
	default:
		g.end(err)
	}
}

// end cancels the request and bounds its remaining reads and writes.
func (g *right) end(reason error) {
	g.done, g.err = true, reason
	if g.cancel != nil {
		g.cancel(reason)
		g.out.endBy(g.api.Now().Add(rightGrace))
	}
	if g.reading {
		_ = http.NewResponseController(g.out).SetReadDeadline(time.Unix(1, 0)) // in the past
	}
}

// readBody must be called before the body is read.
func (g *right) readBody() {
	if g == nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.reading = true
}

// hasBody must be called when the body was read. It returns why the right has
// ended, if so. From then on a request that changes something is not checked.
func (g *right) hasBody() error {
	if g == nil {
		return nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.reading = false
	if g.cancel == nil {
		g.stop()
	}
	return g.err
}

// ended returns why the right has ended, or nil.
func (g *right) ended() error {
	if g == nil {
		return nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.err
}

// release stops the checks. The connection is not touched afterwards.
func (g *right) release() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.stop()
	if g.cancel != nil {
		g.cancel(nil)
	}
}

func (g *right) stop() {
	g.done = true
	if g.timer != nil {
		g.timer.Stop()
	}
}
