package api

import (
	"encoding/json"
	"errors"
	"net/http"
	"slices"

	"triggerd/internal/trigger"
)

// problem is the body of an error in /v1 (RFC 9457).
type problem struct {
	Type    string          `json:"type"`
	Title   string          `json:"title"`
	Status  int             `json:"status"`
	Code    string          `json:"code"`
	Detail  string          `json:"detail"`
	Errors  []trigger.Field `json:"errors,omitempty"`
	EventID string          `json:"event_id,omitempty"` // payload_differs: the first event
}

// kindOfProblem is what all problems of one code have in common.
type kindOfProblem struct {
	code, title string
	status      int
}

// problems returns all problems. docs/problems.html explains them.
func problems() []kindOfProblem {
	return []kindOfProblem{
		{"invalid_json", "Invalid JSON", http.StatusBadRequest},
		{"invalid_parameter", "Invalid parameter", http.StatusBadRequest},
		{"invalid_cursor", "Invalid cursor", http.StatusBadRequest},
		{"unauthorized", "Unauthorized", http.StatusUnauthorized},
		{"missing_scope", "Missing scope", http.StatusForbidden},
		{"address_not_allowed", "Address not allowed", http.StatusForbidden},
		{"organization_suspended", "Organization suspended", http.StatusForbidden},
		{"not_found", "Not found", http.StatusNotFound},
		{"method_not_allowed", "Method not allowed", http.StatusMethodNotAllowed},
		{"request_timeout", "Request timeout", http.StatusRequestTimeout},
		{"conflict", "Conflict", http.StatusConflict},
		{"body_too_large", "Body too large", http.StatusRequestEntityTooLarge},
		{"uri_too_long", "URI too long", http.StatusRequestURITooLong},
		{"unsupported_media_type", "Unsupported media type", http.StatusUnsupportedMediaType},
		{"validation_failed", "Validation failed", http.StatusUnprocessableEntity},
		{"idempotency_conflict", "Idempotency conflict", http.StatusUnprocessableEntity},
		{"payload_differs", "Payload differs", http.StatusUnprocessableEntity},
		{"rate_limited", "Rate limited", http.StatusTooManyRequests},
		{"unavailable", "Unavailable", http.StatusServiceUnavailable},
		{"internal", "Internal error", http.StatusInternalServerError},
	}
}

// codes returns the title and the status of a problem.
func codes(code string) (title string, status int) {
	all := problems()
	i := slices.IndexFunc(all, func(p kindOfProblem) bool { return p.code == code })
	if i < 0 {
		i = len(all) - 1
	}
	return all[i].title, all[i].status
}

// codeOf returns the code of an error's problem.
func codeOf(e *trigger.Error) string {
	if e.Code != "" {
		return e.Code
	}
	switch e.Kind {
	case trigger.Malformed:
		return "invalid_json"
	case trigger.Invalid:
		return "validation_failed"
	case trigger.Unauthorized:
		return "unauthorized"
	case trigger.Forbidden:
		return "missing_scope"
	case trigger.NotFound:
		return "not_found"
	case trigger.MethodNotAllowed:
		return "method_not_allowed"
	case trigger.Conflict:
		return "conflict"
	case trigger.TimedOut:
		return "request_timeout"
	case trigger.TooLarge:
		return "body_too_large"
	case trigger.URITooLong:
		return "uri_too_long"
	case trigger.UnsupportedMedia:
		return "unsupported_media_type"
	case trigger.RateLimited:
		return "rate_limited"
	case trigger.Unavailable:
		return "unavailable"
	}
	return "internal"
}

// problemOf returns the problem to show for an error. An error of another type
// is a fault of the server, and its text is not shown.
func problemOf(err error) (problem, *trigger.Error) {
	e, ok := errors.AsType[*trigger.Error](err)
	if !ok || e.Kind == trigger.Internal {
		e = &trigger.Error{Kind: trigger.Internal, Message: "An internal error occurred and was logged"}
	}
	p := problem{Code: codeOf(e), Detail: e.Message, Errors: e.Fields}
	if e.Kind == trigger.Unauthorized { // one text, so that it does not tell what is wrong with a key
		p.Detail = "The request needs a valid API key, or the admin token on a route of the operator"
	}
	p.Title, p.Status = codes(p.Code)
	switch e.Kind {
	case trigger.RateLimited:
		p.Type = "https://iana.org/assignments/http-problem-types#quota-exceeded"
	case trigger.Unavailable:
		p.Type = "https://iana.org/assignments/http-problem-types#temporary-reduced-capacity"
	default:
		p.Type = "/docs/problems#" + p.Code
	}
	if !e.EventID.IsZero() {
		p.EventID = e.EventID.String()
	}
	return p, e
}

// answerProblem writes an error in the form of /v1.
func answerProblem(w http.ResponseWriter, err error) {
	p, e := problemOf(err)
	tellRetry(w, e)
	body, _ := json.Marshal(p) // cannot fail
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(p.Status)
	_, _ = w.Write(body) // the client may be gone
}
