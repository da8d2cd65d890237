package store

import (
	"context"
	"sync"
	"time"

	"triggerd/internal/trigger"
)

// maxLostClaims is how many are remembered. Those beyond come back with their
// leases.
const maxLostClaims = 1000

// lostClaims are claims of inboxes that nobody was told, though they may have
// been committed: their events would be nobody's until the lease ends, hours
// later. They are given back as soon as the database answers.
type lostClaims struct {
	mu   sync.Mutex
	list []lostClaim
}

// lostClaim is one of them.
type lostClaim struct {
	orgID int64
	claim trigger.ID
	until time.Time // the end of its lease
}

// LoseClaim notes a claim of an inbox that whoever has asked for it was not
// told. What it has taken, until then, is given back with one of the next beats.
func (s *Store) LoseClaim(orgID int64, claim trigger.ID, until time.Time) {
	s.lost.mu.Lock()
	if len(s.lost.list) < maxLostClaims {
		s.lost.list = append(s.lost.list, lostClaim{orgID, claim, until})
	}
	s.lost.mu.Unlock()
	s.beatSoon()
}

// releaseLost gives back what lost claims have taken. The ones of which that
// fails are tried again.
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

// releaseClaim gives back all that a claim has taken, by the end of its lease,
// which stands in an index.
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
