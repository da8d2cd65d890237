package store_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"triggerd/internal/store"
	"triggerd/internal/store/storetest"
	"triggerd/internal/trigger"
)

// The words in what is deleted, and in what stays.
const (
	forgotten  = "FORGOTTEN"
	remembered = "REMEMBERED"
)

// countBytes counts a text in all files of a data folder.
func countBytes(t *testing.T, dir, text string) (n int) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		data, err := os.ReadFile(filepath.Join(dir, entry.Name()))
		if errors.Is(err, fs.ErrNotExist) { // the note's file, before it got its name
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		n += bytes.Count(data, []byte(text))
	}
	return n
}

// worded makes an event that has the word in its payload, type and headers, and
// in the answer that Finish keeps.
func worded(s *store.Store, r *rand.Rand, orgID int64, word string) *trigger.Event {
	e := event(s, orgID, "")
	filler := bytes.Repeat([]byte{'x'}, r.IntN(200)<<r.IntN(7)) // up to some overflow pages
	e.Type = word + ".created"
	e.Payload = fmt.Appendf(nil, `{"a":%q,"b":"%s","c":%[1]q}`, word, filler)
	return e
}

// fill stores events of an organization, some with the word forgotten, and
// attempts with answers for all. It returns the ids of the forgotten ones.
func fill(t *testing.T, s *store.Store, r *rand.Rand, orgID int64) (ids []trigger.ID) {
	t.Helper()
	hook := newWebhook(t, s, orgID, "")
	for range 6 {
		var batch []*trigger.Event
		for range 100 {
			word := remembered
			if r.IntN(3) > 0 {
				word = forgotten
			}
			e := worded(s, r, orgID, word)
			if word == forgotten {
				ids = append(ids, e.ID)
			}
			batch = append(batch, e)
		}
		add(t, s, batch, hook)
		gone := map[trigger.ID]bool{}
		for _, id := range ids {
			gone[id] = true
		}
		var results []store.Result
		for _, d := range claimAll(t, s, orgID, hook, time.Minute) {
			result := result(s, d, []trigger.Outcome{trigger.Success, trigger.Permanent}[r.IntN(2)])
			word := remembered
			if gone[d.EventID] {
				word = forgotten
			}
			result.Attempt.Response = bytes.Repeat([]byte(word+" "), 1+r.IntN(20)<<r.IntN(5))
			results = append(results, result)
		}
		if err := s.Finish(t.Context(), results); err != nil {
			t.Fatal(err)
		}
	}
	return ids
}

// awaitNone waits until a text is in no file of a data folder.
func awaitNone(t *testing.T, db *storetest.DB, text string) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); ; <-tick.C {
		n := countBytes(t, db.Options.DataDir, text)
		if n == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d times in the files of a running server", n)
		}
	}
}

// deletions are the ways by which events go.
func deletions() map[string]func(t *testing.T, db *storetest.DB, s *store.Store, orgID int64, ids []trigger.ID) {
	return map[string]func(t *testing.T, db *storetest.DB, s *store.Store, orgID int64, ids []trigger.ID){
		"deleted one by one": func(t *testing.T, _ *storetest.DB, s *store.Store, orgID int64, ids []trigger.ID) {
			for _, id := range ids {
				if err := s.DeleteEvent(t.Context(), orgID, id); err != nil {
					t.Fatal(err)
				}
			}
		},
		"erased with the organization": func(t *testing.T, db *storetest.DB, s *store.Store, orgID int64, _ []trigger.ID) {
			if err := s.DeleteOrganization(t.Context(), orgID); err != nil {
				t.Fatal(err)
			}
			db.Clock.Advance(2 * time.Minute)
			if err := s.Erase(t.Context()); err != nil {
				t.Fatal(err)
			}
		},
		"older than the retention": func(t *testing.T, db *storetest.DB, s *store.Store, _ int64, _ []trigger.ID) {
			db.Clock.Advance(48 * time.Hour)
			if err := s.DropBefore(t.Context(), s.Now().Add(-24*time.Hour)); err != nil {
				t.Fatal(err)
			}
		},
	}
}

// Nothing of what was deleted is in the files: neither soon after, while the
// server runs, nor when it has stopped.
func TestNothingDeletedIsLeft(t *testing.T) {
	t.Parallel()
	for name, remove := range deletions() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for seed := range uint64(3) {
				r := rand.New(rand.NewPCG(seed, 0))
				db := storetest.SQLite(t)
				db.Options = db.Options.WithEmptyLog(50 * time.Millisecond)
				s := db.Open(t)
				org := storetest.NewOrganization(t, s)
				ids := fill(t, s, r, org)
				r.Shuffle(len(ids), func(i, j int) { ids[i], ids[j] = ids[j], ids[i] })
				if countBytes(t, db.Options.DataDir, forgotten) == 0 {
					t.Fatal("nothing is in the files, so this test cannot see that it goes")
				}
				remove(t, db, s, org, ids)
				awaitNone(t, db, forgotten)
				if c, err := s.Check(t.Context(), false); err != nil || c.Sum() != 0 {
					t.Errorf("seed %d: %+v, %v", seed, c, err)
				}
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
				if n := countBytes(t, db.Options.DataDir, forgotten); n != 0 {
					t.Errorf("seed %d: %d times in the files of a stopped server", seed, n)
				}
				if name == "deleted one by one" && countBytes(t, db.Options.DataDir, remembered) == 0 {
					t.Error("what was not deleted has gone, too")
				}
			}
		})
	}
}

// told takes lines of a log, and tells of those that say that the log of the
// database cannot empty the log.
type told chan struct{}

func (c told) Write(line []byte) (int, error) {
	if bytes.Contains(line, []byte("cannot empty the log")) {
		select {
		case c <- struct{}{}:
		default:
		}
	}
	return len(line), nil
}

// A reader that another program keeps open holds up no commit. What was deleted
// goes when it ends.
func TestDeletedIsGoneAfterAReader(t *testing.T) {
	t.Parallel()
	db := storetest.SQLite(t)
	db.Options = db.Options.WithEmptyLog(20 * time.Millisecond)
	tried := make(told, 1)
	db.Options.Log = slog.New(slog.NewTextHandler(tried, &slog.HandlerOptions{Level: slog.LevelDebug}))
	s := db.Open(t)
	org := storetest.NewOrganization(t, s)
	e := worded(s, rand.New(rand.NewPCG(1, 1)), org, forgotten)
	add(t, s, []*trigger.Event{e}, trigger.InboxID)
	raw := db.SQL(t)
	reader, err := raw.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	var n int
	if err := reader.QueryRowContext(t.Context(), "SELECT count(*) FROM events").Scan(&n); err != nil || n != 1 {
		t.Fatal(n, err)
	}
	if err := s.DeleteEvent(t.Context(), org, e.ID); err != nil {
		t.Fatal(err)
	}
	for range 20 {
		add(t, s, events(s, org, 1), trigger.InboxID)
	}
	if err := reader.QueryRowContext(t.Context(), "SELECT count(*) FROM events").Scan(&n); err != nil || n != 1 {
		t.Errorf("the reader sees %d events, %v", n, err)
	}
	if countBytes(t, db.Options.DataDir, forgotten) == 0 {
		t.Error("the reader's event is in no file")
	}
	for range 2 { // the first may be from before the last commit
		<-tried
	}
	if err := reader.Rollback(); err != nil {
		t.Fatal(err)
	}
	awaitNone(t, db, forgotten)
	if c, err := s.Check(t.Context(), false); err != nil || c.Sum() != 0 || c.Examined != 20 {
		t.Errorf("%+v, %v", c, err)
	}
}

// A page that was written with bytes in its unused space, and is no longer in
// the file when the log is scrubbed, is left out.
func TestScrubOfAShorterFile(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	db := storetest.SQLite(t)
	db.Options.Log = slog.New(slog.NewTextHandler(&log, nil))
	s := db.Open(t)
	if err := s.InWrite(t.Context(), func(exec func(string) error) error {
		for _, text := range []string{
			"CREATE TABLE filler AS SELECT zeroblob(4000000) AS v",
			"CREATE TABLE last (v TEXT)",
			"UPDATE sqlite_dbpage SET data = CAST(substr(data, 1, 100) || x'AA' || substr(data, 102) AS BLOB)" +
				" WHERE pgno = (SELECT rootpage FROM sqlite_schema WHERE name = 'last')",
			"DROP TABLE filler",
		} {
			if err := exec(text); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if err := s.Rewrite(t.Context()); err != nil {
		t.Error(err)
	}
	if c, err := s.Check(t.Context(), false); err != nil || c.Sum() != 0 {
		t.Errorf("%+v, %v", c, err)
	}
	if err := s.Close(); err != nil || log.Len() > 0 {
		t.Errorf("%v; logged %s", err, log.String())
	}
}
