package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

// lastPart returns the last minute of a load, or the last sixth of a short one.
func lastPart(d time.Duration) time.Duration { return min(time.Minute, d/6) }

// snapshot measures the rates of a server while a transaction of PostgreSQL is
// open, so that no dead row can be removed: at the end of a long load, and at
// the end of the same load without the transaction. Their order is random. In
// SQLite, only the server uses the file.
func snapshot(ctx context.Context, b *bench) (out outcome, err error) {
	if b.Database != "postgres" {
		return out, nil
	}
	var rates [2]endRates
	for _, i := range rand.Perm(2) {
		if rates[i], err = underSnapshot(ctx, b, i == 1); err != nil {
			return out, fmt.Errorf("with a snapshot (%v): %w", i == 1, err)
		}
	}
	for i, name := range []string{"without", "with"} {
		out.add(name+": accepted at the end", "events/s", rates[i].accepted, nil)
		out.add(name+": delivered at the end", "events/s", rates[i].delivered, nil)
		out.add(name+": deliveries on the disk", "MB", rates[i].size, nil)
	}
	out.add("accepted, with / without", "", rates[1].accepted/rates[0].accepted, atLeast(0.8))
	out.add("delivered, with / without", "", rates[1].delivered/rates[0].delivered, atLeast(0.8))
	return out, nil
}

// endRates are the rates of the last part of a load, and the size of the table
// of open deliveries then, in MB.
type endRates struct{ accepted, delivered, size float64 }

// underSnapshot makes the load of throughput.
func underSnapshot(ctx context.Context, b *bench, open bool) (end endRates, err error) {
	err = b.with(ctx, nil, func(r *rig) (err error) {
		hooks, err := r.organizations(10, 1)
		if err != nil {
			return err
		}
		if err := r.warmUp(ctx, hooks); err != nil {
			return err
		}
		if open {
			forget, err := r.holdSnapshot(ctx)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, forget()) }()
		}
		mark := r.book.mark()
		r.client.closedLoop(ctx, b.Clients, 0, lasting(hooks, b.Snapshot))
		ended, last := r.book.now(), lastPart(b.Snapshot)
		if end.size, err = r.tableSize(ctx, "deliveries"); err != nil {
			return err
		}
		if err := r.settle(ctx, hooks); err != nil {
			return err
		}
		var accepted, delivered int
		for _, e := range r.book.since(mark, anyHook) {
			if e.answered > ended-last && e.answered <= ended {
				accepted++
			}
			if e.got > ended-last && e.got <= ended {
				delivered++
			}
		}
		end.accepted, end.delivered = perSecond(accepted, last), perSecond(delivered, last)
		return nil
	})
	return end, err
}

// holdSnapshot begins a transaction that sees the database as of now, and keeps
// it open until forget is called.
func (r *rig) holdSnapshot(ctx context.Context) (forget func() error, err error) {
	db, err := openSQL(r.database, nil)
	if err != nil {
		return nil, err
	}
	tx, err := db.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelRepeatableRead})
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	forget = func() error {
		_ = tx.Rollback() // it has no writes
		return db.Close()
	}
	if _, err := tx.ExecContext(ctx, "SELECT 1 FROM events LIMIT 1"); err != nil {
		return nil, errors.Join(err, forget())
	}
	return forget, nil
}

// tableSize returns the size of a table with its indexes, in MB.
func (r *rig) tableSize(ctx context.Context, table string) (mb float64, err error) {
	db, err := openSQL(r.database, nil)
	if err != nil {
		return 0, err
	}
	var bytes int64
	err = db.QueryRowContext(ctx, "SELECT pg_total_relation_size($1::regclass)", table).Scan(&bytes)
	return float64(bytes) / 1e6, errors.Join(err, db.Close())
}
