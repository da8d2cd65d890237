package store

import (
	"context"
	"encoding/json"

	"triggerd/internal/trigger"
)

// orgSettings is the stored form of an organization's settings, without name
// and tier.
type orgSettings struct {
	RateLimit     *int                  `json:"rate_limit,omitempty"`
	Inbox         trigger.InboxMode     `json:"inbox,omitempty"`
	Deduplication trigger.Deduplication `json:"deduplication,omitempty"`
}

const orgColumns = `o.id, o.name, o.tier, o.version, o.settings, o.suspended_at, o.types_version, o.created_at`

// scanOrganization reads orgColumns, after columns that are scanned into
// before.
func scanOrganization(r row, o *trigger.Organization, before ...any) error {
	var settings string
	var suspended, created int64
	if err := r.Scan(append(before, &o.ID, &o.Name, &o.Tier, &o.Version, &settings, &suspended, &o.TypesVersion, &created)...); err != nil {
		return err
	}
	o.Suspended, o.CreatedAt = suspended != 0, fromMicros(created)
	s, err := parseSettings(settings)
	if err != nil {
		return err
	}
	o.RateLimit, o.Inbox, o.Deduplication = s.RateLimit, s.Inbox, s.Deduplication
	return nil
}

func parseSettings(text string) (s orgSettings, err error) {
	if text != "" {
		err = json.Unmarshal([]byte(text), &s)
	}
	if s.Inbox == "" {
		s.Inbox = trigger.Unmatched
	}
	if s.Deduplication == "" {
		s.Deduplication = trigger.Lenient
	}
	return s, err
}

func settingsOf(o *trigger.Organization) (string, error) {
	s := orgSettings{RateLimit: o.RateLimit}
	if o.Inbox == trigger.Everything {
		s.Inbox = o.Inbox
	}
	if o.Deduplication == trigger.Strict {
		s.Deduplication = o.Deduplication
	}
	if s == (orgSettings{}) {
		return "", nil
	}
	text, err := json.Marshal(s)
	return string(text), err
}

// AddOrganization stores an organization with its first key, given by hash and
// prefix, and returns its id. The key has all scopes unless it names some.
func (s *Store) AddOrganization(ctx context.Context, org trigger.Organization, key trigger.APIKey, o Once) (id int64, err error) {
	now := micros(s.Now())
	if key.Scopes == 0 {
		key.Scopes = trigger.AllScopes
	}
	err = s.dialect.write(ctx, func(q querier) (err error) {
		id, err = s.once(ctx, q, 0, o, func() (id int64, err error) {
			settings, err := settingsOf(&org)
			if err != nil {
				return 0, err
			}
			if err := q.QueryRowContext(ctx,
				`INSERT INTO organizations (name, tier, settings, created_at) VALUES ($1, $2, $3, $4) RETURNING id`,
				org.Name, string(org.Tier), settings, now).Scan(&id); err != nil {
				return 0, err
			}
			if settings != "" {
				if err := refuseOlder(ctx, q, 4); err != nil {
					return 0, err
				}
			}
			_, err = s.addKey(ctx, q, id, &key)
			return id, err
		})
		return err
	})
	return wrapped("add organization", id, err)
}

// Organization reads an organization. It returns NotFound if it does not exist,
// or was deleted.
func (s *Store) Organization(ctx context.Context, id int64) (trigger.Organization, error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	o, err := readOrganization(ctx, s.read, id)
	return wrapped("find organization", o, err)
}

func readOrganization(ctx context.Context, q querier, id int64) (trigger.Organization, error) {
	return rowOf(ctx, q, scanOrganizationAlone, `SELECT `+orgColumns+` FROM organizations o WHERE o.id = $1 AND o.deleted_at = 0`, id)
}

// scanOrganizationAlone reads orgColumns.
func scanOrganizationAlone(r row) (o trigger.Organization, err error) {
	err = scanOrganization(r, &o)
	return o, err
}

// ListOrganizations lists up to limit organizations after an id, ordered by id.
func (s *Store) ListOrganizations(ctx context.Context, after int64, limit int) (page []trigger.Organization, err error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	page, err = rowsOf(ctx, s.read, scanOrganizationAlone,
		`SELECT `+orgColumns+` FROM organizations o WHERE o.id > $1 AND o.deleted_at = 0 ORDER BY o.id LIMIT $2`, after, limit)
	return wrapped("list organizations", page, err)
}

// SetOrganization changes an organization with change. An error of change is
// returned and leaves the organization unchanged. It returns NotFound if the
// organization does not exist.
func (s *Store) SetOrganization(ctx context.Context, id int64, change func(*trigger.Organization) error) (o trigger.Organization, err error) {
	now := micros(s.Now())
	err = s.dialect.write(ctx, func(q querier) error {
		if _, err := bumpVersion(ctx, q, id); err != nil { // so that caches of its webhooks see the change too
			return err
		}
		if o, err = readOrganization(ctx, q, id); err != nil {
			return err
		}
		if err := change(&o); err != nil {
			return err
		}
		settings, err := settingsOf(&o)
		if err != nil {
			return err
		}
		if _, err := q.ExecContext(ctx, `UPDATE organizations SET name = $2, tier = $3, settings = $4,
			suspended_at = CASE WHEN NOT $5 THEN 0 WHEN suspended_at > 0 THEN suspended_at ELSE $6 END WHERE id = $1`,
			id, o.Name, string(o.Tier), settings, o.Suspended, now); err != nil {
			return err
		}
		if settings != "" || o.Suspended {
			return refuseOlder(ctx, q, 4)
		}
		return nil
	})
	return wrapped("set organization", o, err)
}

// DeleteOrganization deletes an organization. When it returns, its keys and
// webhooks no longer work; its data is erased later. It returns NotFound if the
// organization does not exist.
func (s *Store) DeleteOrganization(ctx context.Context, id int64) error {
	now := micros(s.Now())
	return wrap("delete organization", s.dialect.write(ctx, func(q querier) error {
		if err := q.QueryRowContext(ctx, `UPDATE organizations SET deleted_at = $2, version = version + 1
			WHERE id = $1 AND deleted_at = 0 RETURNING id`, id, now).Scan(&id); err != nil {
			return err
		}
		if _, err := q.ExecContext(ctx, `UPDATE api_keys SET revoked_at = $2 WHERE organization_id = $1 AND revoked_at IS NULL`, id, now); err != nil {
			return err
		}
		if _, err := q.ExecContext(ctx, sqlTombstone+` WHERE organization_id = $3 AND state <> 'gone'`, now, []byte{}, id); err != nil {
			return err
		}
		return refuseOlder(ctx, q, 4)
	}))
}

// organizationIDs lists a page of organizations after the given one, also those
// being erased.
func (s *Store) organizationIDs(ctx context.Context, after int64) (ids []int64, err error) {
	ids, err = rowsOf(ctx, s.hot, scanInt, `SELECT id FROM organizations WHERE id > $1 ORDER BY id LIMIT 1000`, after)
	return wrapped("list organizations", ids, err)
}
