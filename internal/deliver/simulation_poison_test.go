package deliver_test

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"triggerd/internal/trigger"
)

// What a receiver always refuses delays what it takes by no more than the
// attempts at it take: k × timeout / concurrency, and a second until the look
// that finds it. Where it is refused in a way
// that could be an outage, and nothing got through before, some probes are
// needed to find what gets through.
func TestSimulatedPoison(t *testing.T) {
	t.Parallel()
	const k, good = 64, 5
	for name, c := range map[string]struct {
		how    conduct
		warm   bool // other events get through beside it
		within time.Duration
	}{
		"500 and the like":            {crashes, false, 5 * time.Second},
		"404 and the like":            {denies, false, 5 * time.Second},
		"503 beside what succeeds":    {busy, true, k * 200 * time.Millisecond},
		"no answer beside others":     {hangs, true, k*15*time.Second/4 + 30*time.Second},
		"503 alone":                   {busy, false, 3 * time.Minute},
		"no answer, and nothing else": {hangs, false, k * 30 * time.Second / 4},
		"a connection that breaks":    {breaks, false, 3 * time.Minute},
	} {
		for _, servers := range []int{1, 3} {
			t.Run(fmt.Sprint(name, " with servers ", servers), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					w := newWorld(t, 12)
					w.calm = true
					w.schedule = trigger.Schedule{5 * time.Second, 5 * time.Minute}
					w.addHooks(plan{{0, prompt}})
					w.hooks[0].poison = c.how
					for range servers {
						w.start()
					}
					if c.warm {
						for range 100 {
							w.due(1, 1)
							<-time.After(100 * time.Millisecond)
						}
					}
					w.due(1, k)
					w.mu.Lock()
					for _, d := range w.debts {
						d.poison = len(d.sends) == 0
					}
					w.mu.Unlock()
					<-time.After(time.Millisecond)
					w.due(1, good)
					for range int(c.within / time.Second) {
						if c.warm { // beside it
							w.due(1, 1)
						}
						<-time.After(time.Second)
					}
					w.mu.Lock()
					for _, d := range w.debts {
						if late := time.Since(d.created); !d.poison && len(d.sends) == 0 && late >= c.within {
							w.wrong(d, "waits for %v behind %d that are refused", late, k)
						}
					}
					w.mu.Unlock()
					w.settle()
					w.judge()
					w.stop()
				})
			})
		}
	}
}

// The first event after a start, and after a time without work, in which a node
// does not follow which breakers are open, is sent at once.
func TestSimulatedFirstEvent(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 14)
		w.calm = true
		w.addHooks(plan{{0, prompt}})
		w.start()
		for n := 1; n <= 3; n++ {
			s := w.alive()[0]
			s.posting.Add(1)
			w.accept(s, 1, 10, w.hooks)
			<-time.After(100 * time.Millisecond)
			w.mu.Lock()
			for _, d := range w.debts {
				if d.state == trigger.DeliveryOpen {
					w.wrong(d, "not delivered within 100 ms")
				}
			}
			w.mu.Unlock()
			<-time.After(3*time.Minute + 700*time.Millisecond)
		}
		w.settle()
		w.judge()
		w.stop()
	})
}

// Events that come when the breaker has opened for others that are refused, or
// get no answer, do not stand behind the retries of these.
func TestSimulatedPoisonBefore(t *testing.T) {
	t.Parallel()
	for _, how := range []conduct{busy, hangs} {
		for _, servers := range []int{1, 3} {
			t.Run(fmt.Sprintf("conduct %d with %d servers", how, servers), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) { poisonBefore(t, how, servers) })
			})
		}
	}
}

func poisonBefore(t *testing.T, how conduct, servers int) {
	const k, good, within = 64, 40, time.Minute // a probe under way, a hold, another probe, and some
	w := newWorld(t, 13)
	w.calm, w.timeout = true, 4*time.Second
	w.schedule = slices.Repeat(trigger.Schedule{5 * time.Second}, 100)
	w.addHooks(plan{{0, prompt}})
	w.hooks[0].poison = how
	for range servers {
		w.start()
	}
	w.due(1, k)
	w.mu.Lock()
	for _, d := range w.debts {
		d.poison = true
	}
	w.mu.Unlock()
	<-time.After(8 * time.Minute) // each of them is tried once at least
	w.due(1, good)
	<-time.After(within)
	w.mu.Lock()
	for _, d := range w.debts {
		if !d.poison && len(d.sends) == 0 {
			w.wrong(d, "waits for %v behind %d that are refused", within, k)
		}
	}
	w.mu.Unlock()
	w.settle()
	w.judge()
	w.stop()
}
