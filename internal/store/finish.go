package store

import (
	"context"

	"triggerd/internal/trigger"
)

// Result is the outcome of an attempt at a delivery.
type Result struct {
	Attempt trigger.Attempt
	Next    trigger.Delivery // by Delivery.After
	Notice  *trigger.Notice  // of a delivery that failed for good, for organizations that subscribe to it
	Again   bool             // it may have been recorded before
}

// Finish records results in one synced transaction. It removes deliveries that
// ended, reschedules or fails the others, appends the attempts, and updates the
// health of their webhooks. A result whose claim was lost changes nothing,
// except that a success ends the delivery if it is still open. Finishing twice
// has the effect of once if the second result is marked as Again; else the
// webhook's failures are counted twice. Results of replays, results with a
// notice and results marked as Again go into transactions of their own.
//
// On error nothing is known about any of the results; see [RunBatch].
func (s *Store) Finish(ctx context.Context, results []Result) error {
	if isPlain(results) {
		return s.dialect.finish(ctx, results, false)
	}
	return s.finishApart(ctx, results)
}

// finishApart is Finish for results that need several transactions.
func (s *Store) finishApart(ctx context.Context, results []Result) error {
	wanting, err := s.wanting(ctx, results)
	if err != nil {
		return err
	}
	first, replayed, rare, later := parted(results, wanting)
	if len(first) > 0 {
		err = s.dialect.finish(ctx, first, false)
	}
	if err == nil && len(replayed) > 0 {
		err = s.dialect.finish(ctx, replayed, true)
	}
	if err == nil && len(rare) > 0 {
		err = s.finishRare(ctx, rare)
	}
	if err != nil || len(later) == 0 {
		return err
	}
	return s.Finish(ctx, later)
}

// parted divides results by transaction: first are original deliveries,
// replayed are deliveries of replays, rare are recorded one by one. later are
// further results of the same delivery, because one statement changes a row at
// most once. It drops notices that the organization does not subscribe to.
func parted(results []Result, wanting map[int64]bool) (first, replayed, rare, later []Result) {
	seen := make(map[trigger.DeliveryKey]bool, len(results))
	for _, r := range results {
		if r.Notice != nil && !wanting[r.Attempt.OrganizationID] {
			r.Notice = nil
		}
		switch key := r.Attempt.DeliveryKey; {
		case seen[key]:
			later = append(later, r)
		case r.Notice != nil || r.Again:
			rare = append(rare, r)
		case key.Job != 0:
			replayed = append(replayed, r)
		default:
			first = append(first, r)
		}
		seen[r.Attempt.DeliveryKey] = true
	}
	return first, replayed, rare, later
}

// isPlain reports whether the results go into one transaction, as nearly
// always: they are of original deliveries, each of another delivery, without a
// notice, and for the first time.
func isPlain(results []Result) bool {
	seen := make(map[trigger.DeliveryKey]bool, len(results))
	for i := range results {
		r := &results[i]
		if r.Notice != nil || r.Again || r.Attempt.Job != 0 || seen[r.Attempt.DeliveryKey] {
			return false
		}
		seen[r.Attempt.DeliveryKey] = true
	}
	return true
}

// wanting returns the organizations that subscribe to the notices.
func (s *Store) wanting(ctx context.Context, results []Result) (wanting map[int64]bool, err error) {
	var orgs []int64
	for _, r := range results {
		if org := r.Attempt.OrganizationID; r.Notice != nil && !wanting[org] {
			if wanting == nil {
				wanting = make(map[int64]bool)
			}
			wanting[org] = true
			orgs = append(orgs, org)
		}
	}
	if len(orgs) == 0 {
		return nil, nil
	}
	subs, err := s.Subscribers(ctx, orgs)
	if err != nil {
		return nil, err
	}
	for org := range wanting { // if its subscribers cannot be read, a notice could not be added either
		wanting[org] = subs[org] != nil && subs[org].Wants(trigger.DeliveryExhausted)
	}
	return wanting, nil
}

// finishRare records results one by one, in one transaction. It does not count
// failures that were recorded before.
func (s *Store) finishRare(ctx context.Context, results []Result) error {
	return s.dialect.writeQuietly(ctx, func(q querier) error {
		var counted []Result
		for i := range results {
			r := &results[i]
			moved, err := finishOne(ctx, q, r)
			if err == nil && moved && r.Notice != nil {
				err = s.postNotice(ctx, q, r.Attempt.OrganizationID, r.Notice)
			}
			if err != nil {
				return err
			}
			if moved || !r.Again || r.Attempt.Outcome == trigger.Success {
				counted = append(counted, *r)
			}
		}
		return markHealth(ctx, q, counted)
	})
}

// markHealth updates the health of the webhooks of results.
func markHealth(ctx context.Context, q querier, results []Result) error {
	for _, m := range healthMarks(results) {
		if m.fine {
			for _, text := range []string{sqlHealthFine, sqlHealthBack} {
				if _, err := q.ExecContext(ctx, text, m.webhookID, micros(m.fineAt)); err != nil {
					return err
				}
			}
		}
		if m.failures == 0 {
			continue
		}
		if _, err := q.ExecContext(ctx, sqlHealthNote, m.webhookID, m.organizationID, m.since, m.last, m.failures); err != nil {
			return err
		}
	}
	return nil
}
