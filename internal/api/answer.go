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

// recorder is a ResponseWriter that records the answer.
type recorder struct {
	http.ResponseWriter
	before        func(h http.Header, status int)         // sets the headers of every answer, if not nil
	reserve       func(n int) (release func(), err error) // reserves memory for an answer; nil: answers are not counted
	refused       error                                   // why an answer got no memory and was not written
	status, bytes int

	mu   sync.Mutex
	last time.Time // write deadlines are at most this; zero: not bounded
}

// SetWriteDeadline is used by http.ResponseController. It respects endBy.
func (w *recorder) SetWriteDeadline(deadline time.Time) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.last.IsZero() && (deadline.IsZero() || deadline.After(w.last)) {
		deadline = w.last
	}
	return http.NewResponseController(w.ResponseWriter).SetWriteDeadline(deadline)
}

// endBy bounds all writes, including one in progress.
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

// statusOf returns the HTTP status of a kind of error.
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

// answerError writes an error in the form of the original contract.
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
	if e.Kind == trigger.Unavailable { // the contract has one text for all causes
		body.Error = "Service unavailable"
	}
	if e.Kind == trigger.RateLimited {
		window := cmp.Or(e.Window, time.Minute)
		body.Limit, body.Window = e.Limit, strconv.Itoa(int(window/time.Second))+" seconds"
	}
	tellRetry(w, e)
	answer(w, statusOf(e.Kind), body)
}

// tellRetry sets Retry-After, rounded up to seconds.
func tellRetry(w http.ResponseWriter, e *trigger.Error) {
	if e.RetryAfter > 0 {
		seconds := (e.RetryAfter + time.Second - 1) / time.Second
		w.Header().Set("Retry-After", strconv.Itoa(int(seconds)))
	}
}

// answer writes a value as JSON. A large answer is counted in the memory of the
// client. If there is not enough, answer sets the recorder's refused and writes
// nothing.
func answer(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		status, body = http.StatusInternalServerError, []byte(`{"error":"Internal error"}`)
	}
	if out, ok := w.(*recorder); ok && out.reserve != nil && len(body) > smallAnswer {
		release, err := out.reserve(2 * len(body)) // twice: the value and its JSON
		if err != nil {
			out.refused = err
			return
		}
		defer release()
	}
	answerJSON(w, status, body)
}

// smallAnswer is the size of net/http's own buffer, in bytes. Answers up to it
// are not counted.
const smallAnswer = 4 << 10

func answerJSON(w http.ResponseWriter, status int, body []byte) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(body) // the client may be gone
}
