package api

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"triggerd/internal/trigger"
)

// authorize judges whether a request may be made at all.
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

// allows returns an error that says why a key may not make a request; nil if it
// may.
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

// stillMay is authorize for a request that was authorized before and is an
// organization's.
// It changes nothing of the request.
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

// scopeOf is what a key needs for a route.
func scopeOf(s scope) trigger.Scopes {
	switch s {
	case scopeIngest:
		return trigger.ScopeIngest
	case scopeRead:
		return trigger.ScopeRead
	}
	return trigger.ScopeManage
}

// challengeOf says how to ask with the right to it (RFC 9110, section 11.6.1).
func challengeOf(s scope) string {
	if s == scopeAdmin || s == scopeMetrics || s == scopeSignup {
		return `Bearer realm="triggerd"`
	}
	return `ApiKey realm="triggerd"`
}

// bearer is the token of a request's Authorization, "" for none, and for several:
// something on the way may have judged by another one.
func bearer(h http.Header) string {
	scheme, token, _ := strings.Cut(h.Get("Authorization"), " ")
	if len(h["Authorization"]) > 1 || !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.TrimSpace(token)
}

// keyOf returns the text of a request's key: X-Api-Key, or a Bearer token where
// the route takes one.
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

// authenticate finds the key of a request. A database that cannot be asked is
// an Unavailable, never a wrong key.
func (a *API) authenticate(r *request, takesBearer bool) (trigger.APIKey, error) {
	given, err := keyOf(r, takesBearer)
	if err != nil {
		return trigger.APIKey{}, err
	}
	return a.keys.findNew(r.Context(), given, a.limitedAddr(r), a.Now())
}

// clientAddr is where a request comes from: the peer's address, or what the
// nearest proxy that is not believed was told apart from, by X-Forwarded-For.
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
			continue // as in each list of a header (RFC 9110, section 5.6.1)
		}
		hop, ok := parseHop(text)
		if !ok {
			break
		}
		addr = hop.Unmap()
	}
	return addr
}

// parseHop reads an entry of X-Forwarded-For: an address, which some proxies
// write with the port or, if it is IPv6, in brackets.
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

// limitOf is how many events an organization may post in a minute; 0: any.
func (a *API) limitOf(org *trigger.Organization) int {
	if org.RateLimit != nil {
		return *org.RateLimit
	}
	return a.Limits[org.Tier]
}

// needsKey reports a route for whoever has an API key.
func (rt *route) needsKey() bool { return rt.scope >= scopeKey && rt.scope <= scopeManage }
