package torture

import (
	"slices"
	"strings"
	"sync"
	"time"
)

// grace is for how long after a fault its consequences may still be seen:
// connections are made anew, and batches that were under way end.
const grace = 3 * time.Second

// window is a time in which a fault lasts.
type window struct {
	fault    string
	from, to time.Time // to is zero while it lasts
}

// windows are all of a run. Outside of them nothing may fail.
type windows struct {
	now func() time.Time

	mu  sync.Mutex
	all []window
}

// open begins a window; the function ends it.
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

// last reports whether a fault lasts now, or did a moment ago.
func (w *windows) last(fault string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := w.now()
	return slices.ContainsFunc(w.all, func(f window) bool {
		return f.fault == fault && (f.to.IsZero() || now.Before(f.to.Add(grace)))
	})
}

// excuses reports whether requests may fail because of a fault: what strangers
// and receivers do must not be felt by honest clients.
func excuses(fault string) bool {
	return fault != faultCrowd && fault != faultSnapshot && fault != faultPoison && !strings.HasPrefix(fault, faultHang)
}

// cover reports whether a fault that excuses failures, or what follows from
// it, fell between two times.
func (w *windows) cover(from, to time.Time) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.ContainsFunc(w.all, func(f window) bool {
		return excuses(f.fault) && f.from.Before(to) && (f.to.IsZero() || from.Before(f.to.Add(grace)))
	})
}

// blind reports whether the result of what happened at a time may have gone
// unrecorded: it was under way, or its record was, when a fault began. A
// process that is suspended is blind only for what it had begun; where the
// database is away, everybody is for as long as that lasts.
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
