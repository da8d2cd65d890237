package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"triggerd/internal/trigger"
)

// partitionName matches the name of a day's partition: the table, and the day
// in UTC.
var partitionName = regexp.MustCompile(`^(events|attempts)_(\d{8})$`)

const dayFormat = "20060102"

// day returns the start of a time's day in UTC.
func day(at time.Time) time.Time { return at.UTC().Truncate(24 * time.Hour) }

// makeDays creates the missing partitions of the days from..to. It creates a
// table like the parent and then attaches it, which waits for no reader and
// blocks no insert. Another node may do the same at the same time.
func (p *postgres) makeDays(ctx context.Context, from, to time.Time) error {
	p.partitioning <- struct{}{}
	defer func() { <-p.partitioning }()
	have, err := p.partitions(ctx)
	if err != nil {
		return err
	}
	for d := day(from); !d.After(to); d = d.Add(24 * time.Hour) {
		for _, parent := range []string{"events", "attempts"} {
			name := parent + "_" + d.Format(dayFormat)
			if have[name] != attached {
				if err := p.makeDay(ctx, parent, name, d); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// makeDay retries while others hold locks or create the same partition.
func (p *postgres) makeDay(ctx context.Context, parent, name string, d time.Time) error {
	low, high := trigger.MinID(d), trigger.MinID(d.Add(24*time.Hour))
	for tries := 0; ; tries++ {
		err := p.ddl(ctx, fmt.Sprintf("CREATE TABLE %s (LIKE %s INCLUDING ALL)", name, parent),
			fmt.Sprintf("ALTER TABLE %s ATTACH PARTITION %s FOR VALUES FROM ('%s') TO ('%s')", parent, name, low, high))
		if err == nil {
			return nil
		}
		have, listErr := p.partitions(ctx)
		if listErr == nil && have[name] == attached {
			return nil
		}
		if tries == 20 {
			return fmt.Errorf("make partition %s: %w", name, err)
		}
		if err := pause(ctx, settlePause(tries)); err != nil {
			return err
		}
	}
}

// ddl runs statements in one transaction that waits at most 200 ms for locks.
func (p *postgres) ddl(ctx context.Context, statements ...string) error {
	return pgx.BeginFunc(ctx, p.hot, func(tx pgx.Tx) error {
		for _, text := range append([]string{"SET LOCAL lock_timeout = '200ms'"}, statements...) {
			if _, err := tx.Exec(ctx, text); err != nil {
				return err
			}
		}
		return nil
	})
}

// errElsewhere means that another node is dropping days, or has just done so.
var errElsewhere = errors.New("another node is dropping days")

type partitionState int

const (
	detached  partitionState = iota + 1 // a separate table
	detaching                           // started, but not finalized
	attached
)

// partitions lists the days' tables in our schema.
func (p *postgres) partitions(ctx context.Context) (map[string]partitionState, error) {
	rows, err := p.hot.Query(ctx, `
		SELECT c.relname, i.inhrelid IS NOT NULL, coalesce(i.inhdetachpending, false)
		FROM pg_class c LEFT JOIN pg_inherits i ON i.inhrelid = c.oid
		WHERE c.relnamespace = $1::regnamespace AND c.relkind = 'r'`, schema)
	if err != nil {
		return nil, err
	}
	have := make(map[string]partitionState)
	var name string
	var child, pending bool
	_, err = pgx.ForEachRow(rows, []any{&name, &child, &pending}, func() error {
		switch {
		case !partitionName.MatchString(name):
		case pending:
			have[name] = detaching
		case child:
			have[name] = attached
		default:
			have[name] = detached
		}
		return nil
	})
	return orZero(have, err)
}

// cutoff returns the start of a day, because only whole days are dropped.
func (p *postgres) cutoff(before time.Time) time.Time { return day(before) }

// dropDays detaches and drops the partitions of days before a day. It continues
// the work of a process that died.
func (p *postgres) dropDays(ctx context.Context, before time.Time) (done bool, err error) {
	p.partitioning <- struct{}{}
	defer func() { <-p.partitioning }()
	have, err := p.partitions(ctx)
	if err != nil {
		return false, err
	}
	names := slices.Collect(maps.Keys(have))
	slices.SortFunc(names, func(a, b string) int { // PostgreSQL allows only one detaching at a time
		return cmp.Or(cmp.Compare(begun(have[a]), begun(have[b])), cmp.Compare(a, b))
	})
	for _, name := range names {
		parts := partitionName.FindStringSubmatch(name)
		if d, err := time.Parse(dayFormat, parts[2]); err != nil || !d.Before(before) {
			continue
		}
		err := p.dropDay(ctx, parts[1], name, have[name])
		if isCode(err, "55000", "42P01") {
			return false, errElsewhere
		}
		if err != nil {
			return false, fmt.Errorf("drop partition %s: %w", name, err)
		}
	}
	return true, nil
}

// begun orders partitions that are detaching before the others.
func begun(state partitionState) int {
	if state == detaching {
		return 0
	}
	return 1
}

func (p *postgres) dropDay(ctx context.Context, parent, name string, state partitionState) error {
	var how string
	switch state {
	case attached:
		how = "CONCURRENTLY"
	case detaching:
		how = "FINALIZE"
	}
	if how != "" { // outside a transaction, and without blocking readers
		if _, err := p.hot.Exec(ctx, fmt.Sprintf("ALTER TABLE %s DETACH PARTITION %s %s", parent, name, how)); err != nil {
			return err
		}
	}
	return p.ddl(ctx, "DROP TABLE IF EXISTS "+name)
}
