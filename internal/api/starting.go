package api

import (
	"errors"
	"net/http"
	"strings"
	"time"

	"triggerd/internal/trigger"
)

// errStarting is the error before the database is open.
var errStarting = errors.New("the database is not open yet")

// Starting returns a handler for the time before the database is open: the
// process is live but not ready, and all else is unavailable. Only Now must be
// set.
func (a *API) Starting() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		unavailable := trigger.NewUnavailable(errStarting, 2*time.Second)
		(&route{path: r.URL.Path}).protect(w.Header(), http.StatusServiceUnavailable)
		switch path := r.URL.Path; {
		case path == "/livez":
			_ = a.getLive(w, &request{Request: r}) // never fails
		case path == "/health":
			_ = a.getHealth(w, &request{Request: r}) // never fails
		case path == "/readyz":
			w.Header().Set("Retry-After", "1")
			answer(w, http.StatusServiceUnavailable, map[string]any{
				"status": "unavailable", "checks": map[string]string{"database": errStarting.Error() + ": see the log"},
			})
		case strings.HasPrefix(path, "/v1/"):
			answerProblem(w, unavailable)
		default:
			answerError(w, unavailable)
		}
	})
}
