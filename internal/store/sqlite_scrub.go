package store

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"time"
)

// Deleted data must not remain in the files. SQLite overwrites what it deletes
// (secure_delete), but two places keep copies:
//
//   - the log, until it is emptied: emptyLog does that soon after each commit;
//   - pages whose rows were moved, for example when two pages become one. SQLite
//     leaves the bytes of the rows in the unused space between the page's list
//     of rows and the rows. If a row is deleted later, that copy of it stays.
//     Each page that changes goes through the log, so scrub cleans the pages
//     in the log before they are copied into triggerd.db.
const (
	// emptyAfter is the time from a commit until the log is emptied.
	emptyAfter = 30 * time.Second
	// emptyTries is how many tries there are in that time, if readers use the
	// log.
	emptyTries = 6
	// emptyPatience is how long one try may wait for readers. It blocks
	// commits.
	emptyPatience = 20 * time.Millisecond
)

// scrubber records how much of the log was scrubbed.
type scrubber struct {
	timer  *time.Timer // fires when the log must be emptied
	armed  bool
	salts  [8]byte // of the last log that was read
	frames int64   // frames of that log that were read
}

// arm starts the timer for emptyLog, unless it is running.
func (w *writer) arm(after time.Duration) {
	if !w.scrubber.armed {
		w.scrubber.armed = true
		w.scrubber.timer.Reset(after)
	}
}

// emptyLog copies the log into triggerd.db and truncates it. It retries later
// if readers need the log.
func (w *writer) emptyLog(ctx context.Context) {
	w.scrubber.armed = false
	if err := w.tryEmptyLog(ctx); err != nil {
		w.files.log.Debug("cannot empty the log; will retry", "error", err)
		w.arm(w.files.options.emptyAfter / emptyTries)
	}
}

var errLogInUse = errors.New("the log is in use")

func (w *writer) tryEmptyLog(ctx context.Context) error {
	err := w.files.look()
	if err == nil {
		err = w.stampLog(ctx)
	}
	if err == nil {
		err = w.checkpoint(ctx)
	}
	if err != nil {
		return err
	}
	if log := w.logState(ctx); !log.begins {
		return errLogInUse
	}
	w.files.noteClosed() // the whole log is in triggerd.db
	return w.truncateLog(ctx)
}

// stampLog commits only a new stamp, so that the log can be copied after it.
func (w *writer) stampLog(ctx context.Context) error {
	state := w.logState(ctx)
	state.long = true
	note, err := w.begin(ctx, state)
	if err == nil {
		err = w.exec(ctx, "COMMIT")
	}
	if err != nil {
		_ = w.exec(ctx, "ROLLBACK")
		return err
	}
	if note.open {
		w.files.noteLog(note)
	}
	return nil
}

// truncateLog truncates the log to 0 bytes, if all of it was copied and no
// reader uses it.
func (w *writer) truncateLog(ctx context.Context) error {
	var busy, pages, copied int64
	// SQLite applies this pragma when it prepares it, so the statement must not
	// be cached.
	if _, err := w.conn.ExecContext(ctx, fmt.Sprintf("PRAGMA busy_timeout = %d", emptyPatience.Milliseconds())); err != nil {
		return err
	}
	err := w.QueryRowContext(ctx, "PRAGMA wal_checkpoint(TRUNCATE)").Scan(&busy, &pages, &copied)
	if _, restored := w.conn.ExecContext(ctx, fmt.Sprintf("PRAGMA busy_timeout = %d", busyTimeout.Milliseconds())); err == nil {
		err = restored
	}
	if err == nil && busy != 0 {
		err = errLogInUse
	}
	return err
}

// scrub overwrites the unused space of the pages that were written to the log
// since the last call.
func (w *writer) scrub(ctx context.Context) error {
	pages, err := w.unclean(ctx)
	if err != nil || len(pages) == 0 {
		return err
	}
	note, err := w.begin(ctx, w.logState(ctx))
	for i := 0; i < len(pages) && err == nil; i++ {
		err = w.scrubPage(ctx, pages[i])
	}
	if err == nil {
		err = w.exec(ctx, "COMMIT")
	}
	if err != nil {
		w.scrubber.frames = 0 // so that the next call finds them again
		_ = w.exec(ctx, "ROLLBACK")
		return err
	}
	if note.open {
		w.files.noteLog(note)
	}
	return nil
}

func (w *writer) scrubPage(ctx context.Context, number int64) error {
	var page []byte
	err := w.QueryRowContext(ctx, `SELECT data FROM sqlite_dbpage WHERE pgno = $1`, number).Scan(&page)
	if errors.Is(err, sql.ErrNoRows) { // the file has shrunk since
		return nil
	}
	if err != nil {
		return err
	}
	unused := unusedSpace(number, page)
	if isZero(unused) {
		return nil
	}
	clear(unused)
	_, err = w.ExecContext(ctx, `UPDATE sqlite_dbpage SET data = $2 WHERE pgno = $1`, number, page)
	return err
}

// unclean reads the frames added to the log since the last call, and returns
// the numbers of the pages that must be scrubbed.
func (w *writer) unclean(ctx context.Context) (pages []int64, err error) {
	var busy, frames, copied int64 // frames is -1 without a log
	if err := w.QueryRowContext(ctx, "PRAGMA wal_checkpoint(NOOP)").Scan(&busy, &frames, &copied); err != nil || frames <= 0 {
		return nil, err
	}
	file, err := os.Open(w.files.target + "-wal")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	header := make([]byte, logHeaderSize)
	if _, err := io.ReadFull(file, header); err != nil {
		return nil, err
	}
	at, salts := w.scrubber.frames, [8]byte(header[logSalts:logChecksum])
	if w.scrubber.salts != salts || at > frames {
		at = 0
	}
	size := frameHeaderSize + int64(binary.BigEndian.Uint32(header[logPageSize:]))
	found := map[int64]bool{}
	for frame := make([]byte, size); at < frames; at++ {
		if _, err := file.ReadAt(frame, logHeaderSize+at*size); err != nil {
			return nil, err
		}
		if binary.BigEndian.Uint32(frame[frameCommit:]) >= maxScrubbed {
			return nil, nil
		}
		number := int64(binary.BigEndian.Uint32(frame[framePage:]))
		if isZero(unusedSpace(number, frame[frameHeaderSize:])) {
			delete(found, number) // the last copy counts
		} else {
			found[number] = true
		}
	}
	w.scrubber.salts, w.scrubber.frames = salts, frames
	return slices.Sorted(maps.Keys(found)), nil
}

// maxScrubbed is the number of pages, 128 GiB of the usual size, from which on
// databases are not scrubbed. In a smaller one the first byte of an overflow
// page, which begins with a page number, cannot be the type of a page of rows.
const maxScrubbed = 0x02000000

// A page of rows: https://www.sqlite.org/fileformat.html#b_tree_pages
const (
	pageType  = 0 // 1 byte
	pageCells = 3 // 2 bytes: how many rows
	pageStart = 5 // 2 bytes: offset of the rows; 0 is 65536

	pageHeaderSize      = 8
	innerPageHeaderSize = 12
)

// unusedSpace returns the part of a page between its list of rows and the rows.
// It returns nil for pages without rows.
func unusedSpace(number int64, page []byte) []byte {
	at := 0
	if number == 1 {
		at = headerSize
	}
	if len(page) < at+innerPageHeaderSize {
		return nil
	}
	from := at + pageHeaderSize
	switch page[at+pageType] {
	case 2, 5: // inner pages of an index, of a table
		from = at + innerPageHeaderSize
	case 10, 13: // leaves
	default:
		return nil
	}
	from += 2 * int(binary.BigEndian.Uint16(page[at+pageCells:]))
	to := int(binary.BigEndian.Uint16(page[at+pageStart:]))
	if to == 0 {
		to = 1 << 16
	}
	if from > to || to > len(page) {
		return nil
	}
	return page[from:to]
}

func isZero(data []byte) bool {
	return len(data) == 0 || data[0] == 0 && bytes.Equal(data[1:], data[:len(data)-1])
}
