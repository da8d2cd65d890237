package store

import (
	"context"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/pressly/goose/v3"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"triggerd/internal/trigger"
)

// embedded is the dialect of the SQLite file in the data folder, which needs no
// set-up and has one process. All writes go through one writer, see [writer].
type embedded struct {
	targetLock *os.File // see dataFiles
	lock       *os.File
	files      *dataFiles // nil until watch runs
	read       *sql.DB
	hot        *sql.DB // for ingest and the engine, so that requests never delay them
	writer     *writer
	writes     shares // shares of the writer's queue others
	clock      *clock
	slice      int // events that one slice of dropDays deletes; adapts to its time
}

// Names of files in the data folder.
const (
	databaseFile = "triggerd.db"
	lockFile     = "triggerd.lock"
)

// readers is how many connections each pool has for concurrent reads.
const readers = 4

func openSQLite(ctx context.Context, s *Store, o Options) error {
	s.Database = o.DataDir
	if err := os.MkdirAll(o.DataDir, 0o700); err != nil {
		return fmt.Errorf("the data folder cannot be made, choose another with --data-dir: %w", err)
	}
	lockPath := filepath.Join(o.DataDir, lockFile)
	if _, err := os.Lstat(lockPath); errors.Is(err, fs.ErrNotExist) { // no server is there; a refused folder gets no lock file
		if err := inspectFiles(o.DataDir); err != nil {
			return cannotOpen(o, err)
		}
	}
	lock, err := lockFolder(lockPath)
	if err != nil {
		return err
	}
	e := &embedded{lock: lock, clock: s.clock, slice: 64, writes: newShares(4*othersPerCommit, s.clock.monotonic)}
	s.dialect = e
	if err := e.open(ctx, s, o); err != nil {
		return errors.Join(cannotOpen(o, err), e.close())
	}
	s.read, s.hot, s.hotDays = &sharedDB{e.read, newShares(readers, s.clock.monotonic)}, e.hot, e.hot
	if err := e.learnPlain(ctx); err != nil {
		return errors.Join(err, e.close())
	}
	if err := e.freeLeases(ctx, s); err != nil {
		return errors.Join(err, e.close())
	}
	return nil
}

func cannotOpen(o Options, err error) error {
	if full, ok := errors.AsType[*sqlite.Error](err); errors.Is(err, syscall.ENOSPC) || ok && full.Code()&0xff == sqlite3.SQLITE_FULL {
		return fmt.Errorf("the disk of the database in %s is full: free some space, and start again: %w", o.DataDir, err)
	}
	return fmt.Errorf("the database in %s cannot be opened: %w", o.DataDir, err)
}

func (e *embedded) open(ctx context.Context, s *Store, o Options) (err error) {
	if err := inspectFiles(o.DataDir); err != nil {
		return err
	}
	files, err := newDataFiles(s, o, e.lock)
	if err != nil {
		return err
	}
	e.targetLock = files.lock
	writing := files.openWriter()
	pragmas, err := readPragmas(ctx, writing)
	if err == nil {
		err = checkPragmas(s, o, pragmas)
	}
	if err == nil {
		s.schema, err = migrate(ctx, goose.DialectSQLite3, writing, o.Doing)
	}
	if err != nil {
		return errors.Join(err, writing.Close())
	}
	if e.writer, err = newWriter(ctx, writing, files); err != nil {
		return err
	}
	if pragmas["journal_mode"] == "wal" {
		if err := files.rememberLog(); err != nil {
			return err
		}
	}
	for _, db := range []**sql.DB{&e.read, &e.hot} {
		if *db, err = files.openReaders(ctx); err != nil {
			return err
		}
	}
	e.files = files
	go files.watch()
	return nil
}

// readPragmas reads how commits are written, because SQLite ignores a pragma
// that it cannot apply or does not know, without an error.
func readPragmas(ctx context.Context, db *sql.DB) (map[string]string, error) {
	pragmas := map[string]string{}
	for _, name := range []string{"journal_mode", "synchronous"} {
		var value string
		if err := db.QueryRowContext(ctx, "PRAGMA "+name).Scan(&value); err != nil {
			return nil, err
		}
		pragmas[name] = value
	}
	return pragmas, nil
}

func checkPragmas(s *Store, o Options, pragmas map[string]string) error {
	for _, pragma := range []struct{ name, want string }{{"journal_mode", "wal"}, {"synchronous", "2"}} { // 2 is FULL
		if is := pragmas[pragma.name]; is != pragma.want {
			err := s.distrust(o, fmt.Sprintf("SQLite runs with %s=%s and would lose acknowledged events in a crash: "+
				"put the data folder on a local disk with --data-dir", pragma.name, is))
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// freeLeases releases the claims of a process that died. With the lock on the
// folder it is certain that no process uses them.
func (e *embedded) freeLeases(ctx context.Context, s *Store) error {
	return e.write(ctx, func(q querier) error {
		_, err := q.ExecContext(ctx, `UPDATE deliveries SET claim = $1, due_at = $2
			WHERE state IN (0, 3) AND webhook_id > 0 AND claim <> $1`, nobody(), micros(s.Now()))
		return err
	})
}

func (e *embedded) write(ctx context.Context, fn func(querier) error) error {
	leave, err := e.writes.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	return e.writer.do(ctx, e.writer.others, fn)
}

// writeQuietly is write, because there is no standby.
func (e *embedded) writeQuietly(ctx context.Context, fn func(querier) error) error {
	return e.write(ctx, fn)
}

func (e *embedded) list(param string, of listType) string {
	if of != listOfInts { // bytes are passed in hex
		return " IN (SELECT unhex(value) FROM json_each(" + param + "))"
	}
	return " IN (SELECT value FROM json_each(" + param + "))"
}

func (e *embedded) sliceOf(from string, state trigger.DeliveryState) string {
	return fmt.Sprintf(` WHERE bucket = $1 AND organization_id = $2 AND state = %d
		AND (event_id, webhook_id, job) IN (SELECT event_id, webhook_id, job FROM %s)`, state, from)
}

// lockShared returns "", because there is one writer at a time.
func (e *embedded) lockShared() string { return "" }

func (e *embedded) ints(list []int64) any {
	text, _ := json.Marshal(list) // cannot fail for numbers
	return string(text)
}

func (e *embedded) ids(list []trigger.ID) any {
	texts := make([]string, len(list))
	for i, id := range list {
		texts[i] = hex.EncodeToString(id[:])
	}
	return jsonList(texts)
}

func (e *embedded) hashes(list [][32]byte) any {
	texts := make([]string, len(list))
	for i := range list {
		texts[i] = hex.EncodeToString(list[i][:])
	}
	return jsonList(texts)
}

// jsonList returns a list for json_each.
func jsonList(texts []string) string {
	text, _ := json.Marshal(texts) // cannot fail for strings
	return string(text)
}

// now returns the process's own time, because no other process uses the file.
func (e *embedded) now(_ context.Context, local func() time.Time) (reading, error) {
	return e.clock.own(local)
}

// makeDays does nothing, because there are no partitions.
func (e *embedded) makeDays(context.Context, time.Time, time.Time) error { return nil }

func (e *embedded) cutoff(before time.Time) time.Time { return before }

// part and groups divide nothing, because all days are in one table.
func (e *embedded) part(_ context.Context, _ querier, w *dayWalk) (idRange, error) {
	return w.left, nil
}

func (e *embedded) groups(ids []trigger.ID) [][]trigger.ID {
	if len(ids) == 0 {
		return nil
	}
	return [][]trigger.ID{ids}
}

// dropSlice is how long one slice of deletions may occupy the writer.
const dropSlice = 5 * time.Millisecond

// dropDays deletes one slice of events and attempts in a transaction short
// enough not to delay ingest. It deletes as many as fit into 5 ms.
func (e *embedded) dropDays(ctx context.Context, before time.Time) (done bool, err error) {
	low := trigger.MinID(before)
	begun := e.clock.monotonic()
	var deleted int64
	err = e.write(ctx, func(q querier) error {
		for _, text := range []string{ // rows are in order of arrival, so the old ones come first
			`DELETE FROM events WHERE rowid IN (SELECT rowid FROM
				(SELECT rowid, id FROM events ORDER BY rowid LIMIT $2) WHERE id < $1)`,
			`DELETE FROM attempts WHERE rowid IN (SELECT rowid FROM
				(SELECT rowid, event_id FROM attempts ORDER BY rowid LIMIT $2) WHERE event_id < $1)`,
		} {
			result, err := q.ExecContext(ctx, text, low[:], e.slice)
			if err != nil {
				return err
			}
			n, err := result.RowsAffected()
			if err != nil {
				return err
			}
			deleted += n
		}
		return nil
	})
	if took := e.clock.monotonic().Sub(begun); took > dropSlice {
		e.slice = max(1, e.slice/2)
	} else {
		e.slice = min(1000, e.slice+e.slice/4+1)
	}
	return deleted == 0, err
}

func (e *embedded) damage(ctx context.Context) (first string, err error) {
	err = e.read.QueryRowContext(ctx, "PRAGMA integrity_check(1)").Scan(&first)
	if first == "ok" {
		first = ""
	}
	return orZero(first, err)
}

// beat does nothing, because the node's row is a frame in the log, as any
// commit is.
func (e *embedded) beat(context.Context, trigger.ID, bool) error { return nil }

func (e *embedded) intact() error { return e.files.state() }

func (e *embedded) stats() Stats {
	r, h := e.read.Stats(), e.hot.Stats()
	return Stats{InUse: r.InUse + h.InUse, Idle: r.Idle + h.Idle, Max: r.MaxOpenConnections + h.MaxOpenConnections}
}

func (e *embedded) close() error {
	var errs []error
	if e.files != nil {
		e.files.close()
	}
	for _, db := range []*sql.DB{e.read, e.hot} {
		if db != nil {
			errs = append(errs, db.Close())
		}
	}
	if e.writer != nil {
		errs = append(errs, e.writer.close())
	}
	if e.targetLock != nil {
		errs = append(errs, e.targetLock.Close())
	}
	return errors.Join(append(errs, e.lock.Close())...)
}

// classifySQLite classifies SQLite's own errors. The writer rolls back what
// does not commit, but a failing disk may have synced it anyway.
func classifySQLite(err error) (failure, bool) {
	e, ok := errors.AsType[*sqlite.Error](err)
	if !ok {
		return unknown, false
	}
	switch e.Code() & 0xff {
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED:
		return again, true
	case sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_TOOBIG, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_RANGE:
		return rejected, true
	}
	return unknown, true
}
