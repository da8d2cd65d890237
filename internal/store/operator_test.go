package store_test

import (
	"testing"

	"triggerd/internal/store/storetest"
	"triggerd/internal/trigger"
)

// The operator's token is one for all nodes, and another takes its place.
func TestOperatorToken(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := db.Open(t)
		if hash, err := s.OperatorToken(t.Context()); trigger.KindOf(err) != trigger.NotFound || hash != [32]byte{} {
			t.Errorf("before there is one: %x, %v", hash, err)
		}
		for _, want := range [][32]byte{{1, 2, 3}, {31: 9}} {
			if err := s.SetOperatorToken(t.Context(), want); err != nil {
				t.Fatal(err)
			}
			if got, err := s.OperatorToken(t.Context()); err != nil || got != want {
				t.Errorf("stored %x, read %x: %v", want, got, err)
			}
		}
	})
}
