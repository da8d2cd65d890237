package ingest

import (
	"strings"
	"sync/atomic"
	"time"

	"triggerd/internal/store"
	"triggerd/internal/trigger"
)

// Cache is a bounded LRU of the dedup ids of committed events. It only saves
// work: the store is the truth.
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
	known   bool     // the hash is known
}

// NewCache returns a cache of up to size entries, at least 1, for the store s.
// It ignores entries older than retention, unless that is 0.
func NewCache(s *store.Store, size int, retention time.Duration) *Cache {
	return &Cache{entries: store.NewCache[dedupKey, seen](s, size), size: size, retention: retention}
}

// CacheStats are the size and the hit rate of a cache since start.
type CacheStats struct {
	Size, Max int
	HitRate   float64 // hits/(hits+misses), 0 before the first look-up
}

// Stats returns the current statistics.
func (c *Cache) Stats() CacheStats {
	hits, misses := c.hits.Load(), c.misses.Load()
	s := CacheStats{Size: c.entries.View().Len(), Max: c.size}
	if hits+misses > 0 {
		s.HitRate = float64(hits) / float64(hits+misses)
	}
	return s
}

// peek is find without counting.
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

// seenView is the content of a Cache while the database stays the same.
type seenView struct {
	*store.View[dedupKey, seen]
}

// view must be called before a commit: if the server is replaced meanwhile, the
// view does not remember what was committed on the old one.
func (c *Cache) view() seenView { return seenView{c.entries.View()} }

// add remembers the first event with the dedup id of a committed event. Its keys
// hold no reference to the request.
func (v seenView) add(e *trigger.Event, first seen) {
	if e.DedupID == "" {
		return
	}
	key := dedupKey{e.OrganizationID, strings.Clone(e.DedupID)}
	if before, ok := v.Peek(key); ok && before.id == first.id && before.known {
		first = before // the new one comes from the store, without the hash
	}
	v.Add(key, first)
}
