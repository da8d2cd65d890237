package store

import (
	"context"
	"database/sql"
	"errors"
	"maps"

	lru "github.com/hashicorp/golang-lru/v2"

	"triggerd/internal/trigger"
)

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
// read asks for the versions, and only what changed is read again. Whether a
// breaker is open is not in it: see WebhooksByID. Organizations that are not
// there, or of which a webhook cannot be read, are left out.
func (s *Store) Subscribers(ctx context.Context, orgIDs []int64) (map[int64]*trigger.Subscribers, error) {
	found := make(map[int64]*trigger.Subscribers, len(orgIDs))
	err := query(ctx, s.hot, func(rows *sql.Rows) error {
		var id, version int64
		err := rows.Scan(&id, &version)
		if cached, ok := s.subs.Get(id); ok && cached.Version == version {
			found[id] = cached
		}
		return err
	}, `SELECT id, version FROM organizations WHERE deleted_at = 0 AND `+s.in("id", "$1", listOfInts), s.dialect.ints(orgIDs))
	for _, id := range orgIDs {
		if err != nil {
			break
		}
		if found[id] != nil {
			continue
		}
		subs, failed := s.loadSubscribers(ctx, id)
		if _, unreadable := errors.AsType[*unreadableError](failed); !unreadable && !errors.Is(failed, sql.ErrNoRows) {
			err = failed
		}
		if failed == nil {
			found[id] = subs
		}
	}
	return found, wrap("read subscribers", err)
}

// RememberedSubscribers gives the webhooks of organizations as this node
// remembers them: they may have changed since. What is decided by them is for
// a [Batch] that is stored only IfCurrent; one that was not makes this node
// forget. Organizations that it does not remember are read, and left out as
// Subscribers does.
func (s *Store) RememberedSubscribers(ctx context.Context, orgIDs []int64) (map[int64]*trigger.Subscribers, error) {
	found := make(map[int64]*trigger.Subscribers, len(orgIDs))
	var unknown []int64
	for _, id := range orgIDs {
		if cached, ok := s.subs.Get(id); ok {
			found[id] = cached
		} else {
			unknown = append(unknown, id)
		}
	}
	if unknown == nil {
		return found, nil
	}
	read, err := s.Subscribers(ctx, unknown)
	maps.Copy(found, read)
	return found, err
}

func (s *Store) loadSubscribers(ctx context.Context, orgID int64) (*trigger.Subscribers, error) {
	subs, err := s.readSubscribers(ctx, s.hot, orgID)
	if err == nil {
		s.subs.Add(orgID, subs)
	}
	return subs, err
}

// readSubscribers reads version and webhooks in one statement, so that they
// belong together.
func (s *Store) readSubscribers(ctx context.Context, q querier, orgID int64) (*trigger.Subscribers, error) {
	subs := &trigger.Subscribers{OrganizationID: orgID, Version: -1}
	var settings string
	err := query(ctx, q, func(rows *sql.Rows) error {
		var w trigger.Webhook
		var there, suspended bool
		err := s.scanWebhook(rows, &w, &subs.Version, &settings, &suspended, &there)
		if suspended && w.State == trigger.Active { // owed, and waits
			w.State, w.PausedBy = trigger.Paused, trigger.PausedByOperator
		}
		if there {
			subs.Webhooks = append(subs.Webhooks, w)
		}
		return err
	}, `SELECT o.version, o.settings, o.suspended_at > 0, w.id IS NOT NULL, `+webhookColumnsOrNone+`
		FROM organizations o LEFT JOIN webhooks w ON w.organization_id = o.id AND `+sqlReceiving+`
		WHERE o.id = $1 AND o.deleted_at = 0 ORDER BY w.id`, orgID)
	if err == nil && subs.Version < 0 {
		err = sql.ErrNoRows
	}
	if err == nil {
		var o orgSettings
		o, err = parseSettings(settings)
		subs.Inbox = o.Inbox
	}
	return subs, err
}

// webhookColumnsOrNone are webhookColumns where there may be no webhook, and
// of none is asked how it fares.
const webhookColumnsOrNone = `coalesce(w.id, 0), o.id, coalesce(w.state, ''), coalesce(w.url, ''), coalesce(w.filter, ''),
	w.secret, coalesce(w.config, ''), w.sealed, coalesce(w.paused_by, ''),
	0, 0, coalesce(w.created_at, 0), 0, 0, 0, 0, ''`

// WebhooksByID reads webhooks of any organization, for the engine, which has
// their ids from deliveries: as they are now, and whether their breakers are
// open. Of those that receive no events, gone or deleted, it says only that
// they are gone; those that do not exist are left out.
func (s *Store) WebhooksByID(ctx context.Context, ids []int64) (map[int64]*trigger.Webhook, error) {
	found := make(map[int64]*trigger.Webhook, len(ids))
	versions := make(map[int64]int64)
	err := query(ctx, s.hot, func(rows *sql.Rows) error {
		w := &trigger.Webhook{State: trigger.Gone}
		var version, held int64
		err := rows.Scan(&w.ID, &w.OrganizationID, &version, &held, &w.Holds)
		if held != 0 {
			w.HeldUntil = fromMicros(held)
		}
		found[w.ID], versions[w.OrganizationID] = w, version
		return err
	}, `SELECT w.id, w.organization_id, o.version, coalesce(h.held_until, 0), coalesce(h.holds, 0)
		FROM webhooks w JOIN organizations o ON o.id = w.organization_id LEFT JOIN webhook_health h ON h.webhook_id = w.id
		WHERE `+s.in("w.id", "$1", listOfInts), s.dialect.ints(ids))
	for orgID, version := range versions {
		if err != nil {
			break
		}
		subs, ok := s.subs.Get(orgID)
		if !ok || subs.Version < version {
			subs, err = s.loadSubscribers(ctx, orgID)
		}
		if _, unreadable := errors.AsType[*unreadableError](err); unreadable {
			breakAll(found, orgID, err)
			err = nil
			continue
		}
		if err == nil {
			fill(found, subs)
		}
	}
	return found, wrap("find webhooks", err)
}

// fill sets those of the found webhooks that are among the subscribers.
func fill(found map[int64]*trigger.Webhook, subs *trigger.Subscribers) {
	for i := range subs.Webhooks {
		if w := found[subs.Webhooks[i].ID]; w != nil {
			held, holds := w.HeldUntil, w.Holds
			*w = subs.Webhooks[i]
			w.HeldUntil, w.Holds = held, holds
		}
	}
}

// breakAll marks what was found of an organization of which a webhook cannot
// be read.
func breakAll(found map[int64]*trigger.Webhook, orgID int64, err error) {
	for _, w := range found {
		if w.OrganizationID == orgID {
			w.State, w.Broken = trigger.Active, err
		}
	}
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
