package trigger

import (
	"errors"
	"fmt"
	"time"
)

// Kind is the kind of failure of an [Error]. The API has one table from kinds
// to HTTP statuses.
type Kind int

// The kinds, in no order.
const (
	Internal         Kind = iota // a fault of the server; its details are not shown
	Malformed                    // the body, the query or the path cannot be parsed
	Invalid                      // a value of the request is not valid
	Unauthorized                 // the key is missing or wrong
	Forbidden                    // the key is right but lacks the permission
	NotFound                     // does not exist, or belongs to another organization
	MethodNotAllowed             // the path exists, the method does not
	Conflict                     // not possible in the present state
	TimedOut                     // the body did not arrive before its deadline
	TooLarge                     // the body is over its limit
	URITooLong                   // the request target is over its limit
	UnsupportedMedia             // the route does not read bodies of this type
	RateLimited                  // too many requests; see RetryAfter
	Unavailable                  // temporary; see RetryAfter
)

// Error is a failure with a message that may be shown to everyone and a cause
// that must not be shown.
type Error struct {
	Kind       Kind
	Code       string        // for programs, where the kind alone is not enough
	Message    string        // shown to the client
	Fields     []Field       // the wrong parts of the request, if known
	Cause      error         // for the log only
	RetryAfter time.Duration // RateLimited and Unavailable: when to retry
	Limit      int           // RateLimited: requests in Window
	Window     time.Duration // RateLimited: the length of the window; 0: a minute
	EventID    ID            // Invalid: the event that has the dedup id already
}

// Field is a wrong part of a request.
type Field struct {
	Detail    string `json:"detail"`
	Pointer   string `json:"pointer,omitempty"`   // into the body: "#" and a JSON Pointer (RFC 6901)
	Parameter string `json:"parameter,omitempty"` // or the name of one in the query or the path
}

// MessageOf returns the Message of an Error in err's chain, and the text of err
// if there is no such Error.
func MessageOf(err error) string {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Message
	}
	return err.Error()
}

// At adds the place of the error in the body: "#" and a JSON Pointer.
func (e *Error) At(pointer string) *Error {
	e.Fields = append(e.Fields, Field{Detail: e.Message, Pointer: pointer})
	return e
}

// Of adds the name of the wrong parameter of the query or the path.
func (e *Error) Of(parameter string) *Error {
	e.Fields = append(e.Fields, Field{Detail: e.Message, Parameter: parameter})
	return e
}

func (e *Error) Error() string {
	if e.Cause != nil {
		return e.Message + ": " + e.Cause.Error()
	}
	return e.Message
}

// Unwrap returns the hidden cause, for errors.Is and errors.As.
func (e *Error) Unwrap() error { return e.Cause }

// Errorf returns an error of the given kind with a message to show.
func Errorf(kind Kind, format string, args ...any) *Error {
	return &Error{Kind: kind, Message: fmt.Sprintf(format, args...)}
}

// NewUnavailable returns an error that tells the client to retry after the
// given time. The cause is for the log.
func NewUnavailable(cause error, retryAfter time.Duration) *Error {
	return &Error{Kind: Unavailable, Message: "Service unavailable", Cause: cause, RetryAfter: retryAfter}
}

// AtMember adds the pointer of a member of the body to an Invalid error that
// has no place. It returns other errors, and nil, unchanged.
func AtMember(err error, pointer string) error {
	if e, ok := errors.AsType[*Error](err); ok && len(e.Fields) == 0 && e.Kind == Invalid {
		return e.At(pointer)
	}
	return err
}

// KindOf returns the kind of the first [Error] in err's chain, else Internal.
func KindOf(err error) Kind {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Kind
	}
	return Internal
}
