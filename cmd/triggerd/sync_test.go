package main

import (
	"fmt"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"triggerd/internal/store"
	"triggerd/internal/store/storetest"
)

// The promise is that a 200 means synced. A crash of the process does not show
// it, since the system keeps what was written; so the calls themselves are
// watched: for each event its place in the database's log is synced before the
// first byte of its answer.
func TestSyncComesBeforeTheAnswer(t *testing.T) {
	t.Parallel()
	t.Run("sqlite", func(t *testing.T) {
		p := startProcess(t, storetest.SQLite(t))
		wrong, _ := answersWithoutSync(t, p, regexp.MustCompile(`/triggerd\.db-wal$`), nil)
		for _, err := range wrong {
			t.Error(err)
		}
	})
	t.Run("postgres", func(t *testing.T) {
		c := startCluster(t)
		if c == nil {
			return
		}
		log := regexp.MustCompile(`/pg_wal/[0-9A-F]+$`)
		p := startProcess(t, c.db)
		wrong, ok := answersWithoutSync(t, p, log, c)
		if !ok {
			return
		}
		for _, err := range wrong {
			t.Error(err)
		}
		if code := p.end(t, syscall.SIGTERM); code != 0 {
			t.Fatalf("exit code %d:\n%s", code, p.log)
		}
		// The same on connections that do not wait must be seen: so it would
		// be if the server's did not.
		db := &storetest.DB{Options: store.Options{PostgresURL: c.db.Options.PostgresURL + unsynced}}
		p = startProcess(t, db)
		if wrong, _ := answersWithoutSync(t, p, log, c); len(wrong) == 0 {
			t.Error("no answer came before its sync, although none waited for it: this test sees nothing")
		} else {
			t.Logf("without waiting, %d answers come before their sync, as %v", len(wrong), wrong[0])
		}
	})
}

// answersWithoutSync posts events one after another while the server and its
// database are followed, and returns those that were answered too early; ok is
// false if that cannot be seen here.
func answersWithoutSync(t *testing.T, p *process, log *regexp.Regexp, database *cluster) (wrong []error, ok bool) {
	t.Helper()
	key := p.newKey(t, "enterprise")
	p.postEvent(t, key, "user.created", "", `1`) // opens the connections that events need
	trace := startStrace(t, func() []int {
		if database == nil {
			return []int{p.cmd.Process.Pid}
		}
		return append(database.processes(t), p.cmd.Process.Pid) // any of them may sync for the others
	})
	if trace == nil {
		return nil, false
	}
	const events = 20
	ids := map[string]string{}
	for i := range events {
		mark := fmt.Sprintf("mark-%02d-of-the-event", i)
		answer := p.postEvent(t, key, "user.created", mark, `1`)
		if answer.Status != "accepted" {
			t.Fatalf("%s got %+v", mark, answer)
		}
		ids[mark] = answer.EventID
	}
	calls := trace.calls(t)
	for mark, id := range ids {
		if err := judgeSync(calls, log, mark, id); err != nil {
			wrong = append(wrong, fmt.Errorf("%s: %w", mark, err))
		}
	}
	return wrong, true
}

// The judge itself, on traces that show each way to be too early.
func TestJudgeSync(t *testing.T) {
	t.Parallel()
	const (
		write = `7 pwrite64(12</d/triggerd.db-wal>, "\0\0mark\0", 7, 0) = 7`
		sync  = `7 fsync(12</d/triggerd.db-wal>) = 0`
		reply = `8 write(9<TCP:[127.0.0.1:1->127.0.0.1:2]>, "HTTP/1.1 200 OK\r\n\r\n{\"event-id\":\"the-id\"}", 40) = 40`
	)
	for _, test := range []struct {
		name, want string
		lines      []string
	}{
		{"in order", "", []string{write, sync, reply}},
		{"fdatasync", "", []string{write, strings.Replace(sync, "fsync", "fdatasync", 1), reply}},
		{"cut lines", "", []string{
			`7 pwrite64(12</d/triggerd.db-wal>, "\0\0mark\0", 7, 0 <unfinished ...>`, `6 write(1<pipe:[5]>, "x", 1) = 1`,
			`7 <... pwrite64 resumed>) = 7`, `7 fsync(12</d/triggerd.db-wal> <unfinished ...>`, `7 <... fsync resumed>) = 0`,
			`8 write(9<TCP:[127.0.0.1:1->127.0.0.1:2]>, "HTTP/1.1 200 OK\r\n\r\nthe-id", 40 <unfinished ...>`,
			`8 <... write resumed>) = 40`,
		}},
		{"no sync", "without a sync between", []string{write, reply}},
		{"sync too late", "without a sync between", []string{write, reply, sync}},
		{"sync too early", "without a sync between", []string{sync, write, reply}},
		{"sync not ended", "without a sync between", []string{
			write, `7 fsync(12</d/triggerd.db-wal> <unfinished ...>`, reply, `7 <... fsync resumed>) = 0`,
		}},
		{"sync begun before the end of the write", "without a sync between", []string{
			`7 pwrite64(12</d/triggerd.db-wal>, "mark", 7, 0 <unfinished ...>`, `6 fsync(12</d/triggerd.db-wal>) = 0`,
			`7 <... pwrite64 resumed>) = 7`, reply,
		}},
		{"sync failed", "without a sync between", []string{write, `7 fsync(12</d/triggerd.db-wal>) = -1 EIO (Input/output error)`, reply}},
		{"sync of another file", "without a sync between", []string{write, `7 fsync(13</d/triggerd.db>) = 0`, reply}},
		{"written again", "", []string{write, sync, write, reply}},
		{"not written", "not in the log", []string{sync, reply}},
		{"written too late", "not in the log", []string{reply, write, sync}},
		{"write not ended", "not in the log", []string{
			`7 pwrite64(12</d/triggerd.db-wal>, "mark", 7, 0 <unfinished ...>`, sync, reply, `7 <... pwrite64 resumed>) = 7`,
		}},
		{"no answer", "not seen", []string{write, sync, strings.Replace(reply, "the-id", "another", 1)}},
	} {
		err := judgeSync(parseCalls(strings.Join(test.lines, "\n")), regexp.MustCompile(`-wal$`), "mark", "the-id")
		if got := fmt.Sprint(err); test.want == "" && err != nil || test.want != "" && !strings.Contains(got, test.want) {
			t.Errorf("%s: %v, want %q", test.name, err, test.want)
		}
	}
}
