package client

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"time"
)

const (
	minPause = 250 * time.Millisecond
	maxPause = 10 * time.Second
	maxWait  = 2 * time.Minute // what Retry-After may make of a pause
)

// pause is how long to wait after try, which is counted from 0, has failed, and
// the server has asked to wait for a while, or not. It is random, so that many
// clients do not come back at the same time.
func pause(try int, after time.Duration) time.Duration {
	longest := maxPause
	if try < 6 {
		longest = min(minPause<<try, maxPause)
	}
	p := longest/2 + rand.N(longest/2)
	if after > 0 {
		p = max(p, after+rand.N(min(after/10, time.Second)+1))
	}
	return p
}

// afterOf is how long the server asks to wait, by its answer.
func afterOf(err error) time.Duration {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.RetryAfter
	}
	return 0
}

// wait waits, and then gives nil. It gives the error of the last try where it is
// no use to wait, and the context's beside it where that ends first.
func (c *Client) wait(ctx context.Context, d time.Duration, last error) error {
	deadline, ok := ctx.Deadline()
	if d > maxWait || ok && deadline.Sub(c.clock()) < d {
		return last
	}
	if err := sleep(ctx, d); err != nil {
		return fmt.Errorf("%w; %w", err, last)
	}
	return nil
}

// sleep waits, or gives the context's error if that ends first.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// maxRetryAfter bounds what is read of Retry-After, far above any use.
const maxRetryAfter = 365 * 24 * time.Hour

// retryAfter reads Retry-After (RFC 9110, section 10.2.3), seconds or a date, as
// the time to wait from now; 0 for what is neither.
func retryAfter(header string, now time.Time) time.Duration {
	if header != "" && strings.Trim(header, "0123456789") == "" {
		seconds, _ := strconv.ParseUint(header, 10, 64) // the largest that there is, where it is larger
		return time.Duration(min(seconds, uint64(maxRetryAfter/time.Second))) * time.Second
	}
	at, err := http.ParseTime(header)
	if err != nil {
		return 0
	}
	return min(max(at.Sub(now), 0), maxRetryAfter)
}
