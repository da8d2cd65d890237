// Package api serves JSON over HTTP. The file routes.go lists all routes with
// their scopes, which say who may call them. [API.serveAs] authorizes a request,
// calls its handler, turns the handler's error into an answer, and logs one
// line. The original contract, under /api, is in legacy.go.
package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"path"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"triggerd/internal/deliver"
	"triggerd/internal/ingest"
	"triggerd/internal/limit"
	"triggerd/internal/store"
	"triggerd/internal/telemetry"
	"triggerd/internal/trigger"
)

// Limits of requests.
const (
	maxURL         = 8 << 10          // bytes of a request target
	handlerTimeout = 30 * time.Second // for a whole request, but see [route.timeout]; each wait in it has its own bound
	maxBodies      = 256 << 20        // bytes of bodies and answers in memory at a time
	busyRetry      = time.Second      // the Retry-After while memory is short
)

// API is the HTTP side of the server. Set its fields before use.
type API struct {
	Store      *store.Store
	Writer     *ingest.Writer
	Engine     Engine
	Guard      *deliver.Guard
	Metrics    *telemetry.Metrics
	Log        *slog.Logger
	Now        func() time.Time
	Limits     map[trigger.Tier]int // POSTs of events per minute; 0 means no limit
	MaxBody    int                  // bytes
	Ahead      time.Duration        // how far ahead a deliver_at may lie
	Proxies    []netip.Prefix       // proxies whose X-Forwarded-For is trusted
	AdminToken string               // ADMIN_TOKEN; "" if the operator has set none, then the generated token counts
	MadeToken  string               // the generated token in the data folder; "" if only its hash is stored, in the database
	Loopback   bool                 // the server listens on loopback only
	OpenSignup bool                 // anyone may create an organization of tier free
	PublicURL  string               // the server's address for its users; "" if unknown
	Ready      func() error         // an error if this node should get no requests
	Version    string               // of the program
	// Admits reports whether a connection, by its remote address, may send
	// requests other than health checks. If nil, all may.
	Admits func(remoteAddr string) bool

	stopping chan struct{} // closed when the server begins to stop
	stopped  sync.Once

	inboxes notifier     // signals new deliveries in inboxes
	types   *typeCache   // event types that are validated
	rates   limit.Shared // by organization
	keys    *keyCache
	token   *tokenCache
	used    *budget  // bytes of bodies and answers
	files   sync.Map // by name

	answering *budget // answers with files in progress

	guesses limit.Limiter[netip.Prefix] // wrong operator tokens, by address
	signups limit.Limiter[netip.Prefix] // organizations created by open signup, by address
	meters  [quotas]meter               // use of quotas by organizations
}

// Engine is the part of the delivery engine that requests use. [deliver.Engine]
// implements it.
type Engine interface {
	// WaitApplied returns when every node uses the current settings of a webhook.
	WaitApplied(ctx context.Context, webhookID int64) error
	// Try makes one attempt and does not record it.
	Try(ctx context.Context, w *trigger.Webhook, event *trigger.Event) trigger.Attempt
	// Wake tells the engine that there may be something to deliver.
	Wake()
}

// scope says who may call a route.
type scope int

// The scopes. Each route must have one; otherwise serveAll panics.
const (
	scopePublic  scope = iota + 1
	scopeKey           // any API key, also of a suspended organization
	scopeIngest        // a key that may post events
	scopeRead          // a key that may read
	scopeManage        // a key that may change things
	scopeSignup        // the operator, or anyone if signup is open
	scopeAdmin         // the operator's token
	scopeMetrics       // like scopeAdmin; without ADMIN_TOKEN also anyone on loopback
)

type route struct {
	method, path string
	scope        scope
	handle       func(http.ResponseWriter, *request) error
}

// timeout returns the limit for a whole request, or 0 for no limit.
func (rt *route) timeout() time.Duration {
	switch {
	case rt.scope == scopeIngest: // each wait in it is bounded, and this is the hot path
		return 0
	case rt.path == "/v1/inbox/claim" || rt.path == "/v1/inbox/stream": // these wait on purpose, as long as the client wants
		return maxStream
	}
	return handlerTimeout
}

// isNew reports whether the route answers errors as problems (RFC 9457).
func (rt *route) isNew() bool {
	return strings.HasPrefix(rt.path, "/v1/") || strings.HasPrefix(rt.path, "/docs") || rt.path == "/openapi.yaml"
}

// isProbe reports whether the route is a health check.
func (rt *route) isProbe() bool {
	return rt.path == "/livez" || rt.path == "/readyz" || rt.path == "/health"
}

// request is an HTTP request on its way through a route.
type request struct {
	*http.Request
	key   trigger.APIKey // zero if the scope needs no key; its id is zero if the operator acts
	right *right         // the right to the request, while it lasts; nil before it is authorized

	isOperator bool  // the request came to the operator's listener
	acts       bool  // the operator acts in the organization of key
	tokenErr   error // why it counts as open signup and not as the operator's
}

// orgID returns the id of the request's organization.
func (r *request) orgID() int64 { return r.key.Organization.ID }

// Handler returns a handler of all routes. Other paths get 404, other methods
// 405.
func (a *API) Handler() http.Handler {
	a.stopping = make(chan struct{})
	a.keys = newKeyCache(a.Store)
	a.token = newTokenCache(a.Store)
	a.signups.Window = signupWindow
	a.used, a.answering = newBudget(maxBodies), newBudget(maxFiles)
	a.used.now, a.inboxes.now = a.Now, a.Now
	a.types = newTypeCache(a.Store, a.Writer.Turns)
	for q, policy := range quotaPolicies() {
		a.meters[q].policy = policy
	}
	a.rates.Nodes, a.rates.Take = a.Store.Nodes, a.Store.TakePermits
	return a.serveAll(a.routes(), false)
}

// OperatorHandler returns a handler that needs no token. It serves the
// operator's routes, /readyz, and an organization's /v1 routes if a header names
// the organization. Handler must be called before.
func (a *API) OperatorHandler() http.Handler {
	routes := slices.DeleteFunc(a.routes(), func(rt route) bool {
		return rt.scope != scopeAdmin && rt.scope != scopeMetrics && rt.path != "/readyz" && !(rt.isNew() && rt.needsKey())
	})
	return a.serveAll(routes, true)
}

// serveAll returns a handler of the routes, for the operator or not. Other paths
// get 404, other methods 405.
func (a *API) serveAll(routes []route, operator bool) http.Handler {
	mux := http.NewServeMux()
	for _, r := range routes {
		if r.scope == 0 {
			panic("route without a scope: " + r.path)
		}
		mux.Handle(r.method+" "+r.path, a.serveAs(r, operator))
	}
	unknown := func(prefix string) http.Handler {
		return a.serveAs(route{path: prefix + "unknown", scope: scopePublic, handle: func(http.ResponseWriter, *request) error {
			return trigger.Errorf(trigger.NotFound, "Not found")
		}}, operator)
	}
	original, newer := unknown("/"), unknown("/v1/")
	mux.Handle("/", a.orNotAllowed(mux, original, operator))
	mux.Handle("/v1", original) // else ServeMux would redirect it to /v1/
	mux.Handle("/v1/", a.orNotAllowed(mux, newer, operator))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch p := r.URL.EscapedPath(); {
		case p == path.Clean("/"+p): // else ServeMux would redirect, or answer "*" itself
			mux.ServeHTTP(w, r)
		case strings.HasPrefix(p, "/v1/"):
			newer.ServeHTTP(w, r)
		default:
			original.ServeHTTP(w, r)
		}
	})
}

// orNotAllowed handles requests that match no route. It answers 405 with the
// methods of the path, or calls unknown if the path has none. (ServeMux refuses
// a pattern for the other methods of a path if another route's pattern
// overlaps.)
func (a *API) orNotAllowed(mux *http.ServeMux, unknown http.Handler, operator bool) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var methods []string
		at := ""
		for _, method := range []string{"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"} {
			other := r.WithContext(r.Context()) // a copy
			other.Method = method
			if _, pattern := mux.Handler(other); strings.Contains(pattern, " ") {
				methods = append(methods, method)
				_, at, _ = strings.Cut(pattern, " ")
			}
		}
		if methods == nil {
			unknown.ServeHTTP(w, r)
			return
		}
		a.serveAs(route{path: at, scope: scopePublic, handle: func(w http.ResponseWriter, _ *request) error {
			w.Header().Set("Allow", strings.Join(methods, ", "))
			return trigger.Errorf(trigger.MethodNotAllowed, "Method not allowed")
		}}, operator).ServeHTTP(w, r)
	})
}

// serveAs returns a handler of one route: it authorizes requests and answers
// them. operator says that they came to the operator's listener.
func (a *API) serveAs(rt route, operator bool) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		begun := a.Now()
		out := &recorder{ResponseWriter: w}
		req := &request{Request: r, isOperator: operator}
		if timeout := rt.timeout(); timeout > 0 {
			ctx, cancel := context.WithTimeout(r.Context(), timeout)
			defer cancel()
			req.Request = r.WithContext(ctx)
		}
		out.before = func(h http.Header, status int) {
			rt.protect(h, status)
			if rt.isNew() {
				a.tellLimits(h, &rt, req)
			}
		}
		if r.Method == http.MethodGet { // a request that changed something must get its answer in any case
			out.reserve = func(n int) (func(), error) {
				h := a.holderOf(req)
				return func() { a.used.giveFor(h, n) }, a.used.takeFor(h, n)
			}
		}
		err := a.handle(rt, out, req)
		if err == nil {
			err = out.refused
		}
		switch {
		case err == nil || out.status != 0:
		case rt.isNew():
			answerProblem(out, err)
		default:
			answerError(out, err)
		}
		a.note(rt, req, out, err, a.Now().Sub(begun))
		if err != nil && out.status == http.StatusOK {
			panic(http.ErrAbortHandler) // a part of the answer is sent, and the rest will not follow
		}
	})
}

// handle runs a request and turns a panic into an error. After it, serveAs may
// still panic with http.ErrAbortHandler.
func (a *API) handle(rt route, w *recorder, r *request) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = &trigger.Error{Kind: trigger.Internal, Message: "Internal error", Cause: fmt.Errorf("panic: %v\n%s", p, debug.Stack())}
		}
	}()
	if len(r.RequestURI) > maxURL {
		w.Header().Set("Connection", "close") // the rest of the request is not read
		return trigger.Errorf(trigger.URITooLong, "URL is over %d bytes", maxURL)
	}
	if a.Admits != nil && !r.isOperator && !a.Admits(r.RemoteAddr) {
		w.Header().Set("Connection", "close")
		if !rt.isProbe() {
			return trigger.NewUnavailable(errors.New("too many connections, in all or from this address"), busyRetry)
		}
	}
	if err = a.authorize(&rt, r); err == nil {
		err = a.handleWithin(&rt, w, r)
	}
	if trigger.KindOf(err) == trigger.Unauthorized {
		r.key = trigger.APIKey{} // the key may have ended meanwhile
		w.Header().Set("WWW-Authenticate", challengeOf(rt.scope))
	}
	return err
}

// handleWatched calls a route's handler while the right to the request lasts. If
// the right has ended, a request that fails gets the error of the right.
func (a *API) handleWatched(rt *route, w *recorder, r *request) error {
	r.right = a.watch(rt, w, r)
	defer r.right.release()
	err := rt.handle(w, r)
	if ended := r.right.ended(); err != nil && ended != nil {
		w.Header().Set("Connection", "close") // its deadlines must not apply to the next request
		return ended
	}
	return err
}

// note counts a request and logs its line, with the causes that clients do not
// see.
func (a *API) note(rt route, r *request, out *recorder, err error, took time.Duration) {
	a.Metrics.Requests.WithLabelValues(rt.path, strconv.Itoa(out.status)).Observe(took.Seconds())
	if out.status == http.StatusServiceUnavailable {
		a.Metrics.Unavailable.Inc()
	}
	level := slog.LevelInfo
	if out.status >= 500 && !errors.Is(err, context.Canceled) { // Canceled: the client left before its answer
		level = slog.LevelError
	}
	if !a.Log.Enabled(r.Context(), level) {
		return
	}
	attrs := []slog.Attr{
		slog.String("method", r.Method), slog.String("route", rt.path), slog.Int("status", out.status),
		slog.Duration("took", took), slog.Int64("bytes_in", max(0, r.ContentLength)), slog.Int("bytes_out", out.bytes),
	}
	if r.orgID() != 0 {
		attrs = append(attrs, slog.Int64("organization_id", r.key.Organization.ID))
	}
	if err != nil {
		attrs = append(attrs, slog.String("error", err.Error()))
	}
	a.Log.LogAttrs(r.Context(), level, "request", attrs...)
}
