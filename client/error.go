package client

import (
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"
)

// The codes of problems, by which [IsCode] tells errors apart.
const (
	CodeInvalidJSON           = "invalid_json"           // 400: the body is not JSON
	CodeInvalidParameter      = "invalid_parameter"      // 400: a query parameter or an id in the path
	CodeInvalidCursor         = "invalid_cursor"         // 400: of another query or organization
	CodeUnauthorized          = "unauthorized"           // 401: no key, or a wrong, expired or revoked one
	CodeMissingScope          = "missing_scope"          // 403: the key may not do that
	CodeAddressNotAllowed     = "address_not_allowed"    // 403: the key does not hold from this address
	CodeOrganizationSuspended = "organization_suspended" // 403: all that an organization may do is ask who it is
	CodeNotFound              = "not_found"              // 404: there is none, or it is another organization's
	CodeMethodNotAllowed      = "method_not_allowed"     // 405
	CodeRequestTimeout        = "request_timeout"        // 408: the body did not arrive in time, and nothing was done
	CodeConflict              = "conflict"               // 409: the thing's state does not allow that
	CodeBodyTooLarge          = "body_too_large"         // 413
	CodeURITooLong            = "uri_too_long"           // 414
	CodeUnsupportedMediaType  = "unsupported_media_type" // 415
	CodeValidationFailed      = "validation_failed"      // 422: see Errors
	CodeIdempotencyConflict   = "idempotency_conflict"   // 422: the key was used for another request
	CodePayloadDiffers        = "payload_differs"        // 422: see EventID
	CodeRateLimited           = "rate_limited"           // 429: see RetryAfter
	CodeInternal              = "internal"               // 500: a fault of the server
	CodeUnavailable           = "unavailable"            // 503: see RetryAfter
)

// Error is an answer that is no success: a problem by RFC 9457. Status alone
// is certain: an answer that is none of triggerd's own, but a proxy's in front
// of it, has no Code, and the beginning of its text, if it is one, as Detail.
type Error struct {
	Type   string       `json:"type,omitzero"`   // a URI that names the kind of problem
	Title  string       `json:"title,omitzero"`  // what Code means, the same each time
	Status int          `json:"status"`          // of the HTTP answer
	Code   string       `json:"code,omitzero"`   // CodeInvalidJSON, …
	Detail string       `json:"detail,omitzero"` // what is wrong this time
	Errors []FieldError `json:"errors,omitzero"` // which members or parameters are wrong, where known

	// EventID is the first event with the dedup id, of CodePayloadDiffers.
	EventID string `json:"event_id,omitzero"`
	// RetryAfter is how long the server asks to wait, at 429 and 503; 0 if it
	// does not.
	RetryAfter time.Duration `json:"-"`
}

// FieldError is what is wrong with one member of a body or one parameter of a
// query; a warning has the same shape.
type FieldError struct {
	Detail    string `json:"detail"`
	Pointer   string `json:"pointer,omitzero"`   // of a member: "#/url" (RFC 6901, as a URI fragment)
	Parameter string `json:"parameter,omitzero"` // of a query: "limit"
}

// Error tells all that is known, in one line.
func (e *Error) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "triggerd: %d", e.Status)
	for _, part := range []string{e.Code, e.Detail} {
		if part != "" {
			b.WriteString(" " + part)
		}
	}
	if e.Code == "" && e.Detail == "" {
		b.WriteString(" " + http.StatusText(e.Status))
	}
	for _, field := range e.Errors {
		fmt.Fprintf(&b, "; %s%s: %s", field.Pointer, field.Parameter, field.Detail)
	}
	return b.String()
}

// IsCode reports whether err is an [*Error], or wraps one, with that code.
func IsCode(err error, code string) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.Code == code
}

// IsRefused reports whether err says that the server has refused the call, and
// so that nothing of what it asked for was done: an answer 4xx to all its tries.
// It is false if there was a try whose answer is not known.
func IsRefused(err error) bool {
	if _, ok := errors.AsType[*doubtError](err); ok {
		return false
	}
	status := statusOf(err)
	if status == http.StatusRequestTimeout { // else it is a proxy's, which may have sent the request on
		return IsCode(err, CodeRequestTimeout)
	}
	return status >= 400 && status <= 499
}

// doubtError is the error of the last try, after one that may have been done.
type doubtError struct{ error }

func (e *doubtError) Unwrap() error { return e.error }

// doubted marks the error of a call in which a try may have been done.
func doubted(err error, unsure bool) error {
	if !unsure {
		return err
	}
	return &doubtError{err}
}

// statusOf is the status of an [*Error], 0 of any other.
func statusOf(err error) int {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Status
	}
	return 0
}

// maxText is how much of a text that is no problem is shown, in bytes.
const maxText = 300

// readError reads an answer that is no success.
func readError(res *http.Response, body []byte, now time.Time) *Error {
	e := &Error{}
	kind, _, _ := mime.ParseMediaType(res.Header.Get("Content-Type"))
	switch {
	case kind == "application/problem+json" && json.Unmarshal(body, e) == nil:
	case kind == "text/plain" && utf8.Valid(body):
		*e = Error{Detail: strings.TrimSpace(strings.ToValidUTF8(string(body[:min(len(body), maxText)]), ""))}
	default:
		*e = Error{}
	}
	e.Status = res.StatusCode
	if e.Title == "" {
		e.Title = http.StatusText(e.Status)
	}
	e.RetryAfter = retryAfter(res.Header.Get("Retry-After"), now)
	return e
}
