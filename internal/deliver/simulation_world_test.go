package deliver_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"triggerd/internal/deliver"
	"triggerd/internal/telemetry"
	"triggerd/internal/trigger"
)

// world is one simulation: servers, their database, their receivers, and the
// trouble they have, in virtual time. What is random in it follows from the
// seed, but for the jitter of the pauses and the order in which goroutines
// run at one moment, so a seed that fails may pass once in a while.
type world struct {
	t         testing.TB
	ctx       context.Context
	seed      uint64
	calm      bool // nothing breaks
	schedule  trigger.Schedule
	timeout   time.Duration
	retention time.Duration // 0: nothing is swept
	endurance trigger.Endurance
	begun     time.Time
	metrics   *telemetry.Metrics
	over      chan struct{} // closed when nothing counts any more

	mu sync.Mutex
	model
	servers     []*server
	most        int       // servers at a time, ever
	changed     time.Time // when there was one more, or one less
	weather     weather
	ahead       []aheadTime   // of the database's clock; set before the first server starts
	numbers     uint64        // of debts
	slowest     time.Duration // that a quick receiver waited for
	met         map[string]int
	slowestStop time.Duration

	failing  sync.Mutex
	failures int
}

func newWorld(t testing.TB, seed uint64) *world {
	w := &world{
		t: t, ctx: t.Context(), seed: seed, schedule: trigger.DefaultSchedule(), endurance: trigger.DefaultEndurance(), timeout: 15 * time.Second,
		begun: time.Now(), metrics: telemetry.New(), over: make(chan struct{}), model: newModel(),
		met: map[string]int{},
	}
	w.weather.w = w
	return w
}

// dice gives random numbers that follow from the seed and from what they are
// for, whatever else was thrown before.
func (w *world) dice(parts ...uint64) *rand.Rand {
	h := w.seed
	for _, part := range parts {
		h = (h ^ part) * 0x9e3779b97f4a7c15
		h ^= h >> 29
	}
	return rand.New(rand.NewPCG(h, w.seed))
}

// wrong reports a broken rule, with the story of a delivery if it is about
// one. The first few are told in full.
func (w *world) wrong(d *debt, format string, args ...any) {
	select {
	case <-w.over:
		return
	default:
	}
	w.failing.Lock()
	defer w.failing.Unlock()
	if w.failures++; w.failures > 3 {
		w.t.Fail()
		return
	}
	story := ""
	if d != nil {
		story = "\n" + d.story(w.begun)
	}
	w.t.Errorf("SIMULATION_SEED=%d after %v: %s%s", w.seed, time.Since(w.begun), fmt.Sprintf(format, args...), story)
}

// alive are the servers that take requests.
func (w *world) alive() (list []*server) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range w.servers {
		if !s.killed && !s.stopping {
			list = append(list, s)
		}
	}
	return list
}

// settle waits until nothing is open. Where that takes long, since receivers
// fail and their breakers are open, all receivers are mended in the end: what
// is open then ends within a hold and the schedule.
func (w *world) settle() {
	now := time.Now()
	w.mu.Lock()
	most := 0
	for _, h := range w.hooks {
		if h.State == trigger.Paused && w.retention == 0 {
			h.setState(trigger.Active, now)
		}
		most = max(most, len(h.open))
	}
	for _, r := range w.replays {
		if r.State == trigger.ReplayPaused {
			r.State = trigger.ReplayRunning
		}
	}
	w.mu.Unlock()
	tries := time.Duration(len(w.schedule) + 1)
	if w.retention > 0 {
		w.await(w.retention + 2*time.Hour)
		return
	}
	if w.await(w.schedule.Span() + tries*(trigger.MaxRetryAfter+time.Duration(min(most, 20))*w.timeout)) {
		return
	}
	w.mu.Lock()
	for _, h := range w.hooks {
		if h.State == trigger.Paused { // by its failures
			h.setState(trigger.Active, time.Now())
		}
		h.plan = append(h.plan, phase{time.Since(w.begun), up})
		w.met[mended] += len(h.open)
	}
	w.mu.Unlock()
	w.await(w.schedule.Span() + trigger.MaxRetryAfter + 10*time.Minute + time.Duration(4*most)*time.Second)
}

// await waits until nothing is open, for as long as it may take.
func (w *world) await(patience time.Duration) bool {
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		w.mu.Lock()
		open := w.openDebts()
		for _, r := range w.replays {
			if r.State == trigger.ReplayRunning || r.State == trigger.ReplayCancelling {
				open++
			}
		}
		w.mu.Unlock()
		if open == 0 {
			return true
		}
		<-time.After(10 * time.Second)
	}
	return false
}

// judge judges everything when it has settled.
func (w *world) judge() {
	<-time.After(2 * w.timeout) // what is in memory still ends
	if w.retention > 0 {
		<-time.After(4 * time.Hour) // and what is too old goes
	}
	w.mu.Lock()
	for _, d := range w.debts {
		w.judgeEnd(d)
	}
	for id := range w.events {
		if age := time.Since(id.Time()); w.retention > 0 && age > w.retention+3*time.Hour {
			w.wrong(nil, "event %s is kept for %v", id, age)
		}
	}
	w.mu.Unlock()
	const most = 96 << 20
	nobodys, others := trigger.DeliveryKey{OrganizationID: 1 << 40, WebhookID: 1 << 40}, trigger.DeliveryKey{OrganizationID: 1 << 41, WebhookID: 1 << 41}
	for _, s := range w.alive() {
		if load := s.Load(); load != (deliver.Load{}) {
			w.wrong(nil, "server %d keeps %+v", s.number, load)
		}
		if s.Reserve(nobodys, 0) { // it may have been idle, or have missed open breakers for a while
			s.Unreserve(nobodys, 0)
		}
		<-time.After(5 * time.Second)
		if !s.Reserve(nobodys, most/3) || !s.Reserve(others, most/9) {
			w.wrong(nil, "server %d counts bytes of events that it does not have", s.number)
			continue
		}
		s.Unreserve(nobodys, most/3)
		s.Unreserve(others, most/9)
		if s.Reserve(nobodys, most/2+1) {
			w.wrong(nil, "server %d counts fewer bytes of events than none", s.number)
		}
	}
}

// stop ends everything.
func (w *world) stop() {
	for _, s := range w.alive() {
		s.stop(0)
	}
	w.mu.Lock()
	servers := w.servers
	w.mu.Unlock()
	for _, s := range servers {
		if s.stopping {
			<-s.ended
		}
	}
	close(w.over)
	for _, s := range servers {
		s.claiming()
		s.working()
		<-s.ended
		s.posting.Wait()
	}
}
