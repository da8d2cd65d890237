package api

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"triggerd/internal/limit"
	"triggerd/internal/trigger"
)

// Limits of open signup: organizations per address and window.
const (
	maxSignups   = 20
	signupWindow = time.Hour
)

// authorizeSignup checks who may create an organization by the original's route:
// the operator; on loopback, while no token is configured, any program of this
// machine; and with OPEN_SIGNUP anyone, for the tier free.
func (a *API) authorizeSignup(r *request) error {
	if a.OpenSignup {
		if r.tokenErr = a.operator(r); r.tokenErr == nil {
			return nil
		}
		if blocked, wait := a.signups.Blocked(a.limitedAddr(r), maxSignups, a.Now()); blocked {
			return tooManySignups(wait)
		}
		return nil
	}
	why := a.closedSignup(r.Request)
	if why == nil {
		return nil
	}
	err := a.operator(r)
	if refused, ok := errors.AsType[*trigger.Error](err); ok && refused.Kind == trigger.Unauthorized {
		refused.Cause = why // for the log
	}
	return err
}

// countSignup checks an organization against the limits of open signup, and
// counts it.
func (a *API) countSignup(r *request, tier trigger.Tier) error {
	if r.tokenErr == nil {
		return nil
	}
	if tier != trigger.Free {
		return r.tokenErr
	}
	if ok, wait := a.signups.Allow(a.limitedAddr(r), maxSignups, 1, a.Now()); !ok {
		return tooManySignups(wait)
	}
	return nil
}

func tooManySignups(wait time.Duration) error {
	return &trigger.Error{
		Kind: trigger.RateLimited, Message: "Rate limit exceeded", Limit: maxSignups, Window: signupWindow, RetryAfter: wait,
	}
}

// limitedAddr returns the address to which a request's limits apply.
func (a *API) limitedAddr(r *request) netip.Prefix {
	return limit.Address(netip.AddrPortFrom(a.clientAddr(r.Request), 0).String())
}

// closedSignup returns why a request without a token may not create an
// organization, or nil if it may. OPEN_SIGNUP is not considered. The server must
// listen on loopback only, and no setting may say that it serves other machines.
// No browser or proxy may have sent the request for another client.
func (a *API) closedSignup(r *http.Request) error {
	switch {
	case !a.Loopback:
		return errors.New("signup is not open beyond loopback without OPEN_SIGNUP")
	case a.AdminToken != "":
		return errors.New("signup is not open with an ADMIN_TOKEN")
	case len(a.Proxies) > 0:
		return errors.New("signup is not open with TRUSTED_PROXIES")
	case a.PublicURL != "":
		return errors.New("signup is not open with a PUBLIC_URL")
	case !isLocalHost(r.Host):
		return fmt.Errorf("signup is not open to the Host %.100q: want localhost or a loopback address", r.Host)
	case !r.ProtoAtLeast(1, 1):
		return errors.New("signup is not open to HTTP/1.0, which proxies speak")
	}
	for name, values := range r.Header {
		if tellsOfProxy(name) {
			return fmt.Errorf("signup is not open to requests with the header %s, which a proxy adds", name)
		}
		for _, value := range values {
			if name == "Sec-Fetch-Site" && value != "same-origin" && value != "none" || name == "Origin" && !isOrigin(value, r.Host) {
				return fmt.Errorf("signup is not open to other sites: %s is %.100q", name, value)
			}
		}
	}
	return nil
}

// isLocalHost reports whether a Host can only be this machine, regardless of
// DNS: localhost, a name under it, or a loopback address.
func isLocalHost(host string) bool {
	name := host
	if before, _, err := net.SplitHostPort(host); err == nil {
		name = before
	} else if inner, ok := strings.CutPrefix(host, "["); ok {
		name, ok = strings.CutSuffix(inner, "]")
		if !ok {
			return false
		}
	}
	if addr, err := netip.ParseAddr(name); err == nil {
		return addr.Unmap().IsLoopback()
	}
	name = strings.ToLower(name)
	return name == "localhost" || strings.HasSuffix(name, ".localhost")
}

// isOrigin reports whether an Origin is the host itself.
func isOrigin(origin, host string) bool {
	u, err := url.Parse(origin)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && strings.EqualFold(u.Host, host)
}

// tellsOfProxy reports whether proxies add the header, by its canonical name, to
// the requests of others.
func tellsOfProxy(name string) bool {
	switch name {
	case "Forwarded", "Via", "X-Real-Ip", "X-Client-Ip", "X-Cluster-Client-Ip", "True-Client-Ip", "Cf-Connecting-Ip":
		return true
	}
	return strings.HasPrefix(name, "X-Forwarded")
}
