package store

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"triggerd/internal/trigger"
)

// A key may create another one, which must have no more rights and must not
// last longer. The body of such a request may take long to arrive, and the
// requesting key may be rotated or revoked meanwhile. So it is checked in the
// transaction that stores the new key.

// MakeAPIKey is AddAPIKey for a request by another key of the organization,
// whose id is by. fill gets the current requesting key and returns the one to
// store; MakeAPIKey returns an error of fill. It returns Unauthorized if the
// requesting key has ended, Forbidden if that key lacks the scope manage or
// must not create this key, and Invalid if the new key would last longer or
// allow other networks, see [trigger.APIKey.MayMake].
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

// lockAsking is lockOrganization for a request by a key. A key of a deleted
// organization has ended.
func lockAsking(ctx context.Context, q querier, orgID, by int64) error {
	err := lockOrganization(ctx, q, orgID)
	if errors.Is(err, sql.ErrNoRows) && by != 0 {
		err = errEndedKey()
	}
	return err
}

// errEndedKey returns the error for a key that has ended.
func errEndedKey() error { return trigger.Errorf(trigger.Unauthorized, "Invalid API key") }

// askingKey reads the requesting key. The operator, as key 0, has all scopes.
// The errors are the same as for a request that begins now.
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

// Rotation is a request to replace a key.
type Rotation struct {
	OrganizationID, KeyID int64

	By      int64          // the requesting key; 0: the operator
	Next    trigger.APIKey // its hash and prefix; it gets the settings of the old key
	Overlap time.Duration  // how long the old key is still valid
}

// RotateAPIKey stores a new key with the settings of the old one, which ends
// after the overlap, or at its own end if that is earlier. It returns the new
// key's id. It returns Unauthorized if the requesting key has ended, and
// Forbidden or Invalid if that key must not create the new one, see
// [trigger.APIKey.MayMake]. It returns NotFound if the organization does not
// have the old key, or it has ended.
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

// mayRotate returns an error unless the requesting key may create the other
// one. Otherwise a key with only the scope manage could get all scopes. The
// error is about the stored key, not about a member of the request.
func mayRotate(asks, other *trigger.APIKey) error {
	err := asks.MayMake(other)
	if e, ok := errors.AsType[*trigger.Error](err); ok {
		e.Message, e.Fields = "The key to rotate: "+e.Message, nil
	}
	return err
}
