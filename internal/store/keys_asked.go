package store

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"triggerd/internal/trigger"
)

// A key may ask for another one, which can do no more and lasts no longer. The
// body of such a request may take its time, and the key that asks may be
// rotated or revoked meanwhile. So it is judged as it is in the transaction that
// stores the other one.

// MakeAPIKey is AddAPIKey for a key that another key of the organization asks
// for, by its id. fill gets the key that asks as it is now, and returns the one
// to store; an error of fill is returned. Unauthorized if the key that asks has
// ended; Forbidden if it may not manage, or must not make this key; Invalid if
// this key would last longer or come from other networks, see
// [trigger.APIKey.MayMake].
func (s *Store) MakeAPIKey(ctx context.Context, orgID, by int64, fill func(by *trigger.APIKey) (trigger.APIKey, error), o Once) (id int64, err error) {
	err = s.dialect.write(ctx, func(q querier) (err error) {
		if err := lockAsking(ctx, q, orgID, by); err != nil {
			return err
		}
		id, err = s.once(ctx, q, orgID, o, func() (int64, error) {
			asks, err := s.askingKey(ctx, q, orgID, by)
			if err != nil {
				return 0, err
			}
			key, err := fill(&asks)
			if err == nil {
				err = key.Check()
			}
			if err == nil {
				err = asks.MayMake(&key)
			}
			if err != nil {
				return 0, err
			}
			return s.addKey(ctx, q, orgID, &key)
		})
		return err
	})
	return wrapped("make key", id, err)
}

// lockAsking is lockOrganization for a request of a key, which has ended if its
// organization was deleted.
func lockAsking(ctx context.Context, q querier, orgID, by int64) error {
	err := lockOrganization(ctx, q, orgID)
	if errors.Is(err, sql.ErrNoRows) && by != 0 {
		err = errEndedKey()
	}
	return err
}

// errEndedKey is the answer to a key that has ended.
func errEndedKey() error { return trigger.Errorf(trigger.Unauthorized, "Invalid API key") }

// askingKey reads the key that asks for another one. The operator, who asks as
// key 0, has all scopes. The errors are those of a request that begins now.
func (s *Store) askingKey(ctx context.Context, q querier, orgID, id int64) (trigger.APIKey, error) {
	if id == 0 {
		return trigger.APIKey{Scopes: trigger.AllScopes}, nil
	}
	key, err := rowOf(ctx, q, func(r row) (key trigger.APIKey, err error) {
		err = scanKey(r, &key, &key.Organization)
		return key, err
	}, `SELECT `+keyColumns+`, `+orgColumns+` FROM api_keys k JOIN organizations o ON o.id = k.organization_id
		WHERE `+liveKeys+` AND k.organization_id = $2 AND k.id = $3`, micros(s.Now()), orgID, id)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		err = errEndedKey()
	case err != nil:
	case key.Organization.Suspended:
		err = &trigger.Error{Kind: trigger.Forbidden, Code: "organization_suspended", Message: "The organization is suspended"}
	case key.Scopes&trigger.ScopeManage == 0:
		err = &trigger.Error{Kind: trigger.Forbidden, Code: "missing_scope", Message: "The key lacks the scope " + trigger.ScopeManage.String()}
	}
	return orZero(key, err)
}

// Rotation is a request for a key in the place of another one.
type Rotation struct {
	OrganizationID, KeyID int64

	By      int64          // the key that asks; 0: the operator
	Next    trigger.APIKey // its hash and prefix; it has the settings of the other one
	Overlap time.Duration  // for how long the other one is still good
}

// RotateAPIKey stores a new key with the settings of another one, which ends
// after the overlap, or when it would have. It returns the new key's id.
// Unauthorized if the key that asks has ended; Forbidden or Invalid if it must
// not make the other key, see [trigger.APIKey.MayMake]. NotFound if the
// organization has no such key, or it has ended.
func (s *Store) RotateAPIKey(ctx context.Context, r Rotation, o Once) (nextID int64, err error) {
	err = s.dialect.write(ctx, func(q querier) (err error) {
		if err := lockAsking(ctx, q, r.OrganizationID, r.By); err != nil {
			return err
		}
		nextID, err = s.once(ctx, q, r.OrganizationID, o, func() (int64, error) { return s.rotateKey(ctx, q, &r) })
		return err
	})
	return wrapped("rotate key", nextID, err)
}

func (s *Store) rotateKey(ctx context.Context, q querier, r *Rotation) (nextID int64, err error) {
	asks, err := s.askingKey(ctx, q, r.OrganizationID, r.By)
	if err != nil {
		return 0, err
	}
	old, err := s.key(ctx, q, r.OrganizationID, r.KeyID)
	if err != nil {
		return 0, err
	}
	if err := mayRotate(&asks, &old); err != nil {
		return 0, err
	}
	next := old
	next.Hash, next.Prefix = r.Next.Hash, r.Next.Prefix
	until := s.Now().Add(r.Overlap)
	if old.ExpiresAt.IsZero() || old.ExpiresAt.After(until) {
		old.ExpiresAt = until
	}
	if _, err := q.ExecContext(ctx, `UPDATE api_keys SET expires_at = $3 WHERE organization_id = $1 AND id = $2`,
		r.OrganizationID, r.KeyID, micros(old.ExpiresAt)); err != nil {
		return 0, err
	}
	if err := refuseOlder(ctx, q, 4); err != nil {
		return 0, err
	}
	return s.addKey(ctx, q, r.OrganizationID, &next)
}

// mayRotate returns an error unless the key that asks may make the other one:
// otherwise a key that may only manage would get all scopes. What is wrong is
// the key that is there, no member of the request.
func mayRotate(asks, other *trigger.APIKey) error {
	err := asks.MayMake(other)
	if e, ok := errors.AsType[*trigger.Error](err); ok {
		e.Message, e.Fields = "The key to rotate: "+e.Message, nil
	}
	return err
}
