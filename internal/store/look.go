package store

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"triggerd/internal/trigger"
)

const (
	// lookPage is how many events are looked at in one query.
	lookPage = 1000
	// lookBytes is about how many bytes of payloads one query holds up.
	lookBytes = 16 << 20
	// lookTime is for how long a request looks at events.
	lookTime = 2 * time.Second
)

// part is a part of an organization's events, by their ids.
type part struct {
	orgID        int64
	from, before trigger.ID
	newest       bool // first
	payloads     bool // else they are empty
	limit        int
}

var errEnough = errors.New("enough")

// look hands the next events of a part to see, each for the call only: it
// keeps none of them. whole says that there are no more.
func (s *Store) look(ctx context.Context, q querier, p *part, see func(*trigger.Event)) (whole bool, err error) {
	payload, order, size, n := `''`, "ASC", 0, 0
	if p.payloads {
		payload = `payload`
	}
	if p.newest {
		order = "DESC"
	}
	err = query(ctx, q, func(rows *sql.Rows) error {
		if size > lookBytes {
			return errEnough
		}
		e := trigger.Event{OrganizationID: p.orgID}
		if err := rows.Scan((*dbID)(&e.ID), &e.Type, &e.DedupID, &e.Payload); err != nil {
			return err
		}
		n++
		size += len(e.Payload)
		see(&e)
		return nil
	}, `SELECT id, type, dedup_id, `+payload+` FROM events
		WHERE bucket = $1 AND organization_id = $2 AND id >= $3 AND id < $4 ORDER BY id `+order+` LIMIT $5`,
		trigger.Bucket(p.orgID), p.orgID, p.from[:], p.before[:], p.limit)
	if errors.Is(err, errEnough) {
		return false, nil
	}
	return n < p.limit, err
}

// Span picks the events of an organization that were accepted in some time.
type Span struct {
	Since, Until time.Time // accepted at or after, and before
	Payloads     bool      // whether they are read; else they are empty
	Limit        int       // events
}

// LookBack hands the events of a span to see, the newest first, each for the
// call only, as many as can be read in about two seconds. all is false where
// there are more than it has seen.
func (s *Store) LookBack(ctx context.Context, orgID int64, span Span, see func(*trigger.Event)) (all bool, err error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	p := part{
		orgID: orgID, from: trigger.MinID(span.Since), before: trigger.MinID(span.Until),
		newest: true, payloads: span.Payloads,
	}
	seen := 0
	for begun := s.clock.monotonic(); err == nil && !all && seen <= span.Limit && s.clock.monotonic().Sub(begun) < lookTime; {
		p.limit = min(lookPage, span.Limit+1-seen) // one more, to see whether there is one
		all, err = s.look(ctx, s.read, &p, func(e *trigger.Event) {
			if seen++; seen <= span.Limit {
				p.before = e.ID
				see(e)
			}
		})
		all = all && seen <= span.Limit
	}
	return all, wrap("look at events", err)
}
