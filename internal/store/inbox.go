package store

import (
	"context"
	"time"

	"triggerd/internal/trigger"
)

// InboxEvent is an event with an open delivery to an organization's inbox.
type InboxEvent struct {
	*trigger.Event
	Attempts     int       // how many times it was claimed
	ClaimedUntil time.Time // the end of the lease; zero: not claimed
}

// ClaimInbox claims due events of an inbox for a lease, up to one page,
// earliest due first. No one else gets them before the lease ends. It does not
// use p.Without. The list is empty if nothing is due.
func (s *Store) ClaimInbox(ctx context.Context, orgID int64, p InboxPage, claim trigger.ID, lease time.Duration) (list []InboxEvent, until time.Time, err error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	now := s.Now()
	until = now.Add(lease)
	type taken struct {
		id       trigger.ID
		attempts int
	}
	var rows []taken
	err = s.dialect.writeQuietly(ctx, func(q querier) (err error) {
		rows, err = rowsOf(ctx, q, func(r row) (t taken, err error) {
			err = r.Scan((*dbID)(&t.id), &t.attempts)
			return t, err
		}, `UPDATE deliveries SET claim = $5, due_at = $6, attempts = attempts + 1`+s.dialect.sliceOf(`deliveries
			WHERE bucket = $1 AND organization_id = $2 AND state = 0 AND webhook_id = 0 AND due_at <= $3
			ORDER BY due_at LIMIT $4`, trigger.DeliveryOpen)+` RETURNING event_id, attempts`,
			trigger.Bucket(orgID), orgID, micros(now), p.Limit, claim[:], micros(until))
		return err
	})
	if err != nil { // it may still be committed
		s.LoseClaim(orgID, claim, until)
		return nil, time.Time{}, wrap("claim the inbox", err)
	}
	ids, attempts := make([]trigger.ID, len(rows)), make(map[trigger.ID]int, len(rows))
	for i, t := range rows {
		ids[i], attempts[t.id] = t.id, t.attempts
	}
	sortIDs(ids)
	list, rest, err := s.readInbox(ctx, orgID, ids, p)
	if err != nil && rest != nil { // there is not enough memory for them
		s.unclaimInbox(ctx, orgID, claim, rest)
		return nil, time.Time{}, err
	}
	if err != nil {
		s.LoseClaim(orgID, claim, until)
		return nil, time.Time{}, wrap("read the inbox", err)
	}
	s.unclaimInbox(ctx, orgID, claim, rest)
	for i := range list {
		list[i].Attempts, list[i].ClaimedUntil = attempts[list[i].ID], until
	}
	return list, until, nil
}

// readInbox reads events until their sum exceeds the bytes of a page, or memory
// runs out; rest are the ids that it has not read. If there is no memory for
// the first event, it returns the error of Take, and rest is not nil. It leaves
// out events that no longer exist.
func (s *Store) readInbox(ctx context.Context, orgID int64, ids []trigger.ID, p InboxPage) (list []InboxEvent, rest []trigger.ID, err error) {
	const step = 8
	for size := 0; len(ids) > 0 && size < p.Bytes; {
		part := ids[:min(step, len(ids))]
		events, err := s.readEvents(ctx, s.read, orgID, part)
		if err != nil {
			return nil, nil, err
		}
		for i, id := range part {
			e := events[id]
			if e == nil {
				continue
			}
			if size += e.Size(); size > p.Bytes && len(list) > 0 {
				return list, ids[i:], nil
			}
			switch err := p.take(e); {
			case err != nil && len(list) > 0:
				return list, ids[i:], nil
			case err != nil:
				return nil, ids, err
			}
			list = append(list, InboxEvent{Event: e})
		}
		ids = ids[len(part):]
	}
	return list, ids, nil
}

// take reserves memory for an event that was read.
func (p *InboxPage) take(e *trigger.Event) error {
	if p.Take == nil {
		return nil
	}
	return p.Take(e.Size())
}

// inboxRows returns the rest of a condition that begins with bucket = $1. It
// selects deliveries of an inbox that have a claim. $2 to $4 are the
// organization, the claim and the events.
func (s *Store) inboxRows() string {
	return ` AND organization_id = $2 AND state = 0 AND webhook_id = 0 AND job = 0 AND claim = $3
		AND ` + s.in("event_id", "$4", listOfIDs)
}

// unclaimInbox releases events that were claimed but not returned, even if the
// client is gone. Events that it cannot release become due when the lease ends.
func (s *Store) unclaimInbox(ctx context.Context, orgID int64, claim trigger.ID, ids []trigger.ID) {
	if len(ids) == 0 {
		return
	}
	ctx, cancel := bounded(context.WithoutCancel(ctx))
	defer cancel()
	_ = s.dialect.writeQuietly(ctx, func(q querier) error {
		_, err := q.ExecContext(ctx, `UPDATE deliveries SET claim = $5, due_at = $6, attempts = attempts - 1 WHERE bucket = $1`+s.inboxRows(),
			trigger.Bucket(orgID), orgID, claim[:], s.dialect.ids(ids), nobody(), micros(s.Now()))
		return err
	})
}

// AckInbox marks claimed events as delivered. It returns the events that the
// claim has delivered, now or before. The others were claimed by another claim
// since, were released, or do not exist. An expired lease does not matter
// without another claim.
func (s *Store) AckInbox(ctx context.Context, orgID int64, claim trigger.ID, ids []trigger.ID) (done map[trigger.ID]bool, err error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	bucket, list := trigger.Bucket(orgID), s.dialect.ids(ids)
	err = s.dialect.write(ctx, func(q querier) error {
		// Locks the rows first, so that the noted and the removed rows are the
		// same.
		if _, err := q.ExecContext(ctx, `UPDATE deliveries SET claim = claim WHERE bucket = $1`+s.inboxRows(), bucket, orgID, claim[:], list); err != nil {
			return err
		}
		for _, group := range s.dialect.groups(ids) {
			if _, err := q.ExecContext(ctx, `INSERT INTO attempts
				(bucket, organization_id, event_id, webhook_id, job, claim, number, at, took, outcome, status, error, response)
				SELECT bucket, organization_id, event_id, webhook_id, job, claim, attempts, CAST($5 AS bigint), 0, 'success', 0, '', $6
				FROM deliveries WHERE bucket = $1`+s.inboxRows()+` ON CONFLICT DO NOTHING`,
				bucket, orgID, claim[:], s.dialect.ids(group), micros(s.Now()), []byte{}); err != nil {
				return err
			}
		}
		if _, err := q.ExecContext(ctx, `DELETE FROM deliveries WHERE bucket = $1`+s.inboxRows(), bucket, orgID, claim[:], list); err != nil {
			return err
		}
		noted, err := rowsAmong(ctx, s, byIDs{q, orgID, ids}, scanID, `SELECT event_id FROM attempts
			WHERE bucket = $1`+s.among("event_id")+` AND webhook_id = 0 AND job = 0 AND claim = $6`, claim[:])
		if err != nil {
			return err
		}
		done = setOf(noted)
		return nil
	})
	return wrapped("acknowledge", done, err)
}

// ReleaseInbox releases events of a claim, to be claimed again after a delay.
// It returns the events that the claim still had.
func (s *Store) ReleaseInbox(ctx context.Context, orgID int64, claim trigger.ID, ids []trigger.ID, delay time.Duration) (map[trigger.ID]bool, error) {
	return s.moveInbox(ctx, orgID, claim, ids, nobody(), s.Now().Add(delay))
}

// ExtendInbox restarts the lease of a claim from now. It returns the events
// that the claim still has, and the end of the lease.
func (s *Store) ExtendInbox(ctx context.Context, orgID int64, claim trigger.ID, ids []trigger.ID, lease time.Duration) (map[trigger.ID]bool, time.Time, error) {
	until := s.Now().Add(lease)
	had, err := s.moveInbox(ctx, orgID, claim, ids, claim[:], until)
	if err != nil {
		return nil, time.Time{}, err
	}
	return had, until, nil
}

func (s *Store) moveInbox(ctx context.Context, orgID int64, claim trigger.ID, ids []trigger.ID, next []byte, due time.Time) (had map[trigger.ID]bool, err error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	err = s.dialect.write(ctx, func(q querier) error {
		had, err = idSet(ctx, q, `UPDATE deliveries SET claim = $5, due_at = $6 WHERE bucket = $1`+s.inboxRows()+` RETURNING event_id`,
			trigger.Bucket(orgID), orgID, claim[:], s.dialect.ids(ids), next, micros(due))
		return err
	})
	return wrapped("move a claim", had, err)
}

// InboxPage bounds a list of the inbox.
type InboxPage struct {
	Limit, Bytes int                   // Bytes of all events; one event may be larger
	Without      func(trigger.ID) bool // leaves out events before they are read; may be nil

	// Take reserves memory for an event, by its size in bytes, as it is read.
	// If it fails, the page ends before the event; at the first event, the page
	// fails with Take's error. The page does not return the memory, even if it
	// fails. If nil, memory is not counted.
	Take func(size int) error
}

// inboxRow is an open delivery to the inbox.
type inboxRow struct {
	id, claim trigger.ID
	attempts  int
	due       int64
}

// ListInbox lists the open events of an inbox above an id, oldest first. next
// is the id to continue after, zero at the end. A page may be short, or even
// empty. It leaves out events whose delivery time is still to come.
func (s *Store) ListInbox(ctx context.Context, orgID int64, after trigger.ID, p InboxPage) (list []InboxEvent, next trigger.ID, err error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	now := micros(s.Now())
	rows, err := s.inbox(ctx, `SELECT event_id, attempts, due_at, claim FROM deliveries
		WHERE bucket = $1 AND organization_id = $2 AND state = 0 AND webhook_id = 0 AND event_id > $3
		AND (due_at <= $4 OR attempts > 0) ORDER BY event_id LIMIT $5`, trigger.Bucket(orgID), orgID, after[:], now, p.Limit)
	if err != nil {
		return nil, next, wrap("list the inbox", err)
	}
	list, last, err := s.pageOf(ctx, orgID, rows, p)
	if err != nil {
		return nil, next, wrap("read the inbox", err)
	}
	for i := range list {
		if list[i].ClaimedUntil.UnixMicro() <= now {
			list[i].ClaimedUntil = time.Time{}
		}
	}
	if last >= 0 {
		next = rows[last].id
	}
	return list, next, nil
}

// Due is a position in an inbox, in the order in which events become due.
type Due struct {
	At time.Time
	ID trigger.ID
}

// DueInbox lists the open events of an inbox, up to an id, that became due
// after a position and until a time, in that order. next is the position to
// continue after, zero at the end. A page may be short, or even empty.
func (s *Store) DueInbox(ctx context.Context, orgID int64, upTo trigger.ID, after Due, until time.Time, p InboxPage) (list []InboxEvent, next Due, err error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	rows, err := s.inbox(ctx, `SELECT event_id, attempts, due_at, claim FROM deliveries
		WHERE bucket = $1 AND organization_id = $2 AND state = 0 AND webhook_id = 0 AND event_id <= $3
		AND due_at >= $4 AND due_at <= $5 AND (due_at, event_id) > ($4, $7) ORDER BY due_at, event_id LIMIT $6`,
		trigger.Bucket(orgID), orgID, upTo[:], micros(after.At), micros(until), p.Limit, after.ID[:])
	if err != nil {
		return nil, next, wrap("list the inbox", err)
	}
	list, last, err := s.pageOf(ctx, orgID, rows, p)
	if err != nil {
		return nil, next, wrap("read the inbox", err)
	}
	for i := range list {
		list[i].ClaimedUntil = time.Time{} // it is over
	}
	if last >= 0 {
		next = Due{fromMicros(rows[last].due), rows[last].id}
	}
	return list, next, nil
}

func (s *Store) inbox(ctx context.Context, text string, args ...any) ([]inboxRow, error) {
	return rowsOf(ctx, s.read, func(r row) (in inboxRow, err error) {
		err = r.Scan((*dbID)(&in.id), &in.attempts, &in.due, (*dbID)(&in.claim))
		return in, err
	}, text, args...)
}

// pageOf reads the events of rows. last is the row to continue after, -1 if no
// rows are left.
func (s *Store) pageOf(ctx context.Context, orgID int64, rows []inboxRow, p InboxPage) (list []InboxEvent, last int, err error) {
	var ids []trigger.ID
	places := make(map[trigger.ID]int, len(rows))
	for i, r := range rows {
		if p.Without == nil || !p.Without(r.id) {
			ids, places[r.id] = append(ids, r.id), i
		}
	}
	list, rest, err := s.readInbox(ctx, orgID, ids, p)
	if err != nil {
		return nil, 0, err
	}
	for i := range list {
		r := rows[places[list[i].ID]]
		list[i].Attempts = r.attempts
		if !r.claim.IsZero() {
			list[i].ClaimedUntil = fromMicros(r.due)
		}
	}
	switch {
	case len(rest) > 0:
		last = places[rest[0]] - 1
	case len(rows) < p.Limit:
		last = -1
	default:
		last = len(rows) - 1
	}
	return list, last, nil
}
