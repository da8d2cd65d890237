package store

import (
	"sync/atomic"

	lru "github.com/hashicorp/golang-lru/v2"
)

// Cache is a bounded LRU cache of data read from the database. It drops
// everything when the connections may lead to another server, because after a
// failover the cached data may no longer exist. A Cache is safe for concurrent
// use.
//
//	view := cache.View() // before the database is read
//	row, err := read()
//	view.Add(key, row) // has no effect if the server has changed since
type Cache[K comparable, V any] struct {
	epoch func() int64
	size  int
	view  atomic.Pointer[View[K, V]]
}

// View is the content of a Cache, valid while the database is the same as when
// the view was taken.
type View[K comparable, V any] struct {
	*lru.Cache[K, V]
	epoch int64
}

// NewCache returns a cache of up to size entries, at least 1, of data from s.
func NewCache[K comparable, V any](s *Store, size int) *Cache[K, V] {
	c := &Cache[K, V]{epoch: s.epoch.Load, size: max(1, size)}
	c.view.Store(c.empty(c.epoch()))
	return c
}

func (c *Cache[K, V]) empty(epoch int64) *View[K, V] {
	entries, err := lru.New[K, V](c.size)
	if err != nil {
		panic(err) // only for a size below 1
	}
	return &View[K, V]{entries, epoch}
}

// View returns the entries for the current database.
func (c *Cache[K, V]) View() *View[K, V] {
	v := c.view.Load()
	for epoch := c.epoch(); v.epoch != epoch; v = c.view.Load() {
		c.view.CompareAndSwap(v, c.empty(epoch))
		epoch = c.epoch()
	}
	return v
}

// Epoch returns a number that changes when the connections may lead to another
// server. Then earlier reads must not be trusted.
func (s *Store) Epoch() int64 { return s.epoch.Load() }
