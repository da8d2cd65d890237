package api

import (
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"time"

	"triggerd/internal/limit"
	"triggerd/internal/trigger"
)

// quota is a limit of requests that send something at once, or read many events.
// It applies to each organization on each node, besides the limit of events.
// Requests of the operator in an organization count, too.
type quota int

const (
	quotaNone    quota = iota
	quotaTests         // requests to receivers
	quotaResends       // one new delivery each
	quotaReplays       // replays, and previews that count their deliveries
	quotaDryRuns       // reads of many events
	quotas             // the number of quotas
)

// quotaPolicy is the limit of a quota.
type quotaPolicy struct {
	name      string // in the RateLimit fields and in messages
	perMinute int    // requests, with any answer
	atOnce    int    // requests at a time; 0: no limit
}

// quotaPolicies returns the policies by quota.
func quotaPolicies() [quotas]quotaPolicy {
	return [quotas]quotaPolicy{
		quotaTests:   {"tests", 60, 8},
		quotaResends: {"resends", 600, 0},
		quotaReplays: {"replays", 30, 4},
		quotaDryRuns: {"dry-runs", 120, 4},
	}
}

// quota returns the quota of the route. The original contract has none.
func (rt *route) quota() quota {
	switch rt.path {
	case "/v1/webhooks/{webhook_id}/test":
		return quotaTests
	case "/v1/events/{event_id}/resend":
		return quotaResends
	case "/v1/replays/preview":
		return quotaReplays
	case "/v1/replays":
		if rt.method == http.MethodPost {
			return quotaReplays
		}
	case "/v1/webhooks/dry-run", "/v1/samples":
		return quotaDryRuns
	}
	return quotaNone
}

// meter counts the use of one quota by organizations.
type meter struct {
	policy quotaPolicy
	used   limit.Limiter[int64]

	mu       sync.Mutex
	underWay map[int64]int // requests in progress, by organization
}

// begin counts one more request in progress, unless there are already most.
func (m *meter) begin(orgID int64, most int) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if most > 0 && m.underWay[orgID] >= most {
		return false
	}
	if m.underWay == nil {
		m.underWay = map[int64]int{}
	}
	m.underWay[orgID]++
	return true
}

func (m *meter) end(orgID int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.underWay[orgID]--; m.underWay[orgID] == 0 {
		delete(m.underWay, orgID)
	}
}

// handleWithin calls a route's handler if the route's quota allows the request.
// Otherwise the error is RateLimited, nothing was done, and the request does not
// count.
func (a *API) handleWithin(rt *route, w *recorder, r *request) error {
	q := rt.quota()
	if q == quotaNone {
		return a.handleWatched(rt, w, r)
	}
	m := &a.meters[q]
	p := m.policy
	if !m.begin(r.orgID(), p.atOnce) {
		return exceeded(p.atOnce, time.Second, "The limit %q is exceeded: an organization may have %d of these requests under way at a time", p.name, p.atOnce)
	}
	defer m.end(r.orgID())
	if ok, wait := m.used.Allow(r.orgID(), p.perMinute, 1, a.Now()); !ok {
		return exceeded(p.perMinute, wait, "The limit %q is exceeded: an organization may make %d of these requests in 60 seconds", p.name, p.perMinute)
	}
	return a.handleWatched(rt, w, r)
}

func exceeded(most int, wait time.Duration, format string, args ...any) error {
	return &trigger.Error{Kind: trigger.RateLimited, Message: fmt.Sprintf(format, args...), Limit: most, RetryAfter: wait}
}

// tellLimits writes what is left of an organization's limits, of events and of
// the route's quota (the RateLimit fields of an IETF draft).
func (a *API) tellLimits(h http.Header, rt *route, r *request) {
	if r.orgID() == 0 {
		return
	}
	if most := a.limitOf(&r.key.Organization); most > 0 {
		left, reset := a.rates.State(r.orgID(), most, a.Now())
		tellLimit(h, "default", most, left, reset)
	}
	if q := rt.quota(); q != quotaNone {
		p := a.meters[q].policy
		left, reset := a.meters[q].used.State(r.orgID(), p.perMinute, a.Now())
		tellLimit(h, p.name, p.perMinute, left, reset)
	}
}

// tellLimit adds a limit to the lists in the headers.
func tellLimit(h http.Header, name string, most, left int, reset time.Duration) {
	add := func(field, member string) {
		if before := h[field]; before != nil {
			member = before[0] + ", " + member
		}
		h[field] = []string{member}
	}
	add("Ratelimit-Policy", `"`+name+`";q=`+strconv.Itoa(most)+`;w=60`)
	add("Ratelimit", `"`+name+`";r=`+strconv.Itoa(left)+`;t=`+strconv.Itoa(int(reset/time.Second)))
}
