package store

import (
	"context"
	"io/fs"
	"slices"
	"time"
)

// SetMaxSilence makes a silence shorter than a test's patience noticed.
func (s *Store) SetMaxSilence(d time.Duration) { s.dialect.(*postgres).silence.Store(int64(d)) }

// HotStatements are the texts of PostgreSQL's hot path, each with parameters
// for an EXPLAIN.
func HotStatements() map[string][]string {
	arrays := func(n int) []string { return slices.Repeat([]string{"'{}'"}, n) }
	claim := []string{"1", "'{1}'", "'{1}'", "1", "'00000000-0000-0000-0000-000000000001'", "1", "'{1}'"}
	return map[string][]string{
		sqlAddEvents:      arrays(17),
		finishText(false): arrays(20),
		finishText(true):  arrays(20),
		sqlClaim:          claim,
		sqlClaimReplayed:  claim,
	}
}

// InWrite runs fn in a transaction of a store on SQLite; exec is for
// statements in it.
func (s *Store) InWrite(ctx context.Context, fn func(exec func(text string) error) error) error {
	return s.dialect.write(ctx, func(q querier) error {
		return fn(func(text string) error {
			_, err := q.ExecContext(ctx, text)
			return err
		})
	})
}

// MakePrivate is makePrivate, with another chmod.
func MakePrivate(path string, chmod func(string, fs.FileMode) error) (warning string) {
	return makePrivate(path, chmod)
}
