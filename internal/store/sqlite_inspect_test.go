package store_test

import (
	"database/sql/driver"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"triggerd/internal/store"
	"triggerd/internal/store/storetest"
	"triggerd/internal/trigger"
)

// snapshot is all of a data folder: modes, times and bytes of its files.
func (f folder) snapshot() map[string]string {
	f.t.Helper()
	files := map[string]string{}
	entries, err := os.ReadDir(f.dir)
	f.must(err)
	for _, entry := range entries {
		info, err := entry.Info()
		f.must(err)
		data, err := os.ReadFile(f.path(entry.Name()))
		if !errors.Is(err, fs.ErrNotExist) { // a link to nothing
			f.must(err)
		}
		files[entry.Name()] = fmt.Sprintf("%v %v %x", info.Mode(), info.ModTime(), data)
	}
	return files
}

// refused opens the folder, which has to be refused without a change.
func (f folder) refused(text string) {
	f.t.Helper()
	before := f.snapshot()
	s, err := store.Open(f.t.Context(), f.Options)
	if err == nil {
		err = s.Close()
		f.t.Fatalf("the folder was opened, and closed with %v", err)
	}
	if start := "the database in " + f.dir + " cannot be opened: "; !strings.HasPrefix(err.Error(), start) || !strings.Contains(err.Error(), text) {
		f.t.Errorf("the error is %q, want %q with %q", err, start, text)
	}
	if diff := cmp.Diff(before, f.snapshot()); diff != "" {
		f.t.Errorf("the refusal changed the folder: %s", diff)
	}
}

// crashed makes a data folder as a killed server leaves it, with commits in
// its log, and says which organization has two events in it.
func crashed(t *testing.T) (f folder, org int64) {
	t.Helper()
	live := newFolder(t)
	s := live.Open(t)
	org = storetest.NewOrganization(t, s)
	add(t, s, events(s, org, 2), trigger.InboxID)
	f = newFolder(t)
	f.must(os.Mkdir(f.dir, 0o755))
	for _, name := range []string{"triggerd.db", "triggerd.db-wal", "triggerd.db-run"} {
		f.copyFile(live.path(name), f.path(name))
		f.must(os.Chmod(f.path(name), 0o644))
	}
	return f, org
}

// stopped makes a data folder as a server leaves it that was stopped in order.
func stopped(t *testing.T) (f folder, org int64) {
	t.Helper()
	f, org = crashed(t)
	f.must(f.Open(t).Close())
	return f, org
}

// A folder of which something is missing, or that is not a database's, is
// refused in words, and stays as it is.
func TestRefusedFolders(t *testing.T) {
	t.Parallel()
	const db, log = "triggerd.db", "triggerd.db-wal"
	tests := []struct {
		name string
		from func(*testing.T) (folder, int64)
		do   func(f folder) error
		text string
	}{
		{"log without database", crashed, func(f folder) error { return os.Remove(f.path(db)) }, "triggerd.db-wal is there without "},
		{"empty log without database", crashed, func(f folder) error {
			return errors.Join(os.Remove(f.path(db)), os.Truncate(f.path(log), 0))
		}, "triggerd.db-wal is there without "},
		{"log with an empty database", crashed, func(f folder) error { return os.Truncate(f.path(db), 0) }, "triggerd.db is empty, but "},
		{"not a database", stopped, func(f folder) error {
			return os.WriteFile(f.path(db), []byte("# Notes\n"+strings.Repeat("no database\n", 1000)), 0o600)
		}, "triggerd.db is not a SQLite database"},
		{"not a database, and short", stopped, func(f folder) error {
			return os.WriteFile(f.path(db), []byte("PGDMP"), 0o600)
		}, "triggerd.db is not a SQLite database"},
		{"cut off in its header", stopped, func(f folder) error { return os.Truncate(f.path(db), 50) }, "has been cut off: it has 50 bytes, and "},
		{"cut off by a page", stopped, func(f folder) error {
			info, err := os.Stat(f.path(db))
			return errors.Join(err, os.Truncate(f.path(db), info.Size()-4096))
		}, "has been cut off"},
		{"cut off by a byte", stopped, func(f folder) error {
			info, err := os.Stat(f.path(db))
			return errors.Join(err, os.Truncate(f.path(db), info.Size()-1))
		}, "has been cut off"},
		{"log of another database", crashed, func(f folder) error {
			file, err := os.OpenFile(f.path(db), os.O_WRONLY, 0)
			f.must(err)
			_, err = file.WriteAt([]byte{1, 1}, 18) // as VACUUM INTO writes it
			return errors.Join(err, file.Close())
		}, "triggerd.db was not written with "},
		{"older database", crashed, func(f folder) error {
			older, _ := stopped(f.t)
			f.copyFile(older.path(db), f.path(db))
			return nil
		}, "triggerd.db is not the database that triggerd.db-wal belongs to"},
		{"log deleted", crashed, func(f folder) error { return os.Remove(f.path(log)) }, "triggerd.db-wal is gone or damaged, and with it events"},
		{"log emptied", crashed, func(f folder) error { return os.Truncate(f.path(log), 0) }, "triggerd.db-wal is gone or damaged, and with it events"},
		{"database deleted after a stop", stopped, func(f folder) error { return os.Remove(f.path(db)) }, "triggerd.db is missing, but triggerd.db-run is there"},
		{"database and log deleted", crashed, func(f folder) error {
			return errors.Join(os.Remove(f.path(db)), os.Remove(f.path(log)))
		}, "triggerd.db is missing, but triggerd.db-run is there"},
		{"database emptied after a stop", stopped, func(f folder) error { return os.Truncate(f.path(db), 0) }, "triggerd.db is empty, but triggerd.db-run is there"},
		{"database emptied, and log deleted", crashed, func(f folder) error {
			return errors.Join(os.Truncate(f.path(db), 0), os.Remove(f.path(log)))
		}, "triggerd.db is empty, but triggerd.db-run is there"},
		{"link to nothing", crashed, func(f folder) error {
			return errors.Join(os.Remove(f.path(db)), os.Symlink("nowhere.db", f.path(db)))
		}, "is a symbolic link to a file that is missing"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f, _ := tt.from(t)
			f.must(tt.do(f))
			f.refused(tt.text)
			if _, err := os.Lstat(f.path("triggerd.lock")); errors.Is(err, fs.ErrNotExist) {
				f.must(os.WriteFile(f.path("triggerd.lock"), nil, 0o644))
			} else {
				f.must(os.Remove(f.path("triggerd.lock")))
			}
			f.refused(tt.text)
		})
	}
}

// What a crash leaves is opened, with all that was committed, and so is a
// folder in which a server was killed before it wrote anything.
func TestFoldersThatAreOpened(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		do   func(f folder) error
		want int
	}{
		{"crashed", func(folder) error { return nil }, 2},
		{"stopped", func(f folder) error { return f.Open(f.t).Close() }, 2},
		{"database cut off, all of it in the log", func(f folder) error {
			raw := f.SQL(f.t)
			_, err := raw.ExecContext(f.t.Context(), "VACUUM")
			f.copyFile(f.path("triggerd.db-wal"), f.path("log"))
			return errors.Join(err, raw.Close(), os.Rename(f.path("log"), f.path("triggerd.db-wal")), os.Truncate(f.path("triggerd.db"), 4096))
		}, 2},
		{"empty database", func(f folder) error {
			return errors.Join(os.Remove(f.path("triggerd.db-wal")), os.Remove(f.path("triggerd.db-run")), os.Truncate(f.path("triggerd.db"), 0))
		}, 0},
		{"nothing", func(f folder) error {
			return errors.Join(os.Remove(f.path("triggerd.db-wal")), os.Remove(f.path("triggerd.db-run")), os.Remove(f.path("triggerd.db")))
		}, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f, org := crashed(t)
			f.must(tt.do(f))
			s := f.Open(t)
			if n := storetest.CountEvents(t, s, org)[trigger.Pending]; n != tt.want {
				t.Errorf("%d events, want %d", n, tt.want)
			}
			f.checkModes()
		})
	}
}

// errNoDriver is of a driver that opens nothing.
var errNoDriver = errors.New("no connection")

type noDriver struct{}

// Open implements [driver.Driver].
func (noDriver) Open(string) (driver.Conn, error) { return nil, errNoDriver }

// A first start that ends before there is a database leaves a folder in which
// the next one begins.
func TestFirstStartThatEndedEarly(t *testing.T) {
	t.Parallel()
	f := newFolder(t)
	s, err := store.Open(t.Context(), f.Options.WithSQLite(noDriver{}, 1000))
	if !errors.Is(err, errNoDriver) {
		t.Fatalf("the first start ends with %v, and a store %v; want %v", err, s, errNoDriver)
	}
	if files := f.snapshot(); files["triggerd.db"] == "" || files["triggerd.lock"] == "" {
		t.Errorf("the first start made %v; want triggerd.db and triggerd.lock", files)
	}
	f.Open(t)
	f.checkModes()
}

// checkModes wants files that are their owner's alone.
func (f folder) checkModes() {
	f.t.Helper()
	for _, name := range []string{"triggerd.db", "triggerd.db-wal", "triggerd.db-shm", "triggerd.db-run", "triggerd.lock"} {
		info, err := os.Stat(f.path(name))
		f.must(err)
		if mode := info.Mode().Perm(); mode != 0o600 {
			f.t.Errorf("%s has mode %04o, want 0600", name, mode)
		}
	}
}

// Files that others may read are made private at the start, also in a folder
// that is everybody's.
func TestModes(t *testing.T) {
	t.Parallel()
	f, _ := crashed(t)
	for _, name := range []string{"triggerd.db-shm", "triggerd.lock"} {
		f.must(os.WriteFile(f.path(name), nil, 0o666), os.Chmod(f.path(name), 0o666))
	}
	s := f.Open(t)
	f.checkModes()
	if s.Warnings != nil {
		t.Errorf("warnings: %q", s.Warnings)
	}
}

// A mode that cannot be changed is told. Links and what is private stay.
func TestModeThatCannotBeChanged(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file, private, link := filepath.Join(dir, "file"), filepath.Join(dir, "private"), filepath.Join(dir, "link")
	newFolder(t).must(os.WriteFile(file, nil, 0o600), os.Chmod(file, 0o644), os.WriteFile(private, nil, 0o600), os.Symlink(file, link))
	refuse := func(name string, _ fs.FileMode) error {
		return &fs.PathError{Op: "chmod", Path: name, Err: fs.ErrPermission}
	}
	for path, want := range map[string]string{
		file: file + " has mode 0644, so that other users may have access to it, and that cannot be changed (chmod " + file + ": permission denied): " +
			"make the server's user its owner with chown, or run chmod 600 as its owner",
		private: "", link: "", filepath.Join(dir, "missing"): "",
	} {
		if got := store.MakePrivate(path, refuse); got != want {
			t.Errorf("%s: the warning is %q, want %q", path, got, want)
		}
	}
}
