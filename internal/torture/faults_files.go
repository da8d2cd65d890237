package torture

import (
	"context"
	"errors"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// absence is a time in which SQLite's files are not where they belong. Nothing
// may be acknowledged meanwhile.
type absence struct {
	mu   sync.Mutex
	from time.Time // zero: they are there
}

func (a *absence) set(from time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.from = from
}

// noticeTime is for how long duplicates may still be answered from memory, and
// readiness reported, after the files have gone.
const noticeTime = 1500 * time.Millisecond

// covers reports whether the files are away, and were when a request began that
// is answered now with something new; a duplicate may come for a moment more.
func (a *absence) covers(begun time.Time, duplicate bool) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.from.IsZero() {
		return false
	}
	if duplicate {
		begun = begun.Add(-noticeTime)
	}
	return begun.After(a.from)
}

// sqliteFiles are the database's: the second holds the last commits.
func sqliteFiles() []string { return []string{"triggerd.db", "triggerd.db-wal", "triggerd.db-shm"} }

// moveFiles moves some of SQLite's files away under the running server, now and
// then puts others in their place, and brings them back; or the server is killed
// meanwhile and has to start with the log alone, which it must refuse.
func moveFiles(ctx context.Context, r *run, random *rand.Rand) error {
	r.database.Lock()
	defer r.database.Unlock()
	n := r.nodes[0]
	n.fault.Lock()
	defer n.fault.Unlock()
	names := sqliteFiles()
	if random.IntN(2) == 0 {
		names = names[:1]
	}
	aside := filepath.Join(r.databaseDir(), "aside")
	if err := os.MkdirAll(aside, 0o755); err != nil {
		return err
	}
	for _, name := range names {
		if err := os.Rename(filepath.Join(r.databaseDir(), name), filepath.Join(aside, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if random.IntN(4) == 0 { // as an operator does who restores a copy
		text, err := os.ReadFile(filepath.Join(aside, names[0]))
		if err := errors.Join(err, os.WriteFile(filepath.Join(r.databaseDir(), names[0]), text, 0o600)); err != nil {
			return err
		}
	}
	r.away.set(r.Now())
	defer r.away.set(time.Time{})
	_ = pause(ctx, noticeTime+time.Duration(random.IntN(2000))*time.Millisecond)
	if n.get(ctx, "/readyz") == http.StatusOK {
		r.report.breach(ackedAway, "node %d says that it is ready", n.n)
	}
	killed := random.IntN(2) == 0
	if killed {
		if _, err := n.end(syscall.SIGKILL); err != nil {
			return err
		}
		if err := r.startWithout(ctx, n, len(names) == 1); err != nil {
			return err
		}
	}
	r.away.set(time.Time{})
	for _, name := range names {
		if err := os.Rename(filepath.Join(aside, name), filepath.Join(r.databaseDir(), name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if killed {
		return n.start(ctx)
	}
	return nil
}

// startWithout starts a node whose database is not there, and has to be
// refused if the log is.
func (r *run) startWithout(ctx context.Context, n *node, log bool) error {
	file := filepath.Join(r.databaseDir(), sqliteFiles()[0])
	if _, err := os.Stat(file); err == nil || !log { // then it may start
		return nil
	}
	if info, err := os.Stat(filepath.Join(r.databaseDir(), sqliteFiles()[1])); err != nil || info.Size() == 0 {
		return nil
	}
	if err := n.launch(); err != nil {
		return err
	}
	started := until(ctx, 2*time.Second, "", func(ctx context.Context) bool { return !n.running() || n.get(ctx, "/readyz") == http.StatusOK })
	if started == nil && n.running() {
		r.report.breach(ackedAway, "node %d starts with the log of a database that is not there", n.n)
	}
	_, err := n.end(syscall.SIGKILL)
	return err
}
