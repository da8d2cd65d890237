package store

import (
	"context"

	"triggerd/internal/trigger"
)

// Batch is a set of events and what they are owed to, decided once; every
// repeat of an unknown commit writes exactly the same rows. No two events of a
// batch have the same dedup id of the same organization.
type Batch struct {
	Events     []*trigger.Event
	Deliveries [][]trigger.Delivery // of each event; claimed by this node, or due
	// IfCurrent: what the events are owed to was decided by what this node
	// remembers of their organizations. Nothing is stored of one whose Version
	// is not that of its organization, as it is at the moment of the commit.
	IfCurrent bool
}

// AddEvents commits the batch in one synced transaction: dedup ids, events and
// deliveries. For each event it returns its own id if it is accepted; the id
// of the first event if its dedup id was taken; or the zero id if neither can
// be said, in which case nothing of the event was stored and it belongs into
// another batch. Set again if the same batch may have been committed before.
//
// An error is of the whole batch; [Settle] knows what to do with it.
func (s *Store) AddEvents(ctx context.Context, b *Batch, again bool) ([]trigger.ID, error) {
	verdicts, err := s.dialect.addEvents(ctx, b, again)
	if err != nil { // of some it may be said already, and of the batch it is not
		s.noteFailure(err)
		return nil, err
	}
	for i, id := range verdicts {
		if b.IfCurrent && id.IsZero() {
			s.subs.View().Remove(b.Events[i].OrganizationID)
		}
	}
	return verdicts, nil
}

// versions are the organizations of a batch that has to be current, each once,
// and by which version of their webhooks it was decided.
func (b *Batch) versions() (orgs, versions []int64) {
	if !b.IfCurrent {
		return nil, nil
	}
	seen := make(map[int64]bool)
	for _, e := range b.Events {
		if !seen[e.OrganizationID] {
			seen[e.OrganizationID] = true
			orgs, versions = append(orgs, e.OrganizationID), append(versions, e.Version)
		}
	}
	return orgs, versions
}

// bounds are the lowest and the highest of the batch's ids.
func (b *Batch) bounds() (low, high trigger.ID) {
	ids := make([]trigger.ID, len(b.Events))
	for i, e := range b.Events {
		ids[i] = e.ID
	}
	return bounds(ids)
}
