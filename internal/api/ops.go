package api

import (
	"context"
	"net/http"
	"time"
)

// getLive reports that the process serves, even if all else is down.
func (a *API) getLive(w http.ResponseWriter, _ *request) error {
	answer(w, http.StatusOK, map[string]string{"status": "ok"})
	return nil
}

// getReady reports whether this node should get requests: it is not stopping,
// its database answers, has its files and takes commits, and its clock is known.
// ?verbose shows each check.
func (a *API) getReady(w http.ResponseWriter, r *request) error {
	checks, ready := map[string]string{}, true
	for _, c := range a.readyChecks() {
		if checks[c.name] = "ok"; !c.holds(r.Context()) {
			checks[c.name], ready = c.text, false
		}
	}
	body := map[string]any{"status": "ok"}
	status := http.StatusOK
	if !ready {
		body["status"], status = "unavailable", http.StatusServiceUnavailable
		w.Header().Set("Retry-After", "1")
	}
	if r.URL.Query().Has("verbose") {
		body["checks"] = checks
	}
	answer(w, status, body)
	return nil
}

// readyCheck is a condition for being ready. text says what is wrong if it does
// not hold.
type readyCheck struct {
	name, text string
	holds      func(context.Context) bool
}

func (a *API) readyChecks() []readyCheck {
	return []readyCheck{
		{"stopping", "this node is stopping", func(context.Context) bool { return a.Ready() == nil }},
		{"database", "the database does not answer", func(ctx context.Context) bool { return a.Store.Ping(ctx) == nil || a.Store.Intact() != nil }},
		{"files", "a file of the database was moved, removed or replaced", func(context.Context) bool { return a.Store.Intact() == nil }},
		{"commits", "commits fail: see the log", func(context.Context) bool { return a.Store.Committing() == nil }},
		{"clock", "the database's time is unknown", func(context.Context) bool { return a.Store.ClockTrusted() }},
	}
}

// MeasureReadiness adds a metric for each condition of being ready. Each scrape
// runs the checks with ctx, each for at most a second.
func (a *API) MeasureReadiness(ctx context.Context) {
	for _, c := range a.readyChecks() {
		a.Metrics.Check(c.name, func() bool {
			ctx, cancel := context.WithTimeout(ctx, time.Second)
			defer cancel()
			return c.holds(ctx)
		})
	}
}

func (a *API) getMetrics(w http.ResponseWriter, r *request) error {
	a.Metrics.Handler().ServeHTTP(w, r.Request)
	return nil
}
