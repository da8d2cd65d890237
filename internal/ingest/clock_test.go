package ingest_test

import (
	"testing"
	"time"

	"triggerd/internal/store"
	"triggerd/internal/store/storetest"
	"triggerd/internal/trigger"
)

// The clock goes ahead by a day and back: what is accepted then has an id and
// due times of now. Where it goes back by less than a minute, the ids of a node
// still grow, and due times are those of the clock all the same.
func TestClockGoesBack(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := db.Open(t)
		f := start(t, db, s, 1000)
		var last trigger.ID
		add := func(what string) trigger.ID {
			t.Helper()
			before := s.Now()
			r, err := f.Add(t.Context(), f.event("user.created", ""))
			if err != nil || r.EventID == last {
				t.Fatalf("%s: %+v, %v", what, r, err)
			}
			other, err := f.Add(t.Context(), f.event("order.created", "")) // nobody's but the inbox's
			if err != nil {
				t.Fatal(err)
			}
			after := s.Now()
			ds, err := s.ListDeliveries(t.Context(), f.org, store.DeliveryQuery{Limit: 100})
			if err != nil {
				t.Fatal(err)
			}
			found := 0
			for _, d := range ds {
				from, to := before, after
				switch d.EventID {
				default:
					continue
				case r.EventID:
					from, to = before.Add(32*time.Second), after.Add(32*time.Second)
				case other.EventID:
				}
				if found++; d.DueAt.Before(from) || d.DueAt.After(to) {
					t.Errorf("%s: webhook %d, due %v from now, want %v", what, d.WebhookID, d.DueAt.Sub(before), from.Sub(before))
				}
			}
			if found != 2 {
				t.Errorf("%s: %d deliveries were found", what, found)
			}
			return r.EventID
		}
		isNow := func(what string, id trigger.ID) {
			t.Helper()
			if ahead := id.Time().Sub(s.Now()); ahead > 0 {
				t.Errorf("%s: an id is %v ahead", what, ahead)
			}
		}
		grows := func(what string, before, id trigger.ID) {
			t.Helper()
			if before.String() >= id.String() {
				t.Errorf("%s: the id %s does not come after %s", what, id, before)
			}
		}
		isNow("at first", add("at first"))
		db.Clock.Advance(24 * time.Hour)
		day := add("a day ahead")
		isNow("a day ahead", day)
		db.Clock.Advance(-50 * time.Second)
		grows("50 seconds back", day, add("50 seconds back"))
		db.Clock.Advance(-24 * time.Hour)
		back := add("back")
		isNow("back", back)
		grows("after that", back, add("after that"))
	})
}
