package store

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"triggerd/internal/trigger"
)

// Once identifies a request that must not be applied twice, even if its answer
// is lost (the Idempotency-Key of an IETF draft). The zero Once means no key.
type Once struct {
	Key         string   // as chosen by the client
	Fingerprint [32]byte // of the content of the request
}

// RepeatedError means that the request was applied before.
type RepeatedError struct {
	Made int64 // the id of the object that it created
}

func (e *RepeatedError) Error() string { return fmt.Sprintf("the request created %d before", e.Made) }

// onceFor is how long requests are remembered.
const onceFor = 24 * time.Hour

// once calls makeIt in a transaction, unless the same request was applied
// before: the object and the record of the request are one commit. It returns a
// RepeatedError for a repeated request, and Invalid if the key was used for
// another one. orgID 0 is the operator.
func (s *Store) once(ctx context.Context, q querier, orgID int64, o Once, makeIt func() (int64, error)) (made int64, err error) {
	if o.Key == "" {
		return makeIt()
	}
	now := s.Now()
	if _, err := q.ExecContext(ctx, `DELETE FROM idempotency WHERE organization_id = $1 AND key = $2 AND at < $3`,
		orgID, o.Key, micros(now.Add(-onceFor))); err != nil {
		return 0, err
	}
	fresh, err := affected(q.ExecContext(ctx, `INSERT INTO idempotency (organization_id, key, fingerprint, made, at)
		VALUES ($1, $2, $3, 0, $4) ON CONFLICT DO NOTHING`, orgID, o.Key, o.Fingerprint[:], micros(now)))
	if err != nil {
		return 0, err
	}
	if !fresh {
		var fingerprint []byte
		if err := q.QueryRowContext(ctx, `SELECT fingerprint, made FROM idempotency WHERE organization_id = $1 AND key = $2`,
			orgID, o.Key).Scan(&fingerprint, &made); err != nil {
			return 0, err
		}
		if !bytes.Equal(fingerprint, o.Fingerprint[:]) {
			e := trigger.Errorf(trigger.Invalid, "the Idempotency-Key was used for another request")
			e.Code = "idempotency_conflict"
			return 0, e
		}
		return 0, &RepeatedError{made}
	}
	if made, err = makeIt(); err != nil {
		return 0, err
	}
	_, err = q.ExecContext(ctx, `UPDATE idempotency SET made = $3 WHERE organization_id = $1 AND key = $2`, orgID, o.Key, made)
	return made, err
}

// DropRequests removes the records of requests older than onceFor.
func (s *Store) DropRequests(ctx context.Context) error {
	return wrap("forget requests", s.eraseSlices(ctx, `DELETE FROM idempotency WHERE at < $1 AND (organization_id, key) IN
		(SELECT organization_id, key FROM idempotency WHERE at < $1 ORDER BY at LIMIT $2)`, micros(s.Now().Add(-onceFor)), slice))
}
