package main

import (
	"cmp"
	"context"
	"debug/buildinfo"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"triggerd/internal/torture"
)

// target is the required value of a figure, at least or at most.
type target struct {
	Least bool    `json:"least,omitempty"` // else at most
	Limit float64 `json:"limit"`
}

func atLeast(limit float64) *target { return &target{Least: true, Limit: limit} }
func atMost(limit float64) *target  { return &target{Limit: limit} }

func (t *target) met(value float64) bool {
	return t.Least && value >= t.Limit || !t.Least && value <= t.Limit
}

func (t *target) String() string {
	switch {
	case t == nil:
		return ""
	case t.Least:
		return fmt.Sprintf(">= %g", t.Limit)
	}
	return fmt.Sprintf("<= %g", t.Limit)
}

// figure is a measured value of a run.
type figure struct {
	name, unit string
	value      float64
	target     *target
}

// outcome is the measurements of one run.
type outcome struct {
	figures []figure
	Samples []sample
}

func (o *outcome) add(name, unit string, value float64, t *target) {
	o.figures = append(o.figures, figure{name, unit, value, t})
}

// row is a figure over all runs.
type row struct {
	Database string    `json:"database"`
	Case     string    `json:"case"`
	Figure   string    `json:"figure"`
	Unit     string    `json:"unit,omitempty"`
	Median   float64   `json:"median"`
	Min      float64   `json:"min"`
	Max      float64   `json:"max"`
	Values   []float64 `json:"values"`
	Target   *target   `json:"target,omitempty"`
	Verdict  string    `json:"verdict,omitempty"` // ok or missed, of the median
}

// history is the course of a run.
type history struct {
	Database string   `json:"database"`
	Case     string   `json:"case"`
	Others   float64  `json:"others_percent"` // of the processors, used by other work
	Error    string   `json:"error,omitempty"`
	Samples  []sample `json:"samples,omitempty"`
}

// report is the measurements of all runs, and their environment.
type report struct {
	Date      time.Time `json:"date"`
	CPUs      int       `json:"cpus"`
	Kernel    string    `json:"kernel"`
	Go        string    `json:"go"` // version that built the server
	Server    string    `json:"server"`
	Postgres  string    `json:"postgres,omitempty"`
	Lines     []string  `json:"postgresql_conf,omitempty"`
	Load      string    `json:"load_average"`
	SyncP50   float64   `json:"sync_p50_ms"` // of 4 KiB appended to a file
	Runs      int       `json:"runs"`
	Seconds   int       `json:"seconds"`
	Seed      uint64    `json:"seed"`   // of the order
	Driver    string    `json:"driver"` // of posts and batches
	Stored    []*stored `json:"stored,omitempty"`
	Rows      []*row    `json:"figures"`
	Histories []history `json:"histories"`
}

// newReport returns a report with the facts about the machine and the programs.
func newReport(ctx context.Context, set settings, dir string) (*report, error) {
	r := &report{
		Date: time.Now().UTC().Truncate(time.Second), CPUs: runtime.NumCPU(), Lines: set.Postgres,
		Runs: set.Runs, Seconds: set.Seconds, Seed: set.Seed, Kernel: firstLine("/proc/sys/kernel/osrelease"), Load: firstLine("/proc/loadavg"),
	}
	d, err := newDriver(ctx, set.Driver)
	if err != nil {
		return nil, err
	}
	if r.Driver = d.String(); set.Against != "" {
		r.Server = "at " + set.Against + set.AgainstPath
		return r, nil
	}
	built, err := buildinfo.ReadFile(set.Program)
	if err != nil {
		return nil, fmt.Errorf("the server to measure: %w", err)
	}
	r.Go = built.GoVersion
	server, err := exec.CommandContext(ctx, set.Program, "--version").Output()
	if err != nil {
		return nil, fmt.Errorf("%s --version: %w", set.Program, err)
	}
	r.Server = strings.TrimSpace(string(server))
	if set.Database != "sqlite" {
		if r.Postgres, err = torture.PostgresVersion(); err != nil {
			return nil, err
		}
	}
	sync, err := syncTime(dir)
	r.SyncP50 = ms(sync)
	return r, err
}

// firstLine returns the first line of a small file; "unknown" without it.
func firstLine(file string) string {
	text, _ := os.ReadFile(file)
	line, _, _ := strings.Cut(string(text), "\n")
	return cmp.Or(line, "unknown")
}

// syncTime returns the median time to append 4 KiB to a file and sync it: the
// limit of the disk for any database.
func syncTime(dir string) (time.Duration, error) {
	file, err := os.Create(filepath.Join(dir, "sync"))
	if err != nil {
		return 0, err
	}
	defer os.Remove(file.Name())
	defer file.Close()
	var took []time.Duration
	for range 100 {
		begun := time.Now()
		if _, err := file.Write(make([]byte, 4<<10)); err != nil {
			return 0, err
		}
		if err := file.Sync(); err != nil {
			return 0, err
		}
		took = append(took, time.Since(begun))
	}
	return percentile(took, 50), nil
}

func (r *report) writeHead(out io.Writer) {
	fmt.Fprintf(out, "%s, %d processors, Linux %s, load average %s\n", r.Date.Format(time.RFC3339), r.CPUs, r.Kernel, r.Load)
	fmt.Fprintf(out, "server %s", r.Server)
	if r.Go != "" {
		fmt.Fprintf(out, ", %s", r.Go)
	}
	if r.Postgres != "" {
		fmt.Fprintf(out, "; %s, %s", r.Postgres, cmp.Or(strings.Join(r.Lines, ", "), "defaults"))
	}
	fmt.Fprintf(out, "\nposts and batches come from %s\n", r.Driver)
	if r.SyncP50 > 0 { // the disk is measured
		fmt.Fprintf(out, "the disk syncs 4 KiB in %.2f ms (median); ", r.SyncP50)
	}
	fmt.Fprintf(out, "%d run(s) of %d s, in the order of seed %d\n", r.Runs, r.Seconds, r.Seed)
	for _, s := range r.Stored {
		fmt.Fprintln(out, s)
	}
	fmt.Fprintln(out)
}

// add adds a run. The figures of a failed run do not count.
func (r *report) add(b *bench, name string, got outcome, err error) {
	database := cmp.Or(b.label, b.Database)
	h := history{Database: database, Case: name, Others: b.others, Samples: got.Samples}
	if err != nil {
		h.Error = err.Error()
	}
	r.Histories = append(r.Histories, h)
	if err != nil {
		return
	}
	for _, f := range got.figures {
		i := slices.IndexFunc(r.Rows, func(to *row) bool {
			return to.Database == database && to.Case == name && to.Figure == f.name
		})
		if i < 0 {
			i = len(r.Rows)
			r.Rows = append(r.Rows, &row{Database: database, Case: name, Figure: f.name, Unit: f.unit, Target: f.target})
			if b.stored != nil && isRate(f.unit) {
				r.Rows[i].Target = nil // its target is relative to a new database
			}
		}
		r.Rows[i].Values = append(r.Rows[i].Values, f.value)
	}
}

// summarize sets the medians and verdicts.
func (r *report) summarize() {
	r.sortRows()
	r.compare()
	for _, to := range r.Rows {
		to.Median, to.Min, to.Max = median(to.Values), slices.Min(to.Values), slices.Max(to.Values)
		if to.Target != nil {
			to.Verdict = "missed"
			if to.Target.met(to.Median) {
				to.Verdict = "ok"
			}
		}
	}
}

func (r *report) failed() bool {
	return slices.ContainsFunc(r.Histories, func(h history) bool { return h.Error != "" })
}

// writeTable writes the figures and the failed runs.
func (r *report) writeTable(out io.Writer) {
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprint(table, "database\tcase\tfigure\tmedian\tmin .. max\tunit\ttarget\t\n")
	for _, to := range r.Rows {
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s .. %s\t%s\t%s\t%s\n",
			to.Database, to.Case, to.Figure, short(to.Median), short(to.Min), short(to.Max), to.Unit, to.Target, to.Verdict)
	}
	_ = table.Flush() // the terminal may be closed
	var busy []float64
	for _, h := range r.Histories {
		if h.Database != against { // there the server is one of the others
			busy = append(busy, h.Others)
		}
	}
	if len(busy) > 0 {
		fmt.Fprintf(out, "\nThe processors did something else for %s %% of the time (median of the runs), %s %% at most.\n",
			short(median(busy)), short(slices.Max(busy)))
	}
	for _, h := range r.Histories {
		if h.Error != "" {
			fmt.Fprintf(out, "FAILED: %s on %s: %s\n", h.Case, h.Database, h.Error)
		}
	}
}

// short formats a figure with three significant digits.
func short(value float64) string {
	switch {
	case value >= 100 || value == float64(int64(value)):
		return fmt.Sprintf("%.0f", value)
	case value >= 10:
		return fmt.Sprintf("%.1f", value)
	case value >= 1:
		return fmt.Sprintf("%.2f", value)
	}
	return fmt.Sprintf("%.3f", value)
}
