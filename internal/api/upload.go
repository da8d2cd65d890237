package api

import (
	"cmp"
	"errors"
	"slices"
	"time"
)

// A body must come at leastRate on average. Pauses are forgiven up to
// bodyGrace: that is longer than TCP needs to send a lost packet three times,
// and a link of 2 KiB/s is not cut before its 20 s are over.
const (
	leastRate = 4 << 10 // bytes a second
	bodyGrace = 10 * time.Second
	paidAhead = time.Second            // a burst counts for no more than this
	paceCheck = time.Second            // between two looks at all bodies
	cutPause  = 100 * time.Millisecond // between two looks for bodies to cut
	cutLag    = time.Second            // of a body that may be cut if memory is short
	keptFree  = 16                     // a sixteenth of the memory is kept free by cutting bodies
)

// errSlowBody is why a body is cut that does not come at leastRate.
var errSlowBody = errors.New("the body arrived too slowly")

// upload is a body that is being read. Its budget's mutex guards it.
type upload struct {
	holder
	stop func() // ends a read under way; it must not block

	held int       // bytes
	paid time.Time // until then what has come is enough
	err  error     // why it was cut
}

// lag returns for how long too little has come.
func (u *upload) lag(now time.Time) time.Duration { return now.Sub(u.paid) }

// grow takes as much more memory for a body that it has size bytes, and begins
// to watch the body if that is its first. It returns Unavailable if there is no
// memory, and why the body was cut if it was. The caller must call end when it
// reads no more of the body, and free when it needs no more of the memory.
func (b *budget) grow(u *upload, size int, now time.Time) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if u.paid.IsZero() {
		u.paid = now
		b.uploads[u] = struct{}{}
	}
	b.makeRoom(size-u.held, now)
	if u.err != nil {
		return u.err
	}
	err := b.addOrCut(u.holder, size-u.held, now)
	if u.err != nil {
		return u.err
	}
	if err == nil {
		u.held = size
	}
	return err
}

// addOrCut is add after bodies that lag have given way: those that the memory
// is counted with that the holder is short of.
func (b *budget) addOrCut(h holder, n int, now time.Time) error {
	s := b.lacks(h, n)
	if s == shortOfNothing || now.Before(b.nextCut) {
		return b.add(h, n)
	}
	b.cutLate(now, noMemory(s), func(u *upload) bool {
		return s == shortOfAll || s == shortOfOrganization && u.orgID == h.orgID || s == shortOfAddress && u.from == h.from
	}, func() bool { return b.lacks(h, n) != shortOfNothing })
	return b.add(h, n)
}

// advance counts n bytes of a body that have come.
func (b *budget) advance(u *upload, n int, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	u.paid = u.paid.Add(time.Duration(n) * time.Second / leastRate)
	if latest := now.Add(paidAhead); u.paid.After(latest) {
		u.paid = latest
	}
}

// end stops watching a body. It returns why the body was cut, if it was.
// Nothing calls stop afterwards.
func (b *budget) end(u *upload) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.uploads, u)
	return u.err
}

// free gives the memory of a body back.
func (b *budget) free(u *upload) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.remove(u.holder, u.held)
	u.held = 0
}

// cut ends a body. Its memory is free at once.
func (b *budget) cut(u *upload, reason error) {
	u.err = reason
	delete(b.uploads, u)
	b.remove(u.holder, u.held)
	u.held = 0
	u.stop()
}

// cutSlow ends the bodies that lag by more than bodyGrace.
func (b *budget) cutSlow(now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for u := range b.uploads {
		if u.lag(now) > bodyGrace {
			b.cut(u, errSlowBody)
		}
	}
}

// makeRoom cuts bodies that lag if n more bytes would leave less than keptFree
// of the memory, until so much is left. Those of organizations and addresses
// that hold most go first, then those that lag most.
func (b *budget) makeRoom(n int, now time.Time) {
	short := func() bool { return b.max-b.used-n < b.max/keptFree }
	if !short() || now.Before(b.nextCut) {
		return
	}
	b.cutLate(now, noMemory(shortOfAll), func(*upload) bool { return true }, short)
}

// cutLate cuts bodies of a kind that lag, as long as memory is short.
func (b *budget) cutLate(now time.Time, reason error, is func(*upload) bool, short func() bool) {
	b.nextCut = now.Add(cutPause)
	var late []*upload
	for u := range b.uploads {
		if u.held > 0 && u.lag(now) >= cutLag && is(u) {
			late = append(late, u)
		}
	}
	weight := func(u *upload) int { return max(b.of[u.orgID], b.from[u.from]) }
	slices.SortFunc(late, func(u, v *upload) int { return cmp.Or(cmp.Compare(weight(v), weight(u)), u.paid.Compare(v.paid)) })
	for _, u := range late {
		if !short() {
			return
		}
		b.cut(u, reason)
	}
}
