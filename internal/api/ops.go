package api

import "net/http"

// getLive says that the process serves, whatever else is down.
func (a *API) getLive(w http.ResponseWriter, _ *request) error {
	answer(w, http.StatusOK, map[string]string{"status": "ok"})
	return nil
}

// getReady says whether this node should get requests: it is not stopping, its
// database answers and has its files, and its clock is known. ?verbose shows each check.
func (a *API) getReady(w http.ResponseWriter, r *request) error {
	checks := map[string]string{"stopping": "ok", "database": "ok", "clock": "ok"}
	ready := true
	check := func(name string, ok bool, text string) {
		if !ok {
			checks[name], ready = text, false
		}
	}
	check("stopping", a.Ready() == nil, "this node is stopping")
	check("database", a.Store.Ping(r.Context()) == nil, "the database does not answer")
	check("database", a.Store.Intact() == nil, "a file of the database was moved, removed or replaced")
	check("clock", a.Store.ClockTrusted(), "the database's time is not known")
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

func (a *API) getMetrics(w http.ResponseWriter, r *request) error {
	a.Metrics.Handler().ServeHTTP(w, r.Request)
	return nil
}
