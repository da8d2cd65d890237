package fair

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Whoever has worked least is next, however many others want turns all the time,
// and those share what there is.
func TestTurns(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ most, each, organizations, requests int }{
		{1, 1, 1, 5}, {1, 2, 3, 4}, {2, 2, 7, 3}, {4, 1, 9, 2}, {8, 8, 60, 2},
	} {
		synctest.Test(t, func(t *testing.T) {
			turns := NewTurns(c.most, c.each)
			ctx, cancel := context.WithCancel(t.Context())
			worked := make([]atomic.Int64, c.organizations)
			var all sync.WaitGroup
			for i := range c.organizations * c.requests {
				all.Go(func() {
					id := int64(i % c.organizations)
					for turns.Take(ctx, id) == nil {
						<-time.After(time.Millisecond) // of virtual time
						worked[id].Add(10)
						if !turns.MustYield(id, 10) {
							<-time.After(time.Millisecond)
							worked[id].Add(10)
							turns.Done(id, 10)
							continue
						}
						turns.Done(id, 0)
					}
				})
			}
			for range 100 {
				<-time.After(7 * time.Millisecond)
				got := make(chan error)
				go func() { got <- turns.Take(ctx, -1) }()
				synctest.Wait()
				turns.mu.Lock()
				if a := turns.of[-1]; len(a.waiting) > 0 && turns.ready.first().time < a.time {
					t.Errorf("%+v: the next turn is that of somebody who has worked more", c)
				}
				turns.mu.Unlock()
				if err := <-got; err != nil {
					t.Fatal(err)
				}
				turns.Done(-1, 0)
			}
			least, most := int64(math.MaxInt64), int64(0)
			for i := range worked {
				least, most = min(least, worked[i].Load()), max(most, worked[i].Load())
			}
			if most-least > int64(20*(c.most+1)) {
				t.Errorf("%+v: organizations have worked from %d to %d", c, least, most)
			}
			cancel()
			all.Wait()
			if turns.free != c.most || !turns.IsIdle() || len(turns.of) != 0 {
				t.Errorf("%+v: at the end %d are free of %d, and %d busy", c, turns.free, c.most, turns.busy.Len())
			}
		})
	}
}

// A turn that is not waited for any longer is nobody's.
func TestTurnsThatAreGivenUp(t *testing.T) {
	t.Parallel()
	for seed := range uint64(100) {
		synctest.Test(t, func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 0))
			turns := NewTurns(1+r.IntN(3), 1+r.IntN(2))
			free := turns.free
			var all sync.WaitGroup
			for range 200 {
				id, patience, work := int64(r.IntN(5)), time.Duration(r.IntN(20))*time.Millisecond, time.Duration(r.IntN(3))*time.Millisecond
				all.Go(func() {
					ctx, cancel := context.WithTimeout(t.Context(), patience)
					defer cancel()
					if err := turns.Take(ctx, id); err != nil {
						if !errors.Is(err, context.DeadlineExceeded) {
							t.Error(err)
						}
						return
					}
					<-time.After(work)
					turns.Done(id, int(work))
				})
				<-time.After(time.Duration(r.IntN(2)) * time.Millisecond)
			}
			all.Wait()
			if turns.free != free || !turns.IsIdle() || len(turns.of) != 0 {
				t.Errorf("seed %d: at the end %d are free of %d, and %d busy", seed, turns.free, free, turns.busy.Len())
			}
		})
	}
}

// BenchmarkTurns shows that a turn costs the same however many organizations take
// turns: ns/op by their number is nearly flat.
func BenchmarkTurns(b *testing.B) {
	for _, organizations := range []int64{1, 1000, 100_000} {
		b.Run(fmt.Sprint(organizations), func(b *testing.B) {
			turns := NewTurns(4, 4)
			if err := turns.Take(b.Context(), -1); err != nil { // so that it is never idle
				b.Fatal(err)
			}
			next := int64(0)
			for b.Loop() {
				next = (next + 1) % organizations
				if err := turns.Take(b.Context(), next); err != nil {
					b.Fatal(err)
				}
				turns.Done(next, 10)
			}
		})
	}
}
