package store

import (
	"context"

	"triggerd/internal/trigger"
)

// AddOrganization stores an organization with its first key, given by hash and
// prefix, and returns its id.
func (s *Store) AddOrganization(ctx context.Context, org trigger.Organization, key trigger.APIKey) (id int64, err error) {
	now := micros(s.Now())
	err = s.dialect.write(ctx, func(q querier) error {
		if err := q.QueryRowContext(ctx,
			`INSERT INTO organizations (name, tier, created_at) VALUES ($1, $2, $3) RETURNING id`,
			org.Name, string(org.Tier), now).Scan(&id); err != nil {
			return err
		}
		_, err := q.ExecContext(ctx,
			`INSERT INTO api_keys (organization_id, hash, prefix, created_at) VALUES ($1, $2, $3, $4)`,
			id, key.Hash[:], key.Prefix, now)
		return err
	})
	return id, wrap("add organization", err)
}

// APIKey finds a key by its hash, with its organization. NotFound if there is
// none, or it was revoked.
func (s *Store) APIKey(ctx context.Context, hash [32]byte) (trigger.APIKey, error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	key := trigger.APIKey{Hash: hash}
	org := &key.Organization
	// By the hot connections: accepting an event begins with it, and must not
	// wait for whoever reads inboxes.
	err := s.hot.QueryRowContext(ctx, `
		SELECT k.id, k.prefix, o.id, o.name, o.tier, o.version
		FROM api_keys k JOIN organizations o ON o.id = k.organization_id
		WHERE k.hash = $1 AND k.revoked_at IS NULL`, hash[:]).
		Scan(&key.ID, &key.Prefix, &org.ID, &org.Name, &org.Tier, &org.Version)
	return key, wrap("find key", err)
}

// RevokeAPIKey makes a key useless. NotFound if the organization has no such
// key.
func (s *Store) RevokeAPIKey(ctx context.Context, orgID, keyID int64) error {
	return wrap("revoke key", s.dialect.write(ctx, func(q querier) error {
		var id int64
		return q.QueryRowContext(ctx, `
			UPDATE api_keys SET revoked_at = $3
			WHERE organization_id = $1 AND id = $2 AND revoked_at IS NULL RETURNING id`,
			orgID, keyID, micros(s.Now())).Scan(&id)
	}))
}

// organizationIDs lists up to a page of organizations after the given one.
func (s *Store) organizationIDs(ctx context.Context, after int64) (ids []int64, err error) {
	ids, err = scanInts(ctx, s.hot, `SELECT id FROM organizations WHERE id > $1 ORDER BY id LIMIT 1000`, after)
	return ids, wrap("list organizations", err)
}
