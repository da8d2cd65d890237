package limit

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

// exact is a log of everything that was allowed.
type exact []struct {
	at time.Duration
	n  int
}

// within sums what came less than, or exactly, the given time before now.
func (e exact) within(span, now time.Duration) (sum int) {
	for _, entry := range e {
		if now-entry.at <= span {
			sum += entry.n
		}
	}
	return sum
}

// Whatever comes, an exact log shows no more than the limit in any 60 s; what
// is refused would have been too much within 61 s; and what is told to come
// back passes then, and not a whole second earlier.
func TestAllowAgainstAnExactLog(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		l := &Limiter[int]{Keys: 3}
		limit := rapid.IntRange(1, 20).Draw(t, "limit")
		logs := make([]exact, 3)
		pause := rapid.OneOf(
			rapid.Just(time.Duration(0)),
			rapid.Map(rapid.Int64Range(0, int64(3*second)), func(ns int64) time.Duration { return time.Duration(ns) }),
			rapid.Map(rapid.IntRange(0, 70), func(s int) time.Duration { return time.Duration(s) * second }),
			rapid.Map(rapid.Int64Range(int64(58*second), int64(62*second)), func(ns int64) time.Duration { return time.Duration(ns) }),
		)
		now := time.Duration(rapid.Int64Range(0, int64(second)).Draw(t, "start"))
		for range rapid.IntRange(1, 60).Draw(t, "calls") {
			now += pause.Draw(t, "pause")
			key := rapid.IntRange(0, 2).Draw(t, "key")
			n := rapid.IntRange(1, 1+limit/2).Draw(t, "n")
			before := logs[key]
			ok, retryAfter := l.Allow(key, limit, n, at(now))
			if ok {
				logs[key] = append(before, struct {
					at time.Duration
					n  int
				}{now, n})
			}
			switch {
			case ok && logs[key].within(60*second, now) > limit:
				t.Fatalf("too much in 60 s: %v", logs[key])
			case !ok && before.within(61*second, now)+n <= limit:
				t.Fatalf("refused at %v: %v", now, before)
			case !ok:
				checkRetry(t, l, key, limit, n, now, retryAfter)
			}
		}
	})
}

// checkRetry asks copies of the key's window what they would say later.
func checkRetry(t *rapid.T, l *Limiter[int], key, limit, n int, now, retryAfter time.Duration) {
	if retryAfter < second || retryAfter > 61*second || retryAfter%second != 0 {
		t.Fatalf("retry after %v", retryAfter)
	}
	kept, _ := l.windows.Peek(key)
	then, early := *kept, *kept
	since := l.since(at(now)) + retryAfter
	if again := then.wait(limit, n, since); again != 0 {
		t.Fatalf("came back after %v, and is to wait for %v", retryAfter, again)
	}
	if retryAfter > second && early.wait(limit, n, since-second) == 0 {
		t.Fatalf("%v is too late", retryAfter)
	}
}

// Clocks that run wild neither panic nor free what was used: behind the latest
// time nothing is allowed beyond the limit.
func TestAllowWithAWildClock(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		l := &Limiter[int]{}
		const limit = 5
		latest := 100 * time.Hour
		l.Allow(1, limit, 1, at(0))
		used := 0
		for range limit {
			if ok, _ := l.Allow(1, limit, 1, at(latest)); ok {
				used++
			}
			latest -= time.Duration(rapid.Int64Range(0, int64(90*second)).Draw(t, "back"))
		}
		if used != limit {
			t.Fatalf("%d of %d passed", used, limit)
		}
		for range 10 {
			now := time.Duration(rapid.Int64Range(-int64(1000*time.Hour), int64(100*time.Hour)).Draw(t, "now"))
			if ok, retryAfter := l.Allow(1, limit, 1, at(now)); ok || retryAfter < second {
				t.Fatalf("at %v: %v %v", now, ok, retryAfter)
			}
		}
	})
}
