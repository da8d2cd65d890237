package main

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"triggerd/internal/store/storetest"
)

// Ten runs of the contract's smoke test in a row against one process: the tenth
// is like the first, and leaves no more behind. The original failed from its
// second run on, having lost a connection to the database on every error.
func TestTenRuns(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		rec := newRecorder(t, nil)
		p := startProcess(t, db)
		smoke(t, p, rec, 1)
		first := leastHeld(t, p, rec)
		for run := 2; run <= 10; run++ {
			smoke(t, p, rec, run)
		}
		last := gauges(t, p, rec)
		for deadline := time.Now().Add(patience); last.exceeds(first, slack()); last = gauges(t, p, rec) {
			if time.Now().After(deadline) {
				t.Fatalf("held after the first run %v, after the tenth %v", first, last)
			}
		}
		t.Logf("held after the first run %v, after the tenth %v", first, last)
	})
}

// smoke is one run: keys, events in all their outcomes, the inbox, a webhook,
// errors. Whatever it meets, it leaves with an organization of its own.
func smoke(t *testing.T, p *process, rec *recorder, run int) {
	t.Helper()
	key, other := p.newKey(t, "free"), p.newKey(t, "professional")
	payload := fmt.Sprintf(`{"n":[%d,0.10,1e400]}`, run)
	first := p.postEvent(t, key, "user.created", "smoke", payload)
	again := p.postEvent(t, key, "user.created", "smoke", `false`)
	foreign := p.postEvent(t, other, "user.created", "smoke", payload)
	if want := (eventAnswer{"duplicate", first.EventID, "Event already exists"}); first.Status != "accepted" || again != want {
		t.Fatalf("run %d: first %+v, again %+v", run, first, again)
	}
	if foreign.Status != "accepted" || foreign.EventID == first.EventID {
		t.Fatalf("run %d: another organization's %+v, first %+v", run, foreign, first)
	}
	_, secret := p.register(t, key, fmt.Sprintf("%s/run%d", rec.URL, run), "order.*")
	owed := map[string]bool{}
	for _, event := range []string{"order.paid", "order.sent"} {
		owed[p.postEvent(t, key, event, "", payload).EventID] = true
	}
	for _, got := range rec.wait(t, 2*run) {
		if got.path == fmt.Sprintf("/run%d", run) && owed[got.header.Get("Webhook-Id")] {
			delete(owed, got.header.Get("Webhook-Id"))
			if verifier, err := standardwebhooks.NewWebhook(secret); err != nil || verifier.Verify(got.body, got.header) != nil {
				t.Errorf("badly signed: %s %v, %v", got.body, got.header, err)
			}
			if !strings.HasSuffix(string(got.body), `"data":`+payload+"}") {
				t.Errorf("the webhook got %s, want the payload %s", got.body, payload)
			}
		}
	}
	if len(owed) > 0 {
		t.Errorf("not delivered: %v", owed)
	}
	waitForStatus(t, p, key, "delivered", 2)
	var inbox struct {
		Events []struct{ ID string }
		Count  int
	}
	p.get(t, key, "/api/inbox?status=pending").into(t, &inbox)
	if inbox.Count != 1 || inbox.Events[0].ID != first.EventID {
		t.Errorf("the inbox has %+v, want %s alone", inbox, first.EventID)
	}
	smokeErrors(t, p, key)
	p.get(t, "", "/health").into(t, &struct{}{})
	p.get(t, "", "/stats/cache").into(t, &struct{}{})
	if t.Failed() {
		t.Fatalf("run %d failed", run)
	}
}

// smokeErrors asks for what is refused, each for its own reason.
func smokeErrors(t *testing.T, p *process, key string) {
	t.Helper()
	const event = `{"type":"t","payload":1}`
	for _, ask := range []struct {
		method, path, key, body string
		status                  int
		want                    string
	}{
		{"POST", "/api/events", "", event, 401, `{"error":"Missing API key"}`},
		{"POST", "/api/events", key[:len(key)-1], event, 401, `{"error":"Invalid API key"}`},
		{"POST", "/api/events", key, `{"type":`, 400, ""},
		{"POST", "/api/events", key, `{"type":"","payload":1}`, 400, ""},
		{"POST", "/api/events", key, `{"type":"t"}`, 400, ""},
		{"POST", "/api/events", key, `{"type":"t","payload":"` + strings.Repeat("x", 1<<20) + `"}`, 413, ""},
		{"GET", "/api/inbox?limit=101", key, "", 400, ""},
		{"GET", "/api/inbox?status=lost", key, "", 400, ""},
		{"POST", "/api/webhook/register", key, `{"url":"ftp://example.com"}`, 400, ""},
		{"POST", "/api/webhook/register", key, `{"url":"http://10.0.0.1/"}`, 400, ""},
		{"POST", "/api/keys/generate", "", `{"organization_name":""}`, 400, ""},
		{"GET", "/api/events", key, "", 405, ""},
		{"GET", "/api/nothing", key, "", 404, ""},
	} {
		r := p.do(t, ask.method, ask.key, ask.path, []byte(ask.body))
		if r.status != ask.status || !strings.HasPrefix(r.body, `{"error":"`) || ask.want != "" && r.body != ask.want {
			t.Fatalf("%s %s %.40s: %d %s, want %d %s", ask.method, ask.path, ask.body, r.status, r.body, ask.status, ask.want)
		}
	}
}

// waitForStatus waits until n events have a status.
func waitForStatus(t *testing.T, p *process, key, status string, n int) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		r := p.get(t, key, "/api/inbox?status="+status)
		if strings.HasSuffix(r.body, fmt.Sprintf(`"count":%d}`, n)) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("want %d events that are %s: %s", n, status, r.body)
		}
	}
}

// held are the gauges of what a process must give back.
type held map[string]float64

// slack is by how much they may stay above the first values. Connections to
// the database are opened when they are first needed and then kept, so that
// the later runs may have opened some: three, with up to two descriptors each.
// Goroutines come and go, a few for each heartbeat, look and scrape. What each
// run leaked would show nine times.
func slack() held {
	return held{"go_goroutines": 4, "process_open_fds": 6, "triggerd_database_connections_in_use": 0}
}

// leastHeld is what a process does not give back by itself, while nobody is
// connected to it: the least that is seen until it gets no less.
func leastHeld(t *testing.T, p *process, rec *recorder) held {
	t.Helper()
	least := gauges(t, p, rec)
	for same := 0; same < 50; same++ {
		for name, value := range gauges(t, p, rec) {
			if value < least[name] {
				least[name], same = value, 0
			}
		}
	}
	return least
}

func (h held) exceeds(limit, slack held) bool {
	for name, value := range h {
		if value > limit[name]+slack[name] {
			return true
		}
	}
	return false
}

// gauges reads them on a connection of its own, the only one.
func gauges(t *testing.T, p *process, rec *recorder) held {
	t.Helper()
	p.client.CloseIdleConnections()
	rec.CloseClientConnections()
	fresh := testServer{URL: p.URL, client: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}}
	h := held{}
	for line := range strings.Lines(fresh.get(t, "", "/metrics").body) {
		for _, name := range []string{"go_goroutines", "process_open_fds", "triggerd_database_connections_in_use"} {
			var value float64
			if _, err := fmt.Sscanf(line, name+" %g", &value); err == nil {
				h[name] = value
			}
		}
	}
	if len(h) != 3 {
		t.Fatalf("the metrics have only %v", h)
	}
	return h
}
