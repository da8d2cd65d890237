package store_test

import (
	"fmt"
	"testing"
	"time"

	"triggerd/internal/store"
	"triggerd/internal/store/storetest"
	"triggerd/internal/trigger"
)

// BenchmarkRetention measures the lists by how many days of events are kept:
// for a busy organization with an event on each day, and for a quiet one with
// an event on the first day alone.
func BenchmarkRetention(b *testing.B) {
	for _, days := range []int{30, 400, 1000} {
		b.Run(fmt.Sprint(days), func(b *testing.B) {
			storetest.EachBench(b, func(b *testing.B, db *storetest.DB) {
				s, err := store.Open(b.Context(), db.Options)
				if err != nil {
					b.Fatal(err)
				}
				defer s.Close()
				keepDays(b, db, s, days)
				quiet, busy := storetest.NewOrganization(b, s), storetest.NewOrganization(b, s)
				first := eventAt(s.Now().Add(time.Duration(-days)*24*time.Hour), quiet, "")
				succeed(b, s, first)
				for age := range days {
					succeed(b, s, eventAt(s.Now().Add(time.Duration(-age)*24*time.Hour), busy, ""))
				}
				benchRetention(b, s, quiet, busy, first.ID)
			})
		})
	}
}

func benchRetention(b *testing.B, s *store.Store, quiet, busy int64, first trigger.ID) {
	const limit = 50
	for _, read := range []struct {
		name string
		do   func() error
	}{
		{"newest/busy", func() error {
			_, _, err := s.FindEvents(b.Context(), busy, store.EventQuery{Limit: limit})
			return err
		}},
		{"newest/quiet", func() error {
			_, _, err := s.FindEvents(b.Context(), quiet, store.EventQuery{Limit: limit})
			return err
		}},
		{"oldest/busy", func() error {
			_, _, err := s.FindEvents(b.Context(), busy, store.EventQuery{Limit: limit, Oldest: true})
			return err
		}},
		{"webhook/busy", func() error {
			_, _, err := s.FindEvents(b.Context(), busy, store.EventQuery{Limit: limit, OfWebhook: true})
			return err
		}},
		{"original/quiet", func() error {
			_, err := s.ListEvents(b.Context(), quiet, "", limit)
			return err
		}},
		{"attempts/busy", func() error {
			_, _, err := s.ListAttempts(b.Context(), busy, store.AttemptFilter{}, trigger.ID{}, limit)
			return err
		}},
		{"attempts/quiet", func() error {
			_, _, err := s.ListAttempts(b.Context(), quiet, store.AttemptFilter{}, trigger.ID{}, limit)
			return err
		}},
		{"event", func() error {
			_, _, err := s.Event(b.Context(), quiet, first)
			return err
		}},
		{"why", func() error {
			_, err := s.Why(b.Context(), quiet, first)
			return err
		}},
	} {
		b.Run(read.name, func(b *testing.B) {
			for b.Loop() {
				if err := read.do(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
