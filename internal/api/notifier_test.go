package api

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// Streams of one inbox read one at a time. Long polls of it, and streams of another
// inbox, do not wait for them. All waiters are woken, and a request that leaves
// the line loses no turn.
func TestInboxTurns(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := &notifier{now: time.Now}
		const requests, took = 300, 2 * time.Millisecond
		var mu sync.Mutex
		looking, looks := 0, 0
		look := func() error {
			mu.Lock()
			defer mu.Unlock()
			if looking++; looking > 1 {
				t.Errorf("%d requests look at a time, want 1", looking)
			}
			mu.Unlock()
			<-time.After(took)
			mu.Lock()
			looking--
			looks++
			return nil
		}
		var all sync.WaitGroup
		for i := range requests {
			w := n.join(1)
			all.Go(func() {
				defer w.leave()
				news, _ := w.wait()
				<-news
				ctx, cancel := t.Context(), context.CancelFunc(func() {})
				if i%3 == 0 {
					ctx, cancel = context.WithTimeout(ctx, 100*time.Millisecond)
				}
				defer cancel()
				if err := w.streams.do(ctx, look); err != nil && !errors.Is(err, context.DeadlineExceeded) {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		begun := time.Now()
		n.notify(1)
		n.notify(2) // for which nobody waits
		synctest.Wait()
		same, other := n.join(1), n.join(2)
		for _, turn := range []turn{same.claims, other.streams, other.claims} {
			if err := turn.do(t.Context(), func() error { return nil }); err != nil || time.Since(begun) != 0 {
				t.Errorf("%v after %v, though no request has this turn", err, time.Since(begun))
			}
		}
		same.leave()
		other.leave()
		all.Wait()
		if got := time.Since(begun); looks < requests*2/3 || got != took*time.Duration(looks) {
			t.Errorf("%d looks of %v each in %v", looks, took, got)
		}
		if len(n.of) != 0 {
			t.Errorf("%d inboxes are remembered", len(n.of))
		}
	})
}

// Of requests that claim, one alone asks the store where the first one has found
// nothing since the last news.
func TestEmptyInboxIsAskedOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := &notifier{now: time.Now}
		w := n.join(1)
		defer w.leave()
		check := func(when string, want bool) {
			t.Helper()
			if got := w.isEmpty(time.Second); got != want {
				t.Errorf("%s: empty is %v", when, got)
			}
		}
		check("at first", false)
		begun := time.Now()
		<-time.After(time.Millisecond)
		n.notify(1)
		w.foundNothing(begun)
		check("after a look that began before the news", false)
		<-time.After(time.Millisecond)
		w.foundNothing(time.Now())
		check("after a look that began later", true)
		<-time.After(2 * time.Second)
		check("some time later", false)
		w.foundNothing(time.Now())
		<-time.After(time.Millisecond)
		n.notify(1)
		check("after more news", false)
	})
}

// When the server stops, nobody waits any longer, and nobody begins to.
func TestNotifierCloses(t *testing.T) {
	t.Parallel()
	n := &notifier{now: time.Now}
	w := n.join(1)
	defer w.leave()
	news, open := w.wait()
	n.close()
	n.close()
	n.notify(1)
	if <-news; !open {
		t.Error("it was closed at first")
	}
	late := n.join(2)
	defer late.leave()
	if _, open := late.wait(); open {
		t.Error("a request waits after the stop")
	}
}
