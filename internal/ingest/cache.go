package ingest

import (
	"strings"
	"sync/atomic"
	"time"

	"triggerd/internal/store"
	"triggerd/internal/trigger"
)

// Cache remembers the dedup ids of committed events. A bounded LRU, it only
// saves work: the store knows the truth.
type Cache struct {
	entries   *store.Cache[dedupKey, seen]
	size      int
	retention time.Duration
	hits      atomic.Int64
	misses    atomic.Int64
}

type dedupKey struct {
	orgID   int64
	dedupID string
}

// seen is the first event with a dedup id.
type seen struct {
	id      trigger.ID
	payload [16]byte // its hash
	known   bool     // the hash is
}

// NewCache makes a cache of a size, at least 1, of what is in s. What is older
// than retention counts as forgotten; 0 is for ever.
func NewCache(s *store.Store, size int, retention time.Duration) *Cache {
	return &Cache{entries: store.NewCache[dedupKey, seen](s, size), size: size, retention: retention}
}

// CacheStats are the fill and the use of a cache since start.
type CacheStats struct {
	Size, Max int
	HitRate   float64 // hits/(hits+misses), 0 before the first look-up
}

// Stats are those of this moment.
func (c *Cache) Stats() CacheStats {
	hits, misses := c.hits.Load(), c.misses.Load()
	s := CacheStats{Size: c.entries.View().Len(), Max: c.size}
	if hits+misses > 0 {
		s.HitRate = float64(hits) / float64(hits+misses)
	}
	return s
}

// peek is find that counts nothing.
func (c *Cache) peek(e *trigger.Event, now time.Time) (first seen, ok bool) {
	first, ok = c.entries.View().Get(dedupKey{e.OrganizationID, e.DedupID})
	if e.DedupID == "" || ok && c.retention > 0 && now.Sub(first.id.Time()) > c.retention {
		return seen{}, false
	}
	return first, ok
}

func (c *Cache) find(e *trigger.Event, now time.Time) (first seen, ok bool) {
	if e.DedupID == "" {
		return seen{}, false
	}
	if first, ok = c.peek(e, now); ok {
		c.hits.Add(1)
	} else {
		c.misses.Add(1)
	}
	return first, ok
}

// seenView is what a Cache holds, as long as the database is the same.
type seenView struct {
	*store.View[dedupKey, seen]
}

// view is taken before a commit: what was committed on a server that was
// replaced meanwhile is not remembered.
func (c *Cache) view() seenView { return seenView{c.entries.View()} }

// add remembers a committed event, by the first one with its dedup id. Keys
// keep no reference to the request.
func (v seenView) add(e *trigger.Event, first seen) {
	if e.DedupID == "" {
		return
	}
	key := dedupKey{e.OrganizationID, strings.Clone(e.DedupID)}
	if before, ok := v.Peek(key); ok && before.id == first.id && before.known {
		first = before // who looked into the store knows less
	}
	v.Add(key, first)
}
