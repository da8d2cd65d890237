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
	Invalid                      // the request says something that cannot be
	Unauthorized                 // no key, or a wrong one
	NotFound                     // no such thing, or another organization's
	MethodNotAllowed             // the path exists, the method does not
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
	Message    string        // shown to the client
	Cause      error         // for the log only
	RetryAfter time.Duration // RateLimited and Unavailable: when to come back
	Limit      int           // RateLimited: requests a minute
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

// KindOf is the kind of the first [Error] in err's chain, else Internal.
func KindOf(err error) Kind {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Kind
	}
	return Internal
}
