package store

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"slices"
	"strconv"
	"time"

	"triggerd/internal/trigger"
)

// healthMark summarizes a group of results for one webhook.
type healthMark struct {
	organizationID, webhookID int64
	fine                      bool      // there was a success
	fineAt                    time.Time // the start of the latest success
	since, last               int64     // of the failures after fineAt, in microseconds
	failures                  int
}

// healthMarks summarizes results by webhook, ordered by id.
func healthMarks(results []Result) []healthMark {
	byID := make(map[int64]*healthMark)
	for _, r := range results {
		a := &r.Attempt
		if a.Outcome == "" || a.Error == trigger.ReasonNoEvent { // nothing was sent
			continue
		}
		m := byID[a.WebhookID]
		if m == nil {
			m = &healthMark{organizationID: a.OrganizationID, webhookID: a.WebhookID}
			byID[a.WebhookID] = m
		}
		if a.Outcome == trigger.Success {
			m.fine = true
			if a.At.After(m.fineAt) {
				m.fineAt = a.At
			}
		}
	}
	for _, r := range results {
		m := byID[r.Attempt.WebhookID]
		if m == nil || r.Attempt.Outcome == trigger.Success || r.Attempt.Outcome == "" || !r.Attempt.At.After(m.fineAt) {
			continue
		}
		at := micros(r.Attempt.At)
		if m.failures == 0 {
			m.since, m.last = at, at
		}
		m.since, m.last, m.failures = min(m.since, at), max(m.last, at), m.failures+1
	}
	marks := make([]healthMark, 0, len(byID))
	for _, m := range byID {
		marks = append(marks, *m)
	}
	slices.SortFunc(marks, func(a, b healthMark) int { return cmp.Compare(a.webhookID, b.webhookID) })
	return marks
}

// Updates of a webhook's health after successes and failures. A success removes
// the failures, unless a notice told of them: then the success needs a notice,
// too. It closes the breaker, unless its attempt began before it could.
const (
	sqlHealthFine = `DELETE FROM webhook_health WHERE stage = 0 AND webhook_id = $1 AND lift_at <= $2`
	sqlHealthBack = `UPDATE webhook_health SET stage = CASE WHEN stage > 0 THEN 3 ELSE 0 END, failures = 0,
		held_until = CASE WHEN lift_at <= $2 THEN 0 ELSE held_until END, holds = CASE WHEN lift_at <= $2 THEN 0 ELSE holds END
		WHERE webhook_id = $1`
	sqlHealthNote = `
		INSERT INTO webhook_health (webhook_id, organization_id, since, last_at, failures, stage, held_until, holds)
		VALUES ($1, $2, $3, $4, $5, 0, 0, 0)
		ON CONFLICT (webhook_id) DO UPDATE SET
			since = CASE WHEN webhook_health.failures = 0 THEN excluded.since ELSE webhook_health.since END,
			last_at = excluded.last_at, failures = webhook_health.failures + excluded.failures`
)

// Stop is a receiver's request to get no more events.
type Stop struct {
	OrganizationID, WebhookID int64

	AsOf  int64                // [trigger.Webhook.AsOf] of the webhook that was sent to; 0: not checked
	State trigger.WebhookState // the requested state: trigger.Gone or trigger.Paused
}

// StopWebhook applies a receiver's request: it makes a webhook gone, or paused,
// and posts a notice of it. stopped reports whether the webhook has stopped in
// that way, now or before. It does not stop a webhook that its owner has
// changed since the attempt, because the answer came from another URL, or the
// owner has resumed it.
func (s *Store) StopWebhook(ctx context.Context, stop Stop) (stopped bool, err error) {
	now := s.Now()
	n := trigger.Notice{
		Type: trigger.WebhookGone, About: stop.WebhookID, Reason: trigger.GoneByReceiver, Once: strconv.FormatInt(micros(now), 10),
	}
	if stop.State == trigger.Paused {
		n.Type, n.Reason = trigger.WebhookPaused, "its receiver answered with the directive disable"
	}
	_, err = s.setWebhook(ctx, stop.OrganizationID, stop.WebhookID, func(w *trigger.Webhook, changed int64) error {
		switch {
		case w.State == stop.State || w.State == trigger.Gone:
			stopped = true
			return errUnchanged
		case stop.AsOf != 0 && changed > stop.AsOf:
			return errUnchanged
		}
		if w.State, w.PausedBy = stop.State, trigger.PausedByReceiver; stop.State == trigger.Gone {
			w.GoneAt, w.GoneReason, n.URL = now, n.Reason, w.URL
		}
		return nil
	}, &n)
	switch {
	case errors.Is(err, errUnchanged):
		return stopped, nil
	case trigger.KindOf(err) == trigger.NotFound: // it was deleted
		return true, nil
	}
	return err == nil, err
}

var errUnchanged = errors.New("the webhook is in that state already")

// Failing lists up to a thousand webhooks that only fail and have reached a
// stage that needs an action.
func (s *Store) Failing(ctx context.Context, e trigger.Endurance) (list []trigger.Health, err error) {
	const enough = 1000
	list, err = rowsOf(ctx, s.hot, func(r row) (h trigger.Health, err error) {
		var since, last int64
		err = r.Scan(&h.WebhookID, &h.OrganizationID, &since, &last, &h.Failures, &h.Stage)
		h.Since, h.LastAt = fromMicros(since), fromMicros(last)
		if _, _, due := h.Due(e); err == nil && !due {
			err = errSkip
		}
		return h, err
	}, `SELECT webhook_id, organization_id, since, last_at, failures, stage FROM webhook_health
		WHERE stage = 3 OR stage = 0 AND failures >= $1 OR stage = 1 AND failures >= $2 ORDER BY webhook_id`,
		trigger.WarnAttempts, e.Attempts)
	return wrapped("list failing webhooks", list[:min(len(list), enough)], err)
}

// Advance applies the next stage of a failing webhook, by [trigger.Health.Due]:
// it records the stage, pauses the webhook at HealthPaused, and posts the
// notice, all in one transaction. It does nothing if another node has done it,
// or the webhook has recovered since.
func (s *Store) Advance(ctx context.Context, h trigger.Health, stage trigger.HealthStage, n trigger.Notice) error {
	return wrap("record a failing webhook", s.dialect.writeQuietly(ctx, func(q querier) error {
		version, err := bumpVersion(ctx, q, h.OrganizationID)
		if err != nil {
			return err
		}
		next := stage
		if stage == trigger.HealthRecovered { // it may have failed again since
			next = trigger.HealthNoted
		}
		moved, err := affected(q.ExecContext(ctx, `UPDATE webhook_health SET stage = $3 WHERE webhook_id = $1 AND stage = $2`,
			h.WebhookID, int(h.Stage), int(next)))
		if err != nil || !moved {
			return err
		}
		w, err := s.webhook(ctx, q, h.OrganizationID, h.WebhookID)
		if err != nil {
			return err
		}
		if stage == trigger.HealthRecovered {
			if _, err := q.ExecContext(ctx, `DELETE FROM webhook_health WHERE webhook_id = $1 AND failures = 0`, h.WebhookID); err != nil {
				return err
			}
		}
		if stage == trigger.HealthPaused {
			if w.State != trigger.Active { // paused by its owner, or gone: no notice is needed
				return nil
			}
			w.State, w.PausedBy = trigger.Paused, trigger.PausedByFailures
			if err := s.updateWebhook(ctx, q, &w, version); err != nil {
				return err
			}
		}
		return s.postNotice(ctx, q, h.OrganizationID, &n)
	}))
}

// settleHealth updates the health after a change of a webhook. It removes the
// health of a webhook that is gone or deleted, or is resumed after gone. It
// resets the health of a webhook that was paused, or has another URL; if a
// notice told of its failures, its next success gets one.
func settleHealth(ctx context.Context, q querier, w, before *trigger.Webhook, now int64) (err error) {
	switch {
	case !w.State.Receives() || before.State == trigger.Gone:
		_, err = q.ExecContext(ctx, `DELETE FROM webhook_health WHERE webhook_id = $1`, w.ID)
	case w.State == trigger.Active && before.State == trigger.Paused || w.URL != before.URL:
		if _, err = q.ExecContext(ctx, `DELETE FROM webhook_health WHERE webhook_id = $1 AND stage = 0`, w.ID); err != nil {
			return err
		}
		_, err = q.ExecContext(ctx, `UPDATE webhook_health
			SET stage = CASE WHEN stage = 2 THEN 1 ELSE stage END, failures = 0, since = $2, last_at = $2,
				held_until = 0, holds = 0, lift_at = 0
			WHERE webhook_id = $1`, w.ID, now)
	}
	return err
}

// BreakerChange is a change of a webhook's breaker.
type BreakerChange struct {
	OrganizationID, WebhookID int64

	AsOf   int64     // [trigger.Webhook.AsOf] of the webhook that was tried; 0: not checked
	Seen   time.Time // the observed end of the open breaker; zero: it was closed
	Until  time.Time // the new end of the open breaker; zero: close it
	LiftAt time.Time // a success closes it if its attempt began no earlier; zero: unchanged
	Asked  bool      // the receiver requested it, so Seen does not matter; LiftAt is then Until
}

// SetBreaker changes the breaker of a webhook; while it is open no node tries
// the webhook. If the breaker is not as in Seen, it changes nothing. But a
// receiver's request replaces a pause of our own, a probe's lease, and an
// earlier, shorter request. It also changes nothing if the owner has changed
// the webhook since it was tried.
func (s *Store) SetBreaker(ctx context.Context, c BreakerChange) error {
	return wrap("change a breaker", s.dialect.writeQuietly(ctx, func(q querier) error {
		if current, err := s.isAsTried(ctx, q, c); err != nil || !current {
			return err
		}
		return s.setBreaker(ctx, q, c)
	}))
}

// isAsTried reports whether the owner has not changed a webhook since it was
// tried. Its lock prevents changes until the transaction ends.
func (s *Store) isAsTried(ctx context.Context, q querier, c BreakerChange) (bool, error) {
	if c.AsOf == 0 {
		return true, nil
	}
	version, err := rowOf(ctx, q, scanInt, `SELECT version FROM organizations WHERE id = $1`+s.dialect.lockShared(), c.OrganizationID)
	switch {
	case errors.Is(err, sql.ErrNoRows): // erased
		return false, nil
	case err != nil || version <= c.AsOf:
		return err == nil, err
	}
	changed, err := changedAt(ctx, q, c.WebhookID)
	return changed <= c.AsOf, err
}

func (s *Store) setBreaker(ctx context.Context, q querier, c BreakerChange) (err error) {
	now, seen, failed := micros(s.Now()), int64(0), 0
	if micros(c.Until) > now { // else a probe was not made
		failed = 1
	}
	if !c.Seen.IsZero() {
		seen = micros(c.Seen)
	}
	switch {
	case c.Until.IsZero():
		_, err = q.ExecContext(ctx, `UPDATE webhook_health SET held_until = 0, holds = 0, lift_at = 0
			WHERE webhook_id = $1 AND held_until = $2`, c.WebhookID, seen)
	case c.Seen.IsZero() || c.Asked:
		_, err = q.ExecContext(ctx, `
			INSERT INTO webhook_health (webhook_id, organization_id, since, last_at, failures, stage, held_until, holds, lift_at)
			VALUES ($1, $2, $3, $3, 0, 0, $4, 1, $5)
			ON CONFLICT (webhook_id) DO UPDATE SET
				held_until = excluded.held_until, holds = webhook_health.holds + 1, lift_at = excluded.lift_at
			WHERE webhook_health.held_until IN (0, $7) OR $6 = 1 AND webhook_health.lift_at < excluded.lift_at`,
			c.WebhookID, c.OrganizationID, now, micros(c.Until), max(0, micros(c.LiftAt)), asInt(c.Asked), seen)
	default:
		_, err = q.ExecContext(ctx, `UPDATE webhook_health SET held_until = $3, holds = holds + $4,
			lift_at = CASE WHEN CAST($5 AS bigint) > 0 THEN CAST($5 AS bigint) ELSE lift_at END
			WHERE webhook_id = $1 AND held_until = $2`, c.WebhookID, seen, micros(c.Until), failed, max(0, micros(c.LiftAt)))
	}
	return err
}

// Hold is an open breaker.
type Hold struct {
	WebhookID int64
	Until     time.Time // when a node may make the probe
	Holds     int       // how often it has opened in a row
}

// Holds lists all open breakers, also those that may be probed.
func (s *Store) Holds(ctx context.Context) ([]Hold, error) {
	list, err := rowsOf(ctx, s.hot, func(r row) (h Hold, err error) {
		var until int64
		err = r.Scan(&h.WebhookID, &until, &h.Holds)
		h.Until = fromMicros(until)
		return h, err
	}, `SELECT webhook_id, held_until, holds FROM webhook_health WHERE held_until > 0`)
	return wrapped("list open breakers", list, err)
}

func asInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

// Probe acquires the single attempt after a breaker was open until held. ok is
// true for only one node; the others wait until the given time.
func (s *Store) Probe(ctx context.Context, webhookID int64, held, until time.Time) (ok bool, err error) {
	err = s.dialect.writeQuietly(ctx, func(q querier) error {
		ok, err = affected(q.ExecContext(ctx, `UPDATE webhook_health SET held_until = $3
			WHERE webhook_id = $1 AND held_until = $2`, webhookID, micros(held), micros(until)))
		return err
	})
	return wrapped("probe a webhook", ok, err)
}
