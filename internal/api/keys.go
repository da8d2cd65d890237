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
	wrongKeys    = 20              // a minute from one address, and as many look-ups of unknown keys at a time
	keyTTL       = 3 * time.Second // a revoked key is good for no longer
	keysInMemory = 10_000
	usedEvery    = time.Minute // how exactly it is known when a key was last used
)

// keyCache remembers right keys for a few seconds, and never wrong ones. It
// limits wrong keys, and what they cost, by address.
type keyCache struct {
	store   *store.Store
	reader  keyReader
	entries *store.Cache[[32]byte, cachedKey]
	asking  singleflight.Group // so that one read serves all that wait for a key
	batcher *keyBatcher        // of addresses that have sent too many wrong keys
	wrong   limit.Limiter[netip.Prefix]

	changes keyChanges

	mu     sync.Mutex
	used   map[int64]bool       // keys, since that was last written down
	trying map[netip.Prefix]int // look-ups under way of keys that nobody knows yet, by address
}

// keyReader reads keys. [store.Store] is one.
type keyReader interface {
	APIKeyByHash(ctx context.Context, hash [32]byte) (trigger.APIKey, error)
	APIKeysByHash(ctx context.Context, hashes [][32]byte) (map[[32]byte]trigger.APIKey, error)
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
	key    trigger.APIKey
	read   time.Time
	change int64 // the organization's, before it was read
}

// keyChanges counts how often forget was called for an organization, or for one
// of the few that share its counter.
type keyChanges [changeShards]atomic.Int64

const changeShards = 64

// shardOf returns the counter that is an organization's.
func shardOf(orgID int64) int { return int(uint64(orgID) % changeShards) }

// now returns the counters of this moment.
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

// forget has an organization's keys read anew, those too that are being read now:
// what it has changed holds here at once, and elsewhere within keyTTL.
func (c *keyCache) forget(orgID int64) { c.changes[shardOf(orgID)].Add(1) }

// find returns a key with its organization, for a request that has been
// authorized before. NotFound if there is none, it was revoked, or it has
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

// findNew is find for a request of which nothing is known but its address.
// Unauthorized if the key is not a right one, and RateLimited if the address has
// sent too many of those.
//
// A wrong key costs a query of its own only until then, and a key that was right
// a moment ago always does: so nobody who uses one waits because somebody else
// guesses.
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
		defer c.tried(from) // after it was counted
		key, err = c.read(ctx, hash, now)
	default:
		key, err = c.batcher.find(ctx, hash, from, now)
	}
	if err != nil && trigger.KindOf(err) == trigger.NotFound {
		return trigger.APIKey{}, c.countWrong(from, now)
	}
	return key, err
}

// countWrong counts a wrong key, and returns what is answered to it.
func (c *keyCache) countWrong(from netip.Prefix, now time.Time) error {
	if ok, wait := c.wrong.Allow(from, wrongKeys, 1, now); !ok {
		return rateLimited(wrongKeys, wait)
	}
	return trigger.Errorf(trigger.Unauthorized, "Invalid API key")
}

// try reports whether a key that nobody knows may be looked up by a query of its
// own: if all that are under way are wrong, the address has not sent too many.
// The caller must call tried when it has counted what came of it.
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

// cached returns a key that is remembered, and whether that may be believed. If
// not, but it is known, it was right a while ago.
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

// remember keeps a key that was read when the counters of changes stood so.
func (c *keyCache) remember(view *store.View[[32]byte, cachedKey], key *trigger.APIKey, now time.Time, changes *[changeShards]int64) {
	view.Add(key.Hash, cachedKey{*key, now, changes[shardOf(key.Organization.ID)]})
	c.note(key)
}
