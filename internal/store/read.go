package store

import (
	"context"
	"errors"

	"triggerd/internal/trigger"
)

// A failed read must never look like data: a caller could use an empty list, a
// state or a number by mistake. So the functions of this file return a value or
// an error, never both.

// rowsOf runs a query and returns the results of scan for all rows, or nil and
// an error. scan must have no other effects, because rows before an error must
// not be used. It may return errSkip to leave a row out, and errEnough to stop:
// rowsOf then returns the rows before.
func rowsOf[T any](ctx context.Context, q querier, scan func(row) (T, error), text string, args ...any) ([]T, error) {
	leave, err := entered(ctx, q)
	if err != nil {
		return nil, err
	}
	defer leave()
	rows, err := q.QueryContext(ctx, text, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var list []T
	for rows.Next() {
		v, err := scan(rows)
		switch {
		case errors.Is(err, errEnough):
			return list, nil
		case errors.Is(err, errSkip):
		case err != nil:
			return nil, err
		default:
			list = append(list, v)
		}
	}
	if err := rows.Err(); err != nil {
		return nil, err
	}
	return list, nil
}

// Errors that scan may return to rowsOf.
var (
	errSkip   = errors.New("skip the row")
	errEnough = errors.New("enough")
)

// rowOf is rowsOf for a query with one row. It returns sql.ErrNoRows for no
// rows.
func rowOf[T any](ctx context.Context, q querier, scan func(row) (T, error), text string, args ...any) (T, error) {
	leave, err := entered(ctx, q)
	if err != nil {
		var zero T
		return zero, err
	}
	defer leave()
	return orZero(scan(q.QueryRowContext(ctx, text, args...)))
}

// row is one row of a result.
type row interface{ Scan(dest ...any) error }

// scanInt scans a row of one number, scanID a row of one id.
func scanInt(r row) (n int64, err error) {
	err = r.Scan(&n)
	return n, err
}

func scanID(r row) (id trigger.ID, err error) {
	err = r.Scan((*dbID)(&id))
	return id, err
}

// idSet runs a query that returns ids.
func idSet(ctx context.Context, q querier, text string, args ...any) (map[trigger.ID]bool, error) {
	list, err := rowsOf(ctx, q, scanID, text, args...)
	if err != nil {
		return nil, err
	}
	return setOf(list), nil
}

func setOf(ids []trigger.ID) map[trigger.ID]bool {
	set := make(map[trigger.ID]bool, len(ids))
	for _, id := range ids {
		set[id] = true
	}
	return set
}

// orZero returns v and nil, or the zero value and err.
func orZero[T any](v T, err error) (T, error) {
	if err != nil {
		var zero T
		return zero, err
	}
	return v, nil
}

// wrapped returns v and nil, or the zero value and the wrapped error.
func wrapped[T any](doing string, v T, err error) (T, error) {
	return orZero(v, wrap(doing, err))
}

func scanText(r row) (text string, err error) {
	err = r.Scan(&text)
	return text, err
}
