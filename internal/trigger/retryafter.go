package trigger

import (
	"strconv"
	"strings"
	"time"
)

// ParseRetryAfter reads a Retry-After header (RFC 9110, section 10.2.3), which
// is seconds or a date, and returns the time to wait from now, from 0 to
// MaxRetryAfter. It also reads forms that servers send in practice: a fraction
// of seconds, rounded up ("1.5" is 2 s), a list, whose longest time counts
// ("5, 10"), a unit ("30s"), and dates in UTC or with an offset. It returns 0
// for other texts.
func ParseRetryAfter(header string, now time.Time) time.Duration {
	header = strings.Trim(header, " \t\"")
	if header == "" {
		return 0
	}
	if wait, ok := parseDate(header, now); ok {
		return wait
	}
	longest := time.Duration(0)
	for field := range strings.SplitSeq(header, ",") {
		longest = max(longest, parseSeconds(strings.TrimSpace(field)))
	}
	return longest
}

// parseSeconds reads a number of seconds, rounded up.
func parseSeconds(field string) time.Duration {
	field = strings.TrimSpace(strings.TrimSuffix(field, "s"))
	whole, fraction, _ := strings.Cut(field, ".")
	if whole+fraction == "" || strings.Trim(whole+fraction, "0123456789") != "" {
		return 0
	}
	seconds, _ := strconv.ParseUint("0"+whole, 10, 64) // the largest uint64 on overflow
	if strings.Trim(fraction, "0") != "" && seconds < uint64(MaxRetryAfter/time.Second) {
		seconds++
	}
	return time.Duration(min(seconds, uint64(MaxRetryAfter/time.Second))) * time.Second
}

// namedZone is the form of a date with another zone than GMT.
const namedZone = "Mon, 2 Jan 2006 15:04:05 MST"

// parseDate reads a date in the forms of RFC 9110, section 5.6.7, or in another
// common form.
func parseDate(header string, now time.Time) (wait time.Duration, ok bool) {
	header = strings.ToUpper(header) // time.Parse ignores the case of days and months
	for _, layout := range []string{
		"Mon, 02 Jan 2006 15:04:05 GMT", time.RFC850, time.ANSIC,
		namedZone, time.RFC1123Z, time.RFC3339,
	} {
		at, err := time.Parse(layout, header)
		if err != nil {
			continue
		}
		if name, _ := at.Zone(); layout == namedZone && name != "GMT" && name != "UTC" {
			continue // the offset of other names is unknown
		}
		return min(max(at.Sub(now), 0), MaxRetryAfter), true
	}
	return 0, false
}
