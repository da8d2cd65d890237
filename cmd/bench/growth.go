package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// growthFlags are the flags of the cases that measure stored data, and of
// databases that are filled before they are measured.
type growthFlags struct {
	Stored      int           `help:"Measure also on databases that hold so many events already, as postgres+10M." default:"0"`
	StoredDedup int           `help:"Dedup ids that they hold; -1: as many as events." default:"-1"`
	Pending     int           `help:"Events that wait in the inbox of reads." default:"100000"`
	Due         int           `help:"Due deliveries of claims." default:"1000000"`
	Snapshot    time.Duration `help:"How long the load of snapshot lasts, with the snapshot and without." default:"60s"`
	Seed        uint64        `help:"Of the order of the runs; 0: any." default:"0"`
}

// checkGrowth checks the flags, and draws a seed if Seed is 0.
func (f *growthFlags) checkGrowth() error {
	for f.Seed == 0 {
		f.Seed = rand.Uint64()
	}
	switch {
	case f.Stored < 0 || f.StoredDedup < -1:
		return errors.New("--stored and --stored-dedup must be at least 0")
	case f.Stored == 0 && f.StoredDedup > 0:
		return errors.New("--stored-dedup is for the databases that --stored asks for")
	case f.Pending < 100 || f.Due < 100:
		return errors.New("--pending and --due must be at least 100")
	case f.Snapshot < time.Second:
		return fmt.Errorf("--snapshot %v must be at least 1s", f.Snapshot)
	}
	return nil
}

// dedupIDs returns the number of stored dedup ids, by default the number of
// events.
func (f *growthFlags) dedupIDs() int {
	if f.StoredDedup < 0 {
		return f.Stored
	}
	return f.StoredDedup
}

// isRate reports whether a unit is the unit of a rate.
func isRate(unit string) bool { return strings.HasSuffix(unit, "/s") }

// sortRows groups the rows by database and by case, because the runs come in
// any order.
func (r *report) sortRows() {
	places := map[string]int{}
	place := func(name string) int {
		if _, known := places[name]; !known {
			places[name] = len(places)
		}
		return places[name]
	}
	for _, name := range []string{"sqlite", "postgres"} {
		place(name)
	}
	for _, s := range r.Stored {
		place(s.Database)
	}
	for _, c := range cases() {
		place(c.name)
	}
	slices.SortStableFunc(r.Rows, func(a, b *row) int {
		if a.Database != b.Database {
			return place(a.Database) - place(b.Database)
		}
		return place(a.Case) - place(b.Case)
	})
}

// compare adds a row for each rate and time on a stored database: its ratio to
// the same figure on a new database.
func (r *report) compare() {
	var all []*row
	for _, to := range r.Rows {
		all = append(all, to)
		kind, _, isStored := strings.Cut(to.Database, "+")
		if !isStored || !isRate(to.Unit) && to.Unit != "ms" {
			continue
		}
		i := slices.IndexFunc(r.Rows, func(is *row) bool {
			return is.Database == kind && is.Case == to.Case && is.Figure == to.Figure
		})
		if i < 0 || median(r.Rows[i].Values) == 0 {
			continue
		}
		in := &row{Database: to.Database, Case: to.Case, Figure: to.Figure + " / on a new database"}
		in.Values = []float64{median(to.Values) / median(r.Rows[i].Values)}
		if isRate(to.Unit) && to.Case != "retry" && to.Case != "replay" { // they depend on the schedule and on the pace
			if in.Target = atLeast(0.7); kind == "postgres" && r.tuned() {
				in.Target = atLeast(0.9)
			}
		}
		all = append(all, in)
	}
	r.Rows = all
}

// tuned reports whether PostgreSQL is configured to write fewer and compressed
// full pages into its log.
func (r *report) tuned() bool {
	said := func(name string) bool {
		return slices.ContainsFunc(r.Lines, func(line string) bool { return strings.HasPrefix(strings.TrimSpace(line), name) })
	}
	return said("max_wal_size") && said("wal_compression")
}
