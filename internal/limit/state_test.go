package limit

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

// What State says is left is what Allow lets through, and no more; and some of
// it comes back when State says so, not before.
func TestState(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var l Limiter[int]
		now := time.Unix(1_700_000_000, 0)
		limit := rapid.IntRange(1, 20).Draw(t, "limit")
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(0, 25_000).Draw(t, "ms")) * time.Millisecond)
			left, reset := l.State(1, limit, now)
			if left < 0 || left > limit || reset < time.Second || reset > 61*time.Second || reset%time.Second != 0 || left == limit && reset != time.Minute {
				t.Fatalf("%d of %d left, more in %v", left, limit, reset)
			}
			if blocked, _ := l.Blocked(1, limit, now); blocked != (left == 0) {
				t.Fatalf("%d left, blocked: %v", left, blocked)
			}
			if ok, _ := l.Allow(1, limit, left+1, now); ok {
				t.Fatalf("%d were let through, of %d left", left+1, left)
			}
			if left < limit {
				before, _ := l.State(1, limit, now.Add(reset-time.Second-time.Millisecond))
				if after, _ := l.State(1, limit, now.Add(reset)); after <= left || before != left && reset > time.Second {
					t.Fatalf("%d left, %d before %v, and %d then", left, before, reset, after)
				}
				now = now.Add(reset)
				left, _ = l.State(1, limit, now)
			}
			if n := rapid.IntRange(0, left).Draw(t, "n"); n > 0 {
				if ok, _ := l.Allow(1, limit, n, now); !ok {
					t.Fatalf("%d were refused, of %d left", n, left)
				}
				if now, _ := l.State(1, limit, now); now != left-n {
					t.Fatalf("%d left after %d of %d", now, n, left)
				}
			}
		}
		if left, reset := l.State(2, limit, now); left != limit || reset != time.Minute {
			t.Fatalf("of another: %d, %v", left, reset)
		}
	})
}
