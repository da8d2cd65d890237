package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"golang.org/x/sync/errgroup"

	"triggerd/internal/store"
	"triggerd/internal/trigger"
)

// filling writes rows without the API into a database that no server has open:
// in minutes, the rows of millions of requests.
type filling struct {
	options store.Options
	told    func(rows int) // called after each part; may be nil
}

// partRows is how many rows are written in one transaction.
const partRows = 100_000

// part is some rows of a lot.
type part struct {
	*lot
	from, to int
}

func partsOf(lots []lot) (parts []part) {
	for i := range lots {
		for from := 0; from < lots[i].rows; from += partRows {
			parts = append(parts, part{&lots[i], from, min(from+partRows, lots[i].rows)})
		}
	}
	return parts
}

// write writes the rows, and leaves the database as if they were old.
func (f *filling) write(ctx context.Context, lots ...lot) error {
	if f.options.PostgresURL != "" {
		return f.toPostgres(ctx, partsOf(lots))
	}
	return f.toSQLite(ctx, partsOf(lots))
}

func (f *filling) tell(rows int) {
	if f.told != nil {
		f.told(rows)
	}
}

// openSQL opens a database beside the store. more are settings: of sessions in
// PostgreSQL, pragmas in SQLite.
func openSQL(o store.Options, more map[string]string) (*sql.DB, error) {
	if o.PostgresURL == "" {
		values := url.Values{"_pragma": {"busy_timeout(5000)"}}
		for name, value := range more {
			values.Add("_pragma", name+"("+value+")")
		}
		return sql.Open("sqlite", "file:"+databaseFile(o)+"?"+values.Encode())
	}
	config, err := pgx.ParseConfig(o.PostgresURL)
	if err != nil {
		return nil, err
	}
	config.RuntimeParams["search_path"] = "triggerd"
	for name, value := range more {
		config.RuntimeParams[name] = value
	}
	return stdlib.OpenDB(*config), nil
}

// toPostgres copies the parts over a few connections.
func (f *filling) toPostgres(ctx context.Context, parts []part) (err error) {
	db, err := openSQL(f.options, map[string]string{"synchronous_commit": "off", "maintenance_work_mem": "256MB"})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	var next atomic.Int64
	group, groupCtx := errgroup.WithContext(ctx)
	for range min(4, runtime.NumCPU()) {
		group.Go(func() error {
			conn, err := db.Conn(groupCtx)
			if err != nil {
				return err
			}
			defer conn.Close()
			for i := int(next.Add(1)) - 1; i < len(parts); i = int(next.Add(1)) - 1 {
				if err := conn.Raw(func(c any) error { return parts[i].copyTo(groupCtx, c.(*stdlib.Conn).Conn()) }); err != nil {
					return err
				}
				f.tell(parts[i].to - parts[i].from)
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	return settleTables(ctx, db)
}

// copyTo copies the rows in one statement.
func (p *part) copyTo(ctx context.Context, to *pgx.Conn) error {
	i := p.from
	_, err := to.CopyFrom(ctx, pgx.Identifier{p.table}, p.columns, pgx.CopyFromFunc(func() ([]any, error) {
		if i == p.to {
			return nil, nil // the end, by the contract of CopyFromFunc
		}
		row := p.row(i)
		i++
		for n, value := range row {
			if id, ok := value.(trigger.ID); ok {
				row[n] = [16]byte(id)
			}
		}
		return row, nil
	}))
	if err != nil {
		return fmt.Errorf("fill %s: %w", p.table, err)
	}
	return nil
}

// settleTables does what PostgreSQL would do itself in the next minutes.
func settleTables(ctx context.Context, db *sql.DB) error {
	group, groupCtx := errgroup.WithContext(ctx)
	for _, table := range []string{"events", "attempts", "dedup", "deliveries"} {
		group.Go(func() error {
			_, err := db.ExecContext(groupCtx, "VACUUM (ANALYZE) "+table)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	_, err := db.ExecContext(ctx, "CHECKPOINT")
	return err
}

// toSQLite writes the parts one after the other, each in a transaction. Without
// a journal it cannot roll back: after an error the whole database is unusable.
func (f *filling) toSQLite(ctx context.Context, parts []part) (err error) {
	db, err := openSQL(f.options, map[string]string{"synchronous": "off", "cache_size": "-262144", "journal_mode": "off"})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	db.SetMaxOpenConns(1)
	for _, p := range parts {
		if err := p.insertInto(ctx, db); err != nil {
			return fmt.Errorf("fill %s: %w", p.table, err)
		}
		f.tell(p.to - p.from)
	}
	file, err := os.OpenFile(databaseFile(f.options), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(file.Sync(), file.Close()) // else the kernel does it during measurements
}

// databaseFile returns the path of SQLite's database.
func databaseFile(o store.Options) string { return filepath.Join(o.DataDir, "triggerd.db") }

// rowsOnce is how many rows one statement of SQLite inserts.
const rowsOnce = 5

// insertInto inserts the rows in one transaction.
func (p *part) insertInto(ctx context.Context, db *sql.DB) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // no effect after a commit
	for from, statement := p.from, (*sql.Stmt)(nil); from < p.to; from += rowsOnce {
		rows := min(rowsOnce, p.to-from)
		if statement == nil || rows < rowsOnce {
			if statement, err = tx.PrepareContext(ctx, p.insertion(rows)); err != nil {
				return err
			}
		}
		var args []any
		for i := from; i < from+rows; i++ {
			for _, value := range p.row(i) {
				if id, ok := value.(trigger.ID); ok {
					value = id[:]
				}
				args = append(args, value)
			}
		}
		if _, err := statement.ExecContext(ctx, args...); err != nil {
			return err
		}
	}
	return tx.Commit()
}

// insertion returns the statement for a number of rows.
func (p *part) insertion(rows int) string {
	row := "(?" + strings.Repeat(",?", len(p.columns)-1) + ")"
	return "INSERT INTO " + p.table + " (" + strings.Join(p.columns, ",") + ") VALUES " + row + strings.Repeat(","+row, rows-1)
}

// databaseSize returns the size of a database on the disk, in bytes.
func databaseSize(ctx context.Context, db *sql.DB, o store.Options) (bytes int64, err error) {
	text := "SELECT pg_database_size(current_database())"
	if o.PostgresURL == "" {
		text = "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()"
	}
	err = db.QueryRowContext(ctx, text).Scan(&bytes)
	return bytes, err
}

// lately returns the latest time of written rows: a moment ago, because a
// database must not have rows of the future.
func lately() time.Time { return time.Now().Add(-time.Minute) }
