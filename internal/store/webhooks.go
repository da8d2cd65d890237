package store

import (
	"context"
	"database/sql"
	"encoding/json"

	lru "github.com/hashicorp/golang-lru/v2"

	"triggerd/internal/trigger"
)

const webhookColumns = `id, organization_id, state, url, filter, secret`

// AddWebhook stores a webhook of an organization and returns its id. Invalid
// if the organization has 50 already.
func (s *Store) AddWebhook(ctx context.Context, orgID int64, w trigger.Webhook) (id int64, err error) {
	now := micros(s.Now())
	err = s.dialect.write(ctx, func(q querier) error {
		version, err := bumpVersion(ctx, q, orgID) // also keeps others of this organization out
		if err != nil {
			return err
		}
		var count int
		if err := q.QueryRowContext(ctx, `SELECT count(*) FROM webhooks WHERE organization_id = $1 AND state <> 'gone'`,
			orgID).Scan(&count); err != nil {
			return err
		}
		if count >= trigger.MaxWebhooks {
			return trigger.Errorf(trigger.Invalid, "an organization has at most %d webhooks", trigger.MaxWebhooks)
		}
		if err := q.QueryRowContext(ctx, `
			INSERT INTO webhooks (organization_id, state, url, filter, secret, created_at)
			VALUES ($1, $2, $3, $4, $5, $6) RETURNING id`,
			orgID, string(w.State), w.URL, w.Filter.String(), []byte(w.Secret), now).Scan(&id); err != nil {
			return err
		}
		w.ID = id
		return addVersion(ctx, q, w, version, now)
	})
	return id, wrap("add webhook", err)
}

// SetWebhookState makes a webhook active, paused or gone. Gone is for ever.
// NotFound if the organization has no such webhook, or it is gone.
func (s *Store) SetWebhookState(ctx context.Context, orgID, webhookID int64, state trigger.WebhookState) error {
	return wrap("set webhook state", s.dialect.write(ctx, func(q querier) error {
		version, err := bumpVersion(ctx, q, orgID)
		if err != nil {
			return err
		}
		w, err := scanWebhook(q.QueryRowContext(ctx, `
			UPDATE webhooks SET state = $3
			WHERE organization_id = $1 AND id = $2 AND state <> 'gone' RETURNING `+webhookColumns,
			orgID, webhookID, string(state)))
		if err != nil {
			return err
		}
		return addVersion(ctx, q, w, version, micros(s.Now()))
	}))
}

// bumpVersion begins every change of an organization's webhooks. The row it
// changes serializes them. NotFound if there is no such organization.
func bumpVersion(ctx context.Context, q querier, orgID int64) (version int64, err error) {
	err = q.QueryRowContext(ctx, `UPDATE organizations SET version = version + 1 WHERE id = $1 RETURNING version`,
		orgID).Scan(&version)
	return version, err
}

// addVersion notes what a webhook is from this version on.
func addVersion(ctx context.Context, q querier, w trigger.Webhook, version, now int64) error {
	config, err := json.Marshal(struct {
		State  trigger.WebhookState `json:"state"`
		URL    string               `json:"url"`
		Filter string               `json:"filter"`
	}{w.State, w.URL, w.Filter.String()})
	if err != nil {
		return err
	}
	_, err = q.ExecContext(ctx, `INSERT INTO webhook_versions (webhook_id, version, at, config) VALUES ($1, $2, $3, $4)`,
		w.ID, version, now, string(config))
	return err
}

// Webhook reads one webhook of an organization. NotFound if it has none such.
func (s *Store) Webhook(ctx context.Context, orgID, id int64) (trigger.Webhook, error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	w, err := scanWebhook(s.read.QueryRowContext(ctx,
		`SELECT `+webhookColumns+` FROM webhooks WHERE organization_id = $1 AND id = $2`, orgID, id))
	return w, wrap("find webhook", err)
}

// WebhooksByID reads webhooks of any organization, for the engine, which has
// their ids from deliveries. Those that do not exist are left out.
func (s *Store) WebhooksByID(ctx context.Context, ids []int64) (map[int64]*trigger.Webhook, error) {
	found := make(map[int64]*trigger.Webhook, len(ids))
	err := query(ctx, s.hot, func(rows *sql.Rows) error {
		w, err := scanWebhook(rows)
		found[w.ID] = &w
		return err
	}, `SELECT `+webhookColumns+` FROM webhooks WHERE `+s.in("id", "$1", listOfInts), s.dialect.ints(ids))
	return found, wrap("find webhooks", err)
}

type row interface{ Scan(dest ...any) error }

func scanWebhook(r row) (w trigger.Webhook, err error) {
	var filter string
	err = r.Scan(&w.ID, &w.OrganizationID, &w.State, &w.URL, &filter, (*[]byte)(&w.Secret))
	w.Filter = trigger.StoredFilter(filter)
	return w, err
}

// subscribers caches the webhooks of active organizations, each at the last
// version that was seen.
type subscribers = lru.Cache[int64, *trigger.Subscribers]

// subscriberCache is how many organizations' webhooks are kept in memory.
const subscriberCache = 10_000

func newSubscribers() *subscribers {
	cache, err := lru.New[int64, *trigger.Subscribers](subscriberCache)
	if err != nil {
		panic(err) // only for a size below 1
	}
	return cache
}

// Subscribers gives the webhooks of organizations as they are now: one small
// read asks for the versions, and only what changed is read again.
func (s *Store) Subscribers(ctx context.Context, orgIDs []int64) (map[int64]*trigger.Subscribers, error) {
	found := make(map[int64]*trigger.Subscribers, len(orgIDs))
	err := query(ctx, s.hot, func(rows *sql.Rows) error {
		var id, version int64
		err := rows.Scan(&id, &version)
		if cached, ok := s.subs.Get(id); ok && cached.Version == version {
			found[id] = cached
		}
		return err
	}, `SELECT id, version FROM organizations WHERE `+s.in("id", "$1", listOfInts), s.dialect.ints(orgIDs))
	for _, id := range orgIDs {
		if err != nil {
			break
		}
		if found[id] == nil {
			found[id], err = s.loadSubscribers(ctx, id)
		}
	}
	return found, wrap("read subscribers", err)
}

// loadSubscribers reads version and webhooks in one statement, so that they
// belong together.
func (s *Store) loadSubscribers(ctx context.Context, orgID int64) (*trigger.Subscribers, error) {
	subs := &trigger.Subscribers{OrganizationID: orgID, Version: -1}
	err := query(ctx, s.hot, func(rows *sql.Rows) error {
		var (
			w                  trigger.Webhook
			id                 sql.NullInt64
			state, url, filter sql.NullString
		)
		err := rows.Scan(&subs.Version, &id, &state, &url, &filter, (*[]byte)(&w.Secret))
		if err != nil || !id.Valid {
			return err
		}
		w.ID, w.OrganizationID, w.URL = id.Int64, orgID, url.String
		w.State = trigger.WebhookState(state.String)
		w.Filter = trigger.StoredFilter(filter.String)
		subs.Webhooks = append(subs.Webhooks, w)
		return nil
	}, `SELECT o.version, w.id, w.state, w.url, w.filter, w.secret
		FROM organizations o LEFT JOIN webhooks w ON w.organization_id = o.id AND w.state <> 'gone'
		WHERE o.id = $1 ORDER BY w.id`, orgID)
	if err == nil && subs.Version < 0 {
		err = sql.ErrNoRows
	}
	if err != nil {
		return nil, err
	}
	s.subs.Add(orgID, subs)
	return subs, nil
}

func scanInts(ctx context.Context, q querier, text string, args ...any) (list []int64, err error) {
	err = query(ctx, q, func(rows *sql.Rows) error {
		var n int64
		err := rows.Scan(&n)
		list = append(list, n)
		return err
	}, text, args...)
	return list, err
}
