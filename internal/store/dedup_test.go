package store_test

import (
	"testing"
	"time"

	"triggerd/internal/store/storetest"
	"triggerd/internal/trigger"
)

// A dedup id outlives its event, whichever way that goes: it goes with its
// organization, or by a retention of its own.
func TestDedupIDOutlivesItsEvent(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := db.Open(t)
		org := storetest.NewOrganization(t, s)
		e := event(s, org, "d")
		again := func(when string, want bool) {
			t.Helper()
			if got := add(t, s, []*trigger.Event{event(s, org, "d")}, trigger.InboxID)[0]; got == e.ID != want {
				t.Errorf("%s: the dedup id is known: %v, want %v", when, got == e.ID, want)
			}
		}
		add(t, s, []*trigger.Event{e}, trigger.InboxID)
		if err := s.DeleteEvent(t.Context(), org, e.ID); err != nil {
			t.Fatal(err)
		}
		again("its event was deleted", true)
		db.Clock.Advance(72 * time.Hour)
		if err := s.MakeDays(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := s.DropBefore(t.Context(), s.Now().Add(-time.Hour)); err != nil {
			t.Fatal(err)
		}
		again("events of its day were swept", true)
		if err := s.DropDedup(t.Context(), s.Now().Add(-time.Hour)); err != nil {
			t.Fatal(err)
		}
		again("its own retention is over", false)
		if err := s.DeleteOrganization(t.Context(), org); err != nil {
			t.Fatal(err)
		}
		db.Clock.Advance(2 * time.Minute)
		if err := s.Erase(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n := tablesOf(t, db, org)["dedup by organization_id"]; n != 0 {
			t.Errorf("%d are left of an organization that was erased", n)
		}
	})
}
