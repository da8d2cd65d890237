package torture

import (
	"slices"
	"strings"
	"sync"
	"time"
)

// grace is how long after a fault its effects may last: connections are opened
// again, and batches under way end.
const grace = 3 * time.Second

// window is the time of a fault.
type window struct {
	fault    string
	from, to time.Time // to is zero while it lasts
}

// windows are the windows of a run. Outside of them nothing may fail.
type windows struct {
	now func() time.Time

	mu  sync.Mutex
	all []window
}

// open begins a window; end ends it.
func (w *windows) open(fault string) (end func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.all = append(w.all, window{fault: fault, from: w.now()})
	i := len(w.all) - 1
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.all[i].to = w.now()
	}
}

// last reports whether a fault lasts now or ended at most grace ago.
func (w *windows) last(fault string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := w.now()
	return slices.ContainsFunc(w.all, func(f window) bool {
		return f.fault == fault && (f.to.IsZero() || now.Before(f.to.Add(grace)))
	})
}

// excuses reports whether requests may fail because of a fault. Faults of
// strangers and receivers must not affect honest clients.
func excuses(fault string) bool {
	return fault != faultCrowd && fault != faultSnapshot && fault != faultPoison && !strings.HasPrefix(fault, faultHang)
}

// cover reports whether a fault that excuses failures, or its grace, overlaps
// the time between from and to.
func (w *windows) cover(from, to time.Time) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.ContainsFunc(w.all, func(f window) bool {
		return excuses(f.fault) && f.from.Before(to) && (f.to.IsZero() || from.Before(f.to.Add(grace)))
	})
}

// blind reports whether the result of a request at a time may be lost, because
// it was under way, or its record was, when a fault began. A suspended process
// is blind only for what it had begun. While the database is away, all
// processes are blind.
func (w *windows) blind(at time.Time) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.ContainsFunc(w.all, func(f window) bool {
		to := f.to
		if f.fault == faultPause || to.IsZero() {
			to = f.from
		}
		return at.After(f.from.Add(-grace)) && at.Before(to.Add(grace/3))
	})
}
