package limit_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"triggerd/internal/limit"
)

// pool is what nodes share, without a window.
type pool struct {
	mu    sync.Mutex
	taken int
	asked int
	fails bool
}

func (p *pool) take(_ context.Context, _ int64, limit, n int) (bool, time.Duration, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked++
	if p.fails {
		return false, 0, errors.New("down")
	}
	if p.taken+n > limit {
		return false, 7 * time.Second, nil
	}
	p.taken += n
	return true, 0, nil
}

func shared(p *pool, nodes int) *limit.Shared {
	return &limit.Shared{Nodes: func() int { return nodes }, Take: p.take}
}

// allowed counts how many of n events in one moment pass.
func allowed(s *limit.Shared, limit, n int, now time.Time) (passed int) {
	for range n {
		if ok, _ := s.Allow(context.Background(), 1, limit, 1, now); ok {
			passed++
		}
	}
	return passed
}

func TestAloneAsksNobody(t *testing.T) {
	t.Parallel()
	p := &pool{}
	if got := allowed(shared(p, 1), 1000, 1500, time.Unix(1, 0)); got != 1000 || p.asked != 0 {
		t.Errorf("%d passed and the store was asked %d times, want 1000 and 0", got, p.asked)
	}
}

// Nodes that race pass the limit together, and ask the store rarely.
func TestNodesShare(t *testing.T) {
	t.Parallel()
	p := &pool{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	sum := 0
	for range 4 {
		s := shared(p, 4)
		for range 4 {
			wg.Go(func() {
				n := allowed(s, 1000, 400, time.Unix(1, 0))
				mu.Lock()
				sum += n
				mu.Unlock()
			})
		}
	}
	wg.Wait()
	if sum != 1000 || p.asked > 150 {
		t.Errorf("%d passed and the store was asked %d times, want 1000 and some 60", sum, p.asked)
	}
}

func TestRefusalIsRemembered(t *testing.T) {
	t.Parallel()
	p := &pool{taken: 100}
	s := shared(p, 2)
	now := time.Unix(1, 0)
	if ok, wait := s.Allow(t.Context(), 1, 100, 1, now); ok || wait != 7*time.Second {
		t.Errorf("%v after %v, want a refusal for 7s", ok, wait)
	}
	asked := p.asked
	if ok, wait := s.Allow(t.Context(), 1, 100, 1, now); ok || wait < time.Second || p.asked != asked {
		t.Errorf("%v after %v, asked %d times more", ok, wait, p.asked-asked)
	}
	p.taken = 0
	if ok, _ := s.Allow(t.Context(), 1, 100, 1, now.Add(2*time.Second)); !ok {
		t.Error("refused although there is room again")
	}
}

func TestWithoutTheStoreEachCounts(t *testing.T) {
	t.Parallel()
	if got := allowed(shared(&pool{fails: true}, 2), 100, 150, time.Unix(1, 0)); got != 100 {
		t.Errorf("%d passed, want 100", got)
	}
}
