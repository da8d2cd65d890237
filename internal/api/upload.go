package api

import (
	"cmp"
	"errors"
	"slices"
	"time"
)

// A body must arrive at leastRate on average. Pauses of up to bodyGrace are
// allowed: TCP needs less to send a lost packet three times, and a link of 2
// KiB/s is not cut within 20 s.
const (
	leastRate = 4 << 10 // bytes a second
	bodyGrace = 10 * time.Second
	paidAhead = time.Second            // a burst counts for at most this
	paceCheck = time.Second            // between two checks of all bodies
	cutPause  = 100 * time.Millisecond // between two searches for bodies to cut
	cutLag    = time.Second            // lag of a body that may be cut if memory is short
	keptFree  = 16                     // bodies are cut to keep a sixteenth of the memory free
)

// errSlowBody is the reason for cutting a body that does not arrive at
// leastRate.
var errSlowBody = errors.New("the body arrived too slowly")

// upload is a body that is being read. The mutex of its budget guards it.
type upload struct {
	holder
	stop func() // ends a read in progress; must not block

	held int       // bytes
	paid time.Time // the bytes so far suffice until then
	err  error     // why it was cut
}

// lag returns for how long too few bytes have arrived.
func (u *upload) lag(now time.Time) time.Duration { return now.Sub(u.paid) }

// grow takes memory for a body up to size bytes. The first call begins to watch
// the body. The error is Unavailable if there is not enough memory, or the
// reason if the body was cut. The caller must call end after its last read of
// the body, and free when it no longer needs the memory.
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

// addOrCut is add, but first cuts late bodies that use the memory that the
// holder is short of.
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

// advance counts n bytes of a body that have arrived.
func (b *budget) advance(u *upload, n int, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	u.paid = u.paid.Add(time.Duration(n) * time.Second / leastRate)
	if latest := now.Add(paidAhead); u.paid.After(latest) {
		u.paid = latest
	}
}

// end stops watching a body. It returns the reason if the body was cut. After
// end, stop is not called.
func (b *budget) end(u *upload) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.uploads, u)
	return u.err
}

// free releases the memory of a body.
func (b *budget) free(u *upload) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.remove(u.holder, u.held)
	u.held = 0
}

// cut ends a body and frees its memory at once.
func (b *budget) cut(u *upload, reason error) {
	u.err = reason
	delete(b.uploads, u)
	b.remove(u.holder, u.held)
	u.held = 0
	u.stop()
}

// cutSlow cuts the bodies that lag by more than bodyGrace.
func (b *budget) cutSlow(now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for u := range b.uploads {
		if u.lag(now) > bodyGrace {
			b.cut(u, errSlowBody)
		}
	}
}

// makeRoom cuts late bodies if n more bytes would leave less than 1/keptFree of
// the memory free, until that much is free. It begins with the organizations and
// addresses that hold most, then with the bodies that lag most.
func (b *budget) makeRoom(n int, now time.Time) {
	short := func() bool { return b.max-b.used-n < b.max/keptFree }
	if !short() || now.Before(b.nextCut) {
		return
	}
	b.cutLate(now, noMemory(shortOfAll), func(*upload) bool { return true }, short)
}

// cutLate cuts late bodies for which is returns true, while memory is short.
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
