package store

import (
	"context"
	"net/netip"
	"strings"
	"time"

	"triggerd/internal/trigger"
)

const keyColumns = `k.id, k.prefix, k.name, k.scopes, k.networks, k.created_at, k.expires_at, k.last_used_at`

// liveKeys selects the keys that are valid at the time $1.
const liveKeys = `k.revoked_at IS NULL AND (k.expires_at = 0 OR k.expires_at > $1)`

// scanKey reads keyColumns, and orgColumns if o is not nil.
func scanKey(r row, k *trigger.APIKey, o *trigger.Organization) error {
	var networks string
	var created, expires, used int64
	dest := []any{&k.ID, &k.Prefix, &k.Name, &k.Scopes, &networks, &created, &expires, &used}
	var err error
	if o == nil {
		err = r.Scan(dest...)
	} else {
		err = scanOrganization(r, o, dest...)
	}
	if err != nil {
		return err
	}
	k.CreatedAt, k.ExpiresAt, k.LastUsedAt = fromMicros(created), timeOrNone(expires), timeOrNone(used)
	for text := range strings.SplitSeq(networks, ",") {
		if text == "" {
			continue
		}
		network, err := netip.ParsePrefix(text)
		if err != nil {
			return err
		}
		k.Networks = append(k.Networks, network)
	}
	return nil
}

// timeOrNone converts a stored time; 0 means the zero time.
func timeOrNone(us int64) time.Time {
	if us == 0 {
		return time.Time{}
	}
	return fromMicros(us)
}

// microsOrNone converts a time for the database; the zero time is 0.
func microsOrNone(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return micros(t)
}

// APIKeyByHash returns the key with a hash, and its organization. It returns
// NotFound if the key does not exist, was revoked, or has expired.
func (s *Store) APIKeyByHash(ctx context.Context, hash [32]byte) (trigger.APIKey, error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	// Uses the hot connections, because every posted event needs it first, and
	// must not wait for readers of inboxes.
	key, err := rowOf(ctx, s.hot, func(r row) (trigger.APIKey, error) {
		key := trigger.APIKey{Hash: hash}
		err := scanKey(r, &key, &key.Organization)
		return key, err
	}, `SELECT `+keyColumns+`, `+orgColumns+`
		FROM api_keys k JOIN organizations o ON o.id = k.organization_id
		WHERE `+liveKeys+` AND k.hash = $2 AND o.deleted_at = 0`, micros(s.Now()), hash[:])
	return wrapped("find key", key, err)
}

// APIKeysByHash returns the keys with the given hashes, each with its
// organization. It leaves out hashes for which APIKeyByHash returns NotFound.
// All are read in one query, so there should be at most some hundred.
func (s *Store) APIKeysByHash(ctx context.Context, hashes [][32]byte) (map[[32]byte]trigger.APIKey, error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	list, err := rowsOf(ctx, s.hot, func(r row) (key trigger.APIKey, err error) {
		var hash []byte
		err = scanKey(rowAfter{r, &hash}, &key, &key.Organization)
		copy(key.Hash[:], hash)
		return key, err
	}, `SELECT k.hash, `+keyColumns+`, `+orgColumns+`
		FROM api_keys k JOIN organizations o ON o.id = k.organization_id
		WHERE `+liveKeys+` AND `+s.in("k.hash", "$2", listOfHashes)+` AND o.deleted_at = 0`, micros(s.Now()), s.dialect.hashes(hashes))
	if err != nil {
		return nil, wrap("find keys", err)
	}
	found := make(map[[32]byte]trigger.APIKey, len(list))
	for i := range list {
		found[list[i].Hash] = list[i]
	}
	return found, nil
}

// rowAfter is a row whose first column is scanned into first.
type rowAfter struct {
	row
	first any
}

// Scan scans the columns after the first into dest.
func (r rowAfter) Scan(dest ...any) error { return r.row.Scan(append([]any{r.first}, dest...)...) }

// APIKey reads a key of an organization. It returns NotFound if the
// organization does not have the key, or the key has ended.
func (s *Store) APIKey(ctx context.Context, orgID, id int64) (trigger.APIKey, error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	key, err := s.key(ctx, s.read, orgID, id)
	return wrapped("find key", key, err)
}

func (s *Store) key(ctx context.Context, q querier, orgID, id int64) (trigger.APIKey, error) {
	return rowOf(ctx, q, scanKeyAlone, `SELECT `+keyColumns+` FROM api_keys k WHERE `+liveKeys+`
		AND k.organization_id = $2 AND k.id = $3`, micros(s.Now()), orgID, id)
}

// scanKeyAlone reads keyColumns.
func scanKeyAlone(r row) (key trigger.APIKey, err error) {
	err = scanKey(r, &key, nil)
	return key, err
}

// ListAPIKeys lists up to limit keys of an organization after an id, without
// keys that have ended.
func (s *Store) ListAPIKeys(ctx context.Context, orgID, after int64, limit int) (page []trigger.APIKey, err error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	page, err = rowsOf(ctx, s.read, scanKeyAlone, `SELECT `+keyColumns+` FROM api_keys k WHERE `+liveKeys+` AND k.organization_id = $2 AND k.id > $3
		ORDER BY k.id LIMIT $4`, micros(s.Now()), orgID, after, limit)
	return wrapped("list keys", page, err)
}

// AddAPIKey stores a key of an organization, given by hash and prefix, and
// returns its id. It returns Invalid if its settings are invalid, Conflict if
// the organization already has 100 keys, and NotFound if the organization does
// not exist.
func (s *Store) AddAPIKey(ctx context.Context, orgID int64, key trigger.APIKey, o Once) (id int64, err error) {
	if err := key.Check(); err != nil {
		return 0, err
	}
	err = s.dialect.write(ctx, func(q querier) (err error) {
		if err := lockOrganization(ctx, q, orgID); err != nil {
			return err
		}
		id, err = s.once(ctx, q, orgID, o, func() (int64, error) { return s.addKey(ctx, q, orgID, &key) })
		return err
	})
	return wrapped("add key", id, err)
}

// lockOrganization blocks other changes of an organization for the rest of the
// transaction. It returns NotFound if the organization does not exist.
func lockOrganization(ctx context.Context, q querier, orgID int64) error {
	return q.QueryRowContext(ctx, `UPDATE organizations SET version = version WHERE id = $1 AND deleted_at = 0 RETURNING id`,
		orgID).Scan(&orgID)
}

func (s *Store) addKey(ctx context.Context, q querier, orgID int64, key *trigger.APIKey) (id int64, err error) {
	now := micros(s.Now())
	var count int
	if err := q.QueryRowContext(ctx, `SELECT count(*) FROM api_keys k WHERE `+liveKeys+` AND k.organization_id = $2`,
		now, orgID).Scan(&count); err != nil {
		return 0, err
	}
	if count >= trigger.MaxKeys {
		return 0, trigger.Errorf(trigger.Conflict, "an organization can have at most %d keys", trigger.MaxKeys)
	}
	if err := limitEndedKeys(ctx, q, orgID, now); err != nil {
		return 0, err
	}
	networks := make([]string, len(key.Networks))
	for i, network := range key.Networks {
		networks[i] = network.String()
	}
	id, err = rowOf(ctx, q, scanInt, `INSERT INTO api_keys
		(organization_id, hash, prefix, name, scopes, networks, created_at, expires_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8) RETURNING id`,
		orgID, key.Hash[:], key.Prefix, key.Name, int(key.Scopes), strings.Join(networks, ","), now, microsOrNone(key.ExpiresAt))
	if err == nil && (key.Scopes != trigger.AllScopes || len(networks) > 0 || !key.ExpiresAt.IsZero()) {
		err = refuseOlder(ctx, q, 4)
	}
	return id, err
}

// limitEndedKeys removes ended keys of an organization, except the newest.
func limitEndedKeys(ctx context.Context, q querier, orgID, now int64) error {
	_, err := q.ExecContext(ctx, `DELETE FROM api_keys WHERE id IN (SELECT k.id FROM api_keys k
		WHERE NOT (`+liveKeys+`) AND k.organization_id = $2 ORDER BY k.id DESC LIMIT $3 OFFSET $4)`,
		now, orgID, slice, trigger.MaxEndedKeys)
	return err
}

// RevokeAPIKey ends a key. It returns NotFound if the organization does not
// have the key, or it has ended. It returns Conflict if no key could manage the
// organization then: it is the last key with that scope that never expires.
func (s *Store) RevokeAPIKey(ctx context.Context, orgID, id int64) error {
	return wrap("revoke key", s.dialect.write(ctx, func(q querier) error {
		if err := lockOrganization(ctx, q, orgID); err != nil {
			return err
		}
		key, err := s.key(ctx, q, orgID, id)
		if err != nil {
			return err
		}
		var others int
		if err := q.QueryRowContext(ctx, `SELECT count(*) FROM api_keys k WHERE `+liveKeys+`
			AND k.organization_id = $2 AND k.id <> $3 AND k.expires_at = 0 AND k.scopes >= $4`,
			micros(s.Now()), orgID, id, int(trigger.ScopeManage)).Scan(&others); err != nil {
			return err
		}
		if others == 0 && key.ExpiresAt.IsZero() && key.Scopes&trigger.ScopeManage != 0 {
			return trigger.Errorf(trigger.Conflict, "the last key with the scope manage that does not expire cannot be revoked: create another one first")
		}
		_, err = q.ExecContext(ctx, `UPDATE api_keys SET revoked_at = $3 WHERE organization_id = $1 AND id = $2`,
			orgID, id, micros(s.Now()))
		return err
	}))
}

// TouchAPIKeys records that keys were used a moment ago.
func (s *Store) TouchAPIKeys(ctx context.Context, ids []int64) error {
	now := micros(s.Now())
	return wrap("record the use of keys", s.dialect.writeQuietly(ctx, func(q querier) error {
		_, err := q.ExecContext(ctx, `UPDATE api_keys SET last_used_at = $1 WHERE `+s.in("id", "$2", listOfInts), now, s.dialect.ints(ids))
		return err
	}))
}
