package store_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"triggerd/internal/store"
	"triggerd/internal/store/storetest"
	"triggerd/internal/trigger"
)

// keepDays makes the partitions of n days before today, all in one transaction.
func keepDays(t testing.TB, db *storetest.DB, s *store.Store, n int) {
	t.Helper()
	if !db.IsPostgres() {
		return
	}
	var b strings.Builder
	today := s.Now().UTC().Truncate(24 * time.Hour)
	for age := range n {
		d := today.Add(-time.Duration(age+1) * 24 * time.Hour)
		for _, table := range []string{"events", "attempts"} {
			fmt.Fprintf(&b, "CREATE TABLE IF NOT EXISTS %s_%s PARTITION OF %s FOR VALUES FROM ('%s') TO ('%s');\n",
				table, d.Format("20060102"), table, trigger.MinID(d), trigger.MinID(d.Add(24*time.Hour)))
		}
	}
	if _, err := db.SQL(t).ExecContext(t.Context(), b.String()); err != nil {
		t.Fatal(err)
	}
}

// succeed stores an event that the inbox is owed, and delivers it.
func succeed(t testing.TB, s *store.Store, e *trigger.Event) {
	t.Helper()
	if _, err := s.AddEvents(t.Context(), &store.Batch{Events: []*trigger.Event{e}, Deliveries: [][]trigger.Delivery{owed(e, trigger.InboxID)}}, false); err != nil {
		t.Fatal(err)
	}
	claim := s.NewClaim()
	list, _, err := s.ClaimInbox(t.Context(), e.OrganizationID, store.InboxPage{Limit: 1, Bytes: 1 << 20}, claim, time.Minute)
	if err != nil || len(list) != 1 {
		t.Fatalf("claimed %d, %v", len(list), err)
	}
	if done, err := s.AckInbox(t.Context(), e.OrganizationID, claim, []trigger.ID{e.ID}); err != nil || !done[e.ID] {
		t.Fatalf("acknowledged %v, %v", done, err)
	}
}
