// Package api serves JSON over HTTP. All routes stand in routes.go, each
// with its scope: who may ask. A request passes [API.serve], which judges it,
// calls the route's handler, turns the handler's error into an answer, and
// writes the one line of the log. The original contract, under /api, is in
// legacy.go.
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
	handlerTimeout = 30 * time.Second // for all of it, but see [route.timeout]; every wait within has a bound of its own
	maxBodies      = 256 << 20        // bytes of bodies and answers in memory at a time
	busyRetry      = time.Second      // when to come back while memory is short
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
	Limits     map[trigger.Tier]int // POSTs of events a minute; 0: no limit
	MaxBody    int                  // bytes
	Ahead      time.Duration        // how far ahead a deliver_at may lie
	Proxies    []netip.Prefix       // whose X-Forwarded-For is believed
	AdminToken string               // the operator's token that people have set, ADMIN_TOKEN; "": one that was made counts
	MadeToken  string               // the operator's token in the data folder; "": its hash is in the database, if there is one
	Loopback   bool                 // the server listens on loopback alone
	OpenSignup bool                 // anyone may make an organization, of tier free
	PublicURL  string               // where people reach the server; "": nobody has said
	Ready      func() error         // why this node should get no requests, if so
	Version    string               // of the program
	// Admits reports whether a connection, by its remote address, may ask for
	// more than its health. nil: each may.
	Admits func(remoteAddr string) bool

	stopping chan struct{} // closed when the server begins to stop
	stopped  sync.Once

	inboxes notifier     // of what is new in them
	types   *typeCache   // event types that are validated
	rates   limit.Shared // by organization
	keys    *keyCache
	token   *tokenCache
	used    *budget  // bytes of bodies and answers
	files   sync.Map // by name

	answering *budget // answers with files under way

	guesses limit.Limiter[netip.Prefix] // wrong operator tokens, by address
	signups limit.Limiter[netip.Prefix] // organizations that open signup has made, by address
	meters  [quotas]meter               // what organizations use of their quotas
}

// Engine is what the delivery engine does for requests. [deliver.Engine] is
// one.
type Engine interface {
	// WaitApplied returns when every node uses the webhook as it is now.
	WaitApplied(ctx context.Context, webhookID int64) error
	// Try makes one attempt, which is recorded nowhere.
	Try(ctx context.Context, w *trigger.Webhook, event *trigger.Event) trigger.Attempt
	// Wake says that there may be something to deliver.
	Wake()
}

// scope says who may ask a route.
type scope int

// The scopes. There is none by default: a route without one does not start.
const (
	scopePublic  scope = iota + 1
	scopeKey           // whoever has an API key, of a suspended organization too
	scopeIngest        // whose key may post events
	scopeRead          // whose key may read
	scopeManage        // whose key may change things
	scopeSignup        // whoever may make an organization
	scopeAdmin         // whoever has the operator's token
	scopeMetrics       // the same; anyone on loopback if there is no ADMIN_TOKEN
)

type route struct {
	method, path string
	scope        scope
	handle       func(http.ResponseWriter, *request) error
}

// timeout is for all of a request; 0: there is no need of one.
func (rt *route) timeout() time.Duration {
	switch {
	case rt.scope == scopeIngest: // each wait within is bounded, and this is the hot path
		return 0
	case rt.path == "/v1/inbox/claim" || rt.path == "/v1/inbox/stream": // these wait on purpose, for as long as is wanted
		return maxStream
	}
	return handlerTimeout
}

// isNew reports a route that answers errors as problems (RFC 9457).
func (rt *route) isNew() bool {
	return strings.HasPrefix(rt.path, "/v1/") || strings.HasPrefix(rt.path, "/docs") || rt.path == "/openapi.yaml"
}

// isProbe reports a route by which the server's health is asked.
func (rt *route) isProbe() bool {
	return rt.path == "/livez" || rt.path == "/readyz" || rt.path == "/health"
}

// request is an HTTP request that was judged.
type request struct {
	*http.Request
	key   trigger.APIKey // zero where the scope asks for none; without an id if the operator acts
	right *right         // to it, while it lasts; nil before it is authorized

	isOperator bool  // by the way that it came
	acts       bool  // the operator does, in the organization of key
	tokenErr   error // why it is open signup's, and not the operator's
}

// orgID is the organization whose request it is.
func (r *request) orgID() int64 { return r.key.Organization.ID }

// Handler serves all routes; other paths get 404, other methods 405.
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

// OperatorHandler serves what belongs to the operator to whoever reaches it,
// without a token, and /readyz; of an organization what names it by its header.
// Call Handler before.
func (a *API) OperatorHandler() http.Handler {
	routes := slices.DeleteFunc(a.routes(), func(rt route) bool {
		return rt.scope != scopeAdmin && rt.scope != scopeMetrics && rt.path != "/readyz" && !(rt.isNew() && rt.needsKey())
	})
	return a.serveAll(routes, true)
}

// serveAll serves routes, as to the operator or not; other paths get 404, other
// methods 405.
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
	mux.Handle("/v1", original) // else ServeMux would redirect it to the next
	mux.Handle("/v1/", a.orNotAllowed(mux, newer, operator))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch p := r.URL.EscapedPath(); {
		case p == path.Clean("/"+p): // else ServeMux would redirect, or refuse "*" by itself
			mux.ServeHTTP(w, r)
		case strings.HasPrefix(p, "/v1/"):
			newer.ServeHTTP(w, r)
		default:
			original.ServeHTTP(w, r)
		}
	})
}

// orNotAllowed serves what no route has taken: 405, with the methods that its
// path has, or unknown if it has none. (ServeMux takes no pattern for a path's
// other methods where another route's pattern has that path, too.)
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

// serveAs judges requests of a route, which are the operator's by the way that
// they came or not, and answers them.
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
		if r.Method == http.MethodGet { // what has changed something is answered at any rate
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
			panic(http.ErrAbortHandler) // part of an answer is out, and no more will come
		}
	})
}

// handle turns a panic into an error; net/http's own way out stays open.
func (a *API) handle(rt route, w *recorder, r *request) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = &trigger.Error{Kind: trigger.Internal, Message: "Internal error", Cause: fmt.Errorf("panic: %v\n%s", p, debug.Stack())}
		}
	}()
	if len(r.RequestURI) > maxURL {
		w.Header().Set("Connection", "close") // nobody reads the rest
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

// handleWatched calls a route's handler while the right to the request lasts.
// An error after its end is that it has ended.
func (a *API) handleWatched(rt *route, w *recorder, r *request) error {
	r.right = a.watch(rt, w, r)
	defer r.right.release()
	err := rt.handle(w, r)
	if ended := r.right.ended(); err != nil && ended != nil {
		w.Header().Set("Connection", "close") // it has deadlines that the next request must not get
		return ended
	}
	return err
}

// note counts a request and writes its line in the log, with the causes that
// clients do not see.
func (a *API) note(rt route, r *request, out *recorder, err error, took time.Duration) {
	a.Metrics.Requests.WithLabelValues(rt.path, strconv.Itoa(out.status)).Observe(took.Seconds())
	if out.status == http.StatusServiceUnavailable {
		a.Metrics.Unavailable.Inc()
	}
	level := slog.LevelInfo
	if out.status >= 500 && !errors.Is(err, context.Canceled) { // the client left before its answer
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
