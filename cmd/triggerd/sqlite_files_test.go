package main

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"triggerd/internal/store/storetest"
)

// The database's file goes away under a running server: nothing is
// acknowledged, the node is not ready, and reads go on. Once the file is back
// all goes on, and nothing that was acknowledged is lost.
func TestDatabaseFileGone(t *testing.T) {
	t.Parallel()
	db := storetest.SQLite(t)
	file := filepath.Join(db.Options.DataDir, "triggerd.db")
	s := startServer(t, db, nil)
	key := s.newKey(t, "enterprise")
	acked := map[string]string{} // event id by dedup id
	post := func(dedupID string, want int) {
		t.Helper()
		r := s.post(t, key, "/v1/events", fmt.Sprintf(`{"type":"user.created","dedup_id":%q,"payload":1}`, dedupID))
		if r.status != want || want == http.StatusServiceUnavailable && r.header.Get("Retry-After") == "" {
			t.Errorf("POST of %s: %d with Retry-After %q, want %d: %s", dedupID, r.status, r.header.Get("Retry-After"), want, r.body)
		}
		if id := idIn(r.body); r.status < 300 {
			if was := acked[dedupID]; was != "" && was != id {
				t.Errorf("%s was acknowledged as %s, and now as %s", dedupID, was, id)
			}
			acked[dedupID] = id
		}
	}
	post("before", http.StatusCreated)
	if err := os.Rename(file, file+"-moved"); err != nil {
		t.Fatal(err)
	}
	post("at the same moment", http.StatusServiceUnavailable)
	if r := s.waitReady(t, http.StatusServiceUnavailable); !strings.Contains(r.body, `"files":"a file of the database was moved, removed or replaced"`) {
		t.Errorf("/readyz?verbose says %s", r.body)
	}
	for _, dedupID := range []string{"while it is away", "before", "at the same moment"} {
		post(dedupID, http.StatusServiceUnavailable)
	}
	batch := s.post(t, key, "/v1/events", `[{"type":"a","payload":1,"dedup_id":"before"},{"type":"a","payload":1}]`)
	if strings.Contains(batch.body, `"accepted"`) || strings.Contains(batch.body, `"duplicate"`) {
		t.Errorf("several at once: %d %s", batch.status, batch.body)
	}
	for path, body := range map[string]string{
		"/api/events":           `{"type":"a","payload":1}`,
		"/v1/webhooks":          `{"url":"https://example.com/"}`,
		"/api/keys/generate":    `{"organization_name":"Other"}`,
		"/api/webhook/register": `{"url":"https://example.com/"}`,
	} {
		if r := s.post(t, key, path, body); r.status != http.StatusServiceUnavailable {
			t.Errorf("POST %s: %d %s, want 503", path, r.status, r.body)
		}
	}
	for _, path := range []string{"/v1/events", "/v1/events/" + acked["before"], "/v1/me", "/livez"} {
		if r := s.get(t, key, path); r.status != http.StatusOK {
			t.Errorf("GET %s: %d %s, want 200", path, r.status, r.body)
		}
	}
	if err := os.Rename(file+"-moved", file); err != nil {
		t.Fatal(err)
	}
	s.waitReady(t, http.StatusOK)
	post("while it is away", http.StatusCreated)
	post("before", http.StatusOK)
	s.stop()
	s = startServer(t, db, nil)
	for dedupID := range acked {
		post(dedupID, http.StatusOK)
	}
}

// idIn is the event id of an answer; "" if it has none.
func idIn(body string) string {
	_, rest, _ := strings.Cut(body, `"id":"`)
	id, _, _ := strings.Cut(rest, `"`)
	return id
}

// waitReady waits until /readyz answers with a status.
func (s *testServer) waitReady(t *testing.T, status int) reply {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); ; <-tick.C {
		if r := s.get(t, "", "/readyz?verbose"); r.status == status {
			return r
		} else if time.Now().After(deadline) {
			t.Fatalf("/readyz answers %d %s, want %d", r.status, r.body, status)
		}
	}
}

// A server that was killed leaves what it has acknowledged in its log. Without
// the database it does not start, and leaves the log alone.
func TestLogWithoutDatabase(t *testing.T) {
	t.Parallel()
	db := storetest.SQLite(t)
	p := startProcess(t, db)
	key := p.newKey(t, "enterprise")
	first := p.postEvent(t, key, "user.created", "d", `1`)
	p.end(t, syscall.SIGKILL)
	file := filepath.Join(db.Options.DataDir, "triggerd.db")
	log, err := os.ReadFile(file + "-wal")
	if err == nil {
		err = os.Rename(file, file+"-moved")
	}
	if err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("triggerd: the database in %s cannot be opened: triggerd.db-wal is there without triggerd.db, ", db.Options.DataDir)
	if said := refusal(t, db); !strings.HasPrefix(said, want) || strings.Count(said, "\n") != 1 {
		t.Errorf("at the start it said %q, want %q", said, want)
	}
	if after, err := os.ReadFile(file + "-wal"); err != nil || string(after) != string(log) {
		t.Errorf("the log was changed: %d bytes, and were %d: %v", len(after), len(log), err)
	}
	if err := os.Rename(file+"-moved", file); err != nil {
		t.Fatal(err)
	}
	p = startProcess(t, db)
	if again := p.postEvent(t, key, "user.created", "d", `1`); again.Status != "duplicate" || again.EventID != first.EventID {
		t.Errorf("afterwards the event is %+v, want a duplicate of %s", again, first.EventID)
	}
}

// A server that was killed is not started with an older copy of its database,
// nor without its log, and is as before once the files are back.
func TestOlderDatabaseOrNoLog(t *testing.T) {
	t.Parallel()
	db := storetest.SQLite(t)
	file := filepath.Join(db.Options.DataDir, "triggerd.db")
	must := func(errs ...error) {
		t.Helper()
		for _, err := range errs {
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	p := startProcess(t, db)
	key := p.newKey(t, "enterprise")
	p.end(t, syscall.SIGTERM)
	older, err := os.ReadFile(file)
	must(err)
	p = startProcess(t, db)
	first := p.postEvent(t, key, "user.created", "d", `1`)
	p.end(t, syscall.SIGKILL)

	refused := func(text string) {
		t.Helper()
		want := fmt.Sprintf("triggerd: the database in %s cannot be opened: %s", db.Options.DataDir, text)
		if said := refusal(t, db); !strings.HasPrefix(said, want) || strings.Count(said, "\n") != 1 {
			t.Errorf("at the start it said %q, want %q", said, want)
		}
	}
	must(os.Rename(file, file+"-moved"), os.WriteFile(file, older, 0o600))
	refused("triggerd.db is not the database that triggerd.db-wal belongs to, ")
	must(os.Rename(file+"-moved", file), os.Rename(file+"-wal", file+"-moved"))
	refused("triggerd.db-wal is gone or damaged, and with it events that were acknowledged: ")
	must(os.Rename(file+"-moved", file+"-wal"))
	p = startProcess(t, db)
	if again := p.postEvent(t, key, "user.created", "d", `1`); again.Status != "duplicate" || again.EventID != first.EventID {
		t.Errorf("afterwards the event is %+v, want a duplicate of %s", again, first.EventID)
	}
}
