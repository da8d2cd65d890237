package store

import (
	"context"
	"slices"
	"time"

	"triggerd/internal/trigger"
)

// On PostgreSQL events and attempts have a partition for each day. A statement
// costs time and locks for each partition that its plan cannot exclude. So no
// statement reads more than daysPerStatement of them: a list continues from one
// range of days to the next, and ids are read in groups of few days.

// daysPerStatement is the most partitions of one table that a statement reads.
// A statement over both tables reads twice as many. It is also about the number
// of days from yesterday to the last partition made ahead.
const daysPerStatement = 16

// idRange is the ids at or above from and below before.
type idRange struct{ from, before trigger.ID }

// dayWalk is a walk over the ids of one organization, in their order. Its
// position is before the ids that are left to read.
type dayWalk struct {
	orgID  int64
	table  string    // events or attempts
	left   idRange   // not read yet
	newest bool      // newest first
	until  time.Time // end of a page on the monotonic clock; zero: when it is full
}

// isOver reports whether everything was read.
func (w *dayWalk) isOver() bool { return minID(w.left.before, w.left.from) == w.left.before }

// end ends the walk.
func (w *dayWalk) end() { w.left = idRange{} }

// goOnAfter moves the walk after an id.
func (w *dayWalk) goOnAfter(id trigger.ID) {
	if w.newest {
		w.left.before = id
	} else {
		w.left.from = nextID(id)
	}
}

// place returns the id to continue after. It need not be the id of an event.
func (w *dayWalk) place() trigger.ID {
	if w.newest {
		return w.left.before
	}
	return prevID(w.left.from)
}

// order returns the order of the walk, in SQL.
func (w *dayWalk) order() string {
	if w.newest {
		return "DESC"
	}
	return "ASC"
}

// isLate reports whether the time for a walk's page is over.
func (s *Store) isLate(w *dayWalk) bool {
	return !w.until.IsZero() && s.clock.monotonic().After(w.until)
}

// nextPart takes from a walk the next range that one statement may read. A
// caller that does not read all of it must call goOnAfter.
func (s *Store) nextPart(ctx context.Context, q querier, w *dayWalk) (part idRange, err error) {
	if part, err = s.dialect.part(ctx, q, w); err != nil {
		return idRange{}, err
	}
	if w.newest {
		w.left.before = part.from
	} else {
		w.left.from = part.before
	}
	return part, nil
}

// nextIDs lists the next ids of events of a walk, at least least and at most
// limit. It returns fewer only if the walk is over, or late.
func (s *Store) nextIDs(ctx context.Context, w *dayWalk, least, limit int) (ids []trigger.ID, err error) {
	for len(ids) < least && !w.isOver() {
		list, err := s.idsOfPart(ctx, w, limit-len(ids))
		if err != nil {
			return nil, err
		}
		if ids = append(ids, list...); s.isLate(w) {
			break
		}
	}
	return ids, nil
}

// idsOfPart is nextIDs for the days of one statement, so it may return fewer.
func (s *Store) idsOfPart(ctx context.Context, w *dayWalk, limit int) (ids []trigger.ID, err error) {
	part, err := s.nextPart(ctx, s.read, w)
	if err != nil {
		return nil, err
	}
	ids, err = rowsOf(ctx, s.read, scanID, `SELECT id FROM events WHERE bucket = $1 AND organization_id = $2 AND id >= $3 AND id < $4
		ORDER BY id `+w.order()+` LIMIT $5`, trigger.Bucket(w.orgID), w.orgID, part.from[:], part.before[:], limit)
	if err == nil && len(ids) == limit {
		w.goOnAfter(ids[limit-1])
	}
	return ids, err
}

// among returns the condition that an id is in a list, with bounds for the
// planner. It follows bucket = $1. $2 to $5 are organization, lowest id,
// highest id and all ids, as returned by amongArgs.
func (s *Store) among(column string) string {
	return ` AND organization_id = $2 AND ` + column + ` >= $3 AND ` + column + ` <= $4 AND ` + s.in(column, "$5", listOfIDs)
}

func (s *Store) amongArgs(orgID int64, ids []trigger.ID, more ...any) []any {
	from, to := bounds(ids)
	return append([]any{trigger.Bucket(orgID), orgID, from[:], to[:], s.dialect.ids(ids)}, more...)
}

// byIDs are ids of events of an organization, to read with q.
type byIDs struct {
	q     querier
	orgID int64
	ids   []trigger.ID
}

// rowsAmong is rowsOf for a statement that selects ids by among. It runs once
// for each group of ids.
func rowsAmong[T any](ctx context.Context, s *Store, of byIDs, scan func(row) (T, error), text string, more ...any) (list []T, err error) {
	for _, group := range s.dialect.groups(of.ids) {
		some, err := rowsOf(ctx, of.q, scan, text, s.amongArgs(of.orgID, group, more...)...)
		if err != nil {
			return nil, err
		}
		list = append(list, some...)
	}
	return list, nil
}

// bounds returns the lowest and the highest of some ids.
func bounds(ids []trigger.ID) (low, high trigger.ID) {
	low, high = ids[0], ids[0]
	for _, id := range ids[1:] {
		low, high = minID(low, id), maxID(high, id)
	}
	return low, high
}

// dayOf returns the start of the day whose partition contains an id.
func dayOf(id trigger.ID) time.Time {
	d := day(id.Time())
	if low := trigger.MinID(d); low != minID(low, id) { // because of its UUID version, which is not ours
		d = d.Add(-24 * time.Hour)
	}
	return d
}

// groupByDays divides ids into groups of at most daysPerStatement days each.
func groupByDays(ids []trigger.ID) (groups [][]trigger.ID) {
	if len(ids) == 0 {
		return nil
	}
	if low, high := bounds(ids); daysOf(low, high) <= daysPerStatement {
		return [][]trigger.ID{ids}
	}
	ids = slices.Clone(ids)
	sortIDs(ids)
	from, days, last := 0, 0, time.Time{}
	for i, id := range ids {
		d := dayOf(id)
		if d.Equal(last) {
			continue
		}
		if last = d; days == daysPerStatement {
			groups = append(groups, ids[from:i])
			from, days = i, 0
		}
		days++
	}
	return append(groups, ids[from:])
}

// daysOf counts the days from the day of low to the day of high.
func daysOf(low, high trigger.ID) int64 {
	const seconds = 24 * 60 * 60
	return (dayOf(high).Unix()-dayOf(low).Unix())/seconds + 1
}

// nextID returns the lowest id above an id, prevID the highest id below.
func nextID(id trigger.ID) trigger.ID {
	for i := len(id) - 1; i >= 0; i-- {
		if id[i]++; id[i] != 0 {
			break
		}
	}
	return id
}

func prevID(id trigger.ID) trigger.ID {
	for i := len(id) - 1; i >= 0; i-- {
		if id[i]--; id[i] != 0xff {
			break
		}
	}
	return id
}

func minID(a, b trigger.ID) trigger.ID {
	if string(a[:]) < string(b[:]) {
		return a
	}
	return b
}

func maxID(a, b trigger.ID) trigger.ID {
	if minID(a, b) == a {
		return b
	}
	return a
}
