package store

import (
	"context"
	"database/sql"
	"encoding/binary"

	"triggerd/internal/trigger"
)

// EventStatus is the id and status of an event.
type EventStatus struct {
	ID     trigger.ID
	Status trigger.Status
}

// walk is how many events one step reads in search of delivered ones, which
// have no rows in deliveries.
const walk = 2000

// ListEvents lists events of an organization, newest first: all, or the events
// of a status if it is not "". Each status is read at the time of the listing.
func (s *Store) ListEvents(ctx context.Context, orgID int64, status trigger.Status, limit int) (page []EventStatus, err error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	switch status {
	case trigger.Pending:
		page, err = s.listOwed(ctx, orgID, status, limit, sqlListPending)
	case trigger.Failed:
		page, err = s.listOwed(ctx, orgID, status, limit, sqlListFailed)
	case trigger.Delivered:
		page, err = s.listDelivered(ctx, orgID, limit)
	default:
		all := dayWalk{orgID: orgID, table: "events", left: allIDs(), newest: true}
		page, err = s.listAll(ctx, &all, limit)
	}
	return wrapped("list events", page, err)
}

const sqlListPending = `SELECT DISTINCT event_id FROM deliveries
	WHERE bucket = $1 AND organization_id = $2 AND state = 0 AND job = 0
	ORDER BY event_id DESC LIMIT $3`

const sqlListFailed = `SELECT DISTINCT f.event_id FROM deliveries f
	WHERE f.bucket = $1 AND f.organization_id = $2 AND f.state = 1 AND f.job = 0
	AND NOT EXISTS (SELECT 1 FROM deliveries o
		WHERE o.bucket = $1 AND o.organization_id = $2 AND o.state = 0 AND o.event_id = f.event_id AND o.job = 0)
	ORDER BY f.event_id DESC LIMIT $3`

func (s *Store) listOwed(ctx context.Context, orgID int64, status trigger.Status, limit int, text string) ([]EventStatus, error) {
	return rowsOf(ctx, s.read, func(r row) (EventStatus, error) {
		id, err := scanID(r)
		return EventStatus{id, status}, err
	}, text, trigger.Bucket(orgID), orgID, limit)
}

// listDelivered walks the events and leaves out events with open or failed
// deliveries. Each step is bounded, and the caller's deadline bounds all of
// them.
func (s *Store) listDelivered(ctx context.Context, orgID int64, limit int) (page []EventStatus, err error) {
	all := dayWalk{orgID: orgID, table: "events", left: allIDs(), newest: true}
	for !all.isOver() {
		step, err := s.listAll(ctx, &all, walk)
		if err != nil {
			return nil, err
		}
		for _, e := range step {
			if e.Status == trigger.Delivered {
				page = append(page, e)
			}
			if len(page) == limit {
				return page, nil
			}
		}
	}
	return page, nil
}

// allIDs returns the range of all events.
func allIDs() idRange { return idRange{before: lastID()} }

// lastID returns an id above every event's id.
func lastID() trigger.ID {
	all := ^uint64(0)
	var id trigger.ID
	binary.BigEndian.PutUint64(id[:8], all)
	binary.BigEndian.PutUint64(id[8:], all)
	return id
}

// listAll lists the next events of a walk, newest first, with their status.
func (s *Store) listAll(ctx context.Context, w *dayWalk, limit int) (page []EventStatus, err error) {
	ids, err := s.nextIDs(ctx, w, limit, limit)
	if err != nil || len(ids) == 0 {
		return nil, err
	}
	states, err := s.statuses(ctx, w.orgID, ids[len(ids)-1], ids[0])
	if err != nil {
		return nil, err
	}
	for _, id := range ids {
		status, owed := states[id]
		if !owed {
			status = trigger.Delivered
		}
		page = append(page, EventStatus{id, status})
	}
	return page, nil
}

// statuses returns the status of each event between two ids that is not
// delivered. It reads them in one snapshot, so a delivery that goes from open
// to failed is in exactly one of both states.
func (s *Store) statuses(ctx context.Context, orgID int64, from, to trigger.ID) (map[trigger.ID]trigger.Status, error) {
	type left struct {
		eventID trigger.ID
		state   trigger.DeliveryState
	}
	list, err := rowsOf(ctx, s.read, func(r row) (d left, err error) {
		err = r.Scan((*dbID)(&d.eventID), &d.state)
		return d, err
	}, `SELECT event_id, state FROM deliveries
		WHERE bucket = $1 AND organization_id = $2 AND state IN (0, 1) AND event_id >= $3 AND event_id <= $4 AND job = 0`,
		trigger.Bucket(orgID), orgID, from[:], to[:])
	if err != nil {
		return nil, err
	}
	found := make(map[trigger.ID]trigger.Status, len(list))
	for _, d := range list {
		open := d.state == trigger.DeliveryOpen || found[d.eventID] == trigger.Pending
		found[d.eventID] = trigger.StatusOf(open, true)
	}
	return found, nil
}

// Events reads events of an organization by their ids, in any order. It leaves
// out ids that do not exist.
func (s *Store) Events(ctx context.Context, orgID int64, ids []trigger.ID) (map[trigger.ID]*trigger.Event, error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	found, err := s.readEvents(ctx, s.read, orgID, ids)
	return wrapped("read events", found, err)
}

func (s *Store) readEvents(ctx context.Context, q querier, orgID int64, ids []trigger.ID) (map[trigger.ID]*trigger.Event, error) {
	list, err := rowsAmong(ctx, s, byIDs{q, orgID, ids}, func(r row) (*trigger.Event, error) {
		e := &trigger.Event{OrganizationID: orgID}
		var extra string
		if err := r.Scan((*dbID)(&e.ID), &e.Type, &e.Payload, &e.DedupID, &e.Version, &extra); err != nil {
			return nil, err
		}
		return e, applyExtra(e, extra)
	}, `SELECT id, type, payload, dedup_id, version, extra FROM events
		WHERE bucket = $1`+s.among("id"))
	if err != nil {
		return nil, err
	}
	found := make(map[trigger.ID]*trigger.Event, len(list))
	for _, e := range list {
		found[e.ID] = e
	}
	return found, nil
}

// Event reads one event with its status. It returns NotFound if the
// organization does not have the event.
func (s *Store) Event(ctx context.Context, orgID int64, id trigger.ID) (*trigger.Event, trigger.Status, error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	found, err := s.Events(ctx, orgID, []trigger.ID{id})
	if err != nil {
		return nil, "", err
	}
	if found[id] == nil {
		return nil, "", wrap("read event", sql.ErrNoRows)
	}
	states, err := s.statuses(ctx, orgID, id, id)
	if err != nil {
		return nil, "", wrap("read status", err)
	}
	status, owed := states[id]
	if !owed {
		status = trigger.Delivered
	}
	return found[id], status, nil
}

// DeleteEvent removes an event with its deliveries and attempts, but keeps its
// dedup id. Claimed deliveries may still be sent. It returns NotFound if the
// organization does not have the event.
func (s *Store) DeleteEvent(ctx context.Context, orgID int64, id trigger.ID) error {
	return wrap("delete event", s.dialect.write(ctx, func(q querier) error {
		for _, text := range []string{
			`DELETE FROM deliveries WHERE bucket = $1 AND organization_id = $2 AND state IN (0, 1, 3) AND event_id = $3`,
			`DELETE FROM attempts WHERE bucket = $1 AND organization_id = $2 AND event_id = $3`,
		} {
			if _, err := q.ExecContext(ctx, text, trigger.Bucket(orgID), orgID, id[:]); err != nil {
				return err
			}
		}
		gone, err := affected(q.ExecContext(ctx, `DELETE FROM events WHERE bucket = $1 AND organization_id = $2 AND id = $3`,
			trigger.Bucket(orgID), orgID, id[:]))
		if err == nil && !gone {
			err = sql.ErrNoRows
		}
		return err
	}))
}

// SamePayload reports whether the first event with a dedup id had a payload
// with this hash.
func (s *Store) SamePayload(ctx context.Context, orgID int64, dedupID string, hash [16]byte) (bool, error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	same, err := rowOf(ctx, s.hot, func(r row) (bool, error) {
		var first []byte
		err := r.Scan(&first)
		return string(first) == string(hash[:]), err
	}, `SELECT payload_hash FROM dedup WHERE bucket = $1 AND organization_id = $2 AND dedup_id = $3`,
		trigger.Bucket(orgID), orgID, dedupID)
	return wrapped("compare payloads", same, err)
}
