package store

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"triggerd/internal/trigger"
)

// failure classifies a database's error by what it means for the caller's work.
type failure int

const (
	unknown  failure = iota // it may be committed: only the identical work may be retried
	again                   // it is not committed, and a retry may succeed
	rejected                // it is not committed, and some item can never be
)

// settlePause returns the pause before the identical work is retried.
func settlePause(tries int) time.Duration {
	return min(5*time.Millisecond<<min(tries, 10), 500*time.Millisecond)
}

// RunBatch runs do over all items until the result is known. If the transaction
// was rolled back for a passing reason, or if the outcome is unknown, it
// retries the identical items until patience is over; again is set after an
// unknown outcome. If some item can never be stored, it halves the items until
// the bad one is alone, and calls refuse. It returns the errors of the items
// that it gave up, which may be committed or not. now is the process's clock,
// with its monotonic reading.
func RunBatch[T any](ctx context.Context, now func() time.Time, patience time.Duration, items []T,
	do func(items []T, again bool) error, refuse func(item T, err error),
) error {
	deadline := now().Add(patience)
	var settle func(items []T, maybe bool) error
	settle = func(items []T, maybe bool) error {
		for tries := 0; ; tries++ {
			err := do(items, maybe)
			if err == nil {
				return nil
			}
			kind := classify(err)
			if kind == rejected && len(items) == 1 {
				refuse(items[0], err)
				return nil
			}
			if kind == rejected {
				half := len(items) / 2
				return errors.Join(settle(items[:half], maybe), settle(items[half:], maybe))
			}
			maybe = maybe || kind == unknown
			if now().After(deadline) {
				return err
			}
			if kind == again && tries < 3 {
				continue
			}
			if err := pause(ctx, settlePause(tries)); err != nil {
				return err
			}
		}
	}
	return settle(items, false)
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// wrap converts a database's error to the kind that clients see: NotFound for a
// missing row, Internal for a fault of our own, else Unavailable, because a
// database that cannot answer says nothing about the request. It returns a
// [trigger.Error] unchanged.
func wrap(doing string, err error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*trigger.Error](err); ok {
		return err
	}
	cause := &doingError{doing, err}
	if errors.Is(err, sql.ErrNoRows) {
		return &trigger.Error{Kind: trigger.NotFound, Message: "Not found", Cause: cause}
	}
	if permanent(err) {
		return &trigger.Error{Kind: trigger.Internal, Message: "Internal error", Cause: cause}
	}
	return trigger.NewUnavailable(cause, retryAfterDatabase)
}

// retryAfterDatabase is when a client may retry after the database failed.
const retryAfterDatabase = 2 * time.Second

type doingError struct {
	doing string
	cause error
}

func (e *doingError) Error() string { return e.doing + ": " + e.cause.Error() }
func (e *doingError) Unwrap() error { return e.cause }

// classify and permanent use the dialect that the error came from.
func classify(err error) failure {
	if kind, ok := classifyPostgres(err); ok {
		return kind
	}
	if kind, ok := classifySQLite(err); ok {
		return kind
	}
	return unknown
}

// permanent reports whether an error is a fault of our own: a value that the
// database does not accept.
func permanent(err error) bool { return classify(err) == rejected }
