package store

import (
	"bytes"
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"
)

// A stamp ties triggerd.db to its log. It is the database's user_version, so it
// is in the header of triggerd.db and in each copy of page 1 in the log. Its
// lower half is random, and its upper half is the lower half of the previous
// stamp. The writer changes it twice for each log, within commits that happen
// anyway:
//
//   - in each commit after which the log is copied into triggerd.db, so that
//     a backup with the same stamp has the same content;
//   - in the first commit of each log, so that the log names the stamp of the
//     triggerd.db that it begins with.
//
// So at any moment triggerd.db has a stamp that is in its log, or the one
// before the log's first, because copying the log changes nothing else. An
// older triggerd.db has another stamp, and inspectLog refuses it beside the
// log.
type stamp uint32

// next returns a stamp that follows s.
func (s stamp) next() stamp {
	for {
		half := stamp(rand.Uint32() & 0xffff)
		if half != 0 && half != s&0xffff && half != s>>16 {
			return s<<16 | half
		}
	}
}

// follows reports whether s was made from before.
func (s stamp) follows(before stamp) bool { return s>>16 == before&0xffff }

// logNote is the content of triggerd.db-run, which says whether a log must
// exist. It is written after the first commit of a log and before that commit
// is acknowledged, and closed before the log is copied and removed.
type logNote struct {
	open        bool
	base, first stamp // of triggerd.db at the start of the log, and of the log's first commit
}

const (
	noteSuffix = "-run"
	noteFormat = "1 %s %08x %08x\n" // starts with its version
)

func (n logNote) text() string {
	state := "closed"
	if n.open {
		state = "open"
	}
	return fmt.Sprintf(noteFormat, state, uint32(n.base), uint32(n.first))
}

// readNote returns the note beside a database. A note that is missing, damaged
// or of another version counts as closed.
func readNote(path string) (n logNote) {
	data, err := os.ReadFile(path)
	if err != nil {
		return logNote{}
	}
	var state string
	if _, err := fmt.Sscanf(string(data), noteFormat, &state, &n.base, &n.first); err != nil {
		return logNote{}
	}
	n.open = state == "open"
	if !bytes.Equal(data, []byte(n.text())) {
		return logNote{}
	}
	return n
}

// writeNote replaces the note. It is synced when writeNote returns.
func writeNote(path string, n logNote) error {
	made := path + ".new"
	file, err := os.OpenFile(made, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = file.WriteString(n.text())
	if err == nil {
		err = file.Sync()
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return errors.Join(err, os.Remove(made))
	}
	if err := os.Rename(made, path); err != nil {
		return err
	}
	folder, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}

// noteLog writes the note of a new log. If that fails, it only logs a warning:
// a deleted log may not be detected, but events are still accepted.
func (d *dataFiles) noteLog(n logNote) {
	if err := writeNote(d.note, n); err != nil {
		d.log.Warn("the note beside the database cannot be written", "error", err)
	}
}

// noteClosed writes a closed note before the log is truncated or the server
// stops, unless the lock is no longer in place, because then the note may be
// another server's.
func (d *dataFiles) noteClosed() {
	if d.list[1].look() == nil {
		d.noteLog(logNote{})
	}
}

// checkpointPages is the size from which on the log is copied into triggerd.db
// after a commit.
const checkpointPages = 2000

// sqliteOptions are for tests. The zero value means SQLite's own driver,
// checkpointPages and emptyAfter.
type sqliteOptions struct {
	driver          driver.Driver
	checkpointPages int64
	emptyAfter      time.Duration
}

// logState describes the log before a transaction.
type logState struct {
	begins bool // the transaction may restart the log
	long   bool // the log must be copied after it
}

// logState reads the state from SQLite. It must be called before BEGIN: if the
// log is not fully copied then, the transaction does not restart it.
func (w *writer) logState(ctx context.Context) logState {
	var busy, pages, copied int64 // both -1 without a log
	if err := w.QueryRowContext(ctx, "PRAGMA wal_checkpoint(NOOP)").Scan(&busy, &pages, &copied); err != nil {
		return logState{long: true} // unknown; if it matters, BEGIN fails too
	}
	return logState{begins: pages >= 0 && pages == copied, long: pages >= w.files.options.checkpointPages}
}

// begin begins a transaction, with a new stamp if the log needs one. It returns
// the note to write after the commit.
func (w *writer) begin(ctx context.Context, state logState) (n logNote, err error) {
	if err := w.exec(ctx, "BEGIN IMMEDIATE"); err != nil || !state.begins && !state.long {
		return logNote{}, err
	}
	var version int32
	if err := w.QueryRowContext(ctx, "PRAGMA user_version").Scan(&version); err != nil {
		return logNote{}, err
	}
	n = logNote{open: state.begins, base: stamp(uint32(version))}
	n.first = n.base.next()
	// A pragma takes no parameters, so each text is used once and not kept.
	_, err = w.conn.ExecContext(ctx, fmt.Sprintf("PRAGMA user_version = %d", int32(n.first)))
	return n, err
}

// checkpoint scrubs the log, and copies what it can of it into triggerd.db
// without waiting. One of the next commits copies the rest.
func (w *writer) checkpoint(ctx context.Context) error {
	if err := w.scrub(ctx); err != nil { // the log must not grow because of it
		w.files.log.Warn("bytes of deleted rows may be left in the database file", "error", err)
	}
	return w.exec(ctx, "PRAGMA wal_checkpoint(PASSIVE)")
}

// checkpointAtStart copies the whole log into triggerd.db, with a new stamp, so
// that the next commit restarts the log.
func (w *writer) checkpointAtStart(ctx context.Context) error {
	_, err := w.begin(ctx, logState{long: true})
	if err == nil {
		err = w.exec(ctx, "COMMIT")
	}
	if err == nil {
		err = w.checkpoint(ctx)
	}
	return err
}
