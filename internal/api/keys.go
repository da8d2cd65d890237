package api

import (
	"context"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/singleflight"

	"triggerd/internal/store"
	"triggerd/internal/trigger"
)

const (
	keyTTL       = 3 * time.Second // a revoked key is good for no longer
	keysInMemory = 10_000
	usedEvery    = time.Minute // how exactly it is known when a key was last used
)

// keyCache remembers right keys for a few seconds, and never wrong ones.
type keyCache struct {
	store   *store.Store
	entries *store.Cache[[32]byte, cachedKey]
	asking  singleflight.Group // so that one read serves all that wait for a key

	changes atomic.Int64 // how often forget was called

	mu   sync.Mutex
	used map[int64]bool // keys, since that was last written down
}

// note remembers that a key is used, if that is worth writing down.
func (c *keyCache) note(key *trigger.APIKey) {
	if c.store.Now().Sub(key.LastUsedAt) < usedEvery {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.used[key.ID] = true
}

// write stores which keys were used of late.
func (c *keyCache) write(ctx context.Context) error {
	c.mu.Lock()
	ids := slices.Sorted(maps.Keys(c.used))
	clear(c.used)
	c.mu.Unlock()
	if len(ids) == 0 {
		return nil
	}
	return c.store.TouchAPIKeys(ctx, ids)
}

type cachedKey struct {
	key  trigger.APIKey
	read time.Time
}

func newKeyCache(s *store.Store) *keyCache {
	return &keyCache{store: s, entries: store.NewCache[[32]byte, cachedKey](s, keysInMemory), used: map[int64]bool{}}
}

// forget reads keys anew: what an organization has changed holds here at once,
// and elsewhere within keyTTL.
func (c *keyCache) forget() {
	c.changes.Add(1) // what is being read now is not to be remembered
	c.entries.View().Purge()
}

// find gives the key with its organization. NotFound if there is none, it
// was revoked, or it has expired.
func (c *keyCache) find(ctx context.Context, given string, now time.Time) (trigger.APIKey, error) {
	hash, ok := trigger.HashAPIKey(given)
	if !ok {
		return trigger.APIKey{}, trigger.Errorf(trigger.NotFound, "Not found")
	}
	if cached, ok := c.entries.View().Get(hash); ok && now.Sub(cached.read) < keyTTL && !cached.key.Expired(c.store.Now()) {
		return cached.key, nil
	}
	found, err, _ := c.asking.Do(string(hash[:]), func() (any, error) {
		changes, view := c.changes.Load(), c.entries.View()
		key, err := c.store.APIKeyByHash(context.WithoutCancel(ctx), hash)
		if err == nil {
			view.Add(hash, cachedKey{key, now})
			c.note(&key)
		}
		if changes != c.changes.Load() {
			view.Remove(hash)
		}
		return key, err
	})
	key, _ := found.(trigger.APIKey)
	return key, err
}
