package store

import (
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

// WebhookStates are the conditions by which statements pick webhooks, and the
// index that each of them is for.
func WebhookStates() map[string]string {
	return map[string]string{sqlReceiving: "webhooks_receiving", sqlEnded: "webhooks_ended"}
}
