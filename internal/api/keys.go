package api

import (
	"context"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/sync/singleflight"

	"triggerd/internal/store"
	"triggerd/internal/trigger"
)

const (
	keyTTL       = 3 * time.Second // a revoked key is good for no longer
	keysInMemory = 10_000
)

// keyCache remembers right keys for a few seconds, and never wrong ones.
type keyCache struct {
	store   *store.Store
	entries *lru.Cache[[32]byte, cachedKey]
	asking  singleflight.Group // so that one read serves all that wait for a key
}

type cachedKey struct {
	key  trigger.APIKey
	read time.Time
}

func newKeyCache(s *store.Store) *keyCache {
	entries, err := lru.New[[32]byte, cachedKey](keysInMemory)
	if err != nil {
		panic(err) // only for a size below 1
	}
	return &keyCache{store: s, entries: entries}
}

// find gives the key with its organization. NotFound if there is none, or it
// was revoked.
func (c *keyCache) find(ctx context.Context, given string, now time.Time) (trigger.APIKey, error) {
	hash, ok := trigger.HashAPIKey(given)
	if !ok {
		return trigger.APIKey{}, trigger.Errorf(trigger.NotFound, "Not found")
	}
	if cached, ok := c.entries.Get(hash); ok && now.Sub(cached.read) < keyTTL {
		return cached.key, nil
	}
	found, err, _ := c.asking.Do(string(hash[:]), func() (any, error) {
		key, err := c.store.APIKey(context.WithoutCancel(ctx), hash)
		if err == nil {
			c.entries.Add(hash, cachedKey{key, now})
		}
		return key, err
	})
	key, _ := found.(trigger.APIKey)
	return key, err
}
