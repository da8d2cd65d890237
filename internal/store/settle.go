package store

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"triggerd/internal/trigger"
)

// failure says what a database's error means for the work that met it.
type failure int

const (
	unknown  failure = iota // it may be committed: only the identical work may run again
	again                   // it is not committed, and may go through now
	rejected                // it is not committed, and something in it never will be
)

// settlePause is the wait before the identical work runs again.
func settlePause(tries int) time.Duration {
	return min(5*time.Millisecond<<min(tries, 10), 500*time.Millisecond)
}

// Settle brings work to an answer. It runs do over all items; where the
// database says that the transaction was rolled back for a passing reason, or
// where nobody knows, the identical items run again (told so by again) until
// patience is over; where it says that something in them can never be stored,
// they are halved until the bad one stands alone, and refuse is told. The
// error is that of the items that were given up, which may be committed or
// not. now is the process's clock, with its monotonic reading.
func Settle[T any](ctx context.Context, now func() time.Time, patience time.Duration, items []T,
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

// wrap gives a database's error the kind that it has for clients: NotFound for
// a row that is not there, else Unavailable, since no request is to be judged
// by a database that cannot answer. Errors that are already judged stay.
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

// retryAfterDatabase is when a client may ask again after the database failed.
const retryAfterDatabase = 2 * time.Second

type doingError struct {
	doing string
	cause error
}

func (e *doingError) Error() string { return e.doing + ": " + e.cause.Error() }
func (e *doingError) Unwrap() error { return e.cause }

// classify and permanent ask the dialect that the error came from.
func classify(err error) failure {
	if kind, ok := classifyPostgres(err); ok {
		return kind
	}
	if kind, ok := classifySQLite(err); ok {
		return kind
	}
	return unknown
}

// permanent reports an error that is a fault of our own: a value that the
// database does not take.
func permanent(err error) bool { return classify(err) == rejected }
