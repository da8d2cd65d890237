package api

import (
	"cmp"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"sync"
	"time"

	"triggerd/internal/trigger"
)

// recorder notes what was answered.
type recorder struct {
	http.ResponseWriter
	before        func(h http.Header, status int)         // adds what each answer has; nil: nothing
	reserve       func(n int) (release func(), err error) // takes memory for an answer; nil: it is not counted
	refused       error                                   // why an answer got no memory, and was not written
	status, bytes int

	mu   sync.Mutex
	last time.Time // no write deadline is later; zero: any may be
}

// SetWriteDeadline is for http.ResponseController. It keeps to endBy.
func (w *recorder) SetWriteDeadline(deadline time.Time) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.last.IsZero() && (deadline.IsZero() || deadline.After(w.last)) {
		deadline = w.last
	}
	return http.NewResponseController(w.ResponseWriter).SetWriteDeadline(deadline)
}

// endBy bounds all writes, that under way included.
func (w *recorder) endBy(last time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.last = last
	_ = http.NewResponseController(w.ResponseWriter).SetWriteDeadline(last)
}

func (w *recorder) WriteHeader(status int) {
	w.begin(status)
	w.ResponseWriter.WriteHeader(status)
}

func (w *recorder) Write(b []byte) (int, error) {
	w.begin(http.StatusOK)
	n, err := w.ResponseWriter.Write(b)
	w.bytes += n
	return n, err
}

func (w *recorder) begin(status int) {
	if w.status != 0 {
		return
	}
	if w.status = status; w.before != nil {
		w.before(w.Header(), status)
	}
}

// Unwrap lets http.ResponseController reach the connection.
func (w *recorder) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// statusOf is the one table from kinds of errors to HTTP.
func statusOf(k trigger.Kind) int {
	switch k {
	case trigger.Malformed, trigger.Invalid: // in /v1 an Invalid is 422
		return http.StatusBadRequest
	case trigger.Unauthorized:
		return http.StatusUnauthorized
	case trigger.Forbidden:
		return http.StatusForbidden
	case trigger.Conflict:
		return http.StatusConflict
	case trigger.NotFound:
		return http.StatusNotFound
	case trigger.MethodNotAllowed:
		return http.StatusMethodNotAllowed
	case trigger.TimedOut:
		return http.StatusRequestTimeout
	case trigger.TooLarge:
		return http.StatusRequestEntityTooLarge
	case trigger.URITooLong:
		return http.StatusRequestURITooLong
	case trigger.UnsupportedMedia:
		return http.StatusUnsupportedMediaType
	case trigger.RateLimited:
		return http.StatusTooManyRequests
	case trigger.Unavailable:
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}

// answerError writes an error as the original contract has it.
func answerError(w http.ResponseWriter, err error) {
	e, ok := errors.AsType[*trigger.Error](err)
	if !ok || e.Kind == trigger.Internal {
		e = &trigger.Error{Kind: trigger.Internal, Message: "Internal error"}
	}
	body := struct {
		Error  string `json:"error"`
		Limit  int    `json:"limit,omitzero"`
		Window string `json:"window,omitzero"`
	}{Error: e.Message}
	if e.Kind == trigger.Unavailable { // whatever it is for: the contract has one text
		body.Error = "Service unavailable"
	}
	if e.Kind == trigger.RateLimited {
		window := cmp.Or(e.Window, time.Minute)
		body.Limit, body.Window = e.Limit, strconv.Itoa(int(window/time.Second))+" seconds"
	}
	tellRetry(w, e)
	answer(w, statusOf(e.Kind), body)
}

// tellRetry says when to come back.
func tellRetry(w http.ResponseWriter, e *trigger.Error) {
	if e.RetryAfter > 0 {
		seconds := (e.RetryAfter + time.Second - 1) / time.Second
		w.Header().Set("Retry-After", strconv.Itoa(int(seconds)))
	}
}

// answer writes a value as JSON. A large answer counts in the memory of who has
// asked for it; if there is none, the recorder notes that and nothing is
// written.
func answer(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		status, body = http.StatusInternalServerError, []byte(`{"error":"Internal error"}`)
	}
	if out, ok := w.(*recorder); ok && out.reserve != nil && len(body) > smallAnswer {
		release, err := out.reserve(2 * len(body)) // as it was read, and as it is written
		if err != nil {
			out.refused = err
			return
		}
		defer release()
	}
	answerJSON(w, status, body)
}

// smallAnswer is what net/http has a buffer for, in bytes. It is not counted.
const smallAnswer = 4 << 10

func answerJSON(w http.ResponseWriter, status int, body []byte) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(body) // a client that is gone needs no answer
}
