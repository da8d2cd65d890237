package store

import (
	"context"

	"triggerd/internal/trigger"
)

// Contradictions counts states that a database must never contain, so all
// counts must be zero.
type Contradictions struct {
	Silent   int // events without an open or failed delivery or a success
	Orphans  int // open deliveries whose event does not exist
	Doubles  int // events whose dedup id belongs to another event
	Damaged  int // files of the embedded database that it reports as damaged
	Examined int // events that were checked; not a contradiction
	Example  string
}

// Sum returns the number of contradictions.
func (c *Contradictions) Sum() int { return c.Silent + c.Orphans + c.Doubles + c.Damaged }

// checkPage is how many rows one statement of a check reads.
const checkPage = 1000

// Check searches the whole database for contradictions, a page at a time, so
// that servers can run meanwhile. forgets means that dedup ids have a
// retention: then two events may have had the same one.
func (s *Store) Check(ctx context.Context, forgets bool) (Contradictions, error) {
	var c Contradictions
	damage, err := s.dialect.damage(ctx)
	if err != nil {
		return Contradictions{}, wrap("check the files", err)
	}
	if damage != "" {
		c.Damaged++
		c.Example = damage
	}
	err = s.eachOrganization(ctx, func(orgID int64) (done bool, err error) {
		w := dayWalk{orgID: orgID, table: "events", left: allIDs()}
		for err == nil && !w.isOver() {
			err = s.checkEvents(ctx, &w, forgets, &c)
		}
		return true, err
	})
	if err != nil {
		return Contradictions{}, wrap("check events", err)
	}
	var after trigger.ID
	err = s.eachOrganization(ctx, func(orgID int64) (done bool, err error) {
		last, n, err := s.checkDeliveries(ctx, orgID, after, &c)
		if err != nil || n < checkPage {
			last = trigger.ID{}
		}
		after = last
		return n < checkPage, err
	})
	return wrapped("check deliveries", c, err)
}

// checkEvents checks the next page of a walk over an organization's events.
// Each must have a delivery that is open or failed, or an attempt that
// succeeded.
func (s *Store) checkEvents(ctx context.Context, w *dayWalk, forgets bool, c *Contradictions) error {
	ctx, cancel := bounded(ctx)
	defer cancel()
	type checked struct {
		id                      trigger.ID
		owed, succeeded, double bool
	}
	part, err := s.nextPart(ctx, s.read, w)
	if err != nil {
		return err
	}
	page, err := rowsOf(ctx, s.read, func(r row) (e checked, err error) {
		err = r.Scan((*dbID)(&e.id), &e.owed, &e.succeeded, &e.double)
		return e, err
	}, `SELECT e.id,
		EXISTS (SELECT 1 FROM deliveries d WHERE d.bucket = $1 AND d.organization_id = $2
			AND d.state IN (0, 1) AND d.event_id = e.id),
		EXISTS (SELECT 1 FROM attempts a WHERE a.bucket = $1 AND a.organization_id = $2
			AND a.event_id >= $3 AND a.event_id < $4 AND a.event_id = e.id AND a.outcome = 'success'),
		e.dedup_id <> '' AND NOT EXISTS (SELECT 1 FROM dedup u WHERE u.bucket = $1 AND u.organization_id = $2
			AND u.dedup_id = e.dedup_id AND u.event_id = e.id)
		FROM events e WHERE e.bucket = $1 AND e.organization_id = $2 AND e.id >= $3 AND e.id < $4 ORDER BY e.id LIMIT $5`,
		trigger.Bucket(w.orgID), w.orgID, part.from[:], part.before[:], checkPage)
	if err != nil {
		return err
	}
	for _, e := range page {
		c.Examined++
		if !e.owed && !e.succeeded {
			c.Silent++
			c.Example = "event " + e.id.String() + " has a delivery that is neither open nor was ever successful"
		}
		if e.double && !forgets {
			c.Doubles++
			c.Example = "event " + e.id.String() + " has the dedup id of another event"
		}
	}
	if len(page) == checkPage {
		w.goOnAfter(page[checkPage-1].id)
	}
	return nil
}

// checkDeliveries checks one page of the events of an organization's open
// deliveries. The events must exist, because they are removed only after their
// deliveries.
func (s *Store) checkDeliveries(ctx context.Context, orgID int64, after trigger.ID, c *Contradictions) (last trigger.ID, n int, err error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	open := func(above, upTo trigger.ID) ([]trigger.ID, error) {
		return rowsOf(ctx, s.read, scanID, `SELECT DISTINCT event_id FROM deliveries
			WHERE bucket = $1 AND organization_id = $2 AND state = 0 AND event_id > $3 AND event_id <= $4 ORDER BY event_id LIMIT $5`,
			trigger.Bucket(orgID), orgID, above[:], upTo[:], checkPage)
	}
	page, err := open(after, lastID())
	if err != nil || len(page) == 0 {
		return trigger.ID{}, 0, err
	}
	last = page[len(page)-1]
	there, err := rowsAmong(ctx, s, byIDs{s.read, orgID, page}, scanID, `SELECT id FROM events WHERE bucket = $1`+s.among("id"))
	if err != nil {
		return trigger.ID{}, 0, err
	}
	if len(there) == len(page) {
		return last, len(page), nil
	}
	still, err := open(after, last) // some may have ended meanwhile, and their events are removed
	if err != nil {
		return trigger.ID{}, 0, err
	}
	found, isOpen := setOf(there), setOf(still)
	for _, id := range page {
		if !found[id] && isOpen[id] {
			c.Orphans++
			c.Example = "an open delivery belongs to event " + id.String() + ", which does not exist"
		}
	}
	return last, len(page), nil
}
