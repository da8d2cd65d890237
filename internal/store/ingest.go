package store

import (
	"context"

	"triggerd/internal/trigger"
)

// Batch is a set of events and their deliveries, decided once, so that every
// retry of an unknown commit writes exactly the same rows. No two events of a
// batch have the same dedup id of the same organization.
type Batch struct {
	Events     []*trigger.Event
	Deliveries [][]trigger.Delivery // of each event, either claimed by this node or due
	// IfCurrent means that the deliveries were decided by this node's cache.
	// Then an event is stored only if its Version is the version of its
	// organization at the commit.
	IfCurrent bool
}

// AddEvents commits the batch in one synced transaction: dedup ids, events and
// deliveries. For each event it returns the event's own id if it is accepted,
// the id of the first event if its dedup id was taken, or the zero id if
// neither is known. In that case nothing of the event was stored, and it must
// go into another batch. Set again if the same batch may have been committed
// before.
//
// On error nothing is known about any event of the batch; see [RunBatch].
func (s *Store) AddEvents(ctx context.Context, b *Batch, again bool) ([]trigger.ID, error) {
	verdicts, err := s.dialect.addEvents(ctx, b, again)
	if err != nil { // if the batch failed, verdicts on some of its events do not count
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

// versions returns the organizations of a batch with IfCurrent, each once, and
// the versions of their webhooks that the batch was decided by.
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

// bounds returns the lowest and the highest id of the batch.
func (b *Batch) bounds() (low, high trigger.ID) {
	ids := make([]trigger.ID, len(b.Events))
	for i, e := range b.Events {
		ids[i] = e.ID
	}
	return bounds(ids)
}
