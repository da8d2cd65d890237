package trigger_test

import (
	"math/big"
	"net/http"
	"regexp"
	"testing"
	"time"

	"triggerd/internal/trigger"
)

func TestParseRetryAfter(t *testing.T) {
	t.Parallel()
	now := time.Date(2025, 11, 11, 17, 25, 41, 500_000_000, time.UTC)
	for header, want := range map[string]time.Duration{
		"": 0, "0": 0, "-0": 0, "1": time.Second, "007": 7 * time.Second, "120": 2 * time.Minute, "+5": 0,
		"3600": time.Hour, "3601": time.Hour, "1000000000": time.Hour, "9223372036854775807": time.Hour,
		"9223372036854775808": time.Hour, "99999999999999999999999": time.Hour, "-1": 0, "-9223372036854775809": 0, "99999999999999999999999s": time.Hour,
		"1.5": 2 * time.Second, "0.2": time.Second, "5.000": 5 * time.Second, ".": 0, "1.2.3": 0, "3600.5": time.Hour,
		"1e3": 0, "0x10": 0, "1_000": 0, " 1": time.Second, "1 ": time.Second, "\"3\"": 3 * time.Second, "soon": 0, "\x00": 0, "٣": 0,
		"1, 2": 2 * time.Second, "10,5": 10 * time.Second, "7, soon": 7 * time.Second, "60s": time.Minute, "-5, 3": 3 * time.Second,
		"Tue, 11 Nov 2025 17:26:41 GMT":    59*time.Second + 500*time.Millisecond,
		"Tuesday, 11-Nov-25 17:26:41 GMT":  59*time.Second + 500*time.Millisecond,
		"Tue Nov 11 17:26:41 2025":         59*time.Second + 500*time.Millisecond,
		"Tue, 11 Nov 2025 17:25:41 GMT":    0, // half a second ago
		"Tue, 11 Nov 1925 17:25:41 GMT":    0,
		"Tue, 11 Nov 2025 19:25:41 GMT":    time.Hour,
		"Fri, 31 Dec 9999 23:59:59 GMT":    time.Hour,
		"Tue, 11 Nov 2025 17:26:41":        0,
		"tue, 11 nov 2025 17:26:41 gmt":    59*time.Second + 500*time.Millisecond,
		"2025-11-11t17:26:41z":             59*time.Second + 500*time.Millisecond,
		"Tue, 11 Nov 2025 17:26:41 UTC":    59*time.Second + 500*time.Millisecond,
		"Tue, 11 Nov 2025 18:26:41 +0100":  59*time.Second + 500*time.Millisecond,
		"Tue, 11 Nov 2025 17:26:41 PST":    0,
		"2025-11-11T17:26:41Z":             59*time.Second + 500*time.Millisecond,
		"2025-11-11T19:26:41+02:00":        59*time.Second + 500*time.Millisecond,
		"Tue, 31 Feb 2026 17:26:41 GMT":    0,
		"Tue, 11 Nov 2025 25:26:41 GMT":    0,
		"Tue, 11 Nov 2025 17:26:41 GMT, 1": time.Second,
	} {
		if got := trigger.ParseRetryAfter(header, now); got != want {
			t.Errorf("ParseRetryAfter(%q) = %v, want %v", header, got, want)
		}
	}
}

// FuzzParseRetryAfter judges what receivers send by other means: big numbers,
// and net/http's reading of dates. Whatever they send, the wait that follows is
// between our own pause and the longest that they may ask for.
func FuzzParseRetryAfter(f *testing.F) {
	f.Add("120", int64(1_762_881_941), int64(60))
	f.Add("Tue, 11 Nov 2025 17:26:41 GMT", int64(1_762_881_941), int64(-60))
	number := regexp.MustCompile(`^[0-9]+$`)
	f.Fuzz(func(t *testing.T, header string, unix, ahead int64) {
		now := time.Unix(unix%(1<<33), 0).UTC() // from 1697 to 2242
		got := trigger.ParseRetryAfter(header, now)
		want := got // of the forms that are ours alone, within the bounds
		if seconds, ok := new(big.Int).SetString(header, 10); number.MatchString(header) && ok {
			most := big.NewInt(int64(trigger.MaxRetryAfter / time.Second))
			if seconds.Cmp(most) > 0 {
				seconds = most
			}
			want = time.Duration(seconds.Int64()) * time.Second
		} else if at, err := http.ParseTime(header); err == nil {
			want = min(max(0, at.Sub(now)), trigger.MaxRetryAfter)
		}
		if got != want {
			t.Errorf("ParseRetryAfter(%q) at %v = %v, want %v", header, now, got, want)
		}

		const pause = time.Minute
		next := trigger.Delivery{}.After(trigger.Attempt{Outcome: trigger.Transient, RetryAfter: got}, trigger.Schedule{pause}, now, 0)
		if wait := next.DueAt.Sub(now); next.State != trigger.DeliveryOpen || wait < pause || wait > trigger.MaxRetryAfter {
			t.Errorf("Retry-After %q makes the next attempt wait %v: %+v", header, wait, next)
		}

		ahead %= 1 << 33
		if at := now.Add(time.Duration(ahead) * time.Second); at.Year() >= 1970 && at.Year() < 2069 {
			want := time.Duration(min(max(0, ahead), 3600)) * time.Second
			for _, layout := range []string{http.TimeFormat, time.RFC850, time.ANSIC} {
				if got := trigger.ParseRetryAfter(at.Format(layout), now); got != want {
					t.Errorf("ParseRetryAfter(%q) at %v = %v, want %v", at.Format(layout), now, got, want)
				}
			}
		}
	})
}
