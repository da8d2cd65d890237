// Command bench measures the server as its users see it: as a separate program
// and only by HTTP, except for starting replays. Its database is new, or is
// filled without the API before the server starts. cases lists the cases;
// rig.go starts what they need. A run with an event that was not accepted or
// not delivered is a failed run, not a fast one.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/alecthomas/kong"
)

// settings are the flags.
type settings struct {
	Database string        `help:"sqlite, postgres or both." enum:"sqlite,postgres,both" default:"both"`
	Only     []string      `help:"Measure these cases alone: ${cases}."`
	Runs     int           `help:"Runs of each case, each on a new server and database; the figures are medians." default:"3"`
	Seconds  int           `help:"How long the load of a run lasts, where a case does not count events." default:"20"`
	JSON     string        `name:"json" help:"Write the report as JSON into this file, too." type:"path"`
	Program  string        `help:"The server to measure." default:"bin/triggerd" type:"path"`
	Dir      string        `help:"Folder for the data, on the disk to measure. Default: the one for temporary files." type:"path"`
	Postgres []string      `help:"Lines for postgresql.conf, as max_wal_size=4GB." placeholder:"LINE"`
	Clients  int           `help:"Connections that post, where the rate is not given." default:"64"`
	Rate     int           `help:"Events a second in throughput, at most. 0: as fast as it goes." default:"0"`
	Payload  int           `help:"Size of a payload, in bytes." default:"256"`
	Dedup    bool          `help:"Give each event a dedup id."`
	Backlog  int           `help:"Events that wait in outage, and that replay sends; in retry, 20000 at most." default:"100000"`
	Timeout  time.Duration `help:"DELIVERY_TIMEOUT of the server in isolation." default:"2s"`

	growthFlags
	loadFlags
}

// measurement is one case: a name for --only, and the function that measures it
// on a kind of database.
type measurement struct {
	name    string
	measure func(context.Context, *bench) (outcome, error)
}

// cases returns all cases, in the order of the report.
func cases() []measurement {
	return slices.Concat(deliveryCases(), neighbourCases(), growthCases(), loadCases())
}

// bench is one run of a case, on one kind of database.
type bench struct {
	settings
	dir    string  // of all runs
	label  string  // of the database, in the report
	stored *stored // the database of all runs; nil: a new one for each run
	others float64 // the part of the processors used by other work, in percent
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if len(os.Args) == 3 && os.Args[1] == insertCommand {
		err := singleInsert(ctx, os.Args[2], os.Getenv(insertDatabase))
		fmt.Fprintf(os.Stderr, "bench: %v\n", err)
		os.Exit(1)
	}
	var names []string
	for _, c := range cases() {
		names = append(names, c.name)
	}
	var set settings
	kong.Parse(&set, kong.Name("bench"), kong.Description("Measures the server."),
		kong.Vars{"cases": strings.Join(names, ", ")}, kong.ConfigureHelp(kong.HelpOptions{Compact: true, WrapUpperBound: 110}))
	if err := run(ctx, set, os.Stdout, os.Stderr); err != nil {
		fmt.Fprintf(os.Stderr, "bench: %v\n", err)
		os.Exit(1)
	}
}

var errFailed = errors.New("there were failed runs")

// run measures the chosen cases. It returns an error if anything could not be
// measured; a missed target is only reported.
func run(ctx context.Context, set settings, out, errOut io.Writer) error {
	chosen, err := set.choose()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp(set.Dir, "triggerd-bench-")
	if err != nil {
		return err
	}
	// PostgreSQL, which does not run as root, must be able to enter it.
	if err := os.Chmod(dir, 0o711); err != nil {
		return err
	}
	rep, err := newReport(ctx, set, dir)
	if err != nil {
		return errors.Join(err, os.RemoveAll(dir))
	}
	if rep.Stored, err = set.fillAll(ctx, dir, errOut); err != nil {
		return errors.Join(err, os.RemoveAll(dir))
	}
	rep.writeHead(out)
	err = rep.measureAll(ctx, set, set.jobs(chosen, rep.Stored), dir, errOut)
	err = errors.Join(err, closeAll(rep.Stored))
	return errors.Join(err, rep.finish(out, set.JSON, dir))
}

// choose returns the cases of --only, and checks the numbers.
func (s *settings) choose() (chosen []measurement, err error) {
	for _, number := range []struct {
		name      string
		is, least int
	}{
		{"--runs", s.Runs, 1},
		{"--seconds", s.Seconds, 1},
		{"--clients", s.Clients, 1},
		{"--rate", s.Rate, 0},
		{"--payload", s.Payload, 0},
		{"--backlog", s.Backlog, 100},
	} {
		if number.is < number.least {
			return nil, fmt.Errorf("%s must be at least %d", number.name, number.least)
		}
	}
	if err := s.checkGrowth(); err != nil {
		return nil, err
	}
	if s.Program, err = filepath.Abs(s.Program); err != nil {
		return nil, err
	}
	if err := s.checkAgainst(); err != nil {
		return nil, err
	}
	for _, c := range s.available() {
		if len(s.Only) == 0 || slices.Contains(s.Only, c.name) {
			chosen = append(chosen, c)
		}
	}
	if len(s.Only) > len(chosen) {
		return nil, fmt.Errorf("--only %s: not all of these are cases, or one is there twice", strings.Join(s.Only, ","))
	}
	return chosen, nil
}

// finish writes the report, and removes the files of the runs if none failed.
func (r *report) finish(out io.Writer, jsonFile, dir string) error {
	r.summarize()
	r.writeTable(out)
	if jsonFile != "" {
		text, err := json.MarshalIndent(r, "", "  ")
		if err != nil {
			return err
		}
		if err := os.WriteFile(jsonFile, append(text, '\n'), 0o644); err != nil {
			return err
		}
	}
	if r.failed() {
		return fmt.Errorf("%w; their data and logs are in %s", errFailed, dir)
	}
	return os.RemoveAll(dir)
}

// seconds returns how long the load of a run lasts.
func (s *settings) seconds() time.Duration { return time.Duration(s.Seconds) * time.Second }
