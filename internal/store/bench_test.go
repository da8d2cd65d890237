package store_test

import (
	"fmt"
	"testing"

	"triggerd/internal/store"
	"triggerd/internal/store/storetest"
	"triggerd/internal/trigger"
)

// BenchmarkAddEvents gives the time of one event in a commit of many.
func BenchmarkAddEvents(b *testing.B) {
	storetest.EachBench(b, func(b *testing.B, db *storetest.DB) {
		s, err := store.Open(b.Context(), db.Options)
		if err != nil {
			b.Fatal(err)
		}
		defer s.Close()
		org, err := s.AddOrganization(b.Context(), trigger.Organization{Name: "O", Tier: trigger.Free}, trigger.APIKey{}, store.Once{})
		if err != nil {
			b.Fatal(err)
		}
		for _, size := range []int{1, 32, 256, 1000} {
			b.Run(fmt.Sprint(size), func(b *testing.B) {
				n := 0
				for b.Loop() {
					batch := &store.Batch{}
					for range size {
						n++
						e := event(s, org, fmt.Sprint(size, "-", b.N, "-", n))
						batch.Events = append(batch.Events, e)
						batch.Deliveries = append(batch.Deliveries, owed(e, trigger.InboxID))
					}
					if _, err := s.AddEvents(b.Context(), batch, false); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n), "ns/event")
			})
		}
	})
}
