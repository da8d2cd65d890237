package store_test

import (
	"testing"

	"triggerd/internal/store"
	"triggerd/internal/store/storetest"
	"triggerd/internal/trigger"
)

// What was decided by webhooks that have changed since is not stored, but for
// what had been committed before they changed; of other organizations all is.
func TestBatchIsStoredIfCurrent(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := db.Open(t)
		quiet, busy := storetest.NewOrganization(t, s), storetest.NewOrganization(t, s)
		version := func(orgID int64) int64 {
			subs, err := s.RememberedSubscribers(t.Context(), []int64{orgID})
			if err != nil || subs[orgID] == nil {
				t.Fatalf("no subscribers: %v", err)
			}
			return subs[orgID].Version
		}
		decide := func(dedupIDs ...string) *store.Batch {
			b := &store.Batch{IfCurrent: true}
			for _, org := range []int64{quiet, busy} {
				for _, id := range dedupIDs {
					e := event(s, org, id)
					e.Version = version(org)
					b.Events, b.Deliveries = append(b.Events, e), append(b.Deliveries, owed(e, trigger.InboxID))
				}
			}
			return b
		}
		// stored checks which events of a batch of two organizations have their
		// own id for a verdict, and which have none.
		stored := func(what string, b *store.Batch, again bool, want ...bool) {
			t.Helper()
			verdicts, err := s.AddEvents(t.Context(), b, again)
			if err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			for i, e := range b.Events {
				if verdicts[i] != e.ID && !verdicts[i].IsZero() || (verdicts[i] == e.ID) != want[i] {
					t.Errorf("%s: verdict %d is %v of %v, want stored %v", what, i, verdicts[i], e.ID, want[i])
				}
				_, _, err := s.Event(t.Context(), e.OrganizationID, e.ID)
				if (err == nil) != want[i] {
					t.Errorf("%s: event %d: %v, want stored %v", what, i, err, want[i])
				}
			}
		}
		before, after := decide("a", ""), decide("b", "")
		stored("nothing has changed", before, false, true, true, true, true)
		newWebhook(t, s, busy, "*")
		if version(busy) != 0 {
			t.Fatal("what was remembered was read again: the test tests nothing")
		}
		stored("one has changed", after, false, true, true, false, false)
		if version(busy) == 0 {
			t.Error("what is no longer so is still remembered")
		}
		stored("again, not committed before", after, true, true, true, false, false)
		stored("again, committed before it changed", before, true, true, true, true, true)
		stored("decided anew", decide("c", ""), false, true, true, true, true)
		stored("decided anew, and again", decide("d", ""), true, true, true, true, true)
		later := decide("e", "")
		later.IfCurrent = false
		newWebhook(t, s, busy, "*")
		stored("whether it is current or not", later, false, true, true, true, true)

		// A duplicate is one whatever has changed.
		e := event(s, busy, "a")
		e.Version = version(busy) - 1
		verdicts, err := s.AddEvents(t.Context(), &store.Batch{
			Events: []*trigger.Event{e}, Deliveries: [][]trigger.Delivery{owed(e, trigger.InboxID)}, IfCurrent: true,
		}, false)
		if err != nil || verdicts[0] != before.Events[2].ID && !verdicts[0].IsZero() {
			t.Errorf("a duplicate: %v, %v", verdicts, err)
		}
		if found, err := s.Check(t.Context(), false); err != nil || found.Silent+found.Orphans+found.Doubles > 0 {
			t.Errorf("%+v, %v", found, err)
		}
	})
}

// A deleted organization gets nothing more.
func TestBatchOfDeletedOrganization(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := db.Open(t)
		org := storetest.NewOrganization(t, s)
		if _, err := s.RememberedSubscribers(t.Context(), []int64{org}); err != nil {
			t.Fatal(err)
		}
		if err := s.DeleteOrganization(t.Context(), org); err != nil {
			t.Fatal(err)
		}
		for _, again := range []bool{false, true} {
			e := event(s, org, "")
			verdicts, err := s.AddEvents(t.Context(), &store.Batch{
				Events: []*trigger.Event{e}, Deliveries: [][]trigger.Delivery{owed(e, trigger.InboxID)}, IfCurrent: true,
			}, again)
			if err != nil || !verdicts[0].IsZero() {
				t.Errorf("again %v: %v, %v", again, verdicts, err)
			}
		}
		if subs, err := s.RememberedSubscribers(t.Context(), []int64{org}); err != nil || len(subs) != 0 {
			t.Errorf("%v, %v", subs, err)
		}
	})
}
