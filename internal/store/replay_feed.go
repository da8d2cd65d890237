package store

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"triggerd/internal/trigger"
)

const (
	// replayWindow is how many deliveries of a replay are open at most, so
	// that a replay of millions is a short queue at any time.
	replayWindow = 1000
	// replayPage is how many events one transaction of a replay looks at.
	replayPage = 1000
	// replayLag is how far a replay stays behind: over several nodes, the order
	// of commits is not quite that of ids.
	replayLag = 30 * time.Second
)

// RunningReplays lists up to a hundred replays that are running or being
// cancelled.
func (s *Store) RunningReplays(ctx context.Context) (list []trigger.Replay, err error) {
	err = query(ctx, s.hot, func(rows *sql.Rows) error {
		r, err := scanReplay(rows)
		list = append(list, r)
		return err
	}, `SELECT `+replayColumns+` FROM replays WHERE state IN ('running', 'cancelling') ORDER BY id LIMIT 100`)
	return list, wrap("list running replays", err)
}

// FeedReplay goes on with a replay: it makes the next deliveries, as far as
// few enough of it are open, and finds its end. more says that it can go on at
// once. Deliveries and cursor move in one transaction, so that each event is
// owed once, whenever the process dies.
func (s *Store) FeedReplay(ctx context.Context, r trigger.Replay) (more bool, err error) {
	open, err := s.openOf(ctx, &r)
	if err != nil {
		return false, err
	}
	switch {
	case r.State == trigger.ReplayCancelling:
		return s.cancelSome(ctx, &r, open)
	case r.Cursor == lastID() && open == 0:
		return false, s.endReplay(ctx, &r, trigger.ReplayDone)
	case r.Cursor == lastID() || open > replayWindow/2:
		return false, nil
	}
	err = s.dialect.write(ctx, func(q querier) error {
		// The row keeps other nodes out until the commit.
		now, err := scanReplay(q.QueryRowContext(ctx, `UPDATE replays SET queued = queued
			WHERE id = $1 AND state = 'running' AND cursor = $2 RETURNING `+replayColumns, r.ID, r.Cursor[:]))
		if err != nil {
			return err
		}
		w, err := s.webhook(ctx, q, now.OrganizationID, now.WebhookID)
		if err != nil {
			return err
		}
		if w.State == trigger.Gone {
			_, err := q.ExecContext(ctx, `UPDATE replays SET state = 'cancelling' WHERE id = $1`, now.ID)
			return err
		}
		more, err = s.feed(ctx, q, &now, &w, replayWindow-open)
		return err
	})
	if errors.Is(err, sql.ErrNoRows) { // another node is ahead, or it was paused
		return false, nil
	}
	return more, wrap("go on with a replay", err)
}

// openOf counts the open deliveries of a replay.
func (s *Store) openOf(ctx context.Context, r *trigger.Replay) (n int, err error) {
	err = s.hot.QueryRowContext(ctx, `SELECT count(*) FROM deliveries WHERE bucket = $1 AND state = 3 AND job = $2`,
		trigger.Bucket(r.OrganizationID), r.ID).Scan(&n)
	return n, wrap("count a replay", err)
}

// feed owes the next events to the webhook, up to room of them.
func (s *Store) feed(ctx context.Context, q querier, r *trigger.Replay, w *trigger.Webhook, room int) (more bool, err error) {
	end, settled := trigger.MinID(r.Until), trigger.MinID(s.Now().Add(-replayLag))
	page, err := s.replayPage(ctx, q, r, w, minID(end, settled))
	if err != nil {
		return false, err
	}
	picked, err := s.pick(ctx, q, r, w, page)
	if err != nil {
		return false, err
	}
	var ids []trigger.ID
	whole := true
	for _, e := range page {
		if whole = len(ids) < room; !whole {
			break
		}
		if r.Cursor = e.ID; picked[e.ID] {
			ids = append(ids, e.ID)
		}
	}
	if err := s.oweAgain(ctx, q, r, ids); err != nil {
		return false, err
	}
	last := len(page) < replayPage
	if whole && last && end == minID(end, settled) {
		r.Cursor = lastID()
	}
	_, err = q.ExecContext(ctx, `UPDATE replays SET cursor = $2, queued = queued + $3 WHERE id = $1`, r.ID, r.Cursor[:], len(ids))
	return whole && !last, err
}

// oweAgain makes the deliveries of a replay, in one statement.
func (s *Store) oweAgain(ctx context.Context, q querier, r *trigger.Replay, ids []trigger.ID) error {
	if len(ids) == 0 {
		return nil
	}
	_, err := q.ExecContext(ctx, `
		INSERT INTO deliveries (bucket, organization_id, state, event_id, webhook_id, job, attempts, due_at, claim, reason)
		SELECT bucket, organization_id, 3, id, $6, $7, 0, $8, $9, '' FROM events
		WHERE bucket = $1 AND organization_id = $2 AND id >= $3 AND id <= $4 AND `+s.in("id", "$5", listOfIDs)+`
		ON CONFLICT DO NOTHING`, trigger.Bucket(r.OrganizationID), r.OrganizationID, ids[0][:], ids[len(ids)-1][:],
		s.dialect.ids(ids), r.WebhookID, r.ID, micros(s.Now()), nobody())
	return err
}

// replayPage reads the next events of a replay; payloads only where the filter
// asks for them.
func (s *Store) replayPage(ctx context.Context, q querier, r *trigger.Replay, w *trigger.Webhook, before trigger.ID) (page []*trigger.Event, err error) {
	payload := `''`
	if w.Filter.Content != nil {
		payload = `payload`
	}
	err = query(ctx, q, func(rows *sql.Rows) error {
		e := &trigger.Event{OrganizationID: r.OrganizationID}
		err := rows.Scan((*dbID)(&e.ID), &e.Type, &e.DedupID, &e.Payload)
		page = append(page, e)
		return err
	}, `SELECT id, type, dedup_id, `+payload+` FROM events
		WHERE bucket = $1 AND organization_id = $2 AND id > $3 AND id < $4 ORDER BY id LIMIT $5`,
		trigger.Bucket(r.OrganizationID), r.OrganizationID, r.Cursor[:], before[:], replayPage)
	return page, err
}

// pick says which events of a page belong to the replay.
func (s *Store) pick(ctx context.Context, q querier, r *trigger.Replay, w *trigger.Webhook, page []*trigger.Event) (map[trigger.ID]bool, error) {
	picked := make(map[trigger.ID]bool, len(page))
	if len(page) == 0 {
		return picked, nil
	}
	var having map[trigger.ID]bool
	text := ""
	switch r.Status {
	case trigger.Failed:
		text = `SELECT event_id FROM deliveries WHERE bucket = $1 AND organization_id = $2 AND state = 1
			AND event_id >= $3 AND event_id <= $4 AND webhook_id = $5 AND job = 0`
	case trigger.Delivered:
		text = `SELECT event_id FROM attempts WHERE bucket = $1 AND organization_id = $2
			AND event_id >= $3 AND event_id <= $4 AND webhook_id = $5 AND outcome = 'success'`
	}
	if text != "" {
		having = make(map[trigger.ID]bool)
		if err := query(ctx, q, func(rows *sql.Rows) error {
			var id dbID
			err := rows.Scan(&id)
			having[trigger.ID(id)] = true
			return err
		}, text, trigger.Bucket(r.OrganizationID), r.OrganizationID, page[0].ID[:], page[len(page)-1].ID[:], w.ID); err != nil {
			return nil, err
		}
	}
	for _, e := range page {
		picked[e.ID] = (having == nil || having[e.ID]) && r.Picks(w, e)
	}
	return picked, nil
}

// cancelSome removes the deliveries of a replay that nobody is at, and ends
// the replay when none is left.
func (s *Store) cancelSome(ctx context.Context, r *trigger.Replay, open int) (more bool, err error) {
	if open == 0 {
		return false, s.endReplay(ctx, r, trigger.ReplayCancelled)
	}
	which := sliceOf{stateReplayed, `AND job = $3 AND (claim = $5 OR due_at <= $6)`}
	_, done, err := s.changeSlice(ctx, r.OrganizationID, sqlRemove, which, nil, r.ID, nobody(), micros(s.Now()))
	return !done, err
}

func (s *Store) endReplay(ctx context.Context, r *trigger.Replay, state trigger.ReplayState) error {
	return wrap("end a replay", s.dialect.write(ctx, func(q querier) error {
		_, err := q.ExecContext(ctx, `UPDATE replays SET state = $2 WHERE id = $1 AND state = $3`,
			r.ID, string(state), string(r.State))
		return err
	}))
}

// CountReplay says how many events a replay would send, without beginning it;
// all is false where there are more than could be counted in a few seconds.
func (s *Store) CountReplay(ctx context.Context, orgID int64, r trigger.Replay) (n int, all bool, err error) {
	now := s.Now()
	if r.Until.IsZero() || r.Until.After(now) {
		r.Until = now
	}
	if err := r.Check(); err != nil {
		return 0, false, err
	}
	bound, cancel := bounded(ctx)
	defer cancel()
	r.OrganizationID, r.Cursor = orgID, trigger.MinID(r.Since)
	w, err := s.webhook(bound, s.read, orgID, r.WebhookID)
	if err == nil && w.State == trigger.Gone {
		err = sql.ErrNoRows
	}
	for begun := s.clock.monotonic(); err == nil; {
		var page []*trigger.Event
		page, err = s.replayPage(bound, s.read, &r, &w, trigger.MinID(r.Until))
		if err != nil {
			break
		}
		var picked map[trigger.ID]bool
		if picked, err = s.pick(bound, s.read, &r, &w, page); err != nil {
			break
		}
		for _, e := range page {
			if r.Cursor = e.ID; picked[e.ID] {
				n++
			}
		}
		if len(page) < replayPage {
			return n, true, nil
		}
		if s.clock.monotonic().Sub(begun) > readTimeout/2 {
			return n, false, nil
		}
	}
	return n, false, wrap("count a replay", err)
}
