package api

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"triggerd/internal/store/storetest"
	"triggerd/internal/trigger"
)

// keyReads is a reader of keys that counts queries, each of which takes a while.
type keyReads struct {
	right [32]byte // the only one
	took  time.Duration

	mu      sync.Mutex
	queries int
	largest int // hashes of a query
}

func (k *keyReads) query(ctx context.Context, hashes ...[32]byte) map[[32]byte]trigger.APIKey {
	select {
	case <-time.After(k.took):
	case <-ctx.Done():
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.queries++
	k.largest = max(k.largest, len(hashes))
	found := map[[32]byte]trigger.APIKey{}
	for _, hash := range hashes {
		if hash == k.right {
			found[hash] = trigger.APIKey{ID: 7, Hash: hash}
		}
	}
	return found
}

func (k *keyReads) APIKeyByHash(ctx context.Context, hash [32]byte) (trigger.APIKey, error) {
	if key, ok := k.query(ctx, hash)[hash]; ok {
		return key, nil
	}
	return trigger.APIKey{}, notFound()
}

func (k *keyReads) APIKeysByHash(ctx context.Context, hashes [][32]byte) (map[[32]byte]trigger.APIKey, error) {
	return k.query(ctx, hashes...), nil
}

// keyBubble is a cache of keys on a clock that goes when everybody waits.
type keyBubble struct {
	*keyCache
	reads *keyReads
	key   string // the right one
	one   netip.Prefix
	other netip.Prefix
}

// inKeyBubble runs a test on the clock of a bubble.
func inKeyBubble(t *testing.T, test func(*testing.T, *keyBubble)) {
	t.Helper()
	s := storetest.SQLite(t).Open(t)
	synctest.Test(t, func(t *testing.T) {
		b := &keyBubble{keyCache: newKeyCache(s), key: newWrongKey(), one: netip.MustParsePrefix("192.0.2.1/32"), other: netip.MustParsePrefix("192.0.2.2/32")}
		b.reads = &keyReads{took: 3 * time.Millisecond}
		b.reads.right, _ = trigger.HashAPIKey(b.key)
		b.reader = b.reads
		test(t, b)
		<-time.After(10 * time.Second) // all queries are over
		b.batcher.mu.Lock()
		defer b.batcher.mu.Unlock()
		if b.batcher.running || len(b.batcher.queue)+len(b.batcher.pending)+len(b.batcher.waiting)+len(b.trying) > 0 {
			t.Error("something is left behind the last look-up")
		}
	})
}

// ask returns what comes of a key, and how long that took.
func (b *keyBubble) ask(ctx context.Context, key string, from netip.Prefix) (took time.Duration, err error) {
	begun := time.Now()
	_, err = b.findNew(ctx, key, from, begun)
	return time.Since(begun), err
}

// passes reports a right key that does not pass in some time.
func (b *keyBubble) passes(t *testing.T, from netip.Prefix, within time.Duration) {
	t.Helper()
	if took, err := b.ask(t.Context(), b.key, from); err != nil || took > within {
		t.Errorf("the right key was answered %v after %v, want it to pass within %v", err, took, within)
	}
}

// guess sends wrong keys, so many at a time, and returns how many were answered
// how.
func (b *keyBubble) guess(t *testing.T, from netip.Prefix, keys, atOnce int) map[trigger.Kind]int {
	t.Helper()
	var mu sync.Mutex
	answered := map[trigger.Kind]int{}
	var guessing sync.WaitGroup
	for range atOnce {
		guessing.Go(func() {
			for range keys / atOnce {
				took, err := b.ask(t.Context(), newWrongKey(), from)
				if took > time.Second {
					t.Errorf("a wrong key waits %v", took)
				}
				mu.Lock()
				answered[trigger.KindOf(err)]++
				mu.Unlock()
			}
		})
	}
	guessing.Wait()
	return answered
}

// However many wrong keys an address sends, they cost as many queries as may be
// wrong, and then one each 100 ms; a right key among them passes.
func TestWrongKeysAreLookedUpTogether(t *testing.T) {
	t.Parallel()
	for _, atOnce := range []int{1, 10, 100, 1000} {
		t.Run(fmt.Sprint(atOnce), func(t *testing.T) {
			t.Parallel()
			inKeyBubble(t, func(t *testing.T, b *keyBubble) {
				begun := time.Now()
				var passing sync.WaitGroup
				passing.Go(func() {
					<-time.After(50 * time.Millisecond)
					b.passes(t, b.one, time.Second)
				})
				answered := b.guess(t, b.one, 1000, atOnce)
				passing.Wait()
				took := time.Since(begun)
				if refused := answered[trigger.RateLimited]; refused+answered[trigger.Unauthorized] != 1000 || refused < 1000-int(took/time.Minute+1)*wrongKeys {
					t.Errorf("answered %v", answered)
				}
				most := int(took/batchEvery+1) + int(took/time.Minute+1)*wrongKeys + 1 // that of the right key
				if b.reads.queries > most || b.reads.largest > batchKeys {
					t.Errorf("%d queries in %v, the largest of %d keys: want %d at most", b.reads.queries, took, b.reads.largest, most)
				}
			})
		})
	}
}

// An address that floods is refused at once where its keys would wait for
// longer than a second, and leaves room for the next one.
func TestFloodOfWrongKeys(t *testing.T) {
	t.Parallel()
	inKeyBubble(t, func(t *testing.T, b *keyBubble) {
		b.guess(t, b.one, wrongKeys, 1)
		b.guess(t, b.other, wrongKeys, 1)
		<-time.After(batchEvery) // it has ended
		var flood sync.WaitGroup
		flood.Go(func() { b.guess(t, b.one, 3000, 3000) })
		synctest.Wait()
		b.batcher.mu.Lock()
		waiting := len(b.batcher.queue)
		b.batcher.mu.Unlock()
		if waiting < batchWaiting/2 || waiting > batchWaiting/2+batchKeys {
			t.Errorf("%d of 3000 wait, want half of %d", waiting, batchWaiting)
		}
		took, err := b.ask(t.Context(), newWrongKey(), b.one)
		if e, ok := errors.AsType[*trigger.Error](err); !ok || e.Kind != trigger.RateLimited || e.RetryAfter != time.Second || took != 0 {
			t.Errorf("one more: %v after %v", err, took)
		}
		b.passes(t, b.other, time.Second)
		flood.Wait()
		b.passes(t, b.one, 0) // it is cached
	})
}

// A key that was right a moment ago does not wait for those of others. Once it
// is revoked it is one of many.
func TestKnownKeysDoNotWait(t *testing.T) {
	t.Parallel()
	inKeyBubble(t, func(t *testing.T, b *keyBubble) {
		b.passes(t, b.one, b.reads.took)
		b.guess(t, b.one, wrongKeys, 1)
		for range 3 {
			<-time.After(keyTTL) // longer than it is believed
			var guessing sync.WaitGroup
			guessing.Go(func() { b.guess(t, b.one, 100, 100) })
			synctest.Wait()
			b.passes(t, b.one, b.reads.took)
			guessing.Wait()
		}
		b.reads.right = [32]byte{}
		<-time.After(keyTTL)
		for i, want := range []time.Duration{b.reads.took, b.reads.took, batchEvery} {
			took, err := b.ask(t.Context(), b.key, b.one)
			if trigger.KindOf(err) != trigger.RateLimited || took != want {
				t.Errorf("revoked, %d: %v after %v, want it refused after %v", i, err, took, want)
			}
		}
	})
}

// A key that is sent by many at a time is looked up once, and nobody waits for
// longer than a second if the database is slow, or than the request lasts.
func TestKeysWaitForNoLonger(t *testing.T) {
	t.Parallel()
	inKeyBubble(t, func(t *testing.T, b *keyBubble) {
		b.guess(t, b.one, wrongKeys, 1)
		before := b.reads.queries
		var asking sync.WaitGroup
		for range 100 {
			asking.Go(func() { b.passes(t, b.one, b.reads.took) })
		}
		asking.Wait()
		if n := b.reads.queries - before; n != 1 {
			t.Errorf("one key of 100 requests was read %d times", n)
		}
		b.reads.took = 4 * time.Second
		for lasts, want := range map[time.Duration]time.Duration{time.Millisecond: time.Millisecond, time.Minute: time.Second} {
			ctx, cancel := context.WithTimeout(t.Context(), lasts)
			took, err := b.ask(ctx, newWrongKey(), b.one)
			cancel()
			if trigger.KindOf(err) != trigger.Unavailable || took != want {
				t.Errorf("%v after %v, want that nobody knows after %v", err, took, want)
			}
		}
	})
}

// What an organization changes is followed at once, by what is being read
// meanwhile, too; the keys of others are remembered all the same.
func TestChangesOfOthersForgetNothing(t *testing.T) {
	t.Parallel()
	inKeyBubble(t, func(t *testing.T, b *keyBubble) {
		b.passes(t, b.one, time.Second)
		for _, c := range []struct {
			orgID int64
			reads int
		}{{1, 1}, {63, 1}, {-1, 1}, {0, 2}} {
			b.forget(c.orgID)
			b.passes(t, b.one, time.Second)
			if b.reads.queries != c.reads {
				t.Errorf("after a change of organization %d: %d reads of a key of organization 0, want %d", c.orgID, b.reads.queries, c.reads)
			}
		}
		<-time.After(2 * keyTTL)
		go b.forget(0) // while it is read
		b.passes(t, b.one, time.Second)
		synctest.Wait()
		b.passes(t, b.one, time.Second)
		if b.reads.queries != 4 {
			t.Errorf("%d reads, want one more after a change beside the third", b.reads.queries)
		}
	})
}
