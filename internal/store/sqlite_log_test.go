package store_test

import (
	"bytes"
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"modernc.org/sqlite"

	"triggerd/internal/store"
	"triggerd/internal/store/storetest"
	"triggerd/internal/trigger"
)

// The files that a killed server leaves, beside triggerd.db-shm, which is made
// anew, and the lock.
const (
	dbFile   = "triggerd.db"
	logFile  = "triggerd.db-wal"
	noteFile = "triggerd.db-run"
)

// disk is the content of a data folder; a file that is missing is not in it.
type disk map[string]string

func (f folder) disk() disk {
	f.t.Helper()
	d := disk{}
	for _, name := range []string{dbFile, logFile, noteFile} {
		data, err := os.ReadFile(f.path(name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		f.must(err)
		d[name] = string(data)
	}
	return d
}

// with returns the disk with the named files from another one.
func (d disk) with(other disk, names ...string) disk {
	changed := disk{}
	for name, data := range d {
		changed[name] = data
	}
	for _, name := range names {
		delete(changed, name)
		if data, ok := other[name]; ok {
			changed[name] = data
		}
	}
	return changed
}

// folder makes a data folder of it.
func (d disk) folder(t *testing.T) folder {
	t.Helper()
	f := newFolder(t)
	f.must(os.Mkdir(f.dir, 0o700))
	for name, data := range d {
		f.must(os.WriteFile(f.path(name), []byte(data), 0o600))
	}
	return f
}

// folded returns the disk as another program leaves it that has opened and
// closed the database. Its triggerd.db is what the sqlite3 shell's .backup makes.
func (d disk) folded(t *testing.T) disk {
	t.Helper()
	f := d.folder(t)
	raw := f.SQL(t)
	_, err := raw.ExecContext(t.Context(), "SELECT * FROM sqlite_schema")
	f.must(err, raw.Close())
	folded := f.disk()
	if _, ok := folded[logFile]; ok {
		t.Fatal("SQLite has left its log")
	}
	return folded
}

// observer is SQLite's driver, which calls at before and after each statement.
type observer struct {
	sqlite.Driver
	mu sync.Mutex
	at func()
}

func (o *observer) call() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.at != nil {
		o.at()
	}
}

func (o *observer) set(at func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.at = at
}

type sqliteConn interface {
	driver.Conn
	driver.ExecerContext
	driver.QueryerContext
	driver.ConnPrepareContext
	driver.ConnBeginTx
}

type observedConn struct {
	sqliteConn
	by *observer
}

type sqliteStmt interface {
	driver.Stmt
	driver.StmtExecContext
	driver.StmtQueryContext
}

type observedStmt struct {
	sqliteStmt
	by *observer
}

func (o *observer) Open(name string) (driver.Conn, error) {
	o.call()
	conn, err := o.Driver.Open(name)
	if err != nil {
		return nil, err
	}
	o.call()
	return &observedConn{conn.(sqliteConn), o}, nil
}

func (c *observedConn) ExecContext(ctx context.Context, text string, args []driver.NamedValue) (driver.Result, error) {
	c.by.call()
	defer c.by.call()
	return c.sqliteConn.ExecContext(ctx, text, args)
}

func (c *observedConn) PrepareContext(ctx context.Context, text string) (driver.Stmt, error) {
	stmt, err := c.sqliteConn.PrepareContext(ctx, text)
	if err != nil {
		return nil, err
	}
	return &observedStmt{stmt.(sqliteStmt), c.by}, nil
}

func (c *observedConn) Close() error {
	c.by.call()
	defer c.by.call()
	return c.sqliteConn.Close()
}

func (s *observedStmt) ExecContext(ctx context.Context, args []driver.NamedValue) (driver.Result, error) {
	s.by.call()
	defer s.by.call()
	return s.sqliteStmt.ExecContext(ctx, args)
}

// moment is a disk at which the server may have been killed, and how many
// events were acknowledged then.
type moment struct {
	disk
	acked int
}

// life runs a server from an empty folder through commits, with and without
// copying its log, a crash, a start, commits beside a reader, and a stop. It
// returns the moments between any two of its statements, and the first of them
// after each event was acknowledged.
func life(t *testing.T) (all, acknowledged []moment, org int64) {
	t.Helper()
	f := newFolder(t)
	by := &observer{}
	f.Options = f.Options.WithSQLite(by, 50)
	acked, seen := 0, 0
	at := func() { // where the writer is, so that nothing is being written
		d := f.disk()
		if len(all) == 0 || !maps.Equal(all[len(all)-1].disk, d) {
			all = append(all, moment{d, acked})
		}
		all[len(all)-1].acked = acked
		if acked > seen {
			acknowledged, seen = append(acknowledged, moment{d, acked}), acked
		}
	}
	commit := func(s *store.Store, n int) {
		for range n {
			e := event(s, org, "")
			e.Payload = []byte(`"` + strings.Repeat("x", 9000) + `"`) // on pages of its own
			add(t, s, []*trigger.Event{e}, trigger.InboxID)
			by.mu.Lock()
			acked++
			by.mu.Unlock()
		}
	}
	by.set(at)
	s := f.Open(t)
	org = storetest.NewOrganization(t, s)
	commit(s, 12)
	by.set(nil)
	f.must(s.Close(), os.RemoveAll(f.dir), os.Mkdir(f.dir, 0o700))
	killed := acknowledged[10]
	acked, seen, acknowledged = killed.acked, killed.acked, acknowledged[:11]
	for name, data := range killed.disk {
		f.must(os.WriteFile(f.path(name), []byte(data), 0o600))
	}
	by.set(at)
	s = f.Open(t)
	commit(s, 5)
	raw := f.SQL(t)
	reader, err := raw.BeginTx(t.Context(), nil)
	f.must(err, reader.QueryRowContext(t.Context(), "SELECT count(*) FROM events").Scan(new(int)))
	commit(s, 5) // of which the log keeps what the reader does not see
	f.must(reader.Rollback(), raw.Close())
	commit(s, 6)
	f.must(s.Close())
	at()
	by.set(nil)
	return all, acknowledged[:26], org
}

// open opens a folder, and returns how many events it has, and what was logged.
// The error is also one of what it contradicts itself in.
func (f folder) open(org int64) (events int, logged string, err error) {
	f.t.Helper()
	var log bytes.Buffer
	f.Options.Log = slog.New(slog.NewTextHandler(&log, nil))
	s, err := store.Open(f.t.Context(), f.Options)
	if err != nil {
		return 0, "", err
	}
	events = storetest.CountEvents(f.t, s, org)[trigger.Pending]
	damage, err := s.Check(f.t.Context(), false)
	if err == nil && damage.Sum() > 0 {
		err = fmt.Errorf("%+v", damage)
	}
	f.must(s.Close())
	return events, log.String(), err
}

// Wherever a server is killed, it starts again without a word, and has what it
// acknowledged; and so it does where another program has folded the log.
func TestKilledAtAnyStep(t *testing.T) {
	t.Parallel()
	all, _, org := life(t)
	if len(all) < 50 {
		t.Errorf("only %d steps were seen", len(all))
	}
	for i, m := range all {
		n, logged, err := m.folder(t).open(org)
		if err != nil || logged != "" || n < m.acked {
			t.Errorf("killed at step %d of %d: %d events, want %d; logged %q; %v", i, len(all), n, m.acked, logged, err)
		}
		if len(m.disk[dbFile]) == 0 {
			continue
		}
		n, _, err = m.folded(t).folder(t).open(org)
		if err != nil || n < m.acked {
			t.Errorf("killed at step %d of %d, and folded: %d events, want %d; %v", i, len(all), n, m.acked, err)
		}
	}
}

// Whatever earlier triggerd.db is put beside a log, a copy of the file or a
// backup: the start is refused, or has all that was acknowledged.
func TestOlderDatabaseBesideLog(t *testing.T) {
	t.Parallel()
	_, all, org := life(t)
	refused, opened := 0, 0
	for i, m := range all {
		for j, older := range all[:i] {
			if i-j > 5 && (i+j)%4 != 0 {
				continue // those before are much the same
			}
			for kind, from := range map[string]disk{"copy": older.disk, "backup": older.folded(t)} {
				if from[dbFile] == m.disk[dbFile] {
					continue
				}
				n, _, err := m.with(from, dbFile).folder(t).open(org)
				switch {
				case err == nil && n != m.acked:
					t.Errorf("%s of commit %d beside the log of commit %d: %d events, want %d", kind, j, i, n, m.acked)
				case err == nil:
					opened++
				case !strings.Contains(err.Error(), "triggerd.db is not the database that triggerd.db-wal belongs to"):
					t.Errorf("%s of commit %d beside the log of commit %d: %v", kind, j, i, err)
				default:
					refused++
				}
			}
		}
	}
	if refused < 100 || opened == 0 {
		t.Errorf("%d were refused, and %d opened", refused, opened)
	}
}

// A log that was deleted after a crash is missed: the start is refused, or says
// so where some of the log was copied into triggerd.db before.
func TestDeletedLog(t *testing.T) {
	t.Parallel()
	_, all, org := life(t)
	last := all[len(all)-1]
	refused := 0
	for i, m := range all {
		for _, log := range []disk{{}, {logFile: ""}} {
			n, logged, err := m.with(log, logFile).folder(t).open(org)
			switch {
			case err != nil && strings.Contains(err.Error(), "triggerd.db-wal is gone or damaged, and with it events that were acknowledged"):
				refused++
			case !strings.Contains(logged, "level=ERROR") || !strings.Contains(logged, "triggerd.db-wal is gone, although"):
				t.Errorf("commit %d: %d of %d events, logged %q; %v", i, n, m.acked, logged, err)
			}
		}
		if n, logged, _ := m.with(nil, logFile, noteFile).folder(t).open(org); logged != "" {
			t.Errorf("commit %d, log and note moved away: %d events, logged %q", i, n, logged)
		}
	}
	if refused < len(all) {
		t.Errorf("only %d of %d were refused", refused, 2*len(all))
	}
	// Other things than deleting it.
	backup := all[3].folded(t)
	for name, d := range map[string]disk{
		"folded by another program": last.folded(t),
		"backup restored":           last.with(backup, dbFile, logFile),
	} {
		if n, logged, err := d.folder(t).open(org); err != nil || strings.Count(logged, "level=ERROR") != 1 {
			t.Errorf("%s: %d events, logged %q; %v", name, n, logged, err)
		}
	}
}

// Backups that are restored as the documents say are opened without a word, and
// so are folders of versions that wrote no stamps.
func TestRestoredFolders(t *testing.T) {
	t.Parallel()
	_, all, org := life(t)
	last, early := all[len(all)-1], all[3]
	old, oldOrg := crashed(t)
	raw := old.SQL(t)
	for _, text := range []string{"PRAGMA user_version = 0", "PRAGMA wal_checkpoint(TRUNCATE)", "CREATE TABLE more (n)", "DROP TABLE more"} {
		_, err := raw.ExecContext(t.Context(), text)
		old.must(err)
	}
	unstamped := old.disk()
	orderly := last.folder(t)
	orderly.must(orderly.Open(t).Close())
	for _, tt := range []struct {
		name string
		disk
		org  int64
		want int
	}{
		{"backup", disk{}.with(early.folded(t), dbFile), org, early.acked},
		{"both files", early.with(nil, noteFile), org, early.acked},
		{"backup over an orderly stop", orderly.disk().with(early.folded(t), dbFile), org, early.acked},
		{"copy of an orderly stop", orderly.disk(), org, last.acked},
		{"without stamps", unstamped, oldOrg, 2},
		{"damaged note", early.with(disk{noteFile: early.disk[noteFile][:20]}, noteFile, logFile), org, -1},
		{"note of a later version", early.with(disk{noteFile: "2 open\n"}, noteFile, logFile), org, -1},
	} {
		n, logged, err := tt.folder(t).open(tt.org)
		if err != nil || logged != "" || tt.want >= 0 && n != tt.want {
			t.Errorf("%s: %d events, want %d; logged %q; %v", tt.name, n, tt.want, logged, err)
		}
	}
}

// A log that was cut or torn is read as SQLite reads it: to its last whole
// commit. A crash can tear what was not acknowledged; a log of which nothing is
// left, although something was acknowledged, is missed.
func TestTornLog(t *testing.T) {
	t.Parallel()
	_, all, org := life(t)
	const frame = 24 + 4096
	m := all[slices.IndexFunc(all, func(m moment) bool {
		began := strings.HasPrefix(m.disk[noteFile], fmt.Sprintf("1 open %08x ", m.disk[dbFile][60:64])) // none of it is copied yet
		return began && strings.HasPrefix(m.disk[logFile][32+4:], "\x00\x00\x00\x00")
	})]
	log := m.disk[logFile] // whose first commit has several pages
	torn := map[string]string{"first page zero": log[:32+24] + strings.Repeat("\x00", frame-24) + log[32+frame:]}
	for _, size := range []int{1, 31, 32, 40, 32 + 24, 32 + frame/2, 32 + frame, len(log) / 2, len(log) - 1} {
		torn[fmt.Sprint("cut off at ", size)] = log[:size]
		torn[fmt.Sprint("zeros from ", size)] = log[:size] + strings.Repeat("\x00", len(log)-size)
	}
	if got := m.with(disk{logFile: log[:32+frame]}, logFile).folder(t).stamps(); len(got) != 0 {
		t.Errorf("a part of a commit has the stamps %x", got)
	}
	for name, torn := range torn {
		if _, logged, err := m.with(disk{logFile: torn}, logFile, noteFile).folder(t).open(org); err != nil || logged != "" {
			t.Errorf("%s, without a note: logged %q; %v", name, logged, err)
		}
		f := m.with(disk{logFile: torn}, logFile).folder(t)
		nothing := len(f.stamps()) == 0
		if _, logged, err := f.open(org); nothing != (err != nil && strings.Contains(err.Error(), "is gone or damaged")) || logged != "" {
			t.Errorf("%s: nothing is left: %v; logged %q; %v", name, nothing, logged, err)
		}
	}
}

func (f folder) stamps() []uint32 {
	f.t.Helper()
	stamps, err := store.LogStamps(f.path(logFile))
	f.must(err)
	return stamps
}

// A start that fails after SQLite has opened the files copies the log and
// removes it. The next one does not miss it.
func TestFailedStart(t *testing.T) {
	t.Parallel()
	f, org := crashed(t)
	raw := f.SQL(t)
	_, err := raw.ExecContext(t.Context(), "UPDATE compatibility SET least = 999")
	before := f.disk()
	f.must(err, raw.Close())
	failing := before.folder(t)
	if _, _, err := failing.open(org); err == nil || !strings.Contains(err.Error(), "migrated by a newer triggerd") {
		t.Errorf("the error is %v", err)
	}
	if _, ok := failing.disk()[logFile]; ok {
		t.Error("the log is still there")
	}
	raw = failing.SQL(t)
	_, err = raw.ExecContext(t.Context(), "UPDATE compatibility SET least = 1")
	failing.must(err, raw.Close())
	if n, logged, err := failing.open(org); err != nil || logged != "" || n != 2 {
		t.Errorf("%d events, logged %q; %v", n, logged, err)
	}
}
