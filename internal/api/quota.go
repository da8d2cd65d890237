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

// quota is a limit of requests that send something at once, or read many
// events. It holds for each organization, on each node, beside the limit of
// events. Whoever asks for an organization uses up its quotas, the operator, too.
type quota int

const (
	quotaNone    quota = iota
	quotaTests         // requests to receivers
	quotaResends       // deliveries made again, one each
	quotaReplays       // deliveries made again, many each, and what counts them
	quotaDryRuns       // reads of many events
	quotas             // how many there are
)

// quotaPolicy says what a quota allows.
type quotaPolicy struct {
	name      string // in the RateLimit fields and in messages
	perMinute int    // requests, whatever they are answered
	atOnce    int    // requests under way; 0: any number
}

// quotaPolicies are those of all quotas.
func quotaPolicies() [quotas]quotaPolicy {
	return [quotas]quotaPolicy{
		quotaTests:   {"tests", 60, 8},
		quotaResends: {"resends", 600, 0},
		quotaReplays: {"replays", 30, 4},
		quotaDryRuns: {"dry-runs", 120, 4},
	}
}

// quota returns the quota that a route's requests count in. The original
// contract has none.
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

// meter counts what organizations use of one quota.
type meter struct {
	policy quotaPolicy
	used   limit.Limiter[int64]

	mu       sync.Mutex
	underWay map[int64]int // requests, by organization
}

// begin counts one more request under way, unless there are that many.
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

// handleWithin calls a route's handler if the quota of the route has room for
// the request. Otherwise the error is RateLimited, nothing was done, and the
// request does not count.
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

// tellLimits says what is left of an organization's limits (the RateLimit fields
// of an IETF draft): of events, and of the route's quota.
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

// tellLimit adds a limit to the lists of an answer.
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
