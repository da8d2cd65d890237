package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"triggerd/internal/store"
	"triggerd/internal/store/storetest"
	"triggerd/internal/trigger"
)

// TestGrowth runs the program itself.
func TestGrowth(t *testing.T) {
	t.Parallel()
	program := filepath.Join(t.TempDir(), "triggerd")
	said, err := exec.CommandContext(t.Context(), "go", "build", "-buildvcs=false", "-o", program, "triggerd/cmd/triggerd").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, said)
	}
	t.Run("cases", func(t *testing.T) {
		t.Parallel()
		growthCasesOf(t, program)
	})
	t.Run("stored", func(t *testing.T) {
		t.Parallel()
		storedFor(t, program)
	})
}

// storedFor fills databases, and looks at them as their owners would.
func storedFor(t *testing.T, program string) {
	t.Helper()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		var told bytes.Buffer
		s := &stored{Database: "x+1k", Events: 1000, Dedup: 1500, options: db.Options}
		if err := s.fill(t.Context(), 100, &told); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(told.String(), "3500 of 3500 rows") {
			t.Errorf("it is not told that all is filled: %q", told.String())
		}
		if err := s.measure(t.Context()); err != nil || s.Size < 200*1000 {
			t.Errorf("%d bytes: %v", s.Size, err)
		}
		checkStored(t, s)
		b := &bench{dir: t.TempDir(), stored: s}
		b.Program = program
		for range 2 { // what one run leaves is nothing to the next
			if err := b.with(t.Context(), nil, func(r *rig) error { return useStored(t, r) }); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// checkStored has the store itself look for contradictions.
func checkStored(t *testing.T, s *stored) {
	t.Helper()
	err := offline(t.Context(), s.options, func(db *store.Store) error {
		c, err := db.Check(t.Context(), false)
		if c.Sum() > 0 || c.Examined != s.Events {
			t.Errorf("%d events, %+v, want %d without contradictions", c.Examined, c, s.Events)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// answer reads what the server answers to the owner of a key.
func (r *rig) answer(t *testing.T, method, path, key, body string, to any) {
	t.Helper()
	c, err := r.client.take()
	if err != nil {
		t.Fatal(err)
	}
	text, err := c.request(method, path, "X-Api-Key: "+key, []byte(body))
	if err != nil {
		t.Fatal(err)
	}
	r.client.give(c)
	if err := json.Unmarshal(text, to); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
}

// useStored looks at what is stored, and leaves something behind.
func useStored(t *testing.T, r *rig) error {
	t.Helper()
	p := &r.stored.past
	for i := range p.owners {
		key := p.owners[i].key
		for status, want := range map[string]int{"delivered": p.events / len(p.owners), "pending": 0, "failed": 0} {
			var page struct{ Data []json.RawMessage }
			r.answer(t, "GET", "/v1/events?limit=100&status="+status, key, "", &page)
			if len(page.Data) != want {
				t.Errorf("organization %d has %d %s events, want %d", i, len(page.Data), status, want)
			}
		}
	}
	for _, i := range []int{0, 517, 999} {
		key, id := p.owner(i).key, p.id(i).String()
		var event struct {
			Status, Type string
			Payload      struct{ Bench []int }
		}
		r.answer(t, "GET", "/v1/events/"+id, key, "", &event)
		if got := fmt.Sprint(event); got != fmt.Sprintf("{delivered %s {[%d 0]}}", p.owner(i).eventType, i) {
			t.Errorf("event %d is %s", i, got)
		}
		var why struct {
			Data []struct{ Verdict string }
		}
		r.answer(t, "GET", "/v1/events/"+id+"/why", key, "", &why)
		if got := fmt.Sprint(why.Data); got != "[{delivered}]" {
			t.Errorf("why of event %d is %s", i, got)
		}
	}
	for _, i := range []int{0, 999, 1000, 1499} { // the last two are of events that are gone
		var answer struct{ Status string }
		body := fmt.Sprintf(`{"type":"a.b","payload":{},"dedup_id":%q}`, p.dedupID(i))
		if r.answer(t, "POST", "/api/events", p.owner(i).key, body, &answer); answer.Status != "duplicate" {
			t.Errorf("dedup id %d is %s", i, answer.Status)
		}
	}
	hooks, err := r.organization(2)
	if err != nil {
		return err
	}
	hooks[1].be(hanging) // what is sent to it is left behind
	r.client.closedLoop(t.Context(), 2, 0, count(hooks, 20))
	return r.settle(t.Context(), hooks[:1])
}

// growthCasesOf measures, for moments.
func growthCasesOf(t *testing.T, program string) {
	t.Helper()
	r, text, err := measuredBy(t, "--program", program, "--database=sqlite", "--only=reads,claims,snapshot",
		"--stored=500", "--stored-dedup=700", "--pending=300", "--due=2000", "--seed=7")
	if err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	for _, want := range []string{
		"sqlite reads the old inbox: p99", "sqlite reads the inbox, in the middle: p99", "sqlite reads why of an event: p50",
		"sqlite claims memory", "sqlite+500 claims memory", "sqlite+500 reads a claim of 100: p50",
		"sqlite+500 reads an event: p50 / on a new database", "sqlite+500 reads accepted beside / on a new database",
	} {
		if !slices.ContainsFunc(r.Rows, func(is *row) bool {
			return is.Database+" "+is.Case+" "+is.Figure == want && is.Median > 0
		}) {
			t.Errorf("%q is not there, or 0: %s", want, text)
		}
	}
	if r.Seed != 7 || len(r.Stored) != 1 || r.Stored[0].Size == 0 || !strings.Contains(text, "sqlite+500: 500 events and 700 dedup ids") {
		t.Errorf("the head says nothing of what is stored: %s", text)
	}
}

// TestCompare shows which figures on stored databases are to be what.
func TestCompare(t *testing.T) {
	t.Parallel()
	tests := []struct {
		database, unit string
		lines          []string
		value          float64 // 10 on a new database
		want           string
	}{
		{"sqlite+10M", "events/s", nil, 7, "0.7 >= 0.7 ok"},
		{"sqlite+10M", "events/s", nil, 6.5, "0.65 >= 0.7 missed"},
		{"postgres+10M", "deliveries/s", []string{"max_wal_size=8GB"}, 7, "0.7 >= 0.7 ok"},
		{"postgres+10M", "events/s", []string{"max_wal_size=8GB", " wal_compression = on"}, 8, "0.8 >= 0.9 missed"},
		{"sqlite+10M", "events/s", []string{"max_wal_size=8GB", "wal_compression=on"}, 8, "0.8 >= 0.7 ok"},
		{"sqlite+10M", "ms", nil, 25, "2.5  "},
		{"sqlite+10M", "MB", nil, 25, ""},
	}
	for _, tt := range tests {
		r := &report{Lines: tt.lines}
		kind, _, _ := strings.Cut(tt.database, "+")
		for _, b := range []*bench{{label: tt.database, stored: &stored{}}, {label: kind}} {
			var got outcome
			got.add("figure", tt.unit, 10, atLeast(9))
			if b.stored != nil {
				got.figures[0].value = tt.value
			}
			r.add(b, "latency", got, nil)
		}
		r.summarize()
		if tt.want == "" {
			if len(r.Rows) != 2 {
				t.Errorf("%s: %d rows, want no comparison", tt.unit, len(r.Rows))
			}
			continue
		}
		last := r.Rows[len(r.Rows)-1]
		if got := fmt.Sprint(last.Median, " ", last.Target, " ", last.Verdict); got != tt.want || len(r.Rows) != 3 || last.Database != tt.database {
			t.Errorf("%s %s %v: %q on %s, want %q", tt.database, tt.unit, tt.lines, got, last.Database, tt.want)
		}
	}
}

func TestShuffled(t *testing.T) {
	t.Parallel()
	set := settings{Database: "both"}
	list := set.jobs(cases(), []*stored{{Database: "sqlite+1"}, {Database: "postgres+1"}})
	if len(list) != 4*len(cases()) {
		t.Fatalf("%d jobs for %d cases on 4 databases", len(list), len(cases()))
	}
	names := func(list []job) (all []string) {
		for _, j := range list {
			all = append(all, j.name+" on "+j.label())
		}
		return all
	}
	first := names(shuffled(list, 1, 0))
	if again := names(shuffled(list, 1, 0)); !slices.Equal(first, again) {
		t.Error("the same seed gives another order")
	}
	for _, other := range [][]string{names(list), names(shuffled(list, 1, 1)), names(shuffled(list, 2, 0))} {
		if slices.Equal(first, other) {
			t.Error("another round, or seed, has the same order")
		}
		if !slices.Equal(slices.Sorted(slices.Values(first)), slices.Sorted(slices.Values(other))) {
			t.Error("something is measured twice, or not at all")
		}
	}
}

func TestGrowthFlags(t *testing.T) {
	t.Parallel()
	tests := []struct {
		args, want string
		dedup      int
	}{
		{"--only=reads", "", 0},
		{"--stored=10", "", 10},
		{"--stored=10 --stored-dedup=0", "", 0},
		{"--stored=10 --stored-dedup=99", "", 99},
		{"--stored=-1", "--stored", 0},
		{"--stored=1 --stored-dedup=-2", "--stored-dedup", 0},
		{"--stored-dedup=5", "--stored", 0},
		{"--pending=99", "--pending", 0},
		{"--due=0", "--due", 0},
		{"--snapshot=1ms", "--snapshot", 0},
	}
	for _, tt := range tests {
		s, err := parsed(t, strings.Split(tt.args, " ")...)
		if err == nil {
			_, err = s.choose()
		}
		if tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) || tt.want == "" && (err != nil || s.Seed == 0 || s.dedupIDs() != tt.dedup) {
			t.Errorf("%s: %v, seed %d, %d dedup ids; want %q, a seed, %d", tt.args, err, s.Seed, s.dedupIDs(), tt.want, tt.dedup)
		}
	}
	s := settings{Payload: 256}
	s.Stored, s.StoredDedup = 1e12, 0
	if err := roomFor(&s, 1, t.TempDir()); err == nil || !strings.Contains(err.Error(), "GB") {
		t.Errorf("a disk has room for 10^12 events: %v", err)
	}
	s.Stored = 1
	if err := roomFor(&s, 2, t.TempDir()); err != nil {
		t.Error(err)
	}
	for n, want := range map[int]string{5: "5", 999: "999", 1000: "1k", 1234: "1.23k", 300_000: "300k", 10_000_000: "10M", 1_500_000: "1.5M"} {
		if got := shortCount(n); got != want {
			t.Errorf("%d is %s, want %s", n, got, want)
		}
	}
}

// TestPast shows that what is made of events by their number belongs together.
func TestPast(t *testing.T) {
	t.Parallel()
	p := past{owners: make([]owner, 3), events: 10, dedup: 25, payload: 50, since: lately(), span: 1000}
	seen := map[trigger.ID]bool{}
	for _, known := range p.known() {
		for i := range known.rows {
			seen[known.row(i)[3].(trigger.ID)] = true
		}
	}
	if len(seen) != p.dedup {
		t.Errorf("dedup ids of %d events, want %d", len(seen), p.dedup)
	}
	for i := range p.events {
		if !seen[p.accepted().row(i)[2].(trigger.ID)] {
			t.Errorf("event %d has no dedup id", i)
		}
	}
}
