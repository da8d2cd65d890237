package store_test

import (
	"sync"
	"testing"
	"time"

	"triggerd/internal/store"
	"triggerd/internal/store/storetest"
)

func TestNodesAreCounted(t *testing.T) {
	t.Parallel()
	storetest.OnPostgres(t, func(t *testing.T, db *storetest.DB) {
		first := db.Open(t)
		if first.Nodes() != 1 {
			t.Errorf("%d nodes, want 1", first.Nodes())
		}
		second := db.Open(t)
		if err := first.TouchNode(t.Context()); err != nil {
			t.Fatal(err)
		}
		if first.Nodes() != 2 || second.Nodes() != 2 {
			t.Errorf("%d and %d nodes, want 2 and 2", first.Nodes(), second.Nodes())
		}
		if err := second.Leave(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := first.TouchNode(t.Context()); err != nil || first.Nodes() != 1 {
			t.Errorf("%d nodes after the second left, %v; want 1", first.Nodes(), err)
		}
	})
}

// Blocks of permits are taken by two nodes at once; a window later all of the
// limit is free again, and a refusal says when.
func TestPermits(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		nodes := []*store.Store{db.Open(t)}
		if db.IsPostgres() {
			nodes = append(nodes, db.Open(t))
		}
		const limit, block = 1000, 20
		take := func(s *store.Store) (bool, time.Duration) {
			ok, wait, err := s.TakePermits(t.Context(), 7, limit, block)
			if err != nil {
				t.Error(err)
			}
			return ok, wait
		}
		var mu sync.Mutex
		var wg sync.WaitGroup
		taken := 0
		for range 8 {
			for _, s := range nodes {
				wg.Go(func() {
					for range 20 {
						if ok, _ := take(s); ok {
							mu.Lock()
							taken += block
							mu.Unlock()
						}
					}
				})
			}
		}
		wg.Wait()
		if taken != limit {
			t.Errorf("%d permits of %d were taken", taken, limit)
		}
		ok, wait := take(nodes[0])
		if ok || wait < time.Second || wait > 61*time.Second {
			t.Errorf("taken %v, come back in %v; want a refusal of up to 61s", ok, wait)
		}
		db.Clock.Advance(wait)
		for range 2 {
			if err := nodes[0].SyncClock(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if ok, _ := take(nodes[0]); !ok {
			t.Errorf("refused although %v have passed", wait)
		}
		if other, _, err := nodes[0].TakePermits(t.Context(), 8, limit, limit); err != nil || !other {
			t.Errorf("another organization is refused: %v", err)
		}
	})
}
