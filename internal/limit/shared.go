package limit

import (
	"context"
	"sync"
	"time"
)

// Shared limits organizations over all nodes. A single node counts in memory.
// Several nodes take permits from the store in blocks, each of 4 % of the limit
// divided by the nodes, so that few events need the store. Permits that are spent
// later than they were taken may exceed the limit by that much. If the store
// fails, each node counts for itself.
//
// Set Nodes and Take before use.
type Shared struct {
	// Nodes returns the number of nodes.
	Nodes func() int
	// Take takes n of the limit permits a minute that all nodes share, or
	// returns when to retry.
	Take func(ctx context.Context, orgID int64, limit, n int) (ok bool, retryAfter time.Duration, err error)

	local  Limiter[int64]
	mu     sync.Mutex
	blocks map[int64]*block
}

// block is what is left of an organization's permits on this node.
type block struct {
	mu      sync.Mutex // also lets one call use the store for all that wait
	left    int
	refused time.Time // the store's refusal counts until then
	alone   time.Time // the store failed and is not used until then
}

// takeTimeout is how long Take may last, and how long it is not called again
// after it failed.
const takeTimeout = time.Second

// maxBlocks bounds the number of blocks. Dropping them all wastes at most 2 % of
// each limit, once.
const maxBlocks = 10_000

// Allow counts n events of an organization at the time now, or refuses them,
// counts nothing, and returns when to retry: in whole seconds, at least 1. With
// a limit of 0 it allows all events.
func (s *Shared) Allow(ctx context.Context, orgID int64, limit, n int, now time.Time) (ok bool, retryAfter time.Duration) {
	if limit <= 0 {
		return true, 0
	}
	if s.Nodes() > 1 {
		if blocked, wait := s.local.Blocked(orgID, limit, now); blocked {
			return false, wait
		}
		if ok, wait := s.takeShared(ctx, orgID, limit, n, now); !ok {
			return false, wait
		}
	}
	return s.local.Allow(orgID, limit, n, now)
}

// Blocked reports whether Allow would refuse one more event, as far as this
// node knows, and for how long. It counts nothing.
func (s *Shared) Blocked(orgID int64, limit int, now time.Time) (blocked bool, retryAfter time.Duration) {
	return s.local.Blocked(orgID, limit, now)
}

// State returns what is left of an organization's limit, as far as this node
// knows, and when the oldest counted events leave the window. It counts nothing.
func (s *Shared) State(orgID int64, limit int, now time.Time) (left int, reset time.Duration) {
	return s.local.State(orgID, limit, now)
}

func (s *Shared) takeShared(ctx context.Context, orgID int64, limit, n int, now time.Time) (ok bool, retryAfter time.Duration) {
	b := s.block(orgID)
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.left >= n {
		b.left -= n
		return true, 0
	}
	if wait := b.refused.Sub(now); wait > 0 {
		return false, wait.Truncate(time.Second) + time.Second
	}
	if now.Before(b.alone) {
		return true, 0 // this node's own count decides
	}
	ctx, cancel := context.WithTimeout(ctx, takeTimeout)
	defer cancel()
	for _, size := range []int{max(n, limit/(25*s.Nodes())), n} { // the last ones go one by one
		ok, wait, err := s.Take(ctx, orgID, limit, size)
		if err != nil {
			b.alone = now.Add(takeTimeout)
			return true, 0
		}
		if ok {
			b.left += size - n
			return true, 0
		}
		retryAfter = wait
	}
	b.refused = now.Add(time.Second) // so that refusing costs the store little
	return false, retryAfter
}

func (s *Shared) block(orgID int64) *block {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.blocks[orgID]
	if b == nil {
		if s.blocks == nil || len(s.blocks) >= maxBlocks {
			s.blocks = map[int64]*block{}
		}
		b = &block{}
		s.blocks[orgID] = b
	}
	return b
}
