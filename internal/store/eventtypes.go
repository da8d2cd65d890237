package store

import (
	"context"
	"database/sql"

	"triggerd/internal/trigger"
)

const typeColumns = `name, mode, schema, description, created_at, updated_at`

func scanEventType(r row) (t trigger.EventType, err error) {
	var schema string
	var created, updated int64
	err = r.Scan(&t.Name, &t.Mode, &schema, &t.Description, &created, &updated)
	if t.CreatedAt, t.UpdatedAt = fromMicros(created), fromMicros(updated); schema != "" {
		t.Schema = []byte(schema)
	}
	return t, err
}

// EventType reads an event type of an organization. It returns NotFound if the
// organization has not defined it.
func (s *Store) EventType(ctx context.Context, orgID int64, name string) (trigger.EventType, error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	t, err := rowOf(ctx, s.read, scanEventType,
		`SELECT `+typeColumns+` FROM event_types WHERE organization_id = $1 AND name = $2`, orgID, name)
	return wrapped("find event type", t, err)
}

// ListEventTypes lists up to limit event types of an organization after a name,
// ordered by name.
func (s *Store) ListEventTypes(ctx context.Context, orgID int64, after string, limit int) (page []trigger.EventType, err error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	page, err = rowsOf(ctx, s.read, scanEventType,
		`SELECT `+typeColumns+` FROM event_types WHERE organization_id = $1 AND name > $2 ORDER BY name LIMIT $3`, orgID, after, limit)
	return wrapped("list event types", page, err)
}

// JudgedTypes returns an organization's event types with a schema and a mode
// other than off, and their version.
func (s *Store) JudgedTypes(ctx context.Context, orgID int64) (list []trigger.EventType, version int64, err error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	version, err = rowOf(ctx, s.hot, scanInt, `SELECT types_version FROM organizations WHERE id = $1`, orgID)
	if err != nil {
		return nil, 0, wrap("read event types", err)
	}
	list, err = rowsOf(ctx, s.hot, scanEventType,
		`SELECT `+typeColumns+` FROM event_types WHERE organization_id = $1 AND mode <> 'off' AND schema <> ''`, orgID)
	if err != nil {
		return nil, 0, wrap("read event types", err)
	}
	return list, version, nil
}

// SetEventType defines or replaces an event type. added reports whether it is
// new. It returns Conflict if the organization already has 500.
func (s *Store) SetEventType(ctx context.Context, orgID int64, t trigger.EventType) (set trigger.EventType, added bool, err error) {
	if err := t.Check(); err != nil {
		return set, false, err
	}
	now := micros(s.Now())
	err = s.dialect.write(ctx, func(q querier) error {
		if err := bumpTypes(ctx, q, orgID); err != nil {
			return err
		}
		var there, others int
		if err := q.QueryRowContext(ctx, `SELECT count(CASE WHEN name = $2 THEN 1 END), count(*) FROM event_types
			WHERE organization_id = $1`, orgID, t.Name).Scan(&there, &others); err != nil {
			return err
		}
		if added = there == 0; added && others >= trigger.MaxEventTypes {
			return trigger.Errorf(trigger.Conflict, "an organization can have at most %d event types", trigger.MaxEventTypes)
		}
		set, err = scanEventType(q.QueryRowContext(ctx, `INSERT INTO event_types
			(organization_id, name, mode, schema, description, created_at, updated_at) VALUES ($1, $2, $3, $4, $5, $6, $6)
			ON CONFLICT (organization_id, name) DO UPDATE SET mode = excluded.mode, schema = excluded.schema,
				description = excluded.description, updated_at = excluded.updated_at
			RETURNING `+typeColumns, orgID, t.Name, string(t.Mode), string(t.Schema), t.Description, now))
		if err == nil && t.Schema != nil && t.Mode != trigger.ValidationOff { // an older program would ignore it
			err = refuseOlder(ctx, q, 4)
		}
		return err
	})
	if err != nil {
		return trigger.EventType{}, false, wrap("set event type", err)
	}
	return set, added, nil
}

// DeleteEventType removes an event type. It returns NotFound if the
// organization has not defined it.
func (s *Store) DeleteEventType(ctx context.Context, orgID int64, name string) error {
	return wrap("delete event type", s.dialect.write(ctx, func(q querier) error {
		if err := bumpTypes(ctx, q, orgID); err != nil {
			return err
		}
		gone, err := affected(q.ExecContext(ctx, `DELETE FROM event_types WHERE organization_id = $1 AND name = $2`, orgID, name))
		if err == nil && !gone {
			err = sql.ErrNoRows
		}
		return err
	}))
}

// bumpTypes starts every change of an organization's event types, and
// serializes them. It returns NotFound if the organization does not exist.
func bumpTypes(ctx context.Context, q querier, orgID int64) error {
	return q.QueryRowContext(ctx, `UPDATE organizations SET types_version = types_version + 1
		WHERE id = $1 AND deleted_at = 0 RETURNING id`, orgID).Scan(&orgID)
}
