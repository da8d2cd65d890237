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

// clockPatience is how long a server may take to believe that the database's
// clock has stepped: two measurements, five seconds apart, and a second.
const clockPatience = 12 * time.Second

// stepClock lets the clock of PostgreSQL go an hour or a day ahead, and back
// after a while, by way of faketime. That of the server cannot be set so: Go
// asks no library for the time. What is accepted afterwards, or waits, is due as ever. What was claimed or
// has failed while the clock was ahead may have to wait for the longest that
// its consumer or its receiver could have asked for, so there is nothing of
// that.
func stepClock(ctx context.Context, r *run, random *rand.Rand) error {
	r.clock.Lock()
	defer r.clock.Unlock()
	r.receiver.ahead.Store(true)
	before := r.receiver.kind.Swap(true)
	defer func() {
		r.receiver.kind.Store(before)
		r.receiver.ahead.Store(false)
	}()
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

// clockFile says how far the database's clock is ahead, as faketime reads it.
func (r *run) clockFile() string { return filepath.Join(r.Dir, "clock") }

// setClock sets the database's clock; it is so within a second.
func (r *run) setClock(ahead time.Duration) error {
	next := r.clockFile() + ".next"
	if err := os.WriteFile(next, fmt.Appendf(nil, "+%d\n", int(ahead.Seconds())), 0o644); err != nil {
		return err
	}
	return os.Rename(next, r.clockFile())
}

// stepsClock reports whether the clock may be set in this run, so that servers
// have to be started for it.
func (r *run) stepsClock() bool {
	return slices.Contains(r.Config.Faults, faultStep) || slices.Equal(r.Config.Faults, []string{AllFaults})
}

// fakeTime is the library that PostgreSQL is started with, so that its clock
// can be set; "" if it is not installed.
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
