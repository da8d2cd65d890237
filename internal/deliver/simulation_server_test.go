package deliver_test

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"triggerd/internal/deliver"
)

// server is one process of a simulation: an engine, its sweeper, its way to
// the database, which fails as the weather has it, and its network. It can be
// stopped, killed, and held up.
type server struct {
	*deliver.Engine
	w      *world
	number uint64

	dead     chan struct{} // closed when it is killed
	ended    chan struct{} // closed when all of it has returned
	claiming context.CancelFunc
	working  context.CancelFunc
	posting  sync.WaitGroup
	clock    serverClock

	// The world's mutex guards what follows.
	killed, stopping, stopped bool
	stoppedAt                 time.Time
	awake                     time.Time     // until then it is held up
	suspended                 bool          // with its machine
	slept                     time.Duration // by which its monotonic clock is behind
	stepped                   time.Duration // by which its wall clock is ahead
	setBack                   bool          // its wall clock, ever
	leapt                     time.Time     // when one of its clocks last made a step
	calls                     map[string]uint64
	holdsRead                 atomic.Int64        // how often in vain
	running                   map[int64]int       // requests under way, by webhook
	seen                      map[int64]time.Time // when webhooks were read
}

var errOver = errors.New("the simulation is over")

// start starts a server.
func (w *world) start() *server {
	s := &server{
		w: w, dead: make(chan struct{}), ended: make(chan struct{}),
		clock: serverClock{measured: time.Now(), offset: w.clockAhead(time.Now())},
		calls: map[string]uint64{}, running: map[int64]int{}, seen: map[int64]time.Time{},
	}
	log := slog.New(slog.DiscardHandler)
	s.Engine = deliver.New(deliver.Config{
		Store: s, Transport: s, Schedule: w.schedule, Timeout: w.timeout, Now: s.processTime,
		Endurance: w.endurance, UserAgent: "triggerd/simulated", Metrics: w.metrics, Log: log,
	})
	var claiming, working context.Context
	claiming, s.claiming = context.WithCancel(context.WithoutCancel(w.ctx))
	working, s.working = context.WithCancel(context.WithoutCancel(w.ctx))
	var parts sync.WaitGroup
	parts.Go(func() {
		if err := s.Run(claiming, working); err != nil {
			w.wrong(nil, "Run: %v", err)
		}
		w.mu.Lock()
		s.stopped, s.stoppedAt = true, time.Now()
		w.mu.Unlock()
	})
	if w.retention > 0 {
		sweeper := &deliver.Sweeper{Store: s, Retention: w.retention, Metrics: w.metrics, Log: log}
		parts.Go(func() { _ = sweeper.Run(claiming) })
	}
	watcher := &deliver.ClockWatcher{Store: s, Schedule: w.schedule, Metrics: w.metrics, Log: log}
	parts.Go(func() { _ = watcher.Run(claiming) })
	go func() { parts.Wait(); close(s.ended) }()
	w.mu.Lock()
	defer w.mu.Unlock()
	s.number = uint64(len(w.servers))
	w.servers = append(w.servers, s)
	w.most, w.changed = max(w.most, len(w.servers)), time.Now()
	return s
}

// stop stops a server as the program does: nothing more is claimed, what is
// accepted is committed, then the engine ends.
func (s *server) stop(accepting time.Duration) {
	s.w.mu.Lock()
	s.stopping, s.w.changed = true, time.Now()
	s.w.mu.Unlock()
	s.claiming()
	<-time.After(accepting)
	s.posting.Wait()
	begun := time.Now()
	s.working()
	<-s.ended
	took := time.Since(begun)
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	if s.w.slowestStop = max(s.w.slowestStop, took); s.w.calm && took > 6*time.Second+100*time.Millisecond {
		s.w.wrong(nil, "a stop takes %v", took)
	}
}

// kill ends a server as SIGKILL does: nothing that it does has an effect any
// more. What is left of it is cleared away at the end of the simulation.
func (s *server) kill() {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	s.killed, s.w.changed = true, time.Now()
	close(s.dead)
	for _, d := range s.w.debts {
		for _, snd := range d.sends {
			if snd.server == s && snd.end.IsZero() {
				snd.end = time.Now()
			}
		}
	}
}

// mostHeldUp is for how long a server is held up: some leases.
const mostHeldUp = 100 * time.Second

// hold is SIGSTOP, and SIGCONT some time later. A suspended machine does the
// same, but its monotonic clock stands still; where its wall clock is set back
// too, nobody could tell the time, so no server has both. The world's mutex is
// held.
func (s *server) hold(d time.Duration, suspended bool) {
	if time.Now().Before(s.awake) {
		return
	}
	d = min(d, mostHeldUp)
	s.awake, s.suspended = time.Now().Add(d), suspended && !s.setBack
	s.leapt = s.awake
	if s.suspended {
		s.slept += d
	}
}

// processTime is the server's own clock, with a monotonic reading, which the
// virtual time has not.
func (s *server) processTime() time.Time {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	slept := s.slept
	if s.suspended {
		slept -= max(0, time.Until(s.awake))
	}
	return lag(realTime.Add(time.Since(s.w.begun)+s.stepped), slept+s.stepped)
}

var realTime = time.Now()

// lag sets a time's monotonic reading back and leaves the wall clock's. The
// time package has no other way to it than its own representation.
func lag(t time.Time, d time.Duration) time.Time {
	(*struct {
		wall uint64
		ext  int64 // the monotonic reading
		loc  *time.Location
	})(unsafe.Pointer(&t)).ext -= int64(d)
	return t
}

func TestLag(t *testing.T) {
	t.Parallel()
	now := time.Now()
	then := lag(now.Add(time.Hour), time.Minute)
	if mono, wall := then.Sub(now), then.Round(0).Sub(now.Round(0)); mono != 59*time.Minute || wall != time.Hour {
		t.Errorf("the monotonic clock is %v ahead and the wall clock %v, want 59m and 1h", mono, wall)
	}
}

// gate holds a server up where it touches the world. A killed one never gets
// through; alive is false when the simulation is over.
func (s *server) gate() (alive bool) {
	for {
		s.w.mu.Lock()
		killed, wait := s.killed, time.Until(s.awake)
		s.w.mu.Unlock()
		switch {
		case killed:
			<-s.w.over
			return false
		case wait <= 0:
			return true
		}
		s.sleep(context.Background(), wait)
	}
}

// sleep waits, unless the context ends or the server is killed.
func (s *server) sleep(ctx context.Context, d time.Duration) (ok bool) {
	if d <= 0 {
		return true
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
	case <-s.dead:
	}
	return false
}

// call is one call of the database. What reads obeys its context, as the
// store's reads do; what writes is never cancelled.
func (s *server) call(ctx context.Context, name string, do func(now time.Time)) error {
	if !s.gate() {
		return errOver
	}
	s.w.mu.Lock()
	s.calls[name]++
	f := s.w.weather.fault(s, name)
	s.w.mu.Unlock()
	if name == "Claim" || name == "Finish" || name == "AddEvents" {
		ctx = context.WithoutCancel(ctx)
	}
	if !s.sleep(ctx, f.before) && ctx.Err() != nil {
		return ctx.Err()
	}
	if !s.gate() {
		return errOver
	}
	if f.err != nil && !f.done {
		return f.err
	}
	s.w.mu.Lock()
	do(time.Now())
	s.w.mu.Unlock()
	s.sleep(context.WithoutCancel(ctx), f.after)
	if !s.gate() {
		return errOver
	}
	return f.err
}
