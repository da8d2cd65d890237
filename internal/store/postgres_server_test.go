package store

import (
	"log/slog"
	"sync/atomic"
	"testing"
)

// A change of the server drops caches and connections; an old primary is
// refused, however often it is met.
func TestServerChanges(t *testing.T) {
	t.Parallel()
	const a, b = "7000", "7001"
	for name, steps := range map[string][]struct {
		id      serverID
		dropped bool // caches and connections
		refused bool
	}{
		"the same": {{serverID{a, 1, 10, "monday"}, false, false}, {serverID{a, 1, 10, "monday"}, false, false}, {serverID{a, 1, 20, "monday"}, false, false}},
		"a failover and the old primary": {
			{serverID{a, 1, 100, "monday"}, false, false},
			{serverID{a, 2, 90, "monday"}, true, false},
			{serverID{a, 1, 200, "monday"}, false, true},
			{serverID{a, 1, 300, "monday"}, false, true},
			{serverID{a, 2, 95, "monday"}, false, false},
			{serverID{a, 3, 96, "monday"}, true, false},
		},
		"a restore":                     {{serverID{a, 5, 100, "monday"}, false, false}, {serverID{b, 1, 10, "monday"}, true, false}, {serverID{b, 1, 11, "monday"}, false, false}},
		"a restored older copy":         {{serverID{a, 1, 100, "monday"}, false, false}, {serverID{a, 1, 50, "tuesday"}, true, false}, {serverID{a, 1, 50, "tuesday"}, false, false}},
		"a restored copy that is ahead": {{serverID{a, 1, 100, "monday"}, false, false}, {serverID{a, 1, 200, "tuesday"}, true, false}},
		"two connections at once":       {{serverID{a, 1, 100, "monday"}, false, false}, {serverID{a, 1, 90, "monday"}, false, false}},
		"a server in recovery":          {{serverID{a, 1, 100, "monday"}, false, false}, {serverID{a, 0, 0, "monday"}, false, true}, {serverID{a, 1, 100, "monday"}, false, false}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var epoch atomic.Int64
			resets := 0
			w := serverWatch{epoch: &epoch, log: slog.New(slog.DiscardHandler), reset: func() { resets++ }}
			for i, step := range steps {
				before, reset := epoch.Load(), resets
				err := w.observe(step.id)
				if (err != nil) != step.refused {
					t.Errorf("step %d: %v, want refused %v", i, err, step.refused)
				}
				if dropped := epoch.Load() != before; dropped != step.dropped || (resets != reset) != step.dropped {
					t.Errorf("step %d: caches dropped %v, connections %v; want %v", i, dropped, resets != reset, step.dropped)
				}
			}
		})
	}
}

// What was read before the server changed is not remembered, though it was
// added afterwards.
func TestCacheForgets(t *testing.T) {
	t.Parallel()
	s := &Store{}
	c := NewCache[string, int](s, 2)
	before := c.View()
	before.Add("a", 1)
	if v, ok := c.View().Get("a"); !ok || v != 1 {
		t.Fatal("not remembered")
	}
	s.epoch.Add(1)
	before.Add("b", 2)
	for _, key := range []string{"a", "b"} {
		if _, ok := c.View().Get(key); ok {
			t.Errorf("%s is remembered of another server", key)
		}
	}
	c.View().Add("c", 3)
	if _, ok := c.View().Get("c"); !ok {
		t.Error("nothing is remembered after a change")
	}
}
