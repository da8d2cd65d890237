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

// The codes of problems, which [IsCode] tests.
const (
	CodeInvalidJSON           = "invalid_json"           // 400: the body is not JSON
	CodeInvalidParameter      = "invalid_parameter"      // 400: a query parameter or an id in the path
	CodeInvalidCursor         = "invalid_cursor"         // 400: the cursor belongs to another query or organization
	CodeUnauthorized          = "unauthorized"           // 401: the key is missing, wrong, expired or revoked
	CodeMissingScope          = "missing_scope"          // 403: the key lacks the scope
	CodeAddressNotAllowed     = "address_not_allowed"    // 403: the key may not be used from this address
	CodeOrganizationSuspended = "organization_suspended" // 403: a suspended organization may only call Me
	CodeNotFound              = "not_found"              // 404: it does not exist, or belongs to another organization
	CodeMethodNotAllowed      = "method_not_allowed"     // 405
	CodeRequestTimeout        = "request_timeout"        // 408: the body did not arrive in time, and nothing was done
	CodeConflict              = "conflict"               // 409: the state of the resource does not allow it
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

// Error is an unsuccessful answer: a problem according to RFC 9457. Only Status
// is always set: the answer of a proxy in front of triggerd has no Code, and
// the beginning of its text, if it is text, as Detail.
type Error struct {
	Type   string       `json:"type,omitzero"`   // a URI that names the type of the problem
	Title  string       `json:"title,omitzero"`  // the meaning of Code, the same each time
	Status int          `json:"status"`          // of the HTTP answer
	Code   string       `json:"code,omitzero"`   // CodeInvalidJSON, …
	Detail string       `json:"detail,omitzero"` // description of this error
	Errors []FieldError `json:"errors,omitzero"` // invalid members or parameters, if known

	// EventID is the first event with the dedup id, for CodePayloadDiffers.
	EventID string `json:"event_id,omitzero"`
	// RetryAfter is the time to wait that the server requests, at 429 and 503;
	// 0 if it requests none.
	RetryAfter time.Duration `json:"-"`
}

// FieldError describes an error in one member of a body or one parameter of a
// query. A warning has the same form.
type FieldError struct {
	Detail    string `json:"detail"`
	Pointer   string `json:"pointer,omitzero"`   // of a member: "#/url" (RFC 6901, as a URI fragment)
	Parameter string `json:"parameter,omitzero"` // of a query: "limit"
}

// Error returns all known details in one line.
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

// IsCode reports whether err is an [*Error], or wraps one, with the given code.
func IsCode(err error, code string) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.Code == code
}

// IsRefused reports whether err means that the server refused the call and did
// nothing: all tries were answered with 4xx. It returns false if the answer to
// any try is unknown.
func IsRefused(err error) bool {
	if _, ok := errors.AsType[*doubtError](err); ok {
		return false
	}
	status := statusOf(err)
	if status == http.StatusRequestTimeout { // otherwise a proxy sent it, which may have forwarded the request
		return IsCode(err, CodeRequestTimeout)
	}
	return status >= 400 && status <= 499
}

// doubtError is the error of the last try, after an earlier try that may have
// been done.
type doubtError struct{ error }

func (e *doubtError) Unwrap() error { return e.error }

// doubted marks the error of a call of which an earlier try may have been done.
func doubted(err error, unsure bool) error {
	if !unsure {
		return err
	}
	return &doubtError{err}
}

// statusOf returns the status of an [*Error], 0 for any other error.
func statusOf(err error) int {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Status
	}
	return 0
}

// maxText is the maximum number of bytes shown of a text that is not a problem.
const maxText = 300

// readError decodes an unsuccessful answer.
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
