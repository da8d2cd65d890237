// Package limit limits rates, for example of events and of wrong API keys.
//
// A [Limiter] keeps a sliding window, by default of a minute, for each key: for
// example an organization that sends events, or an [Address] that tries API
// keys. It is in memory and has no goroutine. Times are parameters.
package limit

import (
	"math"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// DefaultKeys is how many keys a [Limiter] keeps by default.
const DefaultKeys = 10_000

// Limiter counts events per key in a sliding window of 60 s, in one-second
// steps. A step counts while any part of it is in the window. So never more than
// the limit passes in any 60 s, and after 61 s without events all of it is free
// again. With another Window, all times of this file scale with it.
//
// The zero Limiter is ready for use and safe for concurrent use. It measures
// time from its first call, by the monotonic clock if the given times carry it.
// If they go backwards all the same, events count at the latest time that their
// key has seen, which frees nothing.
type Limiter[K comparable] struct {
	// Keys bounds how many keys are kept, at about 500 bytes each;
	// DefaultKeys if 0. A new key replaces the least recently counted one. So
	// a key can lose its count only if more than Keys keys were counted within
	// 61 s.
	Keys int

	// Window is the length of the window, in whole minutes; a minute if 0.
	Window time.Duration

	mu      sync.Mutex
	start   time.Time
	windows *simplelru.LRU[K, *window] // nil before the first call
}

// Allow counts n events of a key at the time now if at most limit are then in
// its window. Otherwise it counts nothing and returns when they will fit if no
// others come: in 1 to 61 whole seconds, rounded up, or 60 if n is over the
// limit and they never will. With a limit of 0 it allows all events and counts
// nothing. A limit over 2^31-1 counts as 2^31-1.
func (l *Limiter[K]) Allow(key K, limit, n int, now time.Time) (ok bool, retryAfter time.Duration) {
	if limit <= 0 || n <= 0 {
		return true, 0
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	since := l.since(now)
	w, kept := l.windows.Peek(key)
	if !kept {
		w = new(window)
	}
	if wait := l.scaled(w.wait(limit, n, since)); wait > 0 {
		return false, wait
	}
	w.add(n)
	l.windows.Add(key, w) // only counted events make a key recent
	return true, 0
}

// Blocked reports whether Allow would refuse one more event of the key at the
// time now, and for how long. It counts nothing.
func (l *Limiter[K]) Blocked(key K, limit int, now time.Time) (blocked bool, retryAfter time.Duration) {
	if limit <= 0 {
		return false, 0
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	since := l.since(now)
	w, kept := l.windows.Peek(key)
	if !kept {
		return false, 0
	}
	wait := l.scaled(w.wait(limit, 1, since))
	return wait > 0, wait
}

// State returns what is left of a key's limit at the time now, and when the
// oldest counted events leave the window: in 1 to 61 whole seconds, or 60 if
// none are counted. It counts nothing. The limit must not be 0.
func (l *Limiter[K]) State(key K, limit int, now time.Time) (left int, reset time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	since := l.since(now)
	w, kept := l.windows.Peek(key)
	if !kept {
		return limit, l.scaled(time.Minute)
	}
	w.moveTo(int64(since / time.Second))
	if w.used == 0 {
		return limit, l.scaled(time.Minute)
	}
	return max(0, limit-w.used), l.scaled(max(time.Second, w.wait(w.used, 1, since)))
}

// scaled converts a time of a window of a minute to this Window.
func (l *Limiter[K]) scaled(d time.Duration) time.Duration { return d * l.scale() }

func (l *Limiter[K]) scale() time.Duration { return max(1, l.Window/time.Minute) }

// since returns the time from the first call to now, scaled to a window of a
// minute; negative if time went backwards. The first call makes the LRU.
func (l *Limiter[K]) since(now time.Time) time.Duration {
	if l.windows == nil {
		keys := l.Keys
		if keys <= 0 {
			keys = DefaultKeys
		}
		l.windows, _ = simplelru.NewLRU[K, *window](keys, nil) // fails for no keys only
		l.start = now
	}
	return now.Sub(l.start) / l.scale()
}

// steps is how many one-second steps a window of 60 s can touch.
const steps = 61

// window counts the events of one key in the steps last-60 to last. A step is
// numbered by the seconds before it.
type window struct {
	counts [steps]uint32 // of step s at s % steps
	used   int           // the sum of counts
	last   int64
}

// wait moves the window to the given time and returns how long n more events
// must wait to fit; 0 if they fit now.
func (w *window) wait(limit, n int, since time.Duration) time.Duration {
	limit = min(limit, math.MaxInt32)
	if n > limit {
		return time.Minute
	}
	w.moveTo(int64(since / time.Second))
	over := w.used + n - limit
	if over <= 0 {
		return 0
	}
	next := w.last
	for over > 0 {
		next++ // takes the place of the oldest step left
		over -= int(w.counts[next%steps])
	}
	wait := time.Duration(next)*time.Second - since
	wait = (wait + time.Second - 1).Truncate(time.Second)
	return min(wait, steps*time.Second) // longer only if time went backwards
}

// moveTo makes the given step the last one, unless a later one is.
func (w *window) moveTo(step int64) {
	for w.last < step && w.used > 0 {
		w.last++
		w.used -= int(w.counts[w.last%steps])
		w.counts[w.last%steps] = 0
	}
	w.last = max(w.last, step)
}

// add counts n events in the last step.
func (w *window) add(n int) {
	w.counts[w.last%steps] += uint32(n)
	w.used += n
}
