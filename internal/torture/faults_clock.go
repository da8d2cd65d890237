package torture

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"
)

// clockPatience is how long a server may take to confirm a step of the
// database's clock. It measures twice, five seconds apart.
const clockPatience = 12 * time.Second

// stepClock sets the clock of PostgreSQL an hour or a day ahead, with faketime,
// and back after a while. The server's own clock cannot be set so, because Go
// does not get the time from a library. Events accepted meanwhile must be due
// at the usual times. In most cases a node is killed before the step back, so
// that its leases lie ahead; they must end in time. Deliveries that fail while
// the clock is ahead may be due much later, and so may events that consumers
// claim; see docs/reliability.md. So endpoints are in a good mood meanwhile,
// and consumers wait.
func stepClock(ctx context.Context, r *run, random *rand.Rand) error {
	defer r.clock.Store(false)
	r.receiver.ahead.Store(true)
	defer r.receiver.ahead.Store(false)
	defer r.receiver.calmDown()()
	_ = pause(ctx, 6*time.Second) // until leases of consumers end, and failed deliveries are retried
	ahead := []time.Duration{time.Hour, 24 * time.Hour}[random.IntN(2)]
	if err := r.setClock(ahead); err != nil {
		return err
	}
	_ = pause(ctx, clockPatience/2+time.Duration(random.IntN(int(clockPatience*3/4))))
	if err := r.stepBack(ctx, random); err != nil {
		return err
	}
	return pause(ctx, clockPatience)
}

// stepBack sets the database's clock back, in most cases while a node is dead.
func (r *run) stepBack(ctx context.Context, random *rand.Rand) error {
	if random.IntN(4) == 0 {
		return r.setClock(0)
	}
	n, done := r.some(random)
	defer done()
	r.receiver.dawdles.Store(true) // so that attempts are under way
	_ = pause(ctx, attemptTimeout/2)
	_, err := n.end(syscall.SIGKILL)
	r.receiver.dawdles.Store(false)
	if err != nil {
		return err
	}
	if err := r.setClock(0); err != nil {
		return err
	}
	_ = pause(ctx, 1500*time.Millisecond) // faketime reads the file once a second
	return n.start(ctx)
}

// clockFile returns the path of the file from which faketime reads how far the
// database's clock is ahead.
func (r *run) clockFile() string { return filepath.Join(r.Dir, "clock") }

// setClock sets the database's clock. PostgreSQL uses it within a second.
func (r *run) setClock(ahead time.Duration) error {
	next := r.clockFile() + ".next"
	if err := os.WriteFile(next, fmt.Appendf(nil, "+%d\n", int(ahead.Seconds())), 0o644); err != nil {
		return err
	}
	if err := os.Chmod(next, 0o644); err != nil { // PostgreSQL may run as another user
		return err
	}
	return os.Rename(next, r.clockFile())
}

// stepsClock reports whether the run may set the database's clock, so that
// PostgreSQL must be started under faketime.
func (r *run) stepsClock() bool {
	return slices.Contains(r.Config.Faults, faultStep) || slices.Equal(r.Config.Faults, []string{AllFaults})
}

// fakeTime returns the library of faketime, or "" if it is not installed.
func fakeTime() string {
	for _, pattern := range []string{"/usr/lib/*/faketime/libfaketime.so.1", "/usr/lib/faketime/libfaketime.so.1"} {
		if found, _ := filepath.Glob(pattern); len(found) > 0 {
			return found[0]
		}
	}
	return ""
}

func lacksFakeTime(r *run) string {
	if r.db.clock == "" {
		return "faketime is not installed"
	}
	return ""
}

// failedAhead reports whether an attempt of a delivery failed while the database's
// clock was ahead. The delivery may then be due up to an hour later.
func (r *run) failedAhead(ctx context.Context, e *event, h *hook) bool {
	if r.report.Faults[faultStep] == 0 {
		return false
	}
	for _, id := range e.ids {
		attempts, _ := pagesOf[shownAttempt](ctx, r, e.tenant, "/v1/events/"+id+"/attempts") // an error excuses nothing
		for _, a := range attempts {
			if a.Webhook == h.id && a.At.After(r.Now().Add(longestWait)) {
				return true
			}
		}
	}
	return false
}
