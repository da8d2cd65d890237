package main

import (
	"context"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	"triggerd/internal/trigger"
)

// Names in /metrics.
const (
	accepted  = "triggerd_events_accepted_total"
	queued    = "triggerd_ingest_queue_bytes"
	mallocs   = "go_memstats_mallocs_total"
	allocated = "go_memstats_alloc_bytes_total"
)

// entry is what a server has stored and used, by its metrics and its database.
type entry struct {
	accepted int // events
	rows     int // of events in the database
	cached   int // duplicates found in the cache
	stored   int // duplicates found in the database
	queued   int // bytes of events under way

	mallocs, bytes float64 // allocations since the start
}

// still reports whether nothing was stored since before, and nothing is under
// way.
func (e entry) still(before entry) bool {
	return e.queued == 0 && e.accepted == before.accepted && e.rows == before.rows && e.cached == before.cached && e.stored == before.stored
}

// ledger reads entries of a rig.
type ledger struct {
	rig          *rig
	database     *sql.DB
	organization int64 // whose events are counted
}

// openLedger opens the rig's database, beside the server.
func (r *rig) openLedger() (*ledger, error) {
	database, err := openSQL(r.database, nil)
	if err != nil {
		return nil, err
	}
	database.SetMaxOpenConns(1)
	return &ledger{rig: r, database: database}, nil
}

// choose returns the key of the organization whose events are counted: a new
// one, or a random one of a stored database.
func (l *ledger) choose(ctx context.Context) (key string, err error) {
	if stored := l.rig.stored; stored != nil {
		o := stored.past.owner(rand.IntN(storedOwners))
		l.organization = o.id
		return o.key, nil
	}
	hooks, err := l.rig.organization(1)
	if err != nil {
		return "", err
	}
	return hooks[0].key, l.database.QueryRowContext(ctx, "SELECT max(id) FROM organizations").Scan(&l.organization)
}

func (l *ledger) close() { _ = l.database.Close() } // it was only read

// read returns the current entry.
func (l *ledger) read(ctx context.Context) (e entry, err error) {
	values := map[string]float64{}
	err = l.rig.get(ctx, "/metrics", func(line string) {
		name, value, _ := strings.Cut(line, " ")
		if number, err := strconv.ParseFloat(value, 64); err == nil {
			values[name] = number
		}
	})
	if err != nil {
		return e, err
	}
	// Without these there is nothing to compare answers with.
	for _, name := range []string{accepted, queued, mallocs, allocated} {
		if _, ok := values[name]; !ok {
			return e, fmt.Errorf("/metrics has no %s", name)
		}
	}
	duplicates := func(found string) int { // missing before the first one
		return int(values[`triggerd_events_duplicate_total{found="`+found+`"}`])
	}
	e = entry{
		accepted: int(values[accepted]), queued: int(values[queued]), cached: duplicates("cache"), stored: duplicates("store"),
		mallocs: values[mallocs], bytes: values[allocated],
	}
	err = l.database.QueryRowContext(ctx, "SELECT count(*) FROM events WHERE bucket = $1 AND organization_id = $2",
		trigger.Bucket(l.organization), l.organization).Scan(&e.rows)
	return e, err
}

// lookEvery is far longer than a request in flight takes to be stored.
const lookEvery = 50 * time.Millisecond

// quiet reads entries until nothing more is stored.
func quiet(ctx context.Context, read func(context.Context) (entry, error)) (entry, error) {
	ctx, cancel := context.WithTimeout(ctx, answerPatience)
	defer cancel()
	before, err := read(ctx)
	for err == nil {
		if err = pause(ctx, lookEvery); err != nil {
			break
		}
		var now entry
		if now, err = read(ctx); err == nil && now.still(before) {
			return now, nil
		}
		before = now
	}
	return entry{}, fmt.Errorf("what the server has stored: %w", err)
}

// judge compares the growth by a load with its answers. It is unknown whether
// up to unanswered more requests were answered.
func (l *load) judge(before, after entry, answers, unanswered int) error {
	for _, count := range []struct {
		what  string
		grown int
		each  int // of an answer
	}{
		{"events that the server says it accepted", after.accepted - before.accepted, l.adds},
		{"rows of events in the database", after.rows - before.rows, l.adds},
		{"duplicates found in the cache", after.cached - before.cached, l.repeats},
		{"duplicates found in the database", after.stored - before.stored, 0},
	} {
		if least, most := answers*count.each, (answers+unanswered)*count.each; count.grown < least || count.grown > most {
			return fmt.Errorf("%d %s, want %d to %d", count.grown, count.what, least, most)
		}
	}
	if said, are := after.accepted-before.accepted, after.rows-before.rows; said != are {
		return fmt.Errorf("the server says it accepted %d events, and the database has %d more", said, are)
	}
	return nil
}
