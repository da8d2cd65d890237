package torture

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// clockPatience is how long a server may take to confirm that the database's
// clock has stepped. It measures twice, five seconds apart.
const clockPatience = 12 * time.Second

// stepClock sets the clock of PostgreSQL an hour or a day ahead, by faketime,
// and back after a while. The server's own clock cannot be set so, because Go
// does not ask a library for the time. What is accepted meanwhile must be due as
// ever. A delivery that has failed, or a claim that was made, while the clock was
// ahead may be due much later; see docs/reliability.md. So there are none.
func stepClock(ctx context.Context, r *run, random *rand.Rand) error {
	r.clock.Lock()
	defer r.clock.Unlock()
	r.receiver.ahead.Store(true)
	defer r.receiver.ahead.Store(false)
	defer r.receiver.calmDown()()
	_ = pause(ctx, 6*time.Second) // leases of consumers end, and what has failed is tried again
	ahead := []time.Duration{time.Hour, 24 * time.Hour}[random.IntN(2)]
	if err := r.setClock(ahead); err != nil {
		return err
	}
	_ = pause(ctx, clockPatience/2+time.Duration(random.IntN(int(clockPatience))))
	if err := r.setClock(0); err != nil {
		return err
	}
	return pause(ctx, clockPatience)
}

// clockFile returns the file that tells faketime how far the database's clock
// is ahead.
func (r *run) clockFile() string { return filepath.Join(r.Dir, "clock") }

// setClock sets the database's clock. PostgreSQL follows within a second.
func (r *run) setClock(ahead time.Duration) error {
	next := r.clockFile() + ".next"
	if err := os.WriteFile(next, fmt.Appendf(nil, "+%d\n", int(ahead.Seconds())), 0o644); err != nil {
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
