package store

import (
	"context"
	"sync"
	"time"

	"triggerd/internal/trigger"
)

// maxLostClaims is how many lost claims are kept. The events of further ones
// become due when their leases end.
const maxLostClaims = 1000

// lostClaims are claims of inboxes that no client was told of, though they may
// be committed. Without a release, no one could claim their events until the
// lease ends, hours later. They are released as soon as the database answers.
type lostClaims struct {
	mu   sync.Mutex
	list []lostClaim
}

// lostClaim is one lost claim.
type lostClaim struct {
	orgID int64
	claim trigger.ID
	until time.Time // the end of its lease
}

// LoseClaim records a claim of an inbox that its client was not told of. until
// is the end of its lease. One of the next beats releases its events.
func (s *Store) LoseClaim(orgID int64, claim trigger.ID, until time.Time) {
	s.lost.mu.Lock()
	if len(s.lost.list) < maxLostClaims {
		s.lost.list = append(s.lost.list, lostClaim{orgID, claim, until})
	}
	s.lost.mu.Unlock()
	s.beatSoon()
}

// releaseLost releases the events of lost claims. It keeps the claims that it
// cannot release for another try.
func (s *Store) releaseLost(ctx context.Context) {
	s.lost.mu.Lock()
	list := s.lost.list
	s.lost.list = nil
	s.lost.mu.Unlock()
	for i, l := range list {
		if err := s.releaseClaim(ctx, l); err != nil {
			s.lost.mu.Lock()
			s.lost.list = append(s.lost.list, list[i:]...)
			s.lost.mu.Unlock()
			return
		}
	}
}

// releaseClaim releases all events of a claim. It finds them by the end of
// their lease, which is indexed.
func (s *Store) releaseClaim(ctx context.Context, l lostClaim) error {
	ctx, cancel := bounded(ctx)
	defer cancel()
	return s.dialect.writeQuietly(ctx, func(q querier) error {
		_, err := q.ExecContext(ctx, `UPDATE deliveries SET claim = $5, due_at = $6, attempts = attempts - 1
			WHERE bucket = $1 AND organization_id = $2 AND state = 0 AND webhook_id = 0 AND job = 0 AND due_at = $3 AND claim = $4`,
			trigger.Bucket(l.orgID), l.orgID, micros(l.until), l.claim[:], nobody(), micros(s.Now()))
		return err
	})
}
