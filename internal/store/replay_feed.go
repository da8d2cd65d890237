package store

import (
	"context"
	"slices"
	"time"

	"triggerd/internal/trigger"
)

const (
	// replayWindow is the most open deliveries of a replay, so that the queue
	// of a replay of millions is always short.
	replayWindow = 1000
	// feedTime is how long FeedReplay goes on to read pages of events.
	feedTime = 50 * time.Millisecond
)

// RunningPage is the most replays that RunningReplays lists.
const RunningPage = 200

// RunningReplays lists replays that need FeedReplay, after an id: those that
// are being cancelled, and running ones unless their webhook is paused.
func (s *Store) RunningReplays(ctx context.Context, after int64) (list []trigger.Replay, err error) {
	list, err = rowsOf(ctx, s.hot, scanReplay, `SELECT `+replayColumns+` FROM replays WHERE state IN ('running', 'cancelling') AND id > $1
		AND (state = 'cancelling' OR EXISTS (SELECT 1 FROM webhooks w WHERE w.id = webhook_id AND w.state <> 'paused'))
		ORDER BY id LIMIT $2`, after, RunningPage)
	return wrapped("list running replays", list, err)
}

// FeedReplay continues a replay: it makes the next deliveries while few are
// open, and ends the replay after the last. due reports whether some of its
// deliveries can be claimed now. Deliveries and cursor change in one
// transaction, so that each event gets one delivery even if the process dies.
func (s *Store) FeedReplay(ctx context.Context, r trigger.Replay) (due bool, err error) {
	open, first, err := s.openOf(ctx, &r)
	if err != nil {
		return false, err
	}
	due = open > 0 && !first.After(s.Now())
	switch {
	case r.State == trigger.ReplayCancelling:
		return false, s.cancelSome(ctx, &r, open)
	case r.Cursor == lastID() && open == 0:
		return false, s.endReplay(ctx, &r, trigger.ReplayDone)
	case r.Cursor == lastID() || open > replayWindow/2:
		return due, nil
	}
	w, err := s.webhook(ctx, s.hot, r.OrganizationID, r.WebhookID)
	if err != nil {
		return false, wrap("continue a replay", err)
	}
	if !w.State.Receives() {
		return false, s.endReplay(ctx, &r, trigger.ReplayCancelling)
	}
	seen := r.Cursor
	ids, err := s.nextOf(ctx, &r, &w, replayWindow-open)
	if err == nil && r.Cursor != seen {
		err = s.oweAgain(ctx, &r, seen, ids)
	}
	return wrapped("continue a replay", due || len(ids) > 0, err)
}

// openOf returns the number of open deliveries of a replay, and when the first
// is due.
func (s *Store) openOf(ctx context.Context, r *trigger.Replay) (n int, first time.Time, err error) {
	var due int64
	if err = s.hot.QueryRowContext(ctx, `SELECT count(*), coalesce(min(due_at), 0) FROM deliveries
		WHERE bucket = $1 AND state = 3 AND job = $2`, trigger.Bucket(r.OrganizationID), r.ID).Scan(&n, &due); err != nil {
		return 0, time.Time{}, wrap("count a replay", err)
	}
	return n, fromMicros(due), nil
}

// nextOf returns the next events of a replay, at most room, and moves its
// cursor. If few events are selected, it reads pages for feedTime.
func (s *Store) nextOf(ctx context.Context, r *trigger.Replay, w *trigger.Webhook, room int) (ids []trigger.ID, err error) {
	end, settled := trigger.MinID(r.Until), trigger.MinID(s.Now().Add(-settleTime))
	before := minID(end, settled)
	if s.IsAhead(end) { // the clock went back since the replay was made, so all its events exist
		before = end
	}
	for begun := s.clock.monotonic(); ; {
		page, place, err := s.replayPage(ctx, s.hotDays, r, w, before)
		if err != nil {
			return nil, err
		}
		for _, e := range page {
			if len(ids) == room {
				return ids, nil
			}
			if r.Cursor = e.id; e.picked {
				ids = append(ids, e.id)
			}
		}
		switch {
		case place != lastID():
			r.Cursor = place
		case before == end:
			r.Cursor = place
			return ids, nil
		default: // more will come
			return ids, nil
		}
		if s.clock.monotonic().Sub(begun) >= feedTime {
			return ids, nil
		}
	}
}

// oweAgain makes the deliveries of a replay and moves its cursor, unless
// another node has, or the replay was stopped.
func (s *Store) oweAgain(ctx context.Context, r *trigger.Replay, seen trigger.ID, ids []trigger.ID) error {
	return s.dialect.writeQuietly(ctx, func(q querier) error {
		moved, err := affected(q.ExecContext(ctx, `UPDATE replays SET cursor = $3, queued = queued + $4
			WHERE id = $1 AND state = 'running' AND cursor = $2`, r.ID, seen[:], r.Cursor[:], len(ids)))
		if err != nil || !moved || len(ids) == 0 {
			return err
		}
		for _, group := range s.dialect.groups(ids) {
			if _, err = q.ExecContext(ctx, `
				INSERT INTO deliveries (bucket, organization_id, state, event_id, webhook_id, job, attempts, due_at, claim, reason)
				SELECT bucket, organization_id, 3, id, $6, $7, 0, $8, $9, '' FROM events
				WHERE bucket = $1`+s.among("id")+` ON CONFLICT DO NOTHING`,
				s.amongArgs(r.OrganizationID, group, r.WebhookID, r.ID, micros(s.Now()), nobody())...); err != nil {
				return err
			}
		}
		return nil
	})
}

// looked is an event that a replay has read.
type looked struct {
	id     trigger.ID
	picked bool
}

// replayPage reads the next events of a replay, with payloads only if the
// filter needs them; it keeps no payload. It covers as many days as one
// statement reads. place is the cursor after them, lastID at the end.
func (s *Store) replayPage(ctx context.Context, q querier, r *trigger.Replay, w *trigger.Webhook, before trigger.ID) (page []looked, place trigger.ID, err error) {
	events := eventWalk{payloads: w.Filter.Content != nil, limit: lookPage, dayWalk: dayWalk{
		orgID: r.OrganizationID, table: "events", left: idRange{nextID(r.Cursor), before}, until: s.clock.monotonic().Add(queryTime),
	}}
	page, err = look(ctx, s, q, &events, func(e *trigger.Event) looked { return looked{e.ID, r.Picks(w, e)} })
	if err == nil {
		err = s.pick(ctx, q, r, page)
	}
	if err != nil {
		return nil, place, err
	}
	if events.isOver() {
		return page, lastID(), nil
	}
	return page, events.place(), nil
}

// pick deselects the events of a page that do not have the status of the
// replay.
func (s *Store) pick(ctx context.Context, q querier, r *trigger.Replay, page []looked) error {
	var text string
	switch {
	case len(page) == 0 || r.Status == "":
		return nil
	case r.Status == trigger.Failed:
		text = `SELECT event_id FROM deliveries WHERE bucket = $1 AND organization_id = $2 AND state = 1
			AND event_id >= $3 AND event_id <= $4 AND webhook_id = $5 AND job = 0`
	default:
		text = `SELECT event_id FROM attempts WHERE bucket = $1 AND organization_id = $2
			AND event_id >= $3 AND event_id <= $4 AND webhook_id = $5 AND job = 0 AND outcome = 'success'`
	}
	having, err := idSet(ctx, q, text, trigger.Bucket(r.OrganizationID), r.OrganizationID,
		page[0].id[:], page[len(page)-1].id[:], r.WebhookID)
	if err != nil {
		return err
	}
	for i := range page {
		page[i].picked = page[i].picked && having[page[i].id]
	}
	return nil
}

// cancelSome removes the deliveries of a replay without a running claim, and
// ends the replay if none is left.
func (s *Store) cancelSome(ctx context.Context, r *trigger.Replay, open int) error {
	if open == 0 {
		return s.endReplay(ctx, r, trigger.ReplayCancelled)
	}
	which := sliceOf{stateReplayed, `AND job = $3 AND (claim = $5 OR due_at <= $6)`}
	_, _, err := s.changeSlice(ctx, r.OrganizationID, sqlRemove, which, nil, r.ID, nobody(), micros(s.Now()))
	return err
}

func (s *Store) endReplay(ctx context.Context, r *trigger.Replay, state trigger.ReplayState) error {
	return wrap("end a replay", s.dialect.writeQuietly(ctx, func(q querier) error {
		_, err := q.ExecContext(ctx, `UPDATE replays SET state = $2 WHERE id = $1 AND state = $3`,
			r.ID, string(state), string(r.State))
		return err
	}))
}

// Preview describes what a replay would send.
type Preview struct {
	Scanned, Matched int          // events read, and events selected
	All              bool         // whether all of the replay's events were read
	Newest           []trigger.ID // the last few that matched, newest first
}

// PreviewReplay returns what a replay would send, without starting it, as far
// as it can read in a few seconds. Newest has at most some events. It returns
// the errors of AddReplay.
func (s *Store) PreviewReplay(ctx context.Context, orgID int64, r trigger.Replay, some int) (p Preview, err error) {
	if err := s.beginReplay(orgID, &r); err != nil {
		return p, err
	}
	ctx, cancel := bounded(ctx)
	defer cancel()
	w, err := s.webhookThere(ctx, s.read, orgID, r.WebhookID)
	if err != nil {
		return p, wrap("preview a replay", err)
	}
	for begun := s.clock.monotonic(); !p.All && s.clock.monotonic().Sub(begun) < lookTime; {
		page, place, err := s.replayPage(ctx, s.read, &r, &w, trigger.MinID(r.Until))
		if err != nil {
			return Preview{}, wrap("preview a replay", err)
		}
		r.Cursor, p.All = place, place == lastID()
		p.Scanned += len(page)
		for _, e := range page {
			if e.picked {
				p.Matched++
				p.Newest = append(p.Newest, e.id)
			}
		}
		p.Newest = slices.Clone(p.Newest[max(0, len(p.Newest)-some):])
	}
	slices.Reverse(p.Newest)
	return p, nil
}
