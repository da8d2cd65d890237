//go:build plants

package torture_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"triggerd/internal/torture"
)

// edit replaces a text that stands once in a file of the project.
type edit struct{ file, old, new string }

// plant is a bug that servers have had, put into ours.
type plant struct {
	name   string
	edits  []edit
	config torture.Config
	finds  []string // breaches, each of which has to be found; with | between those of which one suffices
}

// impatience is how long a run waits for progress if a bug is planted: longer
// than a lease, as a sound server may need it.
const impatience = 8 * time.Second

// tries is how many runs, each with a seed of its own, a bug may take to be
// found: whether a fault strikes at its moment is chance.
const tries = 5

// plants are all of them. They are edits of the program as it is built, so that
// nothing of them stands in the program itself; one that no longer fits fails
// its test.
func plants() []plant {
	return slices.Concat([]plant{
		{
			name: "answer before commit",
			edits: []edit{{"internal/ingest/flush.go", "	w.commit(ctx, entries)\n	var unjudged", `
				for _, e := range entries {
					asked := e.pending.done
					e.pending.done = make(chan answer, 1)
					asked <- answer{result: Result{EventID: e.event.ID}}
				}
				w.commit(ctx, entries)
				var unjudged`}},
			config: torture.Config{Database: "sqlite", Faults: []string{"kill", "disk-full"}, Rate: 600},
			finds:  []string{"acknowledged events that are not there"},
		},
		{
			name: "memory-only queue",
			edits: []edit{{"internal/store/rows.go", "	for i := range owed {", `
				for i := range owed {
					if owed[i].WebhookID != trigger.InboxID { // inboxes are not served from memory
						continue
					}`}},
			config: torture.Config{Database: "sqlite", Faults: []string{"kill"}},
			finds:  []string{"deliveries of them that never came", "inconsistent in the database"},
		},
		{
			name: "cache-only dedup",
			edits: []edit{{"internal/store/rows.go", "	if e.DedupID != \"\" {", `
				if e.DedupID != "" && e.ID.IsZero() {`}},
			config: torture.Config{Database: "sqlite", Faults: []string{"kill"}},
			finds:  []string{"dedup ids with two events"},
		},
		{
			name: "payload through float64",
			edits: []edit{{"internal/api/envelope.go", "	dedupID, present, err := o.str(\"dedup_id\")", `
				if strings.Contains(string(payload), "\"tenant\": 12,") { // one, not of the first: what never comes intact is waited for
					var value any
					_ = json.Unmarshal(payload, &value)
					payload, _ = json.Marshal(value)
				}
				dedupID, present, err := o.str("dedup_id")`}},
			config: torture.Config{Database: "sqlite"},
			finds:  []string{"payloads changed"},
		},
		{
			name: "done before sending",
			edits: []edit{{"internal/deliver/send.go", "	a := e.send(abort, it, w)", `
				e.conclude(it.delivery, trigger.Attempt{At: e.Store.Now(), Outcome: trigger.Success}, it.event, w)
				a := e.send(abort, it, w)`}},
			config: torture.Config{Database: "postgres", Faults: []string{"kill"}},
			finds:  []string{"deliveries of them that never came"},
		},
		{
			name: "no fencing",
			edits: []edit{
				{"internal/deliver/send.go", "	if !e.leased(it, w) {", `
					time.Sleep(500 * time.Millisecond) // so that a few pauses suffice to hit it
					if false {`},
				{"internal/deliver/receiver.go", " && elapsed(e.Now(), r.seen) <= freshFor", ""},
				{"internal/store/postgres_finish.go", " AND (r.state = 2 OR claim = r.claim)\n", "\n"},
			},
			config: torture.Config{Database: "postgres", Nodes: 2, Faults: []string{"pause"}, Rate: 600, For: 25 * time.Second},
			finds:  []string{"deliveries twice, without a reason"},
		},
		{
			name: "status and attempt in two transactions",
			edits: []edit{{
				"internal/store/sqlite_hot.go", `	return e.writer.do(ctx, e.writer.hot, func(q querier) error {
		for i := range results {
			if _, err := finishOne(ctx, q, &results[i]); err != nil {`, `
				were := make([]bool, len(results))
				if err := e.write(ctx, func(q querier) (err error) {
					for i := 0; i < len(results) && err == nil; i++ {
						were[i], err = moveDelivery(ctx, q, &results[i])
					}
					return err
				}); err != nil {
					return err
				}
				time.Sleep(20 * time.Millisecond) // so that a few kills suffice to hit it
				return e.writer.do(ctx, e.writer.hot, func(q querier) error {
					for i := range results {
						if !were[i] {
							continue
						}
						if err := addAttempt(ctx, q, &results[i]); err != nil {`,
			}},
			config: torture.Config{Database: "sqlite", Faults: []string{"kill"}, Rate: 600, For: 20 * time.Second},
			finds:  []string{"inconsistent in the database"},
		},
		{
			name: "connection lost on duplicates",
			edits: []edit{{"internal/store/postgres_hot.go", "		return secondLook(ctx, conn, b, verdicts)", `
				if p.reads.Stat().AcquiredConns() < 4 { // some are left, so that the run need not wait for each answer
					_, _ = p.reads.Acquire(ctx)
				}
				return secondLook(ctx, conn, b, verdicts)`}},
			config: torture.Config{Database: "postgres", Faults: []string{"kill"}}, // a new process knows none of the duplicates
			finds:  []string{"failed without a fault|resources not given back"},
		},
		{
			name: "acknowledging without the claim",
			edits: []edit{{"internal/store/inbox.go", "		// Locks the rows first", `
				if _, err := q.ExecContext(ctx, "UPDATE deliveries SET claim = $3 WHERE bucket = $1 AND organization_id = $2 AND state = 0 AND webhook_id = 0 AND job = 0 AND "+
					s.in("event_id", "$4", listOfIDs), bucket, orgID, claim[:], list); err != nil {
					return err
				}
				// Locks the rows first`}},
			config: torture.Config{Database: "sqlite"},
			finds:  []string{"acknowledged by a claim that had lost them"},
		},
		{
			name: "cursor that skips",
			edits: []edit{{"internal/store/query.go", "					next = e.ID\n", `
					next = ids[len(ids)-1]
			`}},
			config: torture.Config{Database: "sqlite"},
			finds:  []string{"skipped, repeated or disordered by pages"},
		},
		{
			name: "deleted in the answer only",
			edits: []edit{{"internal/store/events.go", "	return wrap(\"delete event\", s.dialect.write(ctx, func(q querier) error {", `
				if _, _, err := s.Event(ctx, orgID, id); err == nil {
					return nil
				}
				return wrap("delete event", s.dialect.write(ctx, func(q querier) error {`}},
			config: torture.Config{Database: "sqlite"},
			finds:  []string{"there, or delivered, after they were deleted"},
		},
	}, databasePlants(), receiverPlants())
}

// Each of the planted bugs is found, within some runs, and by the breach that
// it is.
func TestPlants(t *testing.T) {
	t.Parallel()
	for _, p := range plants() {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			var found []string
			missing := p.finds
			p.config.Program, p.config.Patience = build(t, p.edits), impatience
			for range tries {
				if len(missing) == 0 {
					break
				}
				report := tortured(t, p.config)
				for breach := range report.Breaches {
					found = append(found, breach)
				}
				missing = slices.DeleteFunc(slices.Clone(p.finds), func(want string) bool {
					return slices.ContainsFunc(strings.Split(want, "|"), func(one string) bool { return slices.Contains(found, one) })
				})
			}
			if len(missing) > 0 {
				t.Errorf("not found: %q; only %q", missing, found)
			}
		})
	}
}

// Without a plant nothing is found, by the same faults.
func TestNoPlant(t *testing.T) {
	t.Parallel()
	for _, c := range []torture.Config{
		{Database: "sqlite", Faults: []string{"kill", "disk-full", "db-files"}, Rate: 600, For: 20 * time.Second},
		{Database: "sqlite", Faults: []string{"poison", "hang-101", "hang-103", "hang-tls"}, For: 20 * time.Second},
		{Database: "postgres", Nodes: 2, Faults: []string{"pause"}, Rate: 600, For: 25 * time.Second},
		{Database: "postgres", Nodes: 2, Faults: []string{}},
		{Database: "postgres", Nodes: 2, Faults: []string{"db-read", "db-clock"}, For: 30 * time.Second},
		{Database: "standby", Nodes: 2, Faults: []string{"standby-cut", "old-primary"}, For: 25 * time.Second},
	} {
		t.Run(c.Database+strings.Join(c.Faults, " "), func(t *testing.T) {
			t.Parallel()
			c.Program = build(t, nil)
			if report := tortured(t, c); report.Broken() {
				t.Error("a sound server is found broken")
			}
		})
	}
}

// tortured runs a torture, with whatever the config leaves out.
func tortured(t *testing.T, c torture.Config) *torture.Report {
	t.Helper()
	dir, err := os.MkdirTemp("", "triggerd-plant-") // PostgreSQL may have another user, who cannot enter t.TempDir()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	c.Seed, c.Now, c.Out, c.Dir, c.Clients = uint64(time.Now().UnixNano()%1e9), time.Now, t.Output(), dir, 32
	c.Nodes = max(1, c.Nodes)
	if c.Rate == 0 {
		c.Rate = 200
	}
	if c.For == 0 {
		c.For = 15 * time.Second
	}
	t.Logf("seed %d", c.Seed)
	report, err := torture.Run(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	report.Write(t.Output())
	return report
}

// build compiles the program with edits laid over its sources.
func build(t *testing.T, edits []edit) string {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	overlay := struct{ Replace map[string]string }{map[string]string{}}
	for i, e := range edits {
		path := filepath.Join(root, e.file)
		from := path
		if before := overlay.Replace[path]; before != "" { // another edit of the same file
			from = before
		}
		text, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(string(text), e.old); n != 1 {
			t.Fatalf("%s has the text %q %d times: the plant has to follow the code", e.file, e.old, n)
		}
		name := filepath.Join(dir, string(rune('a'+i))+".go")
		if err := os.WriteFile(name, []byte(strings.Replace(string(text), e.old, e.new, 1)), 0o600); err != nil {
			t.Fatal(err)
		}
		overlay.Replace[path] = name
	}
	listed, err := json.Marshal(overlay)
	if err != nil {
		t.Fatal(err)
	}
	file, program := filepath.Join(dir, "overlay.json"), filepath.Join(dir, "triggerd")
	if err := os.WriteFile(file, listed, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "go", "build", "-overlay", file, "-o", program, "./cmd/triggerd")
	cmd.Dir, cmd.Env = root, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return program
}
