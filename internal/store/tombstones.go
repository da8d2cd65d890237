package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"time"

	"triggerd/internal/trigger"
)

// A tombstone is the rest of a deleted webhook: its id, its time of deletion,
// and its versions, so that Why can explain earlier events. It has no URL,
// settings or secrets. Tombstones and versions are removed after all events
// that they explain, or when an organization has too many of them.

// sqlTombstone turns webhooks into tombstones at $1. $2 must be an empty byte
// string. The conditions follow.
const sqlTombstone = `UPDATE webhooks SET state = 'gone', gone_at = $1, gone_reason = '', paused_by = '',
	url = '', filter = '', config = '', secret = $2, sealed = $2, secrets_until = 0`

// clearWebhook turns a webhook into a tombstone.
func (s *Store) clearWebhook(ctx context.Context, q querier, w *trigger.Webhook, version int64) error {
	w.PausedBy, w.GoneAt, w.GoneReason = "", time.Time{}, ""
	now := micros(s.Now())
	if _, err := q.ExecContext(ctx, sqlTombstone+` WHERE organization_id = $3 AND id = $4`, now, []byte{}, w.OrganizationID, w.ID); err != nil {
		return err
	}
	return s.addVersion(ctx, q, w, version, now)
}

// clearLeftovers removes secrets that have ended, and the remains from older
// programs. It also cancels paused replays to deleted webhooks, because they
// cannot be resumed, and would keep the tombstone.
func (s *Store) clearLeftovers(ctx context.Context) error {
	if err := s.clearTombstones(ctx); err != nil {
		return err
	}
	if err := s.eraseSlices(ctx, `UPDATE replays SET state = 'cancelling' WHERE id IN (SELECT r.id FROM replays r
		JOIN webhooks w ON w.id = r.webhook_id WHERE r.state = 'paused' AND w.state = 'gone' LIMIT $1)`, slice); err != nil {
		return err
	}
	if err := s.clearURLs(ctx); err != nil {
		return err
	}
	return s.clearSecrets(ctx)
}

// clearTombstones turns webhooks that older programs have deleted into
// tombstones.
func (s *Store) clearTombstones(ctx context.Context) error {
	return s.eraseSlices(ctx, sqlTombstone+` WHERE state = 'gone' AND gone_at = 0 AND id IN (SELECT id FROM webhooks
		WHERE state = 'gone' AND gone_at = 0 LIMIT $3)`, micros(s.Now()), []byte{}, slice)
}

// clearURLs removes the URLs from versions that older programs have stored.
// Such a program also stored the webhook's secrets without changing
// secrets_until, so it makes clearSecrets check them.
func (s *Store) clearURLs(ctx context.Context) error {
	for {
		list, err := rowsOf(ctx, s.read, scanVersion, `SELECT webhook_id, version, config FROM webhook_versions
			WHERE has_url = 1 ORDER BY webhook_id, version LIMIT $1`, slice)
		if err != nil || len(list) == 0 {
			return err
		}
		ids := make([]int64, len(list))
		for i, v := range list {
			ids[i] = v.webhookID
		}
		if err := s.dialect.writeQuietly(ctx, func(q querier) error {
			if _, err := q.ExecContext(ctx, `UPDATE webhooks SET secrets_until = 1 WHERE secrets_until <> 1 AND state <> 'gone' AND `+
				s.in("id", "$1", listOfInts), s.dialect.ints(ids)); err != nil {
				return err
			}
			for _, v := range list {
				if _, err := q.ExecContext(ctx, `UPDATE webhook_versions SET config = $3, has_url = 0
					WHERE webhook_id = $1 AND version = $2`, v.webhookID, v.version, withoutURL(v.config)); err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			return err
		}
	}
}

// webhookVersion is a row of webhook_versions.
type webhookVersion struct {
	webhookID, version int64
	config             string
}

func scanVersion(r row) (v webhookVersion, err error) {
	err = r.Scan(&v.webhookID, &v.version, &v.config)
	return v, err
}

// withoutURL returns the config of a version without its URL. It returns "" for
// an unreadable one, which is as useless.
func withoutURL(config string) string {
	var c webhookConfig
	if json.Unmarshal([]byte(config), &c) != nil {
		return ""
	}
	c.URL = ""
	cleared, err := json.Marshal(c)
	if err != nil {
		return ""
	}
	return string(cleared)
}

// clearSecrets removes ended secrets of webhooks.
func (s *Store) clearSecrets(ctx context.Context) error {
	type owned struct{ id, orgID int64 }
	for after := int64(0); ; {
		list, err := rowsOf(ctx, s.read, func(r row) (o owned, err error) {
			err = r.Scan(&o.id, &o.orgID)
			return o, err
		}, `SELECT id, organization_id FROM webhooks WHERE secrets_until > 0 AND secrets_until <= $1 AND id > $2 ORDER BY id LIMIT $3`,
			micros(s.Now()), after, slice)
		if err != nil || len(list) == 0 {
			return err
		}
		for _, o := range list {
			if err := s.clearSecretsOf(ctx, o.orgID, o.id); err != nil {
				return err
			}
			after = o.id
		}
	}
}

// clearSecretsOf stores the settings of a webhook without the secrets that have
// ended. It does not change a webhook that cannot be read.
func (s *Store) clearSecretsOf(ctx context.Context, orgID, id int64) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	err := s.dialect.writeQuietly(ctx, func(q querier) error {
		if err := lockOrganization(ctx, q, orgID); err != nil {
			return err
		}
		w, err := s.webhook(ctx, q, orgID, id)
		if err != nil || w.Broken != nil || w.State == trigger.Deleted {
			return err
		}
		return s.updateSettings(ctx, q, &w)
	})
	if _, unreadable := errors.AsType[*unreadableError](err); unreadable || errors.Is(err, sql.ErrNoRows) {
		return nil // or the organization was deleted since
	}
	return err
}

// sqlUnneeded selects, of webhooks AS w that are tombstones, those that the
// engine no longer needs, because they have no open delivery and no replay
// under way. $1 is their bucket.
const sqlUnneeded = `NOT EXISTS (SELECT 1 FROM deliveries d WHERE d.bucket = $1 AND d.webhook_id = w.id AND d.webhook_id > 0 AND d.state = 0)
	AND NOT EXISTS (SELECT 1 FROM replays r WHERE r.webhook_id = w.id AND r.state NOT IN ('done', 'cancelled'))`

// limitTombstones removes the webhooks of an organization that were deleted
// first, if it has more than MaxTombstones. The caller must hold the
// organization's row.
func (s *Store) limitTombstones(ctx context.Context, q querier, orgID int64) error {
	_, err := s.removeTombstones(ctx, q, `SELECT w.id FROM (SELECT id FROM webhooks WHERE organization_id = $2 AND state = 'gone'
		ORDER BY gone_at DESC, id DESC LIMIT $3 OFFSET $4) w WHERE `+sqlUnneeded, trigger.Bucket(orgID), orgID, slice, trigger.MaxTombstones)
	return err
}

// removeTombstones removes the webhooks whose ids a query selects, with all
// rows that refer to them. It returns their number.
func (s *Store) removeTombstones(ctx context.Context, q querier, query string, args ...any) (n int, err error) {
	ids, err := rowsOf(ctx, q, scanInt, query, args...)
	if err != nil || len(ids) == 0 {
		return 0, err
	}
	list := s.dialect.ints(ids)
	for _, text := range []string{
		`DELETE FROM replays WHERE ` + s.in("webhook_id", "$1", listOfInts),
		`DELETE FROM webhook_health WHERE ` + s.in("webhook_id", "$1", listOfInts),
		`DELETE FROM webhook_versions WHERE ` + s.in("webhook_id", "$1", listOfInts),
		`DELETE FROM webhooks WHERE ` + s.in("id", "$1", listOfInts),
	} {
		if _, err := q.ExecContext(ctx, text, list); err != nil {
			return 0, err
		}
	}
	return len(ids), nil
}

// limitVersions prepares for one more version of a webhook, with this config.
// If it would be the third equal version in a row, it removes the middle one;
// else it removes the oldest beyond MaxVersions.
func limitVersions(ctx context.Context, q querier, webhookID int64, config string) error {
	last, err := rowsOf(ctx, q, scanVersion, `SELECT webhook_id, version, config FROM webhook_versions
		WHERE webhook_id = $1 ORDER BY version DESC LIMIT 2`, webhookID)
	if err != nil {
		return err
	}
	if len(last) == 2 && last[0].config == config && last[1].config == config {
		_, err := q.ExecContext(ctx, `DELETE FROM webhook_versions WHERE webhook_id = $1 AND version = $2`, webhookID, last[0].version)
		return err
	}
	_, err = q.ExecContext(ctx, `DELETE FROM webhook_versions WHERE webhook_id = $1 AND version <= (SELECT version FROM webhook_versions
		WHERE webhook_id = $1 ORDER BY version DESC LIMIT 1 OFFSET $2)`, webhookID, trigger.MaxVersions-1)
	return err
}

// dropDeleted removes tombstones, former versions of webhooks, and ended keys
// that no event from the given time on needs.
func (s *Store) dropDeleted(ctx context.Context, before time.Time) error {
	if err := s.eachOrganization(ctx, func(orgID int64) (done bool, err error) {
		return s.dropTombstones(ctx, orgID, before)
	}); err != nil {
		return err
	}
	if err := s.dropVersions(ctx, before); err != nil {
		return err
	}
	return s.eraseSlices(ctx, `DELETE FROM api_keys WHERE id IN (SELECT id FROM api_keys
		WHERE revoked_at < $1 OR expires_at > 0 AND expires_at < $1 LIMIT $2)`, micros(before), slice)
}

func (s *Store) dropTombstones(ctx context.Context, orgID int64, before time.Time) (done bool, err error) {
	const query = `SELECT w.id FROM webhooks w WHERE w.organization_id = $2 AND w.state = 'gone' AND w.gone_at < $3 AND ` + sqlUnneeded + `
		ORDER BY w.gone_at LIMIT $4`
	args := []any{trigger.Bucket(orgID), orgID, micros(before), slice}
	// Most organizations have none, and need no transaction.
	if ids, err := rowsOf(ctx, s.read, scanInt, query, args...); err != nil || len(ids) == 0 {
		return true, err
	}
	var n int
	err = s.dialect.writeQuietly(ctx, func(q querier) (err error) {
		if err := lockOrganization(ctx, q, orgID); err != nil {
			return err
		}
		n, err = s.removeTombstones(ctx, q, query, args...)
		return err
	})
	if errors.Is(err, sql.ErrNoRows) { // the organization was deleted, and is being erased
		return true, nil
	}
	return n < slice, err
}

// dropVersions removes the versions of webhooks that another version replaced
// before the given time, because they matched no event that still exists.
func (s *Store) dropVersions(ctx context.Context, before time.Time) error {
	for after := int64(0); ; {
		ids, err := rowsOf(ctx, s.read, scanInt, `SELECT id FROM webhooks WHERE id > $1 ORDER BY id LIMIT $2`, after, slice)
		if err != nil || len(ids) == 0 {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		last := ids[len(ids)-1]
		if err := s.dialect.writeQuietly(ctx, func(q querier) error {
			_, err := q.ExecContext(ctx, `DELETE FROM webhook_versions WHERE webhook_id > $1 AND webhook_id <= $2 AND at < $3
				AND version < (SELECT max(n.version) FROM webhook_versions n WHERE n.webhook_id = webhook_versions.webhook_id AND n.at < $3)`,
				after, last, micros(before))
			return err
		}); err != nil {
			return err
		}
		after = last
	}
}
