package trigger

import (
	"errors"
	"fmt"
	"time"
)

// Kind says what sort of failure an [Error] is; the API has one table from
// kinds to HTTP statuses.
type Kind int

// The kinds, in no order.
const (
	Internal         Kind = iota // a fault of ours; nothing of it is shown
	Malformed                    // the body, the query or the path cannot be read
	Invalid                      // the request says something that cannot be
	Unauthorized                 // no key, or a wrong one
	Forbidden                    // the key is right, and may not
	NotFound                     // no such thing, or another organization's
	MethodNotAllowed             // the path exists, the method does not
	Conflict                     // not in the state that the thing is in
	TimedOut                     // the body did not arrive before its deadline
	TooLarge                     // the body is over its limit
	URITooLong                   // the request target is over its limit
	UnsupportedMedia             // the body is not of a type that is read here
	RateLimited                  // asked too often; see RetryAfter
	Unavailable                  // not now; see RetryAfter
)

// Error is a failure with a message that may be shown to anyone, and a cause
// that may not.
type Error struct {
	Kind       Kind
	Code       string        // for programs, where the kind alone does not say enough
	Message    string        // shown to the client
	Fields     []Field       // what of the request is wrong, as far as it is known
	Cause      error         // for the log only
	RetryAfter time.Duration // RateLimited and Unavailable: when to come back
	Limit      int           // RateLimited: requests in Window
	Window     time.Duration // RateLimited: the span that counts; 0: a minute
	EventID    ID            // Invalid: the event that has the dedup id already
}

// Field is a part of a request that is wrong.
type Field struct {
	Detail    string `json:"detail"`
	Pointer   string `json:"pointer,omitempty"`   // into the body: "#" and a JSON Pointer (RFC 6901)
	Parameter string `json:"parameter,omitempty"` // or of the query or the path
}

// MessageOf returns what of an error may be shown: its Message, if it is an
// Error that has one.
func MessageOf(err error) string {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Message
	}
	return err.Error()
}

// At adds where in the body the error is: "#" and a JSON Pointer.
func (e *Error) At(pointer string) *Error {
	e.Fields = append(e.Fields, Field{Detail: e.Message, Pointer: pointer})
	return e
}

// Of adds which parameter of the query or the path it is.
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

// Unwrap gives the hidden cause to errors.Is and errors.As.
func (e *Error) Unwrap() error { return e.Cause }

// Errorf makes an error of the given kind with a message to show.
func Errorf(kind Kind, format string, args ...any) *Error {
	return &Error{Kind: kind, Message: fmt.Sprintf(format, args...)}
}

// NewUnavailable makes an error that asks the client to come back after the
// given time; cause is kept for the log.
func NewUnavailable(cause error, retryAfter time.Duration) *Error {
	return &Error{Kind: Unavailable, Message: "Service unavailable", Cause: cause, RetryAfter: retryAfter}
}

// AtMember says of an error without a place that it is at a member of the
// body, by its pointer. Other errors, and nil, stay as they are.
func AtMember(err error, pointer string) error {
	if e, ok := errors.AsType[*Error](err); ok && len(e.Fields) == 0 && e.Kind == Invalid {
		return e.At(pointer)
	}
	return err
}

// KindOf is the kind of the first [Error] in err's chain, else Internal.
func KindOf(err error) Kind {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Kind
	}
	return Internal
}
