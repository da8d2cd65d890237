package api

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"time"

	"triggerd/internal/trigger"
)

const (
	batchEvery   = 100 * time.Millisecond // between the starts of two queries
	batchKeys    = 256                    // per query
	batchWaiting = 2048                   // queued look-ups, for eight queries: the last runs within maxKeyWait
	maxKeyWait   = time.Second
)

// keyBatcher looks up the keys of requests from addresses that have sent too
// many wrong keys. It runs one query per batchEvery for all look-ups that wait,
// so a flood of guesses costs the database ten queries a second. A right key
// among them still passes: behind a proxy that is not trusted, the guesses of
// one client and the keys of all others come from the same address.
type keyBatcher struct {
	// read returns the keys that exist.
	read func(ctx context.Context, hashes [][32]byte, now time.Time) (map[[32]byte]trigger.APIKey, error)

	mu      sync.Mutex
	queue   []*keyLookup               // oldest first
	pending map[keyLookupID]*keyLookup // queued, or in the running query
	waiting map[netip.Prefix]int       // queued look-ups, by address
	running bool
}

// keyLookupID identifies a look-up. Two addresses never share one, because an
// address without room is refused.
type keyLookupID struct {
	hash [32]byte
	from netip.Prefix
}

// keyLookup is a pending look-up. key and err are set when done is closed.
type keyLookup struct {
	keyLookupID
	asked time.Time
	done  chan struct{}
	key   trigger.APIKey
	err   error
}

func newKeyBatcher(read func(context.Context, [][32]byte, time.Time) (map[[32]byte]trigger.APIKey, error)) *keyBatcher {
	return &keyBatcher{read: read, pending: map[keyLookupID]*keyLookup{}, waiting: map[netip.Prefix]int{}}
}

// find returns a key with its organization, within maxKeyWait. The error is
// NotFound if the key is wrong; RateLimited, at once, if too many look-ups wait;
// and Unavailable if the database does not answer in time.
func (b *keyBatcher) find(ctx context.Context, hash [32]byte, from netip.Prefix, now time.Time) (trigger.APIKey, error) {
	l := b.join(ctx, keyLookupID{hash, from}, now)
	if l == nil {
		return trigger.APIKey{}, rateLimited(wrongKeys, maxKeyWait)
	}
	timer := time.NewTimer(maxKeyWait)
	defer timer.Stop()
	select {
	case <-l.done:
		return l.key, l.err
	case <-ctx.Done():
		return trigger.APIKey{}, trigger.NewUnavailable(ctx.Err(), maxKeyWait)
	case <-timer.C:
		return trigger.APIKey{}, trigger.NewUnavailable(errors.New("looking up keys in the database takes too long"), maxKeyWait)
	}
}

// join returns the look-up to wait for, or nil if the room does not suffice for
// another. An address may use as much room as it leaves free: one that floods
// leaves half of the room, two leave a third, and so on.
func (b *keyBatcher) join(ctx context.Context, id keyLookupID, now time.Time) *keyLookup {
	b.mu.Lock()
	defer b.mu.Unlock()
	if l := b.pending[id]; l != nil {
		return l
	}
	if b.waiting[id.from] >= batchWaiting-len(b.queue) {
		return nil
	}
	l := &keyLookup{keyLookupID: id, asked: now, done: make(chan struct{})}
	b.queue = append(b.queue, l)
	b.pending[id] = l
	b.waiting[id.from]++
	if !b.running {
		b.running = true
		go b.run(context.WithoutCancel(ctx))
	}
	return l
}

// run runs the queries until no look-ups have come for batchEvery.
func (b *keyBatcher) run(ctx context.Context) {
	for batch := b.next(); batch != nil; batch = b.next() {
		timer := time.NewTimer(batchEvery)
		b.lookUp(ctx, batch)
		<-timer.C
	}
}

// next removes the look-ups of the next query from the queue. It returns nil if
// the queue is empty; then run returns.
func (b *keyBatcher) next() []*keyLookup {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := min(len(b.queue), batchKeys)
	if n == 0 {
		b.queue, b.running = nil, false
		return nil
	}
	batch := b.queue[:n:n]
	b.queue = b.queue[n:]
	for _, l := range batch {
		if b.waiting[l.from]--; b.waiting[l.from] == 0 {
			delete(b.waiting, l.from)
		}
	}
	return batch
}

// lookUp answers look-ups by one query.
func (b *keyBatcher) lookUp(ctx context.Context, batch []*keyLookup) {
	hashes := make([][32]byte, len(batch))
	for i, l := range batch {
		hashes[i] = l.hash
	}
	keys, err := b.read(ctx, hashes, batch[0].asked)
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, l := range batch {
		delete(b.pending, l.keyLookupID)
		key, ok := keys[l.hash]
		switch {
		case err != nil:
			l.err = err
		case !ok:
			l.err = notFound()
		default:
			l.key = key
		}
		close(l.done)
	}
}
