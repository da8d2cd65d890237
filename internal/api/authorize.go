package api

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"triggerd/internal/trigger"
)

// authorize reports by its error whether a request is allowed, and sets its key.
func (a *API) authorize(rt *route, r *request) (err error) {
	s := rt.scope
	switch s {
	case scopePublic:
		return nil
	case scopeSignup:
		return a.authorizeSignup(r)
	case scopeMetrics, scopeAdmin:
		return a.authorizeOperator(s, r)
	}
	if rt.isNew() && (r.isOperator || r.Header[organizationHeader] != nil) {
		return a.authorizeAct(rt, r)
	}
	if r.key, err = a.authenticate(r, rt.isNew()); err != nil {
		r.key = trigger.APIKey{}
		return err
	}
	return a.allows(&r.key, s, r)
}

// allows returns nil if the key may make the request, else an error that says
// why not.
func (a *API) allows(key *trigger.APIKey, s scope, r *request) error {
	switch {
	case len(key.Networks) > 0 && !key.Allows(a.clientAddr(r.Request)):
		return forbidden("address_not_allowed", "The key is not allowed from this address")
	case s == scopeKey:
		return nil
	case key.Organization.Suspended:
		return forbidden("organization_suspended", "The organization is suspended")
	case key.Scopes&scopeOf(s) == 0:
		return forbidden("missing_scope", "The key lacks the scope "+scopeOf(s).String())
	}
	return nil
}

// stillMay repeats authorize for an organization's request that was authorized
// before. It does not change the request.
func (a *API) stillMay(rt *route, r *request) error {
	if r.acts {
		return a.stillActs(rt, r)
	}
	given, err := keyOf(r, rt.isNew())
	if err != nil {
		return err
	}
	key, err := a.keys.find(r.Context(), given, a.Now())
	switch {
	case err == nil:
		return a.allows(&key, rt.scope, r)
	case trigger.KindOf(err) == trigger.NotFound:
		return trigger.Errorf(trigger.Unauthorized, "Invalid API key")
	}
	return err
}

func forbidden(code, message string) error {
	return &trigger.Error{Kind: trigger.Forbidden, Code: code, Message: message}
}

// scopeOf returns the scope that a key needs for a route.
func scopeOf(s scope) trigger.Scopes {
	switch s {
	case scopeIngest:
		return trigger.ScopeIngest
	case scopeRead:
		return trigger.ScopeRead
	}
	return trigger.ScopeManage
}

// challengeOf returns the WWW-Authenticate for a scope (RFC 9110, section
// 11.6.1).
func challengeOf(s scope) string {
	if s == scopeAdmin || s == scopeMetrics || s == scopeSignup {
		return `Bearer realm="triggerd"`
	}
	return `ApiKey realm="triggerd"`
}

// bearer returns the Bearer token of a request. It returns "" without one, and
// if there are several, because a proxy may have checked another one.
func bearer(h http.Header) string {
	scheme, token, _ := strings.Cut(h.Get("Authorization"), " ")
	if len(h["Authorization"]) > 1 || !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.TrimSpace(token)
}

// keyOf returns the text of a request's key: from X-Api-Key, or a Bearer token
// if the route takes one.
func keyOf(r *request, takesBearer bool) (string, error) {
	given, token := r.Header.Get("X-Api-Key"), ""
	if takesBearer {
		token = bearer(r.Header)
	}
	if given == "" {
		given = token
	}
	if given == "" {
		return "", trigger.Errorf(trigger.Unauthorized, "Missing API key")
	}
	if token != "" && token != given || len(r.Header["X-Api-Key"]) > 1 {
		return "", trigger.Errorf(trigger.Unauthorized, "Invalid API key")
	}
	return given, nil
}

// authenticate finds the key of a request. If the database fails, the error is
// Unavailable, never Unauthorized.
func (a *API) authenticate(r *request, takesBearer bool) (trigger.APIKey, error) {
	given, err := keyOf(r, takesBearer)
	if err != nil {
		return trigger.APIKey{}, err
	}
	return a.keys.findNew(r.Context(), given, a.limitedAddr(r), a.Now())
}

// clientAddr returns the address of a request's client: the peer, or, if that is
// a trusted proxy, the last address in X-Forwarded-For that is not a trusted
// proxy.
func (a *API) clientAddr(r *http.Request) netip.Addr {
	peer, _ := netip.ParseAddrPort(r.RemoteAddr)
	addr := peer.Addr().Unmap()
	believed := func(addr netip.Addr) bool {
		return slices.ContainsFunc(a.Proxies, func(p netip.Prefix) bool { return p.Contains(addr) })
	}
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for i := len(hops) - 1; i >= 0 && believed(addr); i-- {
		text := strings.TrimSpace(hops[i])
		if text == "" {
			continue // lists in headers may have empty elements (RFC 9110, section 5.6.1)
		}
		hop, ok := parseHop(text)
		if !ok {
			break
		}
		addr = hop.Unmap()
	}
	return addr
}

// parseHop parses an entry of X-Forwarded-For: an address, which some proxies
// write with a port or, if it is IPv6, in brackets.
func parseHop(text string) (addr netip.Addr, ok bool) {
	if addr, err := netip.ParseAddr(text); err == nil {
		return addr, true
	}
	if hop, err := netip.ParseAddrPort(text); err == nil {
		return hop.Addr(), true
	}
	if inner, ok := strings.CutPrefix(text, "["); ok {
		if inner, ok = strings.CutSuffix(inner, "]"); ok {
			addr, err := netip.ParseAddr(inner)
			return addr, err == nil && addr.Is6()
		}
	}
	return addr, false
}

func rateLimited(limit int, wait time.Duration) error {
	return &trigger.Error{Kind: trigger.RateLimited, Message: "Rate limit exceeded", Limit: limit, RetryAfter: wait}
}

// limitOf returns how many events an organization may post per minute; 0 means
// no limit.
func (a *API) limitOf(org *trigger.Organization) int {
	if org.RateLimit != nil {
		return *org.RateLimit
	}
	return a.Limits[org.Tier]
}

// needsKey reports whether the route needs an API key.
func (rt *route) needsKey() bool { return rt.scope >= scopeKey && rt.scope <= scopeManage }
