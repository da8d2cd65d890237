package trigger

import (
	"strconv"
	"strings"
	"time"
)

// ParseRetryAfter reads a Retry-After header (RFC 9110, section 10.2.3):
// seconds or a date, as the time to wait from now, between 0 and
// MaxRetryAfter. What is neither counts as 0.
func ParseRetryAfter(header string, now time.Time) time.Duration {
	if header == "" {
		return 0
	}
	if strings.Trim(header, "0123456789") == "" {
		seconds, _ := strconv.ParseUint(header, 10, 64) // the largest that there is, where it is larger
		return time.Duration(min(seconds, uint64(MaxRetryAfter/time.Second))) * time.Second
	}
	for _, layout := range []string{"Mon, 02 Jan 2006 15:04:05 GMT", time.RFC850, time.ANSIC} {
		if at, err := time.Parse(layout, header); err == nil {
			return min(max(at.Sub(now), 0), MaxRetryAfter)
		}
	}
	return 0
}
