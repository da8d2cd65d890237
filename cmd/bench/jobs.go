package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
)

// job is a case on a database.
type job struct {
	measurement
	database string  // the kind of database
	stored   *stored // nil: a new one for each run
}

// label returns the name of the database in the report.
func (j *job) label() string {
	if j.stored != nil {
		return j.stored.Database
	}
	return j.database
}

// kinds returns the kinds of databases to measure.
func (s *settings) kinds() []string {
	if s.Against != "" {
		return []string{against}
	}
	if s.Database == "both" {
		return []string{"sqlite", "postgres"}
	}
	return []string{s.Database}
}

// fillAll creates and fills the stored databases, if --stored is set.
func (s *settings) fillAll(ctx context.Context, dir string, errOut io.Writer) (all []*stored, err error) {
	if s.Stored == 0 {
		return nil, nil
	}
	if err := roomFor(s, len(s.kinds()), dir); err != nil {
		return nil, err
	}
	for _, database := range s.kinds() {
		one, err := newStored(ctx, s, database, dir, errOut)
		if err != nil {
			return nil, errors.Join(err, closeAll(all))
		}
		all = append(all, one)
	}
	return all, nil
}

func closeAll(all []*stored) (err error) {
	for _, s := range all {
		err = errors.Join(err, s.close())
	}
	return err
}

// jobs returns all cases on all databases.
func (s *settings) jobs(chosen []measurement, filled []*stored) (list []job) {
	for i, database := range s.kinds() {
		for _, c := range chosen {
			list = append(list, job{c, database, nil})
			if len(filled) > 0 {
				list = append(list, job{c, database, filled[i]})
			}
		}
	}
	return list
}

// shuffled returns the order of a round. It differs in each round, so that no
// case always follows the same one, and no database always comes first.
func shuffled(list []job, seed uint64, round int) []job {
	order := rand.New(rand.NewPCG(seed, uint64(round))).Perm(len(list))
	mixed := make([]job, len(list))
	for i, n := range order {
		mixed[i] = list[n]
	}
	return mixed
}

// measureAll makes all runs. The runs of one case are spread over the whole
// time, so that they do not all have the same neighbours on the machine. It
// returns only the error of ctx; a failed run is in the report.
func (r *report) measureAll(ctx context.Context, set settings, list []job, dir string, errOut io.Writer) error {
	for i := range set.Runs {
		for _, j := range shuffled(list, set.Seed, i) {
			fmt.Fprintf(errOut, "run %d of %d: %s on %s\n", i+1, set.Runs, j.name, j.label())
			b := &bench{settings: set, dir: dir, stored: j.stored, label: j.label()}
			b.Database = j.database
			got, err := j.measure(ctx, b)
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if err != nil {
				fmt.Fprintf(errOut, "FAILED: %s on %s: %v\n", j.name, b.label, err)
			}
			r.add(b, j.name, got, err)
		}
	}
	return nil
}
