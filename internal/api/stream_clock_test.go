package api

import (
	"slices"
	"testing"
	"time"

	"triggerd/client"
	"triggerd/internal/store/storetest"
)

// After the database's clock went back, a stream that was open before sees what
// comes, and so does one that comes back with an id from ahead of the clock: it
// sees all that is open, some of it again.
func TestStreamAfterStepBack(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := newServer(t, db, ticking)
		key := s.newKey(t, "free")
		first := s.postTo(t, key, client.EventInput{})
		db.Clock.Advance(24 * time.Hour)
		ahead := s.postTo(t, key, client.EventInput{})
		lines, _, leave := s.follow(t, key, "")
		for _, want := range []string{first, ahead} {
			if got := nextID(t, lines); got != want {
				t.Errorf("ahead: %s, want %s", got, want)
			}
		}
		db.Clock.Advance(-24 * time.Hour)
		later := s.postTo(t, key, client.EventInput{})
		if got := nextID(t, lines); got != later {
			t.Errorf("in an open stream: %s, want %s", got, later)
		}
		leave()
		db.Clock.Advance(2 * time.Minute) // while it is away
		lines, _, leave = s.follow(t, key, "", "Last-Event-ID: "+ahead)
		defer leave()
		var got []string
		for range 2 {
			got = append(got, nextID(t, lines))
		}
		if !slices.Contains(got, first) || !slices.Contains(got, later) {
			t.Errorf("in a stream that came back: %s, want %s and %s", got, first, later)
		}
	})
}
