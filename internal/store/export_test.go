package store

import "time"

// SetMaxSilence makes a silence shorter than a test's patience noticed.
func (s *Store) SetMaxSilence(d time.Duration) { s.dialect.(*postgres).silence.Store(int64(d)) }
