package api

import (
	"context"
	"net/http"
	"sync"
	"time"

	"triggerd/internal/store"
	"triggerd/internal/trigger"
)

// A right that ends on one node ends on the others after keyTTL, rightAgain
// and rightGrace at the latest: together less than 5 s.
const (
	rightAgain = 500 * time.Millisecond // between two checks of a request that lasts
	rightGrace = time.Second            // to finish what is being written when the right has ended
)

// right watches, while a request lasts, whether its key may still make it. It
// ends when the key is revoked or expires, or when the organization is
// suspended or deleted. A database that does not answer ends nothing.
//
// A request that reads or waits is watched to its end: its context is
// cancelled with the reason. One that changes something is watched until its
// body is there, because a change that has begun must not be cut. A nil right
// does not end.
type right struct {
	api    *API
	route  *route
	r      *request
	out    *recorder
	cancel context.CancelCauseFunc // nil if the route changes something

	mu      sync.Mutex
	timer   *time.Timer
	reading bool  // the body is being read
	done    bool  // the right is not needed any more
	err     error // why the right has ended
}

// readsOnly reports whether a route changes nothing that could be cut halfway.
// What is acknowledged or given back in an inbox may be repeated.
func (rt *route) readsOnly() bool {
	return rt.method == http.MethodGet || rt.scope == scopeRead || rt.path == "/v1/webhooks/{webhook_id}/test"
}

// watch begins to watch the right to a request that was authorized. The caller
// must call release when the request has been handled.
func (a *API) watch(rt *route, w *recorder, r *request) *right {
	g := &right{api: a, route: rt, r: r, out: w}
	if !rt.needsKey() {
		g.done = true
		return g
	}
	if ctx := r.Context(); rt.scope != scopeIngest { // accepting an event takes none of what organizations share
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

// check runs each rightAgain until the right has ended or is not needed.
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

// end cancels the request and bounds what it still reads and writes.
func (g *right) end(reason error) {
	g.done, g.err = true, reason
	if g.cancel != nil {
		g.cancel(reason)
		g.out.endBy(g.api.Now().Add(rightGrace))
	}
	if g.reading {
		_ = http.NewResponseController(g.out).SetReadDeadline(time.Unix(1, 0)) // long ago
	}
}

// readBody says that the body is about to be read.
func (g *right) readBody() {
	if g == nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.reading = true
}

// hasBody says that the body was read, and returns why the right has ended, if
// it has. A request that changes something is not watched any longer.
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

// ended returns why the right has ended; nil if it has not.
func (g *right) ended() error {
	if g == nil {
		return nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.err
}

// release ends the watch. Nothing touches the connection afterwards.
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
