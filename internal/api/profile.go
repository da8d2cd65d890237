package api

import (
	"net/http"
	"net/http/pprof" // its handlers on http.DefaultServeMux are never served
	runtime "runtime/pprof"

	"triggerd/internal/trigger"
)

// getProfile serves a profile of this process for `go tool pprof`. "profile" is
// a CPU profile of the next ?seconds=, at most 30; "trace" is for `go tool
// trace`.
func (a *API) getProfile(w http.ResponseWriter, r *request) error {
	switch name := r.PathValue("profile"); {
	case name == "profile":
		pprof.Profile(w, r.Request)
	case name == "trace":
		pprof.Trace(w, r.Request)
	case runtime.Lookup(name) != nil:
		pprof.Handler(name).ServeHTTP(w, r.Request)
	default:
		return trigger.Errorf(trigger.NotFound, "Unknown profile")
	}
	return nil
}
