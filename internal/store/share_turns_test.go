package store

import (
	"context"
	"errors"
	"testing"
	"time"
)

// One organization gets half of what may be used at a time, and what belongs to
// none waits for nobody.
func TestShares(t *testing.T) {
	t.Parallel()
	for most, each := range map[int]int{1: 1, 2: 1, 3: 1, 4: 2, 7: 3, 12: 6} {
		s := newShares(most, time.Now)
		var leave []func()
		enter := func(organization int64) (got int) {
			ctx, cancel := context.WithTimeout(WithOrganization(t.Context(), organization), 20*time.Millisecond)
			defer cancel()
			for {
				l, err := s.enter(ctx)
				if err != nil {
					if !errors.Is(err, context.DeadlineExceeded) {
						t.Fatal(err)
					}
					return got
				}
				got, leave = got+1, append(leave, l)
			}
		}
		if got := enter(1); got != each {
			t.Errorf("of %d an organization gets %d, want %d", most, got, each)
		}
		if got := enter(2); got == 0 && most > 1 {
			t.Errorf("of %d nothing is left for another organization", most)
		}
		enter(3)
		own, err := s.enter(t.Context())
		if err != nil {
			t.Errorf("what belongs to no organization: %v", err)
		}
		own()
		for _, l := range leave {
			l()
		}
		if !s.turns.IsIdle() || enter(4) == 0 {
			t.Errorf("of %d something is lost", most)
		}
	}
}
