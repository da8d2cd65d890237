package store

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"triggerd/internal/trigger"
)

// webhookColumns are the columns that scanWebhook reads, from webhooks AS w and
// the health of failing ones.
const (
	webhookColumns = `w.id, w.organization_id, w.state, w.url, w.filter, w.secret, w.config, w.sealed, w.paused_by,
		coalesce(h.held_until, 0), coalesce(h.holds, 0), w.created_at, coalesce(h.since, 0), coalesce(h.last_at, 0), coalesce(h.failures, 0),
		w.gone_at, w.gone_reason`
	webhookTables = `webhooks w LEFT JOIN webhook_health h ON h.webhook_id = w.id`
)

// AddWebhook stores a webhook of an organization and returns its id. It returns
// Invalid if the settings are invalid or the organization already has 50.
func (s *Store) AddWebhook(ctx context.Context, orgID int64, w trigger.Webhook, o Once) (id int64, err error) {
	if err := s.check(&w); err != nil {
		return 0, err
	}
	w.OrganizationID = orgID
	err = s.dialect.write(ctx, func(q querier) error {
		version, err := bumpVersion(ctx, q, orgID) // also serializes changes of this organization
		if err != nil {
			return err
		}
		id, err = s.once(ctx, q, orgID, o, func() (int64, error) { return s.addWebhook(ctx, q, &w, version) })
		return err
	})
	return wrapped("add webhook", id, err)
}

func (s *Store) addWebhook(ctx context.Context, q querier, w *trigger.Webhook, version int64) (id int64, err error) {
	now := micros(s.Now())
	if err := checkRoom(ctx, q, w.OrganizationID, trigger.Invalid); err != nil {
		return 0, err
	}
	c, err := s.columnsOf(w)
	if err != nil {
		return 0, err
	}
	if err := q.QueryRowContext(ctx, `
		INSERT INTO webhooks (organization_id, state, url, filter, secret, config, sealed, secrets_until, paused_by, created_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) RETURNING id`,
		w.OrganizationID, string(w.State), w.URL, c.filter, c.secret, c.config, c.sealed, c.secretsUntil, w.PausedBy, now).Scan(&id); err != nil {
		return 0, err
	}
	w.ID = id
	if err := s.notePlain(ctx, q); err != nil {
		return 0, err
	}
	return id, s.addVersion(ctx, q, w, version, now)
}

// ListWebhooks lists up to limit webhooks of an organization in one state,
// after an id and ordered by id. State "" means webhooks that receive events:
// active and paused ones. It never lists deleted ones.
func (s *Store) ListWebhooks(ctx context.Context, orgID int64, state trigger.WebhookState, after int64, limit int) (page []trigger.Webhook, err error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	which := sqlReceiving
	if state == trigger.Gone {
		which = sqlEnded
	}
	page, err = rowsOf(ctx, s.read, s.scanWebhookAlone, `SELECT `+webhookColumns+` FROM `+webhookTables+`
		WHERE w.organization_id = $1 AND `+which+` AND w.id > $2 AND ($4 = '' OR w.state = $4) ORDER BY w.id LIMIT $3`,
		orgID, after, limit, string(state))
	return wrapped("list webhooks", page, err)
}

// SetWebhook changes a webhook with change. It returns an error of change and
// then leaves the webhook unchanged. It returns NotFound if the organization
// does not have the webhook, or it was deleted, and Invalid if the settings are
// invalid. It returns Conflict if a gone webhook would be paused, or would be
// active though the organization has as many as allowed.
func (s *Store) SetWebhook(ctx context.Context, orgID, webhookID int64, change func(*trigger.Webhook) error) (trigger.Webhook, error) {
	return s.setWebhook(ctx, orgID, webhookID, func(w *trigger.Webhook, _ int64) error {
		schedule := slices.Clone(w.Schedule)
		if err := change(w); err != nil {
			return err
		}
		if slices.Equal(schedule, w.Schedule) { // it may be from a time with a longer retention
			return w.Check()
		}
		return s.check(w)
	})
}

// setWebhook is SetWebhook without a check of the settings, for a change of the
// state alone. It posts the notices in the same transaction. change also gets
// the organization's version at the webhook's last change.
func (s *Store) setWebhook(ctx context.Context, orgID, webhookID int64, change func(w *trigger.Webhook, changed int64) error,
	notices ...*trigger.Notice,
) (w trigger.Webhook, err error) {
	err = s.dialect.write(ctx, func(q querier) error {
		version, err := bumpVersion(ctx, q, orgID)
		if err != nil {
			return err
		}
		if w, err = s.webhook(ctx, q, orgID, webhookID); err != nil {
			return err
		}
		if w.State == trigger.Deleted {
			return sql.ErrNoRows
		}
		changed, err := changedAt(ctx, q, webhookID)
		if err != nil {
			return err
		}
		before := w
		if err := change(&w, changed); err != nil {
			return err
		}
		if w.Broken != nil && (w.State.Receives() || w.State == before.State) { // a write would lose the unreadable settings
			return w.Broken
		}
		if err := checkChange(ctx, q, &w, before.State); err != nil {
			return err
		}
		return s.changeWebhook(ctx, q, &w, &before, version, notices)
	})
	return wrapped("set webhook", w, err)
}

// changeWebhook stores a changed webhook with all effects of the change.
func (s *Store) changeWebhook(ctx context.Context, q querier, w, before *trigger.Webhook, version int64, notices []*trigger.Notice) error {
	if err := s.updateWebhook(ctx, q, w, version); err != nil {
		return err
	}
	if err := settleHealth(ctx, q, w, before, micros(s.Now())); err != nil {
		return err
	}
	if w.State == trigger.Gone && before.State != trigger.Gone {
		if err := s.limitGone(ctx, q, w.OrganizationID); err != nil {
			return err
		}
	}
	if w.State == trigger.Deleted {
		if err := s.limitTombstones(ctx, q, w.OrganizationID); err != nil {
			return err
		}
	}
	for _, n := range notices {
		if err := s.postNotice(ctx, q, w.OrganizationID, n); err != nil {
			return err
		}
	}
	return nil
}

// check checks the settings of a webhook. Its retries must end a day before its
// events are removed.
func (s *Store) check(w *trigger.Webhook) error {
	if s.keeps > 0 && w.Schedule.Span()+24*time.Hour > s.keeps {
		return trigger.Errorf(trigger.Invalid, "the schedule must end at least a day before the retention of events, %s; got a schedule of %s",
			s.keeps, w.Schedule.Span().Round(time.Minute))
	}
	return w.Check()
}

func (s *Store) updateWebhook(ctx context.Context, q querier, w *trigger.Webhook, version int64) error {
	if w.State == trigger.Deleted {
		return s.clearWebhook(ctx, q, w, version)
	}
	if w.State != trigger.Paused {
		w.PausedBy = ""
	}
	if w.State != trigger.Gone {
		w.GoneAt, w.GoneReason = time.Time{}, ""
	}
	if _, err := q.ExecContext(ctx, `UPDATE webhooks SET state = $3, paused_by = $4, gone_at = $5, gone_reason = $6
		WHERE organization_id = $1 AND id = $2`,
		w.OrganizationID, w.ID, string(w.State), w.PausedBy, microsOrNone(w.GoneAt), w.GoneReason); err != nil {
		return err
	}
	if w.Broken == nil || w.State != trigger.Gone { // a later resume may need the unreadable settings
		if err := s.updateSettings(ctx, q, w); err != nil {
			return err
		}
	}
	return s.addVersion(ctx, q, w, version, micros(s.Now()))
}

func (s *Store) updateSettings(ctx context.Context, q querier, w *trigger.Webhook) error {
	c, err := s.columnsOf(w)
	if err != nil {
		return err
	}
	_, err = q.ExecContext(ctx, `UPDATE webhooks SET url = $3, filter = $4, secret = $5, config = $6, sealed = $7, secrets_until = $8
		WHERE organization_id = $1 AND id = $2`, w.OrganizationID, w.ID, w.URL, c.filter, c.secret, c.config, c.sealed, c.secretsUntil)
	if err == nil {
		err = s.notePlain(ctx, q)
	}
	return err
}

// SetWebhookState makes a webhook active, paused or deleted, on its owner's
// request. Deleted is final; a gone webhook can become active or deleted. It
// returns NotFound if the organization does not have the webhook, or it was
// deleted, and Conflict as SetWebhook does.
func (s *Store) SetWebhookState(ctx context.Context, orgID, webhookID int64, state trigger.WebhookState) error {
	_, err := s.setWebhook(ctx, orgID, webhookID, func(w *trigger.Webhook, _ int64) error {
		w.State, w.PausedBy = state, trigger.PausedByOwner
		return nil
	})
	return err
}

// bumpVersion starts every change of an organization's webhooks. The row it
// changes serializes them. It returns NotFound if the organization does not
// exist.
func bumpVersion(ctx context.Context, q querier, orgID int64) (version int64, err error) {
	err = q.QueryRowContext(ctx, `UPDATE organizations SET version = version + 1
		WHERE id = $1 AND deleted_at = 0 RETURNING version`, orgID).Scan(&version)
	return version, err
}

// isPlain reports whether programs that know only schema 2 can handle the
// webhook: they know one pattern, one plain secret, and the standard body.
func (s *Store) isPlain(w *trigger.Webhook) bool {
	return !s.keys.encrypts() && len(w.Filter.Types) <= 1 && w.Filter.Content == nil && len(w.Secrets) == 1 &&
		w.Secrets[0].Stored() != nil && len(w.Headers) == 0 && w.Auth == trigger.Auth{} &&
		(w.Format == "" || w.Format == trigger.FormatStandard)
}

// refuseOlder stops programs that know only older schemas, within seconds if
// they run: see compatibility.
func refuseOlder(ctx context.Context, q querier, least int64) error {
	_, err := q.ExecContext(ctx, `UPDATE compatibility SET least = $1 WHERE least < $1`, least)
	return err
}

// Webhook reads one webhook of an organization, also gone and deleted ones. It
// returns NotFound if the organization does not have it.
func (s *Store) Webhook(ctx context.Context, orgID, id int64) (trigger.Webhook, error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	w, err := s.webhook(ctx, s.read, orgID, id)
	return wrapped("find webhook", w, err)
}

func (s *Store) webhook(ctx context.Context, q querier, orgID, id int64) (trigger.Webhook, error) {
	return rowOf(ctx, q, s.scanWebhookAlone,
		`SELECT `+webhookColumns+` FROM `+webhookTables+` WHERE w.organization_id = $1 AND w.id = $2`, orgID, id)
}

// scanWebhookAlone reads webhookColumns.
func (s *Store) scanWebhookAlone(r row) (w trigger.Webhook, err error) {
	err = s.scanWebhook(r, &w)
	return w, err
}

// scanWebhook reads webhookColumns, after columns that are scanned into before.
func (s *Store) scanWebhook(r row, w *trigger.Webhook, before ...any) error {
	var (
		filter, config string
		secret, sealed []byte
		held, created  int64
		goneAt         int64
		since, last    int64
		failures       int
	)
	if err := r.Scan(append(before, &w.ID, &w.OrganizationID, &w.State, &w.URL, &filter, &secret, &config, &sealed,
		&w.PausedBy, &held, &w.Holds, &created, &since, &last, &failures, &goneAt, &w.GoneReason)...); err != nil {
		return err
	}
	w.CreatedAt = fromMicros(created)
	if failures > 0 {
		w.Failing = &trigger.Health{
			WebhookID: w.ID, OrganizationID: w.OrganizationID, Since: fromMicros(since), LastAt: fromMicros(last), Failures: failures,
		}
	}
	if held != 0 {
		w.HeldUntil = fromMicros(held)
	}
	if goneAt != 0 && w.State == trigger.Gone { // in a tombstone it is the time of deletion
		w.GoneAt = fromMicros(goneAt)
	}
	c := webhookConfig{Filter: &filter}
	if config != "" {
		c = webhookConfig{}
		if err := json.Unmarshal([]byte(config), &c); err != nil {
			return &unreadableError{w.ID, err}
		}
	}
	if err := c.apply(w); err != nil {
		return &unreadableError{w.ID, err}
	}
	s.openSecrets(w, secret, sealed)
	return nil
}

// unreadableError means that the settings of a webhook cannot be read. It
// affects only its organization.
type unreadableError struct {
	webhookID int64
	cause     error
}

func (e *unreadableError) Error() string {
	return fmt.Sprintf("the settings of webhook %d cannot be read: %v", e.webhookID, e.cause)
}

func (e *unreadableError) Unwrap() error { return e.cause }

// openSecrets reads the secrets of a webhook. If it cannot, the webhook is
// broken, but still gets deliveries.
func (s *Store) openSecrets(w *trigger.Webhook, secret, sealed []byte) {
	if len(sealed) == 0 && w.State == trigger.Deleted {
		return
	}
	if len(sealed) == 0 { // from an older program
		w.Secrets = trigger.OneSecret(trigger.StoredSecret(secret))
		return
	}
	plain, err := s.keys.open(sealed, w.OrganizationID)
	if err == nil {
		err = unpackSecrets(plain, w)
	}
	if err != nil {
		w.Broken = fmt.Errorf("the secrets of webhook %d cannot be read: %w", w.ID, err)
	}
}

// Reseal encrypts the secrets of all webhooks with the first SECRET_KEY. It
// returns how many had another key, even beside an error. It stops with an
// error at a secret that no key decrypts.
func (s *Store) Reseal(ctx context.Context) (n int, err error) {
	type old struct{ id, orgID int64 }
	list, err := rowsOf(ctx, s.read, func(r row) (o old, err error) {
		var sealed []byte
		err = r.Scan(&o.id, &o.orgID, &sealed)
		if ofOlder := len(sealed) == 0 && s.keys.encrypts(); err == nil && s.keys.current(sealed) && !ofOlder {
			err = errSkip
		}
		return o, err
	}, `SELECT id, organization_id, sealed FROM webhooks WHERE state <> 'gone' ORDER BY id`)
	if err != nil {
		return 0, wrap("seal secrets", err)
	}
	for _, o := range list {
		if err := s.dialect.write(ctx, func(q querier) error {
			_, err := bumpVersion(ctx, q, o.orgID) // so that others read it again
			if errors.Is(err, sql.ErrNoRows) {
				return nil // the organization was deleted since, with its webhooks
			}
			if err != nil {
				return err
			}
			w, err := s.webhook(ctx, q, o.orgID, o.id)
			if err = cmp.Or(err, w.Broken); err != nil {
				return err
			}
			err = s.updateSettings(ctx, q, &w)
			if err == nil && s.keys.encrypts() {
				err = refuseOlder(ctx, q, 3)
			}
			return err
		}); err != nil {
			return n, wrap("seal secrets", err)
		}
		n++
	}
	return n, nil
}
