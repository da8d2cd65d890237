package deliver_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"triggerd/internal/trigger"
)

// A webhook gets as many requests a second as its owner wants, and no more,
// over all servers; also where one request has to wait for longer than the
// lease of its delivery would allow.
func TestSimulatedRate(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		rate float64
		n    int
	}{{trigger.MinRate, 20}, {0.1, 50}, {1, 300}, {20, 3000}, {500, 4000}} {
		for _, servers := range []int{1, 3} {
			t.Run(fmt.Sprintf("%.3g over %d servers", test.rate, servers), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) { limited(t, test.rate, test.n, servers) })
			})
		}
	}
}

func limited(t *testing.T, rate float64, n, servers int) {
	w := newWorld(t, 9)
	w.calm = true
	w.addHooks(plan{{0, prompt}})
	w.hooks[0].Rate = rate
	for range servers {
		w.start()
	}
	w.changed = time.Time{} // all of them are known from the beginning
	w.due(1, n)
	begun := time.Now()
	ideal := time.Duration(float64(n) / rate * float64(time.Second))
	for w.await(0); time.Since(begun) < 10*ideal+time.Hour && !w.await(time.Millisecond); {
		<-time.After(time.Second)
	}
	if took := time.Since(begun); took > ideal*3/2+time.Minute {
		t.Errorf("%d deliveries took %v, of %v", n, took, ideal)
	}
	w.judge()
	w.stop()
}

// Few or many attempts at a time, as the owner wants, at each server.
func TestSimulatedConcurrency(t *testing.T) {
	t.Parallel()
	for _, most := range []int{1, 2, 16, 64} {
		t.Run(fmt.Sprint(most), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, 10)
				w.calm = true
				w.addHooks(plan{{0, prompt}})
				w.hooks[0].Concurrency = most
				w.start()
				const n = 4000
				w.due(1, n)
				begun := time.Now()
				pace := time.Duration(n/most) * promptly
				for !w.await(time.Millisecond) && time.Since(begun) < 10*pace {
					<-time.After(time.Second)
				}
				if took := time.Since(begun); took > pace*3/2+11*time.Second {
					t.Errorf("took %v, and could have been made in %v", took, pace)
				}
				w.judge()
				w.stop()
			})
		})
	}
}
