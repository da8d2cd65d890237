package store_test

import (
	"bytes"
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"triggerd/internal/store"
	"triggerd/internal/store/storetest"
	"triggerd/internal/trigger"
)

// folder is a data folder in a test's hands.
type folder struct {
	*storetest.DB
	t   *testing.T
	dir string
}

// newFolder makes a data folder that can be moved.
func newFolder(t *testing.T) folder {
	db := storetest.SQLite(t)
	db.Options.DataDir = filepath.Join(db.Options.DataDir, "data")
	return folder{db, t, db.Options.DataDir}
}

func (f folder) path(name string) string { return filepath.Join(f.dir, name) }

func (f folder) must(errs ...error) {
	f.t.Helper()
	for _, err := range errs {
		if err != nil {
			f.t.Fatal(err)
		}
	}
}

// copyFile copies a file with its mode.
func (f folder) copyFile(from, to string) {
	f.t.Helper()
	data, err := os.ReadFile(from)
	f.must(err)
	info, err := os.Stat(from)
	f.must(err, os.WriteFile(to, data, info.Mode()), os.Chmod(to, info.Mode()))
}

// loss is what an operator does to files under a running server, and how the
// very same files come back.
type loss struct {
	name       string
	lose, undo func(f folder)
	text       string // of the error
}

func losses() []loss {
	elsewhere := func(f folder) string { return f.dir + "-elsewhere" }
	all := []loss{
		{
			"folder moved", func(f folder) { f.must(os.Rename(f.dir, elsewhere(f))) },
			func(f folder) { f.must(os.Rename(elsewhere(f), f.dir)) }, "triggerd.db was moved or removed while the server has it open",
		},
		{
			"folder moved and made again", func(f folder) { f.must(os.Rename(f.dir, elsewhere(f)), os.Mkdir(f.dir, 0o700)) },
			func(f folder) { f.must(os.Remove(f.dir), os.Rename(elsewhere(f), f.dir)) }, "triggerd.db was moved or removed",
		},
		{
			"folder copied and replaced", func(f folder) {
				f.must(os.Rename(f.dir, elsewhere(f)), os.CopyFS(f.dir, os.DirFS(elsewhere(f))))
			},
			func(f folder) { f.must(os.RemoveAll(f.dir), os.Rename(elsewhere(f), f.dir)) }, "triggerd.db was replaced by another file",
		},
		{
			"triggerd.db is a folder", func(f folder) {
				f.must(os.Rename(f.path("triggerd.db"), elsewhere(f)), os.Mkdir(f.path("triggerd.db"), 0o700))
			},
			func(f folder) {
				f.must(os.Remove(f.path("triggerd.db")), os.Rename(elsewhere(f), f.path("triggerd.db")))
			}, "triggerd.db was replaced by another file",
		},
	}
	for _, name := range []string{"triggerd.db", "triggerd.db-wal", "triggerd.db-shm", "triggerd.lock"} {
		all = append(all, loss{
			name + " moved", func(f folder) { f.must(os.Rename(f.path(name), elsewhere(f))) },
			func(f folder) { f.must(os.Rename(elsewhere(f), f.path(name))) }, name + " was moved or removed",
		}, loss{
			name + " deleted", func(f folder) { f.must(os.Link(f.path(name), elsewhere(f)), os.Remove(f.path(name))) },
			func(f folder) { f.must(os.Link(elsewhere(f), f.path(name))) }, name + " was moved or removed",
		}, loss{
			name + " replaced by a copy of itself", func(f folder) {
				f.must(os.Rename(f.path(name), elsewhere(f)))
				f.copyFile(elsewhere(f), f.path(name))
			},
			func(f folder) { f.must(os.Rename(elsewhere(f), f.path(name))) }, name + " was replaced by another file",
		})
	}
	return all
}

// writes are operations that the store acknowledges, of all its parts.
func writes(s *store.Store, org int64) map[string]func(ctx context.Context) error {
	return map[string]func(ctx context.Context) error{
		"add": func(ctx context.Context) error {
			e := event(s, org, "")
			b := &store.Batch{Events: []*trigger.Event{e}, Deliveries: [][]trigger.Delivery{owed(e, trigger.InboxID)}}
			_, err := s.AddEvents(ctx, b, false)
			return err
		},
		"claim": func(ctx context.Context) error {
			_, err := s.Claim(ctx, []store.Want{{Bucket: trigger.Bucket(org), WebhookID: 1, Room: 1}}, s.NewClaim(), s.Now(), s.Now())
			return err
		},
		"finish": func(ctx context.Context) error {
			d := trigger.Delivery{DeliveryKey: trigger.DeliveryKey{OrganizationID: org, EventID: event(s, org, "").ID, WebhookID: 1}}
			return s.Finish(ctx, []store.Result{result(s, d, trigger.Success)})
		},
		"organization": func(ctx context.Context) error {
			_, err := s.AddOrganization(ctx, trigger.Organization{Name: "O", Tier: trigger.Free},
				trigger.APIKey{Hash: [32]byte(bytes.Repeat([]byte(s.NewClaim().String()[20:36]), 2))}, store.Once{})
			return err
		},
		"node": func(ctx context.Context) error { return s.TouchNode(ctx) },
	}
}

// Files that are moved, deleted or replaced: nothing is acknowledged until the
// very same files are back. Reads go on. Nothing that was acknowledged is lost.
func TestLostFiles(t *testing.T) {
	t.Parallel()
	for _, tt := range losses() {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := newFolder(t)
			s := f.Open(t)
			org := storetest.NewOrganization(t, s)
			add(t, s, events(s, org, 2), trigger.InboxID)
			tt.lose(f)
			for range 2 {
				for name, write := range writes(s, org) {
					if err := write(t.Context()); err == nil || !strings.Contains(err.Error(), tt.text) {
						t.Errorf("%s: %v, want an error with %q", name, err, tt.text)
					} else if kind := trigger.KindOf(err); kind != trigger.Unavailable && name != "add" && name != "finish" {
						t.Errorf("%s: kind %v, want Unavailable", name, kind)
					}
				}
			}
			for name, check := range map[string]func() error{"Ping": func() error { return s.Ping(t.Context()) }, "Intact": s.Intact} {
				if err := check(); trigger.KindOf(err) != trigger.Unavailable || !strings.Contains(err.Error(), tt.text) {
					t.Errorf("%s: %v, want Unavailable with %q", name, err, tt.text)
				}
			}
			if n := storetest.CountEvents(t, s, org)[trigger.Pending]; n != 2 {
				t.Errorf("%d events can be read, want 2", n)
			}
			if err := s.AtOnce(t.Context(), false); err != nil {
				t.Errorf("many reads at once: %v", err)
			}
			tt.undo(f)
			for name, write := range writes(s, org) {
				if err := write(t.Context()); err != nil {
					t.Errorf("%s, with the files back: %v", name, err)
				}
			}
			if err := s.Ping(t.Context()); err != nil {
				t.Errorf("ping, with the files back: %v", err)
			}
			f.must(s.Close())
			again := f.Open(t)
			if n := storetest.CountEvents(t, again, org)[trigger.Pending]; n != 3 {
				t.Errorf("%d events after a restart, want 3", n)
			}
			if c, err := again.Check(t.Context(), false); err != nil || c.Sum() != 0 {
				t.Errorf("check: %+v, %v", c, err)
			}
		})
	}
}

// Where nobody writes, the store sees by itself that its files are lost, and
// that they are back.
func TestLostFilesAreSeenByThemselves(t *testing.T) {
	t.Parallel()
	f := newFolder(t)
	s := f.Open(t)
	until := func(lost bool) {
		t.Helper()
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for deadline := time.Now().Add(patience); (s.Ping(t.Context()) != nil) != lost; <-tick.C {
			if time.Now().After(deadline) {
				t.Fatalf("ping: %v, want the files lost: %v", s.Ping(t.Context()), lost)
			}
		}
	}
	f.must(os.Rename(f.dir, f.dir+"2"))
	until(true)
	f.must(os.Rename(f.dir+"2", f.dir))
	until(false)
}

// A commit whose files go while it runs is not acknowledged, although it may
// have ended well. The same batch finds its rows when the files are back.
func TestFilesLostInACommit(t *testing.T) {
	t.Parallel()
	f := newFolder(t)
	s := f.Open(t)
	org := storetest.NewOrganization(t, s)
	err := s.InWrite(t.Context(), func(exec func(string) error) error {
		f.must(os.Rename(f.path("triggerd.db"), f.path("moved.db")))
		return exec(fmt.Sprintf("UPDATE organizations SET name = 'Committed' WHERE id = %d", org))
	})
	if err == nil || !strings.Contains(err.Error(), "triggerd.db was moved or removed") {
		t.Errorf("the commit's error: %v", err)
	}
	e := event(s, org, "d")
	batch := &store.Batch{Events: []*trigger.Event{e}, Deliveries: [][]trigger.Delivery{owed(e, trigger.InboxID)}}
	var verdicts []trigger.ID
	tries := 0
	err = store.RunBatch(t.Context(), time.Now, time.Minute, []*store.Batch{batch}, func(_ []*store.Batch, again bool) (err error) {
		if tries++; tries == 2 {
			f.must(os.Rename(f.path("moved.db"), f.path("triggerd.db")))
		}
		verdicts, err = s.AddEvents(t.Context(), batch, again)
		return err
	}, func(_ *store.Batch, err error) { t.Errorf("the batch was refused: %v", err) })
	if err != nil || tries != 2 || verdicts[0] != e.ID {
		t.Errorf("after %d tries: %v, %v; want %v", tries, verdicts, err, e.ID)
	}
	if o, err := s.Organization(t.Context(), org); err != nil || o.Name != "Committed" {
		t.Errorf("%+v, %v: the first commit was not written", o, err)
	}
}

// A connection that is opened while files are lost reads from no other ones,
// and makes none.
func TestNoConnectionToOtherFiles(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"triggerd.db", "triggerd.db-wal"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFolder(t)
			s := f.Open(t)
			org := storetest.NewOrganization(t, s)
			add(t, s, events(s, org, 1), trigger.InboxID)
			f.must(s.AtOnce(t.Context(), true), os.Rename(f.path(name), f.dir+"-moved"))
			if _, err := s.ListEvents(t.Context(), org, "", 10); trigger.KindOf(err) != trigger.Unavailable {
				t.Errorf("events: %v, want Unavailable", err)
			}
			if _, err := os.Lstat(f.path(name)); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s was made anew: %v", name, err)
			}
			f.must(os.Rename(f.dir+"-moved", f.path(name)))
			if n := storetest.CountEvents(t, s, org)[trigger.Pending]; n != 1 {
				t.Errorf("%d events when the file is back, want 1", n)
			}
		})
	}
}

// slowDriver opens connections while something happens.
type slowDriver struct {
	driver.Conn // nil
	meanwhile   func() error
	closed      bool
}

func (d *slowDriver) Open(string) (driver.Conn, error) { return d, d.meanwhile() }
func (d *slowDriver) Close() error                     { d.closed = true; return nil }

// Files that are replaced while a connection is opened may be the ones that it
// has opened: it is closed again.
func TestFilesReplacedInAConnect(t *testing.T) {
	t.Parallel()
	f := newFolder(t)
	s := f.Open(t)
	by := &slowDriver{meanwhile: func() error { return os.Rename(f.path("triggerd.db"), f.path("moved.db")) }}
	if _, err := s.Connect(t.Context(), by); err == nil || !by.closed {
		t.Errorf("error %v, closed %v; want an error, and it closed", err, by.closed)
	}
	f.must(os.Rename(f.path("moved.db"), f.path("triggerd.db")))
}

// What happens is told once, not once for each request.
func TestLostFilesAreLoggedOnce(t *testing.T) {
	t.Parallel()
	f := newFolder(t)
	var log bytes.Buffer
	f.Options.Log = slog.New(slog.NewTextHandler(&log, nil))
	s := f.Open(t)
	org := storetest.NewOrganization(t, s)
	fail := func() {
		for range 3 {
			if err := writes(s, org)["add"](t.Context()); err == nil {
				t.Error("an event was accepted")
			}
		}
	}
	f.must(os.Rename(f.path("triggerd.db"), f.path("moved.db")))
	fail()
	f.copyFile(f.path("moved.db"), f.path("copy.db"))
	f.must(os.Rename(f.path("copy.db"), f.path("triggerd.db")))
	fail()
	f.must(os.Rename(f.path("moved.db"), f.path("triggerd.db")))
	add(t, s, events(s, org, 1), trigger.InboxID)
	f.must(s.Close())
	want := []string{"moved or removed", "replaced by another file", "files are back"}
	lines := strings.Split(strings.TrimSpace(log.String()), "\n")
	for i, line := range lines {
		if len(lines) != len(want) || !strings.Contains(line, want[i]) {
			t.Fatalf("the log has %d lines, want one each for %q:\n%s", len(lines), want, log.String())
		}
	}
}

// A store that closes leaves the files alone that came to the place of its own.
func TestCloseLeavesOtherFiles(t *testing.T) {
	t.Parallel()
	f := newFolder(t)
	s := f.Open(t)
	org := storetest.NewOrganization(t, s)
	add(t, s, events(s, org, 2), trigger.InboxID)
	names := []string{"triggerd.db", "triggerd.db-wal"}
	for _, name := range names {
		f.copyFile(f.path(name), f.path("backup-"+name))
	}
	add(t, s, events(s, org, 3), trigger.InboxID)
	for _, name := range names {
		f.must(os.Rename(f.path(name), f.path("moved-"+name)), os.Rename(f.path("backup-"+name), f.path(name)))
	}
	before := f.snapshot()
	f.must(s.Close())
	for _, name := range names {
		if after := f.snapshot()[name]; after != before[name] || after == "" {
			t.Errorf("%s was changed or removed", name)
		}
	}
	if n := storetest.CountEvents(t, f.Open(t), org)[trigger.Pending]; n != 2 {
		t.Errorf("the restored database has %d events, want 2", n)
	}
}

// Where another database has the place of triggerd.db alone, the log beside it
// is not written into it at the next start: it goes to the file that it is of.
func TestReplacedDatabase(t *testing.T) {
	t.Parallel()
	backup, org := stopped(t)
	f, old := newFolder(t), newFolder(t)
	s := f.Open(t)
	for range 3 {
		storetest.NewOrganization(t, s)
	}
	add(t, s, events(s, org, 5), trigger.InboxID)
	f.must(os.Mkdir(old.dir, 0o700), os.Rename(f.path("triggerd.db"), old.path("triggerd.db")))
	f.copyFile(backup.path("triggerd.db"), f.path("triggerd.db"))
	f.must(s.Close())
	for _, tt := range []struct {
		name string
		folder
		want int
	}{{"the new database", f, 2}, {"the old one", old, 5}} {
		s := tt.Open(t)
		n := storetest.CountEvents(t, s, org)[trigger.Pending]
		if c, err := s.Check(t.Context(), false); err != nil || c.Sum() != 0 || n != tt.want {
			t.Errorf("%s has %d events, want %d; check: %+v, %v", tt.name, n, tt.want, c, err)
		}
	}
}

// Stopping in order brings home what can be: a log that was deleted is written
// into triggerd.db; without triggerd.db the next start is refused.
func TestRestartAfterALoss(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"triggerd.db", "triggerd.db-wal", "triggerd.db-shm", "triggerd.lock"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFolder(t)
			s := f.Open(t)
			org := storetest.NewOrganization(t, s)
			add(t, s, events(s, org, 2), trigger.InboxID)
			moved := f.dir + "-moved"
			f.must(os.Rename(f.path(name), moved), s.Close())
			if name == "triggerd.db" {
				f.refused("triggerd.db-wal is there without ")
				f.must(os.Rename(moved, f.path(name)))
			}
			if n := storetest.CountEvents(t, f.Open(t), org)[trigger.Pending]; n != 2 {
				t.Errorf("%d events after the restart, want 2", n)
			}
		})
	}
}

// Symbolic links work, and are followed at each look.
func TestSymbolicLinks(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		link string // in the folder above
		to   string
	}{
		{"data folder", "data", "real"},
		{"triggerd.db", "data/triggerd.db", "../real.db"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := newFolder(t)
			above := filepath.Dir(f.dir)
			link := filepath.Join(above, tt.link)
			if tt.link == "data" {
				f.must(os.Mkdir(filepath.Join(above, tt.to), 0o700))
			} else {
				f.must(os.Mkdir(f.dir, 0o700), os.WriteFile(filepath.Join(above, "real.db"), nil, 0o600))
			}
			f.must(os.Symlink(tt.to, link))
			s := f.Open(t)
			org := storetest.NewOrganization(t, s)
			add(t, s, events(s, org, 1), trigger.InboxID)
			f.must(os.Remove(link), os.Symlink("nowhere", link))
			if err := writes(s, org)["add"](t.Context()); err == nil {
				t.Error("an event was accepted though the link leads nowhere")
			}
			f.must(os.Remove(link), os.Symlink(tt.to, link))
			add(t, s, events(s, org, 1), trigger.InboxID)
			log, err := filepath.EvalSymlinks(f.path("triggerd.db"))
			f.must(err, os.Rename(log+"-wal", log+"-moved"))
			if err := writes(s, org)["add"](t.Context()); err == nil {
				t.Error("an event was accepted though the log is gone")
			}
			f.must(os.Rename(log+"-moved", log+"-wal"), s.Close())
			if n := storetest.CountEvents(t, f.Open(t), org)[trigger.Pending]; n != 2 {
				t.Errorf("%d events after a restart, want 2", n)
			}
		})
	}
}
