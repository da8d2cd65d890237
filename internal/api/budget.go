package api

import (
	"errors"
	"net/netip"
	"sync"
	"time"

	"triggerd/internal/trigger"
)

// holder identifies whose memory is counted: an organization, or 0 before it is
// known, and the client's address. The zero Prefix is not counted.
type holder struct {
	orgID int64
	from  netip.Prefix
}

// noOrganization is the orgID of a holder that counts only for its address.
const noOrganization = -1

// addressShare is how many times the free bytes one address may hold. It exceeds
// the share of an organization, because many organizations may come from one
// address, for example from behind a proxy.
const addressShare = 3

// budget bounds the bytes in memory for bodies of requests and for answers. An
// organization may hold as many bytes as are left free, and an address
// addressShare times as many. If k organizations take all they can in turn, they
// leave 1/(k+1) of the memory. One after the other they leave 1/2^k until the
// first ones release some, because only makeRoom takes memory away from its
// holder.
type budget struct {
	max int
	now func() time.Time // if nil, takeFor cuts no bodies

	mu      sync.Mutex
	used    int
	of      map[int64]int        // by organization; 0 before it is known
	from    map[netip.Prefix]int // by address
	uploads map[*upload]struct{} // bodies that are being read
	nextCut time.Time            // no body is cut for lack of memory before
}

func newBudget(most int) *budget {
	return &budget{max: most, of: map[int64]int{}, from: map[netip.Prefix]int{}, uploads: map[*upload]struct{}{}}
}

// take is takeFor without an address.
func (b *budget) take(orgID int64, n int) error { return b.takeFor(holder{orgID: orgID}, n) }

// give is giveFor without an address.
func (b *budget) give(orgID int64, n int) { b.giveFor(holder{orgID: orgID}, n) }

// takeFor takes n more bytes for a holder. It returns Unavailable if that
// exceeds the holder's share even after late bodies were cut.
func (b *budget) takeFor(h holder, n int) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.now == nil {
		return b.add(h, n)
	}
	return b.addOrCut(h, n, b.now())
}

// giveFor releases n bytes of a holder.
func (b *budget) giveFor(h holder, n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.remove(h, n)
}

// shortage is the reason why a holder gets no more memory.
type shortage int

const (
	shortOfNothing shortage = iota
	shortOfAll
	shortOfOrganization // the organization has its share
	shortOfAddress      // the address has its share
)

// lacks returns why a holder may not take n more bytes.
func (b *budget) lacks(h holder, n int) shortage {
	free := b.max - b.used - n
	switch {
	case free < 0:
		return shortOfAll
	case h.orgID != noOrganization && b.of[h.orgID]+n > free:
		return shortOfOrganization
	case h.from.IsValid() && b.from[h.from]+n > addressShare*free:
		return shortOfAddress
	}
	return shortOfNothing
}

func (b *budget) add(h holder, n int) error {
	if s := b.lacks(h, n); s != shortOfNothing {
		return noMemory(s)
	}
	b.remove(h, -n)
	return nil
}

func (b *budget) remove(h holder, n int) {
	b.used -= n
	if b.of[h.orgID] -= n; b.of[h.orgID] == 0 {
		delete(b.of, h.orgID) // else the map would grow
	}
	if !h.from.IsValid() {
		return
	}
	if b.from[h.from] -= n; b.from[h.from] == 0 {
		delete(b.from, h.from)
	}
}

// noMemory returns the error for a holder that gets no memory.
func noMemory(s shortage) error {
	err := trigger.NewUnavailable(errors.New("bodies and answers use up the memory that they may take"), busyRetry)
	switch s {
	case shortOfOrganization:
		err.Message = "Other requests of this organization use its whole share of the memory for bodies and answers: try again when they have ended"
	case shortOfAddress:
		err.Message = "Other requests from this address use its whole share of the memory for bodies and answers: try again when they have ended"
	}
	return err
}

// holderOf returns the holder of a request's memory.
func (a *API) holderOf(r *request) holder { return holder{r.orgID(), a.limitedAddr(r)} }

// holding is the memory of one request. It must not be used concurrently.
type holding struct {
	budget *budget
	holder holder
	n      int
}

func (a *API) holdingOf(r *request) *holding { return &holding{budget: a.used, holder: a.holderOf(r)} }

// takeEvent takes memory for an event of a size, twice: as read, and as written.
func (h *holding) takeEvent(size int) error {
	err := h.budget.takeFor(h.holder, 2*size)
	if err == nil {
		h.n += 2 * size
	}
	return err
}

// free releases all of it.
func (h *holding) free() {
	h.budget.giveFor(h.holder, h.n)
	h.n = 0
}
