package store

import (
	"context"
	"time"

	"triggerd/internal/trigger"
)

const (
	// lookPage is the most events that one query reads.
	lookPage = 1000
	// lookBytes is about how many bytes of payloads one query reads.
	lookBytes = 16 << 20
	// lookTime is how long a request reads events.
	lookTime = 2 * time.Second
)

// eventWalk is a walk that reads events.
type eventWalk struct {
	dayWalk
	payloads bool // whether to read payloads; else they are empty
	limit    int
}

// look returns the results of see for the next events of a walk. see must not
// keep its event. look passes days without events, until the walk is late.
func look[T any](ctx context.Context, s *Store, q querier, w *eventWalk, see func(*trigger.Event) T) (seen []T, err error) {
	for len(seen) == 0 && !w.isOver() {
		if seen, err = lookAtPart(ctx, s, q, w, see); err != nil || s.isLate(&w.dayWalk) {
			return seen, err
		}
	}
	return seen, nil
}

// lookAtPart is look for the days of one statement.
func lookAtPart[T any](ctx context.Context, s *Store, q querier, w *eventWalk, see func(*trigger.Event) T) (seen []T, err error) {
	part, err := s.nextPart(ctx, q, &w.dayWalk)
	if err != nil {
		return nil, err
	}
	payload, size, stopped := `''`, 0, false
	if w.payloads {
		payload = `payload`
	}
	var last trigger.ID
	seen, err = rowsOf(ctx, q, func(r row) (v T, err error) {
		if stopped = size > lookBytes; stopped {
			return v, errEnough
		}
		e := trigger.Event{OrganizationID: w.orgID}
		if err := r.Scan((*dbID)(&e.ID), &e.Type, &e.DedupID, &e.Payload); err != nil {
			return v, err
		}
		size += len(e.Payload)
		last = e.ID
		return see(&e), nil
	}, `SELECT id, type, dedup_id, `+payload+` FROM events
		WHERE bucket = $1 AND organization_id = $2 AND id >= $3 AND id < $4 ORDER BY id `+w.order()+` LIMIT $5`,
		trigger.Bucket(w.orgID), w.orgID, part.from[:], part.before[:], w.limit)
	if err == nil && (stopped || len(seen) == w.limit) {
		w.goOnAfter(last)
	}
	return seen, err
}

// Span selects the events of an organization that were accepted in some time.
type Span struct {
	Since, Until time.Time // accepted at or after Since, and before Until
	Payloads     bool      // whether to read payloads; else they are empty
	Limit        int       // events
}

// LookBack calls see with the events of a span, newest first, as many as can be
// read in about two seconds. see must not keep its event. all is false if the
// span has more events than it has seen. After an error, the events that see
// got say nothing about the span.
func (s *Store) LookBack(ctx context.Context, orgID int64, span Span, see func(*trigger.Event)) (all bool, err error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	w := eventWalk{payloads: span.Payloads, dayWalk: dayWalk{
		orgID: orgID, table: "events", left: idRange{trigger.MinID(span.Since), trigger.MinID(span.Until)},
		newest: true, until: s.clock.monotonic().Add(lookTime),
	}}
	seen := 0
	for !w.isOver() && seen <= span.Limit && !s.isLate(&w.dayWalk) {
		w.limit = min(lookPage, span.Limit+1-seen) // one more, to find whether there is one
		if _, err := look(ctx, s, s.read, &w, func(e *trigger.Event) struct{} {
			if seen++; seen <= span.Limit {
				see(e)
			}
			return struct{}{}
		}); err != nil {
			return false, wrap("scan events", err)
		}
	}
	return w.isOver() && seen <= span.Limit, nil
}
