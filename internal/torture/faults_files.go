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

// absence is a time in which SQLite's files are missing. The server must not
// acknowledge anything meanwhile.
type absence struct {
	mu   sync.Mutex
	from time.Time // zero if they are present
}

func (a *absence) set(from time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.from = from
}

// noticeTime is how long after the loss of its files the server may still
// answer duplicates from memory and report that it is ready.
const noticeTime = 1500 * time.Millisecond

// covers reports whether the files are away now and were away when a request
// began. For a duplicate they must have been away for noticeTime by then.
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

// sqliteFiles returns the names of the database, its log, which has the last
// commits, and the index of the log.
func sqliteFiles() []string { return []string{"triggerd.db", "triggerd.db-wal", "triggerd.db-shm"} }

// moveFiles moves SQLite's database away under the running server, in half of
// the cases with its log, and moves it back. Sometimes it puts a copy in its
// place meanwhile. Sometimes it kills the server and starts it with only the
// log, which the server must refuse.
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
	here, aside := r.databaseDir(), filepath.Join(r.databaseDir(), "aside")
	err := errors.Join(os.MkdirAll(aside, 0o755), moveAll(names, here, aside))
	if random.IntN(4) == 0 { // like an operator who restores a copy
		err = errors.Join(err, copyFile(filepath.Join(aside, names[0]), filepath.Join(here, names[0])))
	}
	if err != nil {
		return err
	}
	r.away.set(r.Now())
	defer r.away.set(time.Time{})
	_ = pause(ctx, noticeTime+time.Duration(random.IntN(2000))*time.Millisecond)
	if n.get(ctx, "/readyz") == http.StatusOK {
		r.report.breach(ackedAway, "node %d says that it is ready", n.n)
	}
	killed := random.IntN(2) == 0
	if killed {
		_, err = n.end(syscall.SIGKILL)
		err = errors.Join(err, r.startWithout(ctx, n))
	}
	r.away.set(time.Time{})
	err = errors.Join(err, moveAll(names, aside, here))
	if err == nil && killed {
		return n.start(ctx)
	}
	return err
}

// moveAll moves the existing files from one directory to another.
func moveAll(names []string, from, to string) error {
	for _, name := range names {
		if err := os.Rename(filepath.Join(from, name), filepath.Join(to, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

func copyFile(from, to string) error {
	text, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, text, 0o600)
}

// startWithout starts a node if the log exists without the database. The node
// must refuse to start.
func (r *run) startWithout(ctx context.Context, n *node) error {
	_, err := os.Stat(filepath.Join(r.databaseDir(), sqliteFiles()[0]))
	log, noLog := os.Stat(filepath.Join(r.databaseDir(), sqliteFiles()[1]))
	if err == nil || noLog != nil || log.Size() == 0 { // it may start
		return nil
	}
	if err := n.launch(); err != nil {
		return err
	}
	started := until(ctx, 2*time.Second, "", func(ctx context.Context) bool { return !n.running() || n.get(ctx, "/readyz") == http.StatusOK })
	if started == nil && n.running() {
		r.report.breach(ackedAway, "node %d starts with the log of a database that is not there", n.n)
	}
	_, err = n.end(syscall.SIGKILL)
	return err
}
