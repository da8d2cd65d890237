package store

import (
	"context"
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

// look returns what see makes of the next events of a part. see gets each for
// the call only, because none is kept. whole says that there are no more.
func look[T any](ctx context.Context, q querier, p *part, see func(*trigger.Event) T) (seen []T, whole bool, err error) {
	payload, order, size, stopped := `''`, "ASC", 0, false
	if p.payloads {
		payload = `payload`
	}
	if p.newest {
		order = "DESC"
	}
	seen, err = rowsOf(ctx, q, func(r row) (v T, err error) {
		if stopped = size > lookBytes; stopped {
			return v, errEnough
		}
		e := trigger.Event{OrganizationID: p.orgID}
		if err := r.Scan((*dbID)(&e.ID), &e.Type, &e.DedupID, &e.Payload); err != nil {
			return v, err
		}
		size += len(e.Payload)
		return see(&e), nil
	}, `SELECT id, type, dedup_id, `+payload+` FROM events
		WHERE bucket = $1 AND organization_id = $2 AND id >= $3 AND id < $4 ORDER BY id `+order+` LIMIT $5`,
		trigger.Bucket(p.orgID), p.orgID, p.from[:], p.before[:], p.limit)
	return seen, err == nil && !stopped && len(seen) < p.limit, err
}

// Span picks the events of an organization that were accepted in some time.
type Span struct {
	Since, Until time.Time // accepted at or after, and before
	Payloads     bool      // whether they are read; else they are empty
	Limit        int       // events
}

// LookBack hands the events of a span to see, the newest first, each for the
// call only, as many as can be read in about two seconds. all is false where
// there are more than it has seen. After an error see has had some events,
// which say nothing of the span.
func (s *Store) LookBack(ctx context.Context, orgID int64, span Span, see func(*trigger.Event)) (all bool, err error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	p := part{
		orgID: orgID, from: trigger.MinID(span.Since), before: trigger.MinID(span.Until),
		newest: true, payloads: span.Payloads,
	}
	seen := 0
	for begun := s.clock.monotonic(); !all && seen <= span.Limit && s.clock.monotonic().Sub(begun) < lookTime; {
		p.limit = min(lookPage, span.Limit+1-seen) // one more, to see whether there is one
		_, whole, err := look(ctx, s.read, &p, func(e *trigger.Event) struct{} {
			if seen++; seen <= span.Limit {
				p.before = e.ID
				see(e)
			}
			return struct{}{}
		})
		if err != nil {
			return false, wrap("look at events", err)
		}
		all = whole && seen <= span.Limit
	}
	return all, nil
}
