package deliver_test

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"triggerd/internal/trigger"
)

// addHooks adds a webhook of one organization for each plan, from 1 on.
func (w *world) addHooks(plans ...plan) {
	for i, p := range plans {
		w.addHook(&hook{plan: p, Webhook: trigger.Webhook{
			ID: int64(i + 1), OrganizationID: 1, State: trigger.Active, URL: fmt.Sprintf("http://hook%d", i+1),
			Secrets: trigger.OneSecret(trigger.NewSecret([32]byte{1})),
		}})
	}
}

// due adds deliveries of a webhook that are due now, and that nobody is told
// of.
func (w *world) due(webhookID int64, n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	for i := range n {
		e := &trigger.Event{OrganizationID: 1, ID: trigger.NewID(now, uint16(i), rand.Uint64()), Type: "user.created", Payload: payload(100)}
		w.events[e.ID] = e
		w.numbers++
		w.owe(&debt{
			DeliveryKey: trigger.DeliveryKey{OrganizationID: 1, EventID: e.ID, WebhookID: webhookID},
			hook:        w.byID[webhookID], number: w.numbers, created: now, due: now,
		})
	}
}

// A backlog drains as fast as its receiver takes it: 16 at a time. Whoever
// looks at the store each second alone gets 272 of them a second.
func TestSimulatedBacklogDrains(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		w.calm = true
		w.addHooks(plan{{0, prompt}})
		const n = 4000
		w.due(1, n)
		w.start()
		w.settle()
		pace := n / (16 / promptly.Seconds()) // seconds
		took := time.Duration(0)
		for _, d := range w.debts {
			took = max(took, d.endedAt.Sub(w.begun))
		}
		if took.Seconds() > 1.5*pace {
			t.Errorf("%d deliveries took %v, and could have been made in %.1fs", n, took, pace)
		}
		w.judge()
		w.stop()
	})
}

// Receivers that hang, fail, never end their answers or go away hold up nobody
// else: what comes in goes out at once, and what is due within the second.
func TestSimulatedHangingReceiversHoldUpNobody(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2)
		w.calm = true
		w.schedule = trigger.Schedule{7 * time.Second, 20 * time.Second}
		w.addHooks(
			plan{{0, prompt}}, plan{{0, prompt}}, plan{{0, down}}, plan{{0, down}}, // watched
			plan{{0, hangs}}, plan{{0, tears}}, plan{{0, slow}}, plan{{0, leaves}}, plan{{0, hangs}}, plan{{0, mixes}},
		)
		for id := int64(5); id <= 10; id++ {
			w.due(id, 400)
		}
		s := w.start()
		for second := range 300 {
			s.posting.Add(1)
			go w.accept(s, 1, 100, []*hook{w.byID[1]})
			w.due(2, 1)
			w.due(3, 1)
			if second%40 == 0 {
				w.due(4, 1)
			}
			<-time.After(time.Second)
		}
		<-time.After(time.Minute)
		w.mu.Lock()
		const atOnce, inASecond = 50 * time.Millisecond, 1050 * time.Millisecond
		for _, d := range w.debts {
			switch d.WebhookID {
			case 1:
				d.judgePace(w, atOnce, atOnce)
			case 2:
				d.judgePace(w, inASecond, inASecond)
			case 3, 4: // and they wait for their own breakers
				d.judgePace(w, inASecond+2*mostHold, inASecond+2*mostHold)
			}
		}
		w.mu.Unlock()
		w.settle()
		w.judge()
		w.stop()
	})
}

// judgePace judges how long after its time each request of a delivery began:
// the first, and the retries.
func (d *debt) judgePace(w *world, first, retry time.Duration) {
	due, bound := d.created, first
	for i, snd := range d.sends {
		if wait := snd.start.Sub(due); wait > bound {
			w.wrong(d, "request %d waited for %v", i, wait)
		}
		if i < len(d.sends)-1 {
			due, bound = snd.claim.result.Next.DueAt, retry
		}
	}
	if len(d.sends) == 0 || d.state == trigger.DeliveryOpen {
		w.wrong(d, "is still open")
	}
}

// More webhooks wait for a retry than one look at the store shows, and some
// hang: those behind them are served within seconds all the same.
func TestSimulatedManyWebhooks(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 4)
		w.calm = true
		w.schedule = trigger.Schedule{time.Hour}
		const webhooks, failing = 2000, 1100
		plans := make([]plan, webhooks)
		for i := range plans {
			plans[i] = plan{{0, prompt}}
			switch {
			case i < failing && i%10 == 0:
				plans[i] = plan{{0, hangs}}
			case i < failing:
				plans[i] = plan{{0, down}}
			}
		}
		w.addHooks(plans...)
		for id := range int64(webhooks) {
			w.due(id+1, 2)
		}
		w.start()
		w.settle()
		for _, d := range w.debts {
			if d.WebhookID > failing {
				d.judgePace(w, 3*time.Second, 0)
			}
		}
		w.judge()
		w.stop()
	})
}

// mostKept is how many bytes of each event may stay in memory. The runtime's
// own needs change by some ten thousand bytes, and 14,400 events go by.
const mostKept = 20.0

// An hour of steady traffic, with failures and retries, leaves nothing behind
// in memory. This test and the next run beside no other.
func TestSimulatedHourInFlatMemory(t *testing.T) {
	growth, goroutines := hourOfTraffic(t, time.Hour, 0)
	if growth > mostKept || goroutines > 0 {
		t.Errorf("memory grew by %.1f bytes per event, and by %d goroutines", growth, goroutines)
	}
	t.Logf("%.2f bytes per event", growth)
}

// The test before would notice a leak of 100 bytes per event.
func TestSimulatedLeakIsNoticed(t *testing.T) {
	if growth, _ := hourOfTraffic(t, 10*time.Minute, 100); growth < 2*mostKept {
		t.Errorf("with 100 bytes leaked per event, memory grew by %.1f", growth)
	}
}

// hourOfTraffic runs two servers through some minutes of warming up and a time
// of traffic, and gives by how many bytes per event the heap grew in the
// latter, and by how many goroutines. leak is what it leaks itself.
func hourOfTraffic(t *testing.T, length time.Duration, leak int) (growth float64, goroutines int) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 3)
		w.calm, w.forgetful = true, true
		w.schedule = trigger.Schedule{time.Second, 5 * time.Second}
		w.addHooks(plan{{0, up}}, plan{{0, up}}, plan{{0, prompt}}, plan{{0, down}}, plan{{0, refuses}}, plan{{0, mixes}})
		w.start()
		w.start()
		dice := w.dice(9)
		var leaked [][]byte
		traffic := func(length time.Duration) (events int) {
			const pause, batch = time.Second, 4
			for range length / pause {
				h := w.hooks[dice.IntN(len(w.hooks)*2)/2] // lanes come and go
				s := w.oneOf(dice)
				s.posting.Add(1)
				go w.accept(s, batch, 100, []*hook{h})
				for range batch {
					leaked = append(leaked, make([]byte, leak))
				}
				events += batch
				<-time.After(pause)
			}
			w.settle()
			<-time.After(time.Minute)
			w.mu.Lock()
			defer w.mu.Unlock()
			clear(w.met)
			w.debts, w.events = map[trigger.DeliveryKey]*debt{}, map[trigger.ID]*trigger.Event{} // both empty, and large
			return events
		}
		traffic(5 * time.Minute)
		leaked = make([][]byte, 0, length/time.Second*4+4)
		before, running := heap(), runtime.NumGoroutine()
		events := traffic(length)
		growth = (float64(heap()) - float64(before)) / float64(events)
		goroutines = runtime.NumGoroutine() - running
		runtime.KeepAlive(leaked)
		w.judge()
		w.stop()
	})
	return growth, goroutines
}

// heap is how many bytes are in use.
func heap() uint64 {
	for range 3 { // pools give up what they hold at the second
		runtime.GC()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
