package api

import (
	"context"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/singleflight"

	"triggerd/internal/limit"
	"triggerd/internal/store"
	"triggerd/internal/trigger"
)

const (
	wrongKeys    = 20              // per minute and address; also concurrent look-ups of unknown keys
	keyTTL       = 3 * time.Second // a revoked key works for at most this
	keysInMemory = 10_000
	usedEvery    = time.Minute // resolution of the time when a key was last used
)

// keyCache caches valid keys for a few seconds, but not wrong ones. By address,
// it limits wrong keys and what they cost.
type keyCache struct {
	store   *store.Store
	reader  keyReader
	entries *store.Cache[[32]byte, cachedKey]
	asking  singleflight.Group // one read serves all requests that wait for a key
	batcher *keyBatcher        // for addresses that have sent too many wrong keys
	wrong   limit.Limiter[netip.Prefix]

	changes keyChanges

	mu     sync.Mutex
	used   map[int64]bool       // keys used since the last write
	trying map[netip.Prefix]int // look-ups in progress of unknown keys, by address
}

// keyReader reads keys. [store.Store] implements it.
type keyReader interface {
	APIKeyByHash(ctx context.Context, hash [32]byte) (trigger.APIKey, error)
	APIKeysByHash(ctx context.Context, hashes [][32]byte) (map[[32]byte]trigger.APIKey, error)
}

// note records the use of a key, at most once per usedEvery.
func (c *keyCache) note(key *trigger.APIKey) {
	if c.store.Now().Sub(key.LastUsedAt) < usedEvery {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.used[key.ID] = true
}

// write stores which keys were used lately.
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
	key    trigger.APIKey
	read   time.Time
	change int64 // the counter of its organization before it was read
}

// keyChanges counts the calls of forget per organization; a few organizations
// share a counter.
type keyChanges [changeShards]atomic.Int64

const changeShards = 64

// shardOf returns the index of an organization's counter.
func shardOf(orgID int64) int { return int(uint64(orgID) % changeShards) }

// now returns the current counters.
func (c *keyChanges) now() (changes [changeShards]int64) {
	for i := range c {
		changes[i] = c[i].Load()
	}
	return changes
}

func newKeyCache(s *store.Store) *keyCache {
	c := &keyCache{
		store: s, reader: s, entries: store.NewCache[[32]byte, cachedKey](s, keysInMemory),
		used: map[int64]bool{}, trying: map[netip.Prefix]int{},
	}
	c.batcher = newKeyBatcher(c.readAll)
	return c
}

// forget makes the cache read an organization's keys again, even keys that are
// being read now. So changes apply on this node at once, elsewhere within
// keyTTL.
func (c *keyCache) forget(orgID int64) { c.changes[shardOf(orgID)].Add(1) }

// find returns a key with its organization, for a request that was authorized
// before. The error is NotFound if the key does not exist, was revoked, or has
// expired.
func (c *keyCache) find(ctx context.Context, given string, now time.Time) (trigger.APIKey, error) {
	hash, ok := trigger.HashAPIKey(given)
	if !ok {
		return trigger.APIKey{}, notFound()
	}
	if key, fresh, _ := c.cached(hash, now); fresh {
		return key, nil
	}
	return c.read(ctx, hash, now)
}

// findNew is find for a new request, of which only the address is known. The
// error is Unauthorized if the key is wrong, and RateLimited if the address has
// sent too many wrong ones.
//
// A wrong key costs a query of its own only until then. A key that was valid a
// moment ago always does, so that its users do not wait because others guess.
func (c *keyCache) findNew(ctx context.Context, given string, from netip.Prefix, now time.Time) (key trigger.APIKey, err error) {
	hash, ok := trigger.HashAPIKey(given)
	if !ok {
		return key, c.countWrong(from, now)
	}
	key, fresh, known := c.cached(hash, now)
	switch {
	case fresh:
		return key, nil
	case known:
		key, err = c.read(ctx, hash, now)
	case c.try(from, now):
		defer c.tried(from) // after a wrong key was counted
		key, err = c.read(ctx, hash, now)
	default:
		key, err = c.batcher.find(ctx, hash, from, now)
	}
	if err != nil && trigger.KindOf(err) == trigger.NotFound {
		return trigger.APIKey{}, c.countWrong(from, now)
	}
	return key, err
}

// countWrong counts a wrong key and returns the error for it.
func (c *keyCache) countWrong(from netip.Prefix, now time.Time) error {
	if ok, wait := c.wrong.Allow(from, wrongKeys, 1, now); !ok {
		return rateLimited(wrongKeys, wait)
	}
	return trigger.Errorf(trigger.Unauthorized, "Invalid API key")
}

// try reports whether an unknown key may be looked up by a query of its own:
// even if all that are in progress are wrong, the address has not sent too many.
// If so, the caller must call tried after it has counted the result.
func (c *keyCache) try(from netip.Prefix, now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if left, _ := c.wrong.State(from, wrongKeys, now); c.trying[from] >= left {
		return false
	}
	c.trying[from]++
	return true
}

func (c *keyCache) tried(from netip.Prefix) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.trying[from]--; c.trying[from] == 0 {
		delete(c.trying, from)
	}
}

// cached returns a cached key if it is fresh. If it is known but not fresh, it
// was valid a while ago.
func (c *keyCache) cached(hash [32]byte, now time.Time) (key trigger.APIKey, fresh, known bool) {
	cached, known := c.entries.View().Get(hash)
	if known && now.Sub(cached.read) < keyTTL && !cached.key.Expired(c.store.Now()) &&
		cached.change == c.changes[shardOf(cached.key.Organization.ID)].Load() {
		return cached.key, true, true
	}
	return trigger.APIKey{}, false, known
}

// read reads a key by a query of its own.
func (c *keyCache) read(ctx context.Context, hash [32]byte, now time.Time) (trigger.APIKey, error) {
	found, err, _ := c.asking.Do(string(hash[:]), func() (any, error) {
		changes, view := c.changes.now(), c.entries.View()
		key, err := c.reader.APIKeyByHash(context.WithoutCancel(ctx), hash)
		switch {
		case err == nil:
			c.remember(view, &key, now, &changes)
		case trigger.KindOf(err) == trigger.NotFound:
			view.Remove(hash)
		}
		return key, err
	})
	key, _ := found.(trigger.APIKey)
	return key, err
}

// readAll reads keys by one query.
func (c *keyCache) readAll(ctx context.Context, hashes [][32]byte, now time.Time) (map[[32]byte]trigger.APIKey, error) {
	changes, view := c.changes.now(), c.entries.View()
	keys, err := c.reader.APIKeysByHash(ctx, hashes)
	if err != nil {
		return nil, err
	}
	for _, key := range keys {
		c.remember(view, &key, now, &changes)
	}
	return keys, nil
}

// remember caches a key that was read after changes were loaded.
func (c *keyCache) remember(view *store.View[[32]byte, cachedKey], key *trigger.APIKey, now time.Time, changes *[changeShards]int64) {
	view.Add(key.Hash, cachedKey{*key, now, changes[shardOf(key.Organization.ID)]})
	c.note(key)
}
