package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"modernc.org/sqlite"
)

// dataFiles are the files of an open SQLite database. If a file was moved,
// removed or replaced, SQLite still writes into it and commits succeed, but the
// next start will not find them. So look compares the paths with the opened
// files: before and after each commit, at each new connection, and every
// lookFilesEvery.
type dataFiles struct {
	path   string   // of triggerd.db, as the operator named it
	target string   // the target of path, if it is a link
	note   string   // the path of the logNote
	lock   *os.File // of the target's folder, if triggerd.db is a link to another folder; else nil
	log    *slog.Logger

	options sqliteOptions

	mu   sync.Mutex // held during look
	list []dataFile
	lost atomic.Pointer[lostFileError] // result of the last look; nil: all files are in place

	stop, stopped chan struct{}
}

// dataFile is a path and the file that was opened there.
type dataFile struct {
	path   string
	opened fs.FileInfo

	ifGone, ifReplaced string // instructions for the operator
}

// lostFileError says which path no longer leads to the open file, and what to
// do. It is unknown to classify, because a commit may have ended before the
// look.
type lostFileError struct{ text string }

func (e *lostFileError) Error() string { return e.text }

// lookFilesEvery is the time between two looks without commits.
const lookFilesEvery = 500 * time.Millisecond

// newDataFiles makes the database's files private, creates triggerd.db if it is
// missing, so that SQLite makes its other files private too, and remembers it
// and the lock. The caller must hold the lock and have called inspectFiles.
func newDataFiles(s *Store, o Options, lock *os.File) (*dataFiles, error) {
	d := &dataFiles{
		path: filepath.Join(o.DataDir, databaseFile), log: o.Log, options: o.sqlite,
		stop: make(chan struct{}), stopped: make(chan struct{}),
	}
	if d.options.driver == nil {
		d.options = sqliteOptions{&sqlite.Driver{}, checkpointPages, emptyAfter}
	}
	locked, err := lock.Stat()
	if err != nil {
		return nil, err
	}
	opened, err := makeDatabase(d.path)
	if err != nil {
		return nil, err
	}
	target, err := filepath.EvalSymlinks(d.path)
	if err != nil {
		return nil, err
	}
	if d.lock, err = lockTarget(target, o.DataDir); err != nil {
		return nil, err
	}
	d.target, d.note = target, target+noteSuffix
	if lostLog(target) {
		d.log.Error("events that were acknowledged may be missing", "error", filepath.Base(target)+"-wal is gone, although the server did not stop "+
			"in order: if another program has written it into triggerd.db, or a backup was restored, all is well; else restore both files, or see what triggerd check says")
	}
	if opened.Size() > 0 { // else a start that is killed now leaves no note, and the next one starts afresh
		d.noteLog(logNote{}) // before SQLite empties the log
	}
	for _, path := range []string{lock.Name(), target, target + "-wal", target + "-shm", target + "-journal"} {
		if warning := makePrivate(path, os.Chmod); warning != "" {
			s.Warnings = append(s.Warnings, warning)
		}
	}
	d.list = []dataFile{
		{
			d.path, opened, "put the same file back, or stop the server, restore the data folder and start the server again",
			"put the first file back, or restart the server to use the new one",
		},
		{lock.Name(), locked, orRestart, orRestart},
	}
	return d, nil
}

// lockTarget locks the folder of triggerd.db, if that is not the data folder,
// because a server that was started there uses the same file.
func lockTarget(target, dataDir string) (*os.File, error) {
	folder, err := filepath.EvalSymlinks(dataDir)
	if err == nil {
		folder, err = filepath.Abs(folder)
	}
	own, absErr := filepath.Abs(filepath.Dir(target))
	if err = errors.Join(err, absErr); err != nil || own == folder {
		return nil, err
	}
	return lockFolder(filepath.Join(own, lockFile))
}

const orRestart = "put the same file back, or restart the server"

// makeDatabase creates triggerd.db if it is missing. It must be called before
// SQLite opens the file, because closing a file releases SQLite's locks on it.
func makeDatabase(path string) (fs.FileInfo, error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	info, err := file.Stat()
	return info, errors.Join(err, file.Close())
}

// rememberLog adds the files that SQLite has opened beside triggerd.db. If
// triggerd.db is a symbolic link, SQLite names them after its target.
func (d *dataFiles) rememberLog() error {
	target, err := filepath.EvalSymlinks(d.path)
	if err != nil {
		return err
	}
	for _, path := range []string{target + "-wal", target + "-shm"} {
		opened, err := os.Stat(path)
		if err != nil {
			return err
		}
		d.mu.Lock()
		d.list = append(d.list, dataFile{path, opened, orRestart, orRestart})
		d.mu.Unlock()
	}
	return nil
}

// look returns an error unless each path still leads to the file that was
// opened there. It logs changes of that.
func (d *dataFiles) look() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	var lost *lostFileError
	for i := 0; i < len(d.list) && lost == nil; i++ {
		lost = d.list[i].look()
	}
	before := d.lost.Swap(lost)
	switch {
	case lost == nil && before != nil:
		d.log.Info("the database's files are back")
	case lost != nil && (before == nil || *before != *lost):
		d.log.Error("nothing is accepted or recorded", "error", lost)
	}
	return errorOf(lost)
}

func (f *dataFile) look() *lostFileError {
	is, err := os.Stat(f.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return &lostFileError{f.path + " was moved or removed while the server has it open: " + f.ifGone}
	case err != nil:
		return &lostFileError{fmt.Sprintf("%s cannot be examined (%v): %s", f.path, err, f.ifGone)}
	case !os.SameFile(is, f.opened):
		return &lostFileError{f.path + " was replaced by another file while the server has it open: " + f.ifReplaced}
	}
	return nil
}

// state returns the result of the last look.
func (d *dataFiles) state() error { return errorOf(d.lost.Load()) }

func errorOf(lost *lostFileError) error {
	if lost == nil {
		return nil
	}
	return lost
}

// replaced reports whether another file is at the path of triggerd.db.
func (d *dataFiles) replaced() bool {
	is, err := os.Stat(d.path)
	return err == nil && !os.SameFile(is, d.list[0].opened)
}

// watch calls look until close.
func (d *dataFiles) watch() {
	defer close(d.stopped)
	tick := time.NewTicker(lookFilesEvery)
	defer tick.Stop()
	for {
		select {
		case <-d.stop:
			return
		case <-tick.C:
			_ = d.look() // it keeps and logs the result
		}
	}
}

// close stops watch, which must be running.
func (d *dataFiles) close() {
	close(d.stop)
	<-d.stopped
}

// makePrivate removes the rights of others on a file, and returns a warning if
// that fails. It ignores links and paths without a file.
func makePrivate(path string, chmod func(string, fs.FileMode) error) (warning string) {
	info, err := os.Lstat(path)
	if err != nil || !info.Mode().IsRegular() || info.Mode().Perm()&0o077 == 0 {
		return ""
	}
	if err = chmod(path, info.Mode().Perm()&^0o077); err == nil {
		return ""
	}
	return fmt.Sprintf("%s has mode %04o, so that other users may have access to it, and that cannot be changed (%v): "+
		"make the server's user its owner with chown, or run chmod 600 as its owner", path, info.Mode().Perm(), err)
}

// openWriter returns the writing connection.
func (d *dataFiles) openWriter() *sql.DB {
	db := d.pool("journal_mode(WAL)", "synchronous(FULL)", "wal_autocheckpoint(0)", "journal_size_limit(67108864)", "secure_delete(ON)")
	db.SetMaxOpenConns(1)
	return db
}

// openReaders returns connections for reading. It opens and keeps all of them
// now, because none can be opened while files are lost, when reads must
// continue.
func (d *dataFiles) openReaders(ctx context.Context) (_ *sql.DB, err error) {
	db := d.pool("query_only(1)", "schema_version") // schema_version reads, so that SQLite opens the log too
	db.SetMaxOpenConns(readers)
	db.SetMaxIdleConns(readers)
	conns := make([]*sql.Conn, readers)
	for i := 0; i < readers && err == nil; i++ {
		conns[i], err = db.Conn(ctx)
	}
	for _, conn := range conns {
		if conn != nil {
			err = errors.Join(err, conn.Close())
		}
	}
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}

// pool returns connections with these pragmas and the common ones.
func (d *dataFiles) pool(pragmas ...string) *sql.DB {
	settings := url.Values{
		"mode":    {"rw"}, // SQLite never creates the file, because makeDatabase has
		"_pragma": append(pragmas, fmt.Sprintf("busy_timeout(%d)", busyTimeout.Milliseconds()), "foreign_keys(1)", "cache_size(-16384)"),
	}
	return sql.OpenDB(&connector{
		files: d, driver: d.options.driver,
		source: "file:" + (&url.URL{Path: d.path}).EscapedPath() + "?" + settings.Encode(),
	})
}

// busyTimeout is how long a connection waits for another program's lock.
const busyTimeout = 5 * time.Second

// connector opens connections only to the watched files.
type connector struct {
	files  *dataFiles
	driver driver.Driver
	source string
}

// Connect implements driver.Connector.
func (c *connector) Connect(context.Context) (driver.Conn, error) {
	if err := c.files.look(); err != nil {
		return nil, err
	}
	conn, err := c.driver.Open(c.source)
	if err != nil {
		return nil, err
	}
	if err := c.files.look(); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}

// Driver implements driver.Connector.
func (c *connector) Driver() driver.Driver { return c.driver }
