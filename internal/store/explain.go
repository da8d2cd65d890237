package store

import (
	"context"
	"database/sql"
	"encoding/json"

	"triggerd/internal/trigger"
)

// Why explains what happened to an event at each webhook of its organization,
// including gone and later webhooks: one verdict for each, ordered by id. It
// returns NotFound if the organization does not have the event.
func (s *Store) Why(ctx context.Context, orgID int64, eventID trigger.ID) ([]trigger.Verdict, error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	verdicts, err := s.why(ctx, orgID, eventID)
	return wrapped("explain an event", verdicts, err)
}

func (s *Store) why(ctx context.Context, orgID int64, eventID trigger.ID) ([]trigger.Verdict, error) {
	// Deliveries are read before attempts, because a delivery that ends in
	// between has an attempt.
	owed, err := s.owedTo(ctx, orgID, eventID)
	if err != nil {
		return nil, err
	}
	last, replayed, err := s.lastAttempts(ctx, orgID, eventID)
	if err != nil {
		return nil, err
	}
	events, err := s.readEvents(ctx, s.read, orgID, []trigger.ID{eventID})
	if err != nil {
		return nil, err
	}
	event := events[eventID]
	if event == nil {
		return nil, sql.ErrNoRows
	}
	cases, err := rowsOf(ctx, s.read, func(r row) (c trigger.Case, err error) {
		var then sql.NullString
		if err := s.scanWebhook(r, &c.Now, &then); err != nil {
			return c, err
		}
		if then.Valid {
			if c.Then, err = webhookThen(then.String); err != nil {
				return c, err
			}
		}
		c.Event, c.Owed, c.Last, c.Replayed = event, owed[c.Now.ID], last[c.Now.ID], replayed[c.Now.ID]
		return c, nil
	}, `SELECT (SELECT v.config FROM webhook_versions v WHERE v.webhook_id = w.id AND v.version <= $2
			ORDER BY v.version DESC LIMIT 1), `+webhookColumns+`
		FROM `+webhookTables+` WHERE w.organization_id = $1 ORDER BY w.id`, orgID, event.Version)
	if err != nil {
		return nil, err
	}
	verdicts := make([]trigger.Verdict, len(cases))
	for i := range cases {
		verdicts[i] = cases[i].Verdict()
	}
	return verdicts, nil
}

// webhookThen returns a webhook as it was at a version.
func webhookThen(config string) (*trigger.Webhook, error) {
	var c webhookConfig
	if err := json.Unmarshal([]byte(config), &c); err != nil {
		return nil, err
	}
	w := &trigger.Webhook{State: c.State, URL: c.URL}
	return orZero(w, c.apply(w))
}

// owedTo returns the open and failed deliveries of an event by webhook, without
// replays.
func (s *Store) owedTo(ctx context.Context, orgID int64, eventID trigger.ID) (map[int64]*trigger.Delivery, error) {
	list, err := rowsOf(ctx, s.read, func(r row) (*trigger.Delivery, error) {
		d := &trigger.Delivery{DeliveryKey: trigger.DeliveryKey{OrganizationID: orgID, EventID: eventID}}
		var due int64
		err := r.Scan(&d.WebhookID, &d.State, &d.Attempts, &due, (*dbID)(&d.Claim), &d.Reason)
		d.DueAt = fromMicros(due)
		return d, err
	}, `SELECT webhook_id, state, attempts, due_at, claim, reason FROM deliveries
		WHERE bucket = $1 AND organization_id = $2 AND state IN (0, 1) AND event_id = $3 AND job = 0`,
		trigger.Bucket(orgID), orgID, eventID[:])
	if err != nil {
		return nil, err
	}
	owed := make(map[int64]*trigger.Delivery, len(list))
	for _, d := range list {
		if owed[d.WebhookID] == nil || d.State == trigger.DeliveryOpen {
			owed[d.WebhookID] = d
		}
	}
	return owed, nil
}

// lastAttempts returns the latest attempts of an event by webhook, where a
// success always counts as the latest. replayed has the successes of its
// replays.
func (s *Store) lastAttempts(ctx context.Context, orgID int64, eventID trigger.ID) (last, replayed map[int64]*trigger.Attempt, err error) {
	attempts, err := s.attempts(ctx, orgID, eventID)
	if err != nil {
		return nil, nil, err
	}
	last, replayed = make(map[int64]*trigger.Attempt), make(map[int64]*trigger.Attempt)
	for i := range attempts {
		a := &attempts[i]
		before := last[a.WebhookID]
		switch {
		case a.Job != 0 && a.Outcome == trigger.Success:
			replayed[a.WebhookID] = a
		case a.Job == 0 && (before == nil || before.Outcome != trigger.Success):
			last[a.WebhookID] = a
		}
	}
	return last, replayed, nil
}

// Attempts lists the attempts of an event, including replays, in the order in
// which they began.
func (s *Store) Attempts(ctx context.Context, orgID int64, eventID trigger.ID) ([]trigger.Attempt, error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	list, err := s.attempts(ctx, orgID, eventID)
	return wrapped("list attempts", list, err)
}

func (s *Store) attempts(ctx context.Context, orgID int64, eventID trigger.ID) ([]trigger.Attempt, error) {
	return rowsOf(ctx, s.read, func(r row) (trigger.Attempt, error) { return scanAttempt(r, orgID) },
		`SELECT `+attemptColumns+` FROM attempts
		WHERE bucket = $1 AND organization_id = $2 AND event_id = $3 ORDER BY at, number`,
		trigger.Bucket(orgID), orgID, eventID[:])
}

const attemptColumns = `event_id, webhook_id, job, claim, number, at, took, outcome, status, error, response,
	dns, connect, tls, first_byte`

func scanAttempt(r row, orgID int64) (a trigger.Attempt, err error) {
	a.OrganizationID = orgID
	var at, took int64
	var timing [4]int64
	err = r.Scan((*dbID)(&a.EventID), &a.WebhookID, &a.Job, (*dbID)(&a.Claim), &a.Number, &at, &took, &a.Outcome, &a.Status,
		&a.Error, &a.Response, &timing[0], &timing[1], &timing[2], &timing[3])
	a.At, a.Took = fromMicros(at), fromMicrosSpan(took)
	a.Timing = trigger.Timing{
		DNS: fromMicrosSpan(timing[0]), Connect: fromMicrosSpan(timing[1]),
		TLS: fromMicrosSpan(timing[2]), FirstByte: fromMicrosSpan(timing[3]),
	}
	return a, err
}

// AttemptFilter selects attempts; zero values select all.
type AttemptFilter struct {
	WebhookID int64
	OfWebhook bool // whether to filter by WebhookID; 0 is the inbox
	Outcome   trigger.Outcome
	Job       int64
}

// ListAttempts lists attempts of an organization at events below an id, newest
// events first. It returns all attempts of each event until there are limit or
// a few more. next is the id to continue below, zero at the end. A page may
// have fewer, or even none, if the filter selects few.
func (s *Store) ListAttempts(ctx context.Context, orgID int64, f AttemptFilter, before trigger.ID, limit int) (page []trigger.Attempt, next trigger.ID, err error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	w := dayWalk{orgID: orgID, table: "attempts", left: allIDs(), newest: true, until: s.clock.monotonic().Add(readTimeout / 2)}
	if !before.IsZero() {
		w.left.before = before
	}
	for len(page) < limit && !w.isOver() {
		list, err := s.nextAttempts(ctx, &w, limit)
		if err != nil {
			return nil, trigger.ID{}, wrap("list attempts", err)
		}
		for i := range list {
			if f.picks(&list[i]) {
				page = append(page, list[i])
			}
		}
		if s.isLate(&w) {
			break
		}
	}
	if !w.isOver() {
		next = w.place()
	}
	return page, next, nil
}

// nextAttempts lists all attempts of the next events of a walk until there are
// limit, or fewer if the days of a statement have no more.
func (s *Store) nextAttempts(ctx context.Context, w *dayWalk, limit int) ([]trigger.Attempt, error) {
	part, err := s.nextPart(ctx, s.read, w)
	if err != nil {
		return nil, err
	}
	list, err := rowsOf(ctx, s.read, func(r row) (trigger.Attempt, error) { return scanAttempt(r, w.orgID) },
		`SELECT `+attemptColumns+` FROM attempts WHERE bucket = $1 AND organization_id = $2 AND event_id >= $3 AND event_id < $4
		AND event_id >= (SELECT event_id FROM (SELECT event_id FROM attempts
			WHERE bucket = $1 AND organization_id = $2 AND event_id >= $3 AND event_id < $4 ORDER BY event_id DESC LIMIT $5) e
			ORDER BY event_id LIMIT 1)
		ORDER BY event_id DESC, at DESC`, trigger.Bucket(w.orgID), w.orgID, part.from[:], part.before[:], limit)
	if err == nil && len(list) >= limit {
		w.goOnAfter(list[len(list)-1].EventID)
	}
	return list, err
}

func (f *AttemptFilter) picks(a *trigger.Attempt) bool {
	return (!f.OfWebhook || a.WebhookID == f.WebhookID) && (f.Outcome == "" || a.Outcome == f.Outcome) &&
		(f.Job == 0 || a.Job == f.Job)
}
