// Package api serves JSON over HTTP. All routes stand in [API.routes], each
// with its scope: who may ask. A request passes [API.serve], which judges it,
// calls the route's handler, turns the handler's error into an answer, and
// writes the one line of the log. The original contract, under /api, is in
// legacy.go.
package api

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
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
	handlerTimeout = 30 * time.Second // for all of it; every wait within has a bound of its own
	maxBodies      = 256 << 20        // bytes of bodies in memory at a time
	wrongKeys      = 20               // a minute from one address
	busyRetry      = time.Second      // when to come back while memory is short
)

// API is the HTTP side of the server. Set its fields before use.
type API struct {
	Store      *store.Store
	Writer     *ingest.Writer
	Guard      *deliver.Guard
	Metrics    *telemetry.Metrics
	Log        *slog.Logger
	Now        func() time.Time
	Limits     map[trigger.Tier]int // POSTs of events a minute; 0: no limit
	MaxBody    int                  // bytes
	AdminToken string               // "": there is none, and what needs it is open
	OpenSignup bool                 // anyone may make a key
	Ready      func() error         // why this node should get no requests, if so

	rates limit.Shared                // by organization
	wrong limit.Limiter[netip.Prefix] // by address
	keys  *keyCache
	used  *budget // bytes of bodies
}

// scope says who may ask a route.
type scope int

// The scopes. There is none by default: a route without one does not start.
const (
	scopePublic       scope = iota + 1
	scopeOrganization       // whoever has an API key
	scopeSignup             // whoever may make an organization
	scopeAdmin              // whoever has the admin token, or anyone if there is none
)

type route struct {
	method, path string
	scope        scope
	handle       func(http.ResponseWriter, *request) error
}

// routes is the whole of the API.
func (a *API) routes() []route {
	return []route{
		// the original contract
		{"GET", "/health", scopePublic, a.getHealth},
		{"POST", "/api/keys/generate", scopeSignup, a.postKey},
		{"POST", "/api/events", scopeOrganization, a.postEvent},
		{"GET", "/api/inbox", scopeOrganization, a.getInbox},
		{"POST", "/api/webhook/register", scopeOrganization, a.postWebhook},
		{"GET", "/stats/cache", scopePublic, a.getCacheStats},
		// the operator's
		{"GET", "/livez", scopePublic, a.getLive},
		{"GET", "/readyz", scopePublic, a.getReady},
		{"GET", "/metrics", scopeAdmin, a.getMetrics},
	}
}

// request is an HTTP request that was judged.
type request struct {
	*http.Request
	key trigger.APIKey // where the scope is scopeOrganization
}

// Handler serves all routes; other paths get 404, other methods 405.
func (a *API) Handler() http.Handler {
	a.keys = newKeyCache(a.Store)
	a.used = newBudget(maxBodies)
	a.rates.Nodes, a.rates.Take = a.Store.Nodes, a.Store.TakePermits
	mux := http.NewServeMux()
	allow := map[string][]string{}
	for _, r := range a.routes() {
		if r.scope == 0 {
			panic("route without a scope: " + r.path)
		}
		mux.Handle(r.method+" "+r.path, a.serve(r))
		allow[r.path] = append(allow[r.path], r.method)
		if r.method == http.MethodGet {
			allow[r.path] = append(allow[r.path], http.MethodHead)
		}
	}
	for p, methods := range allow {
		slices.Sort(methods)
		mux.Handle(p, a.serve(route{path: p, scope: scopePublic, handle: func(w http.ResponseWriter, _ *request) error {
			w.Header().Set("Allow", strings.Join(methods, ", "))
			return trigger.Errorf(trigger.MethodNotAllowed, "Method not allowed")
		}}))
	}
	unknown := a.serve(route{path: "unknown", scope: scopePublic, handle: func(http.ResponseWriter, *request) error {
		return trigger.Errorf(trigger.NotFound, "Not found")
	}})
	mux.Handle("/", unknown)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != path.Clean("/"+r.URL.Path) { // ServeMux would redirect, or refuse "*" by itself
			unknown.ServeHTTP(w, r)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// serve judges requests of a route and answers them.
func (a *API) serve(rt route) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		begun := a.Now()
		ctx, cancel := context.WithTimeout(r.Context(), handlerTimeout)
		defer cancel()
		out := &recorder{ResponseWriter: w}
		req := &request{Request: r.WithContext(ctx)}
		err := a.handle(rt, out, req)
		if err != nil && out.status == 0 {
			answerError(out, err)
		}
		a.note(rt, req, out, err, a.Now().Sub(begun))
		if err != nil && out.status == http.StatusOK {
			panic(http.ErrAbortHandler) // part of an answer is out, and no more will come
		}
	})
}

// handle turns a panic into an error; net/http's own way out stays open.
func (a *API) handle(rt route, w http.ResponseWriter, r *request) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = &trigger.Error{Kind: trigger.Internal, Message: "Internal error", Cause: fmt.Errorf("panic: %v\n%s", p, debug.Stack())}
		}
	}()
	if len(r.RequestURI) > maxURL {
		w.Header().Set("Connection", "close") // nobody reads the rest
		return trigger.Errorf(trigger.URITooLong, "URL is over %d bytes", maxURL)
	}
	if err := a.authorize(rt.scope, r); err != nil {
		if trigger.KindOf(err) == trigger.Unauthorized {
			w.Header().Set("WWW-Authenticate", challengeOf(rt.scope))
		}
		return err
	}
	return rt.handle(w, r)
}

func (a *API) authorize(s scope, r *request) (err error) {
	switch s {
	case scopeOrganization:
		r.key, err = a.authenticate(r)
	case scopeSignup:
		if !a.OpenSignup {
			err = a.admin(r)
		}
	case scopeAdmin:
		err = a.admin(r)
	}
	return err
}

// challengeOf says how to ask with the right to it (RFC 9110, section 11.6.1).
func challengeOf(s scope) string {
	if s == scopeOrganization {
		return `ApiKey realm="triggerd"`
	}
	return `Bearer realm="triggerd"`
}

// admin wants the admin token, where there is one.
func (a *API) admin(r *request) error {
	if a.AdminToken == "" {
		return nil
	}
	token, isBearer := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	given, want := sha256.Sum256([]byte(token)), sha256.Sum256([]byte(a.AdminToken))
	if subtle.ConstantTimeCompare(given[:], want[:]) == 0 || !isBearer {
		return trigger.Errorf(trigger.Unauthorized, "Missing or wrong admin token")
	}
	return nil
}

// authenticate finds the key of a request. A database that cannot be asked is
// an Unavailable, never a wrong key.
func (a *API) authenticate(r *request) (trigger.APIKey, error) {
	given := r.Header.Get("X-Api-Key")
	if given == "" {
		return trigger.APIKey{}, trigger.Errorf(trigger.Unauthorized, "Missing API key")
	}
	key, err := a.keys.find(r.Context(), given, a.Now())
	if trigger.KindOf(err) != trigger.NotFound || err == nil {
		return key, err
	}
	if ok, wait := a.wrong.Allow(limit.Address(r.RemoteAddr), wrongKeys, 1, a.Now()); !ok {
		return key, rateLimited(wrongKeys, wait)
	}
	return key, trigger.Errorf(trigger.Unauthorized, "Invalid API key")
}

func rateLimited(limit int, wait time.Duration) error {
	return &trigger.Error{Kind: trigger.RateLimited, Message: "Rate limit exceeded", Limit: limit, RetryAfter: wait}
}

// note counts a request and writes its line in the log, with the causes that
// clients do not see.
func (a *API) note(rt route, r *request, out *recorder, err error, took time.Duration) {
	a.Metrics.Requests.WithLabelValues(rt.path, strconv.Itoa(out.status)).Observe(took.Seconds())
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
	if r.key.ID != 0 {
		attrs = append(attrs, slog.Int64("organization_id", r.key.Organization.ID))
	}
	if err != nil {
		attrs = append(attrs, slog.String("error", err.Error()))
	}
	a.Log.LogAttrs(r.Context(), level, "request", attrs...)
}
