package limit

import (
	"math"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// at is a time of the tests' clock, which starts in the middle of a second.
func at(since time.Duration) time.Time {
	return time.Date(2025, 11, 11, 17, 25, 41, 500_000_000, time.UTC).Add(since)
}

const (
	second = time.Second
	ms     = time.Millisecond
)

type call struct {
	at         time.Duration
	limit, n   int
	ok         bool
	retryAfter time.Duration
}

func TestAllow(t *testing.T) {
	t.Parallel()
	checkCalls(t, map[string][]call{
		"fills, then waits for the step to leave": {
			{0, 2, 1, true, 0},
			{100 * ms, 2, 1, true, 0},
			{200 * ms, 2, 1, false, 61 * second},
			{59 * second, 2, 1, false, 2 * second},
			{60*second + 999*ms, 2, 2, false, second},
			{61 * second, 2, 2, true, 0},
		},
		"a refused one costs nothing": {
			{0, 3, 2, true, 0},
			{1 * second, 3, 2, false, 60 * second},
			{2 * second, 3, 2, false, 59 * second},
			{3 * second, 3, 1, true, 0},
		},
		"waits for as much as is needed": {
			{0, 10, 3, true, 0},
			{10*second + 300*ms, 10, 3, true, 0},
			{20 * second, 10, 4, true, 0},
			{30 * second, 10, 3, false, 31 * second},
			{30*second + 1, 10, 4, false, 41 * second},
			{30 * second, 10, 7, false, 51 * second},
		},
		"more than the limit never fits": {
			{0, 5, 6, false, 60 * second},
			{0, 5, math.MaxInt, false, 60 * second},
			{0, 5, 5, true, 0},
			{1 * second, 5, 6, false, 60 * second},
		},
		"no limit counts nothing": {
			{0, 0, 1000, true, 0},
			{0, -1, 1000, true, 0},
			{0, 1, 1, true, 0},
			{0, 1, 0, true, 0},
			{0, 1, -5, true, 0},
			{0, 1, 1, false, 61 * second},
			{0, 0, 1, true, 0},
		},
		"a limit can change": {
			{0, 10, 10, true, 0},
			{1 * second, 12, 2, true, 0},
			{1 * second, 5, 1, false, 60 * second},
			{1 * second, 1, 1, false, 61 * second},
			{61 * second, 3, 1, true, 0},
		},
		"the largest limits": {
			{0, math.MaxInt, math.MaxInt32, true, 0},
			{0, math.MaxInt, 1, false, 61 * second},
			{0, math.MaxInt, math.MaxInt, false, 60 * second},
		},
	})
}

func TestAllowWhenTimeJumps(t *testing.T) {
	t.Parallel()
	checkCalls(t, map[string][]call{
		"time goes backwards": {
			{100 * second, 2, 1, true, 0},
			{99 * second, 2, 1, true, 0},
			{-1000 * time.Hour, 2, 1, false, 61 * second},
			{160 * second, 2, 1, false, 1 * second},
			{161 * second, 2, 2, true, 0},
			{100 * second, 2, 1, false, 61 * second},
		},
		"time leaps": {
			{0, 2, 2, true, 0},
			{200_000 * time.Hour, 2, 2, true, 0},
			{200_000 * time.Hour, 2, 1, false, 61 * second},
		},
	})
}

func checkCalls(t *testing.T, tests map[string][]call) {
	t.Helper()
	for name, calls := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := &Limiter[string]{}
			for i, c := range calls {
				ok, retryAfter := l.Allow("a", c.limit, c.n, at(c.at))
				if ok != c.ok || retryAfter != c.retryAfter {
					t.Errorf("call %d: %v %v, want %v %v", i, ok, retryAfter, c.ok, c.retryAfter)
				}
			}
			if ok, _ := l.Allow("b", 1, 1, at(0)); !ok {
				t.Error("keys are not apart")
			}
		})
	}
}

func TestBlocked(t *testing.T) {
	t.Parallel()
	l := &Limiter[int]{}
	for range 3 {
		if blocked, _ := l.Blocked(1, 2, at(0)); blocked {
			t.Fatal("blocked by looking")
		}
	}
	l.Allow(1, 2, 2, at(0))
	blocked, retryAfter := l.Blocked(1, 2, at(10*second))
	if !blocked || retryAfter != 51*second {
		t.Errorf("full: %v %v", blocked, retryAfter)
	}
	if blocked, _ := l.Blocked(1, 3, at(10*second)); blocked {
		t.Error("blocked with one left")
	}
	if blocked, _ := l.Blocked(1, 0, at(10*second)); blocked {
		t.Error("blocked without a limit")
	}
	if blocked, retryAfter := l.Blocked(1, 2, at(61*second)); blocked || retryAfter != 0 {
		t.Errorf("a minute later: %v %v", blocked, retryAfter)
	}
}

// A key that used up its limit is not forgotten by the coming of others, by
// looking at others, or by refusing them, as long as no more than Keys keys
// were counted since.
func TestForgetsTheLongestUncounted(t *testing.T) {
	t.Parallel()
	l := &Limiter[int]{Keys: 3}
	count := func(key int, when time.Duration, want bool) {
		t.Helper()
		if ok, _ := l.Allow(key, 1, 1, at(when)); ok != want {
			t.Errorf("key %d at %v: %v", key, when, ok)
		}
	}
	count(1, 0, true)
	count(2, 30*second, true)
	count(3, 31*second, true)
	count(1, 59*second, false)
	l.Blocked(1, 1, at(60*second))
	count(4, 62*second, true) // forgets 1, which is free again, though 2 was not asked for since
	count(2, 63*second, false)
	count(3, 63*second, false)
	count(4, 63*second, false)
	if got := l.windows.Len(); got != 3 {
		t.Errorf("%d keys are kept", got)
	}
	count(5, 64*second, true) // a fourth key within the minute: 2 is lost
	count(2, 65*second, true)
}

func TestCountingAgainKeepsAKey(t *testing.T) {
	t.Parallel()
	l := &Limiter[int]{Keys: 2}
	l.Allow(1, 2, 1, at(0))
	l.Allow(2, 2, 1, at(1*second))
	l.Allow(1, 2, 1, at(2*second))
	l.Allow(3, 2, 1, at(3*second)) // forgets 2
	if blocked, _ := l.Blocked(1, 2, at(4*second)); !blocked {
		t.Error("the key that was counted again is forgotten")
	}
	if blocked, _ := l.Blocked(2, 1, at(4*second)); blocked {
		t.Error("the other one is kept")
	}
}

func TestKeysAreBounded(t *testing.T) {
	t.Parallel()
	l := &Limiter[int]{}
	for key := range DefaultKeys + 1000 {
		l.Allow(key, 1, 1, at(0))
		l.Allow(-key, 1, 2, at(0))
		l.Blocked(-key, 1, at(0))
	}
	if got := l.windows.Len(); got != DefaultKeys {
		t.Errorf("%d keys are kept", got)
	}
}

func TestAllowConcurrently(t *testing.T) {
	t.Parallel()
	const limit, keys = 1000, 4
	l := &Limiter[int]{}
	var allowed [keys]atomic.Int64
	var wg sync.WaitGroup
	for worker := range 8 {
		wg.Go(func() {
			for i := range limit {
				key := (worker + i) % keys
				if ok, _ := l.Allow(key, limit, 1, at(time.Duration(i)*ms)); ok {
					allowed[key].Add(1)
				}
				l.Blocked(key, limit, at(0))
			}
		})
	}
	wg.Wait()
	for key := range keys {
		if got := allowed[key].Load(); got != limit {
			t.Errorf("key %d: %d were allowed", key, got)
		}
	}
}

func TestAllowDoesNotAllocate(t *testing.T) {
	l := &Limiter[int64]{}
	l.Allow(1, 1, 1, at(0))
	now := 0 * ms
	allocs := testing.AllocsPerRun(1000, func() {
		now += 10 * ms
		l.Allow(1, 1000, 1, at(now))
		l.Allow(1, 1, 1, at(now))
		l.Blocked(1, 1, at(now))
	})
	if allocs != 0 {
		t.Errorf("%v allocations", allocs)
	}
}

// A longer window has steps that are as much longer.
func TestWindow(t *testing.T) {
	t.Parallel()
	hour := Limiter[string]{Window: time.Hour}
	begin := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for i := range 3 {
		if ok, _ := hour.Allow("a", 3, 1, begin.Add(time.Duration(i)*10*time.Minute)); !ok {
			t.Fatalf("%d of 3 is refused", i+1)
		}
	}
	now := begin.Add(30 * time.Minute)
	if ok, wait := hour.Allow("a", 3, 1, now); ok || wait != 31*time.Minute {
		t.Errorf("the fourth in half an hour: %v, to wait %v", ok, wait)
	}
	if blocked, wait := hour.Blocked("a", 3, now); !blocked || wait != 31*time.Minute {
		t.Errorf("blocked: %v, to wait %v", blocked, wait)
	}
	if left, reset := hour.State("a", 3, now); left != 0 || reset != 31*time.Minute {
		t.Errorf("%d left, one more in %v", left, reset)
	}
	if ok, _ := hour.Allow("a", 3, 1, now.Add(30*time.Minute)); ok {
		t.Error("four in an hour")
	}
	if ok, _ := hour.Allow("a", 3, 1, now.Add(31*time.Minute)); !ok {
		t.Error("the first is not forgotten after 61 minutes")
	}
}
