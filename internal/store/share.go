package store

import (
	"context"
	"database/sql"
	"time"

	"triggerd/internal/fair"
)

type organizationKey struct{}

// WithOrganization returns a context for the requests of one organization. Its
// reads and writes take turns with other organizations', so that an
// organization with many requests uses at most a part of the connections, and
// one with few hardly waits. Reads and writes without it are the server's own,
// and never wait for a turn.
func WithOrganization(ctx context.Context, organizationID int64) context.Context {
	return context.WithValue(ctx, organizationKey{}, organizationID)
}

// shares divides a number of concurrent uses among organizations. The work of a
// turn is its time, in microseconds.
type shares struct {
	turns *fair.Turns
	now   func() time.Time // of the process
}

// newShares reserves one use for the server's own work if most is more than 2,
// and half of the rest for other organizations.
func newShares(most int, now func() time.Time) shares {
	if most > 2 {
		most--
	}
	return shares{fair.NewTurns(most, (most+1)/2), now}
}

// enter waits for a turn of ctx's organization, if it has one. The caller must
// call leave. The only error is ctx's.
func (s shares) enter(ctx context.Context) (leave func(), err error) {
	id, ok := ctx.Value(organizationKey{}).(int64)
	if !ok {
		return func() {}, nil
	}
	if err := s.turns.Take(ctx, id); err != nil {
		return nil, err
	}
	begun := s.now()
	return func() { s.turns.Done(id, 1+int(s.now().Sub(begun).Microseconds())) }, nil
}

// sharedDB is a pool of connections that organizations share. [rowsOf] and
// [rowOf] take their turns.
type sharedDB struct {
	*sql.DB
	shares
}

// entered is enter if q is a sharedDB.
func entered(ctx context.Context, q querier) (leave func(), err error) {
	if db, ok := q.(*sharedDB); ok {
		return db.enter(ctx)
	}
	return func() {}, nil
}
