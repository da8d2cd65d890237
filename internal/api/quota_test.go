package api

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"triggerd/client"
	"triggerd/internal/store/storetest"
	"triggerd/internal/trigger"
)

// withoutQuota lists the routes by which an organization asks for something
// with a POST and no quota limits it, and why none does.
var withoutQuota = map[string]string{
	"POST /v1/keys":                                "one row, of at most 100",
	"POST /v1/keys/{key_id}/rotate":                "one row, of at most 100",
	"POST /v1/events":                              "has the limit of events",
	"POST /v1/inbox/claim":                         "takes what is owed",
	"POST /v1/inbox/ack":                           "ends what is owed",
	"POST /v1/inbox/release":                       "the rows of one claim",
	"POST /v1/inbox/extend":                        "the rows of one claim",
	"POST /v1/webhooks":                            "one row, of at most 50",
	"POST /v1/webhooks/{webhook_id}/pause":         "one row",
	"POST /v1/webhooks/{webhook_id}/resume":        "one row",
	"POST /v1/webhooks/{webhook_id}/rotate-secret": "one row, with five secrets at most",
	"POST /v1/replays/{replay_id}/pause":           "one row",
	"POST /v1/replays/{replay_id}/resume":          "one row",
	"POST /v1/replays/{replay_id}/cancel":          "one row",
}

// A new route cannot be without a quota by mistake, and what the documents say
// of the quotas is true.
func TestQuotasOfRoutes(t *testing.T) {
	t.Parallel()
	guide, err := os.ReadFile("../../docs/api.md")
	if err != nil {
		t.Fatal(err)
	}
	reference := asText(asObject(description().root["info"])["description"])
	var routes [quotas][]string
	a := new(API)
	for _, rt := range a.oldRoutes() {
		if rt.quota() != quotaNone {
			t.Errorf("%s: the original contract has a quota", rt.path)
		}
	}
	for _, rt := range a.newRoutes() {
		name, q := rt.method+" "+rt.path, rt.quota()
		why := withoutQuota[name]
		switch {
		case q == quotaNone && rt.method == "POST" && rt.needsKey() && why == "":
			t.Errorf("%s: give it a quota, or say in withoutQuota why it needs none", name)
		case q != quotaNone && why != "" || q != quotaNone && !rt.needsKey():
			t.Errorf("%s: it has a quota", name)
		}
		if text := asText(description().operations[name].node["description"]); strings.Contains(text, "Counts in the limit `"+quotaPolicies()[q].name+"`") != (q != quotaNone) {
			t.Errorf("%s: openapi.yaml says %q of a route with the quota %q", name, text, quotaPolicies()[q].name)
		}
		routes[q] = append(routes[q], "`"+name+"`")
	}
	shortened := regexp.MustCompile(`\{\w+_id\}`)
	for q := quotaNone + 1; q < quotas; q++ {
		p := quotaPolicies()[q]
		atOnce := strings.TrimSuffix(strconv.Itoa(p.atOnce), "0")
		slices.SortFunc(routes[q], func(a, b string) int { return strings.Compare(b[:2], a[:2]) }) // POST first
		row := fmt.Sprintf("| `%s` | %s | %d | %s", p.name, strings.Join(routes[q], ", "), p.perMinute, atOnce)
		if !strings.Contains(reference, row) {
			t.Errorf("openapi.yaml lacks the row %s", row)
		}
		if row = shortened.ReplaceAllString(row, "{id}"); !strings.Contains(string(guide), row) {
			t.Errorf("docs/api.md lacks the row %s", row)
		}
	}
}

// quotaCalls are requests that a quota counts, with what each is answered.
func quotaCalls(hook int64, event string) map[quota][]quotaCall {
	of := fmt.Sprintf(`{"webhook_id":%d}`, hook)
	test, resend := webhookPath(hook, "/test"), "/v1/events/"+event+"/resend"
	return map[quota][]quotaCall{
		quotaTests: {
			{"POST", test, `{}`, 200},
			{"POST", test, `{"x":1}`, 422},
			{"POST", test, `{`, 400},
			{"POST", webhookPath(99, "/test"), `{}`, 404},
		},
		quotaResends: {
			{"POST", resend, of, 202},
			{"POST", resend, `{}`, 422},
			{"POST", "/v1/events/" + someEvent + "/resend", of, 404},
		},
		quotaReplays: {
			{"POST", "/v1/replays", of, 201},
			{"POST", "/v1/replays", `{}`, 422},
			{"POST", "/v1/replays/preview", of, 200},
			{"POST", "/v1/replays/preview", `[]`, 400},
		},
		quotaDryRuns: {
			{"POST", "/v1/webhooks/dry-run", `{}`, 200},
			{"POST", "/v1/webhooks/dry-run", `{"types":1}`, 422},
			{"GET", "/v1/samples", ``, 200},
			{"HEAD", "/v1/samples", ``, 200},
			{"GET", "/v1/samples?x=1", ``, 400},
		},
	}
}

type quotaCall struct {
	method, path, body string
	status             int
}

// quotaServer is a server whose quotas are what they are outside of tests.
func quotaServer(t *testing.T, set ...func(*API)) *server {
	t.Helper()
	s := newServer(t, storetest.SQLite(t), set...)
	for q, p := range quotaPolicies() {
		s.api.meters[q].policy = p
	}
	return s
}

// Each request counts, whatever it is answered and whoever makes it for the
// organization; one that is refused counts nothing and does nothing. Nothing
// else is refused.
func TestQuotas(t *testing.T) {
	t.Parallel()
	s := quotaServer(t, withOperator)
	s.engine.attempt = trigger.Attempt{At: s.store.Now(), Outcome: trigger.Success, Status: 204}
	other, _ := s.found(t)
	for q := quotaNone + 1; q < quotas; q++ {
		org, key := s.found(t)
		hook := sure(s.as(key).CreateWebhook(t.Context(), client.WebhookInput{URL: "https://example.com/"}))(t)
		event := s.accept(t, key, `{"type":"t","payload":1}`)
		p, calls := quotaPolicies()[q], quotaCalls(hook.ID, event)
		reader := s.addKey(t, key, trigger.ScopeIngest)
		for i := range p.perMinute {
			call := calls[q][i%len(calls[q])]
			r := s.do(t, call.method, call.path, "", call.body, by(i, key, org.ID)...)
			r.wants(t, p.name, call.status, "")
			r.tells(t, p.name, p.perMinute, p.perMinute-1-i)
			s.do(t, call.method, call.path, reader, call.body).wants(t, "without the scope", 403, "") // does not count
		}
		rows := func() (n int) { return s.rows(t, "replays") + s.rows(t, "deliveries") + len(s.engine.tried) }
		before := rows()
		for i, call := range calls[q] {
			r := s.do(t, call.method, call.path, "", call.body, by(i, key, org.ID)...)
			if r.tells(t, p.name, p.perMinute, 0); r.status != 429 || r.header.Get("Retry-After") != "61" {
				t.Errorf("%s: %d with Retry-After %s, want 429", p.name, r.status, r.header.Get("Retry-After"))
			}
			if call.method == "HEAD" {
				continue
			}
			r.wantsProblem(t, call.path, 429, "rate_limited", "")
			r.wants(t, call.path, 429, fmt.Sprintf(`The limit \"%s\" is exceeded: an organization may make %d of these`, p.name, p.perMinute))
		}
		if after := rows(); after != before {
			t.Errorf("%s: what was refused has done something", p.name)
		}
		for another := range calls {
			if call := calls[another][0]; another != q {
				s.do(t, call.method, call.path, key, call.body).wants(t, "another quota", call.status, "")
			}
		}
		call := calls[q][len(calls[q])-1]
		s.do(t, call.method, call.path, "", call.body, by(1, key, other.ID)...).wants(t, "another organization", call.status, "")
		s.do(t, "GET", "/v1/replays", key, "").wants(t, "a list", 200, "")
		s.clock.Advance(minute)
		s.do(t, call.method, call.path, key, call.body).wants(t, "a minute later", call.status, "")
	}
}

// by is how a request is made for an organization: with its key, or by the
// operator who acts in it.
func by(i int, key string, orgID int64) []string {
	if i%2 == 0 {
		return []string{"X-Api-Key: " + key}
	}
	return []string{"Authorization: Bearer " + operator, inOrganization(orgID)}
}

// tells reports an answer that does not tell of a limit, behind that of events.
func (r reply) tells(t *testing.T, name string, most, left int) {
	t.Helper()
	policy, state := r.header.Get("RateLimit-Policy"), r.header.Get("RateLimit")
	if !strings.HasPrefix(policy, `"default";q=`) || !strings.HasSuffix(policy, fmt.Sprintf(`, "%s";q=%d;w=60`, name, most)) ||
		!strings.Contains(state, fmt.Sprintf(`, "%s";r=%d;t=`, name, left)) {
		t.Errorf("RateLimit-Policy %s, RateLimit %s: want that of %d %s, %d are left", policy, state, most, name, left)
	}
}

// A limit of the route is told where there is none of events.
func TestQuotasWithoutALimitOfEvents(t *testing.T) {
	t.Parallel()
	s := quotaServer(t, func(a *API) { a.Limits = nil })
	r := s.do(t, "GET", "/v1/samples", s.newKey(t, "free"), "")
	if got := r.header.Get("RateLimit-Policy") + " " + r.header.Get("RateLimit"); got != `"dry-runs";q=120;w=60 "dry-runs";r=119;t=61` {
		t.Errorf("told %s", got)
	}
}

// waitingEngine is an engine whose attempts last until the test ends them, but
// for what must not be under way.
type waitingEngine struct {
	*engine
	most  int
	begun chan struct{}
	end   chan struct{}

	mu  sync.Mutex
	now map[int64]int // attempts under way, by organization
}

func (e *waitingEngine) Try(ctx context.Context, w *trigger.Webhook, event *trigger.Event) trigger.Attempt {
	e.mu.Lock()
	e.now[event.OrganizationID]++
	waits := e.now[event.OrganizationID] <= e.most
	e.mu.Unlock()
	if waits {
		e.begun <- struct{}{}
		<-e.end
	}
	e.mu.Lock()
	e.now[event.OrganizationID]--
	e.mu.Unlock()
	return e.engine.Try(ctx, w, event)
}

// An organization has so many tests under way at a time, and one that is
// refused is not counted in the minute.
func TestTestsAtOnce(t *testing.T) {
	t.Parallel()
	most := quotaPolicies()[quotaTests].atOnce
	e := &waitingEngine{most: most, begun: make(chan struct{}, 100), end: make(chan struct{}), now: map[int64]int{}}
	s := quotaServer(t, func(a *API) { e.engine, a.Engine = a.Engine.(*engine), e })
	o, other := s.newOwner(t), s.newOwner(t)
	path, otherPath := webhookPath(o.hook(t).ID, "/test"), webhookPath(other.hook(t).ID, "/test")
	var testing sync.WaitGroup
	begin := func(o *owner, path string) {
		testing.Go(func() { o.ask(t, "POST", path, `{}`).wants(t, "one under way", 200, `"outcome":"success"`) })
		<-e.begun
	}
	for range most {
		begin(o, path)
	}
	for range 3 {
		r := o.ask(t, "POST", path, `{}`)
		r.wantsProblem(t, "one more", 429, "rate_limited", "")
		r.wants(t, "one more", 429, fmt.Sprintf(`an organization may have %d of these requests under way at a time`, most))
		if r.tells(t, "tests", 60, 60-most); r.header.Get("Retry-After") != "1" {
			t.Errorf("Retry-After %s", r.header.Get("Retry-After"))
		}
	}
	begin(other, otherPath)
	close(e.end)
	testing.Wait()
	begin(o, path)
	testing.Wait()
	if m := &s.api.meters[quotaTests]; len(m.underWay) != 0 {
		t.Errorf("%v are still under way", m.underWay)
	}
}
