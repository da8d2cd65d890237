package store

import (
	"context"
	"database/sql"
	"errors"
	"maps"
	"slices"

	"triggerd/internal/trigger"
)

// subscriberCache is how many organizations' webhooks are cached, each at the
// last version seen.
const subscriberCache = 10_000

// Subscribers returns the current webhooks of organizations. One small read
// returns the versions, and only changed organizations are read again. The
// result does not say whether a breaker is open: see WebhooksByID. It leaves
// out organizations that do not exist, or that have a webhook that cannot be
// read.
func (s *Store) Subscribers(ctx context.Context, orgIDs []int64) (map[int64]*trigger.Subscribers, error) {
	type versioned struct{ id, version int64 }
	list, err := rowsOf(ctx, s.hot, func(r row) (v versioned, err error) {
		err = r.Scan(&v.id, &v.version)
		return v, err
	}, `SELECT id, version FROM organizations WHERE deleted_at = 0 AND `+s.in("id", "$1", listOfInts), s.dialect.ints(orgIDs))
	if err != nil {
		return nil, wrap("read subscribers", err)
	}
	found := make(map[int64]*trigger.Subscribers, len(orgIDs))
	for _, v := range list {
		if cached, ok := s.subs.View().Get(v.id); ok && cached.Version == v.version {
			found[v.id] = cached
			continue
		}
		subs, err := s.loadSubscribers(ctx, v.id)
		if _, unreadable := errors.AsType[*unreadableError](err); unreadable || errors.Is(err, sql.ErrNoRows) {
			continue
		}
		if err != nil {
			return nil, wrap("read subscribers", err)
		}
		found[v.id] = subs
	}
	return found, nil
}

// RememberedSubscribers returns the webhooks of organizations from this node's
// cache. They may have changed since, so decisions by them are only for a
// [Batch] with IfCurrent; if its events are not stored, this node drops the
// entry. Organizations that are not cached are read as by Subscribers.
func (s *Store) RememberedSubscribers(ctx context.Context, orgIDs []int64) (map[int64]*trigger.Subscribers, error) {
	found := make(map[int64]*trigger.Subscribers, len(orgIDs))
	var unknown []int64
	for _, id := range orgIDs {
		if cached, ok := s.subs.View().Get(id); ok {
			found[id] = cached
		} else {
			unknown = append(unknown, id)
		}
	}
	if unknown == nil {
		return found, nil
	}
	read, err := s.Subscribers(ctx, unknown)
	if err != nil {
		return nil, err
	}
	maps.Copy(found, read)
	return found, nil
}

// PeekSubscribers returns the webhooks of an organization from this node's
// cache; nil if it is not cached. They may have changed since.
func (s *Store) PeekSubscribers(orgID int64) *trigger.Subscribers {
	subs, _ := s.subs.View().Get(orgID)
	return subs
}

func (s *Store) loadSubscribers(ctx context.Context, orgID int64) (*trigger.Subscribers, error) {
	view := s.subs.View()
	subs, err := s.readSubscribers(ctx, s.hot, orgID)
	if err != nil {
		return nil, err
	}
	view.Add(orgID, subs)
	return subs, nil
}

// readSubscribers reads version and webhooks in one statement, so that they
// match.
func (s *Store) readSubscribers(ctx context.Context, q querier, orgID int64) (*trigger.Subscribers, error) {
	type subscriber struct {
		trigger.Webhook
		version   int64
		settings  string
		suspended bool
		there     bool
	}
	list, err := rowsOf(ctx, q, func(r row) (w subscriber, err error) {
		err = s.scanWebhook(r, &w.Webhook, &w.version, &w.settings, &w.suspended, &w.there)
		return w, err
	}, `SELECT o.version, o.settings, o.suspended_at > 0, w.id IS NOT NULL, `+webhookColumnsOrNone+`
		FROM organizations o LEFT JOIN webhooks w ON w.organization_id = o.id AND `+sqlReceiving+`
		WHERE o.id = $1 AND o.deleted_at = 0 ORDER BY w.id`, orgID)
	if err != nil {
		return nil, err
	}
	if len(list) == 0 {
		return nil, sql.ErrNoRows
	}
	settings, err := parseSettings(list[0].settings)
	if err != nil {
		return nil, err
	}
	subs := &trigger.Subscribers{OrganizationID: orgID, Version: list[0].version, Inbox: settings.Inbox}
	for _, w := range list {
		if w.suspended && w.State == trigger.Active { // its deliveries wait
			w.State, w.PausedBy = trigger.Paused, trigger.PausedByOperator
		}
		if w.there {
			w.AsOf = subs.Version
			subs.Webhooks = append(subs.Webhooks, w.Webhook)
		}
	}
	subs.Prepare()
	return subs, nil
}

// webhookColumnsOrNone are webhookColumns for a join that may find no webhook.
// It does not read the health.
const webhookColumnsOrNone = `coalesce(w.id, 0), o.id, coalesce(w.state, ''), coalesce(w.url, ''), coalesce(w.filter, ''),
	w.secret, coalesce(w.config, ''), w.sealed, coalesce(w.paused_by, ''),
	0, 0, coalesce(w.created_at, 0), 0, 0, 0, 0, ''`

// WebhooksByID reads the current webhooks of any organization, and whether
// their breakers are open, for the engine, which has their ids from deliveries.
// Webhooks that receive no events, gone or deleted, have only the state Gone.
// Ids that do not exist are left out: their organization was erased. It returns
// Unavailable if the settings of a webhook that is not gone cannot be loaded;
// if they cannot be decoded, see [trigger.Webhook.Broken].
func (s *Store) WebhooksByID(ctx context.Context, ids []int64) (map[int64]*trigger.Webhook, error) {
	const most = 3 // tries; each sees all changes that the previous one missed
	for tries := 1; ; tries++ {
		found, err := s.webhooksByID(ctx, ids)
		if !errors.Is(err, errMoved) || tries == most {
			return wrapped("find webhooks", found, err)
		}
	}
}

// errMoved means that a webhook changed between two reads.
var errMoved = errors.New("a webhook is missing in its organization: it changed between two reads")

// webhookState is what one statement reads of a webhook: all but its settings,
// which are cached by the version of its organization.
type webhookState struct {
	trigger.Webhook
	version int64
}

func (s *Store) webhooksByID(ctx context.Context, ids []int64) (map[int64]*trigger.Webhook, error) {
	list, err := rowsOf(ctx, s.hot, func(r row) (w webhookState, err error) {
		var held int64
		err = r.Scan(&w.ID, &w.OrganizationID, &w.State, &w.version, &held, &w.Holds)
		w.HeldUntil = timeOrNone(held)
		if !w.State.Receives() {
			w.State = trigger.Gone
		}
		return w, err
	}, `SELECT w.id, w.organization_id, w.state, o.version, coalesce(h.held_until, 0), coalesce(h.holds, 0)
		FROM webhooks w JOIN organizations o ON o.id = w.organization_id LEFT JOIN webhook_health h ON h.webhook_id = w.id
		WHERE `+s.in("w.id", "$1", listOfInts), s.dialect.ints(ids))
	if err != nil {
		return nil, err
	}
	byOrg := make(map[int64][]webhookState)
	for _, w := range list {
		byOrg[w.OrganizationID] = append(byOrg[w.OrganizationID], w)
	}
	found := make(map[int64]*trigger.Webhook, len(list))
	for orgID, states := range byOrg {
		hooks, err := s.webhooksOf(ctx, orgID, states)
		if err != nil {
			return nil, err
		}
		for _, w := range hooks {
			found[w.ID] = w
		}
	}
	return found, nil
}

// webhooksOf adds the settings to webhooks of one organization. Gone ones have
// no settings.
func (s *Store) webhooksOf(ctx context.Context, orgID int64, states []webhookState) (hooks []*trigger.Webhook, err error) {
	subs, ok := s.subs.View().Get(orgID)
	isLive := func(w webhookState) bool { return w.State.Receives() }
	if slices.ContainsFunc(states, isLive) && (!ok || subs.Version < states[0].version) {
		subs, err = s.loadSubscribers(ctx, orgID)
	}
	_, unreadable := errors.AsType[*unreadableError](err)
	switch {
	case errors.Is(err, sql.ErrNoRows): // deleted since
		return nil, errMoved
	case err != nil && !unreadable:
		return nil, err
	}
	for _, state := range states {
		w := &state.Webhook
		switch {
		case !isLive(state):
		case unreadable:
			w.Broken = err
		default:
			if w = settingsOfWebhook(subs, w.ID); w == nil {
				return nil, errMoved
			}
			w.HeldUntil, w.Holds = state.HeldUntil, state.Holds
		}
		hooks = append(hooks, w)
	}
	return hooks, nil
}

// settingsOfWebhook returns a copy of the subscriber with an id, or nil if it
// is missing.
func settingsOfWebhook(subs *trigger.Subscribers, id int64) *trigger.Webhook {
	for i := range subs.Webhooks {
		if subs.Webhooks[i].ID == id {
			w := subs.Webhooks[i]
			return &w
		}
	}
	return nil
}
