package main

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"triggerd/internal/store/storetest"
)

// migrationsFolder is where a new schema shows in the history.
const migrationsFolder = "internal/store/migrations"

// git runs it in the project's folder, whoever owns that.
func git(t *testing.T, args ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "git", append([]string{"-c", "safe.directory=*", "-C", "../.."}, args...)...)
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("git %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(said.String()))
	}
	return strings.TrimSpace(string(out)), err
}

// oldRevision is the newest commit that has not the newest schema: the one
// before the schema came, or the last one while that is not committed yet.
func oldRevision(t *testing.T) (string, error) {
	t.Helper()
	committed, err := git(t, "ls-tree", "-r", "--name-only", "HEAD", migrationsFolder+"/")
	if err != nil {
		return "", err
	}
	here, err := filepath.Glob("../../" + migrationsFolder + "/*/*.sql")
	if err != nil {
		return "", err
	}
	if len(here) > len(strings.Fields(committed)) {
		return git(t, "rev-parse", "HEAD")
	}
	came, err := git(t, "log", "--diff-filter=A", "--format=%H", "-1", "--", migrationsFolder)
	if err != nil {
		return "", err
	}
	return git(t, "rev-parse", "--verify", "--quiet", came+"^")
}

// buildOld builds the program as it was before the newest schema; "" if this
// clone has no such past.
func buildOld(t *testing.T) string {
	t.Helper()
	revision, err := oldRevision(t)
	if err != nil {
		notTested(t, "upgrades need the history of the repository, which a shallow clone or an archive has not: %v", err)
		return ""
	}
	folder := t.TempDir()
	archive := filepath.Join(folder, "old.tar")
	if _, err := git(t, "archive", "--output", archive, revision); err != nil {
		t.Fatal(err)
	}
	source := filepath.Join(folder, "source")
	if err := os.Mkdir(source, 0o700); err != nil {
		t.Fatal(err)
	}
	if said, err := exec.CommandContext(t.Context(), "tar", "-xf", archive, "-C", source).CombinedOutput(); err != nil {
		t.Fatalf("unpack the old source: %v: %s", err, said)
	}
	unchanged(t, os.DirFS(filepath.Join(source, migrationsFolder)))
	args := []string{"build", "-buildvcs=false", "-o", filepath.Join(folder, "triggerd")}
	if withRace() { // the libraries are compiled already, if they are compiled the same way
		args = append(args, "-race")
	}
	build := exec.CommandContext(t.Context(), "go", append(args, "./cmd/triggerd")...)
	build.Dir = source
	if said, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the old program: %v: %s", err, said)
	}
	return filepath.Join(folder, "triggerd")
}

// withRace reports whether this test was compiled with the race detector.
func withRace() bool {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return false
	}
	for _, setting := range info.Settings {
		if setting.Key == "-race" {
			return setting.Value == "true"
		}
	}
	return false
}

// unchanged fails the test if a migration of the past is another one today:
// databases that have run it would differ from those that will.
func unchanged(t *testing.T, old fs.FS) {
	t.Helper()
	names, err := fs.Glob(old, "*/*.sql")
	if err != nil || len(names) == 0 {
		t.Fatalf("the old migrations: %v, %v", names, err)
	}
	for _, name := range names {
		was, err := fs.ReadFile(old, name)
		if err != nil {
			t.Fatal(err)
		}
		if is, err := os.ReadFile(filepath.Join("../..", migrationsFolder, name)); err != nil || !bytes.Equal(was, is) {
			t.Errorf("%s was changed after it was committed: migrations only get company", name)
		}
	}
}

// schemaOf is the number of the newest migration that the database has.
func schemaOf(t *testing.T, db *storetest.DB) (schema int) {
	t.Helper()
	err := db.SQL(t).QueryRowContext(t.Context(), `SELECT max(version_id) FROM goose_db_version`).Scan(&schema)
	if err != nil {
		t.Fatal(err)
	}
	return schema
}

// The program of before the newest schema, and this one, on one database.
func TestUpgrade(t *testing.T) {
	t.Parallel()
	program := buildOld(t)
	if program == "" {
		return
	}
	t.Run("sqlite", func(t *testing.T) { inPlace(t, program, storetest.SQLite(t)) })
	storetest.OnPostgres(t, func(t *testing.T, db *storetest.DB) { rolling(t, program, db) })
}

// inPlace stops the old program and starts the new one on the same folder, and
// the way back: everything is there.
func inPlace(t *testing.T, program string, db *storetest.DB) {
	rec := newRecorder(t, nil)
	p := startProgram(t, program, db)
	was := schemaOf(t, db)
	key := p.newKey(t, "enterprise")
	p.register(t, key, rec.URL+"/hook", "")
	acks := &known{acked: map[string]string{}}
	for i, next := range []string{os.Args[0], program, os.Args[0]} {
		load := newTraffic(t, key, p, acks)
		load.until(200)
		load.end()
		if code := p.end(t, syscall.SIGTERM); code != 0 || strings.Contains(p.log.String(), "level=ERROR") {
			t.Errorf("exit code %d of program %d:\n%s", code, i, p.log)
		}
		p = startProgram(t, next, db)
		load.nodes = []*process{p}
		load.check(rec)
		if is := schemaOf(t, db); is <= was {
			t.Fatalf("the old program's schema is %d, the new one's %d: nothing was migrated", was, is)
		}
	}
}

// rolling is an upgrade without a stop: the new program starts beside the old
// one, under traffic, and both go on; then the old one leaves. Nothing that
// either has acknowledged is lost, stored twice, or not delivered.
func rolling(t *testing.T, program string, db *storetest.DB) {
	if _, err := db.SQL(t).ExecContext(t.Context(), `DROP SCHEMA triggerd CASCADE`); err != nil { // of today
		t.Fatal(err)
	}
	rec := newRecorder(t, nil)
	before := startProgram(t, program, db)
	was := schemaOf(t, db)
	key := before.newKey(t, "enterprise")
	before.register(t, key, rec.URL+"/hook", "")
	load := newTraffic(t, key, before, &known{acked: map[string]string{}})
	load.until(100)
	after := startProcess(t, db)
	if is := schemaOf(t, db); is <= was {
		t.Fatalf("the old program's schema is %d, the new one's %d: nothing was migrated", was, is)
	}
	load.join(after)
	load.until(200)
	load.end()
	load.check(rec)
	if code := before.end(t, syscall.SIGTERM); code != 0 {
		t.Errorf("the old program ended with %d:\n%s", code, before.log)
	}
	again := startProgram(t, program, db) // the way back is open, as long as nothing was contracted
	load = newTraffic(t, key, after, load.acks)
	load.join(again)
	load.until(50)
	load.end()
	load.check(rec)
	for _, p := range load.nodes {
		if code := p.end(t, syscall.SIGTERM); code != 0 || strings.Contains(p.log.String(), "level=ERROR") {
			t.Errorf("exit code %d:\n%s", code, p.log)
		}
	}
	t.Logf("%d events, %d requests to the webhook", load.acks.len(), len(rec.wait(t, 0)))
}

// A database that a newer program has contracted: a node that runs notices,
// and stops in order; one that starts is refused. Both say what to do, and
// nothing is lost.
func TestNewerDatabase(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		p := startProcess(t, db)
		key := p.newKey(t, "enterprise")
		first := p.postEvent(t, key, "user.created", "d", `1`)
		known := schemaOf(t, db)
		line := fmt.Sprintf("the database was migrated by a newer triggerd (it needs schema %d, this program knows %d): "+
			"install that version or a newer one\n", known+1, known)
		needs(t, db, known+1)
		if code := p.wait(t); code != 1 || !strings.HasSuffix(p.log.String(), "level=INFO msg=stopped\ntriggerd: "+line) ||
			!strings.Contains(p.log.String(), fmt.Sprintf("msg=stopping reason=%q", strings.TrimSpace(line))) {
			t.Errorf("the node ended with %d, and said:\n%s", code, p.log)
		}
		where := ""
		if !db.IsPostgres() {
			where = "the database in " + db.Options.DataDir + " cannot be opened: "
		}
		if said := refusal(t, db); !strings.HasSuffix(said, "triggerd: "+where+line) { // behind what it waited for
			t.Errorf("at the start it said %q", said)
		}
		needs(t, db, known)
		p = startProcess(t, db)
		if again := p.postEvent(t, key, "user.created", "d", `1`); again.Status != "duplicate" || again.EventID != first.EventID {
			t.Errorf("afterwards the event is %+v, want a duplicate of %s", again, first.EventID)
		}
	})
}

// needs makes the database one for programs that know a schema.
func needs(t *testing.T, db *storetest.DB, schema int) {
	t.Helper()
	if _, err := db.SQL(t).ExecContext(t.Context(), `UPDATE compatibility SET least = $1`, schema); err != nil {
		t.Fatal(err)
	}
}

// traffic posts an event every few milliseconds, each with a dedup id of its
// own, to all nodes by turns.
type traffic struct {
	t    *testing.T
	key  string
	acks *known
	more chan struct{} // has a token when there are more of them
	stop func()
	wg   sync.WaitGroup

	mu    sync.Mutex
	nodes []*process
	acked []int // since the last node came, by node
}

func newTraffic(t *testing.T, key string, first *process, acks *known) *traffic {
	ctx, cancel := context.WithCancel(t.Context())
	tr := &traffic{t: t, key: key, acks: acks, more: make(chan struct{}, 1), stop: cancel}
	tr.join(first)
	next := make(chan string)
	tr.wg.Go(func() {
		defer close(next)
		tick := time.NewTicker(4 * time.Millisecond)
		defer tick.Stop()
		for n := acks.len(); ; n++ {
			select {
			case <-tick.C:
				next <- fmt.Sprint("d", n)
			case <-ctx.Done():
				return
			}
		}
	})
	for range 4 {
		tr.wg.Go(func() {
			for dedupID := range next {
				tr.post(dedupID)
			}
		})
	}
	t.Cleanup(tr.end)
	return tr
}

// join adds a node.
func (tr *traffic) join(p *process) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.nodes = append(tr.nodes, p)
	tr.acked = make([]int, len(tr.nodes))
}

// post posts an event to the node that has had the fewest. All of them must
// acknowledge: nothing is wrong here.
func (tr *traffic) post(dedupID string) {
	tr.mu.Lock()
	node := slices.Index(tr.acked, slices.Min(tr.acked))
	p := tr.nodes[node]
	tr.mu.Unlock()
	answer, ok := p.tryEvent(tr.key, crashEvent(dedupID))
	if !ok || answer.Status != "accepted" {
		tr.t.Errorf("node %d answered %s with %+v", node, dedupID, answer)
		return
	}
	tr.acks.note(dedupID, answer.EventID)
	tr.mu.Lock()
	tr.acked[node]++
	tr.mu.Unlock()
	select {
	case tr.more <- struct{}{}:
	default:
	}
}

// until returns when each node has acknowledged n events beside the others.
func (tr *traffic) until(n int) {
	tr.t.Helper()
	deadline := time.After(patience)
	for {
		tr.mu.Lock()
		least := slices.Min(tr.acked)
		tr.mu.Unlock()
		if least >= n {
			return
		}
		select {
		case <-tr.more:
		case <-deadline:
			tr.t.Fatalf("a node has acknowledged %d events, want %d", least, n)
		}
	}
}

// end waits for the posts under way.
func (tr *traffic) end() {
	tr.stop()
	tr.wg.Wait()
}

// check asks each node for each acknowledged event, and waits until all of
// them have come to the webhook.
func (tr *traffic) check(rec *recorder) {
	tr.t.Helper()
	for node, p := range tr.nodes {
		for dedupID, eventID := range tr.acks.acked {
			answer, ok := p.tryEvent(tr.key, crashEvent(dedupID))
			if !ok || answer.Status != "duplicate" || answer.EventID != eventID { // one is enough: a 503 takes its time
				tr.t.Fatalf("%s was acknowledged as %s, and node %d has %+v (answered: %v)", dedupID, eventID, node, answer, ok)
			}
		}
	}
	untilReceived(tr.t, rec, tr.acks)
	waitForEmpty(tr.t, tr.nodes[0], tr.key)
}
