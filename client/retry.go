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
	maxWait  = 2 * time.Minute // longest pause that Retry-After may cause
)

// pause returns the time to wait after the failed try number try, from 0; after
// is the server's Retry-After, or 0. The pause is random, so that many clients
// do not retry at the same time.
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

// afterOf returns the Retry-After of an error, or 0.
func afterOf(err error) time.Duration {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.RetryAfter
	}
	return 0
}

// wait waits for d and returns nil. It returns the error of the last try if
// waiting is useless, joined with the context's error if the context ends
// first.
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

// sleep waits, or returns the context's error if the context ends first.
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

// maxRetryAfter bounds Retry-After, far above any useful value.
const maxRetryAfter = 365 * 24 * time.Hour

// retryAfter parses Retry-After (RFC 9110, section 10.2.3), seconds or a date,
// and returns the time to wait from now; 0 if it is neither.
func retryAfter(header string, now time.Time) time.Duration {
	if header != "" && strings.Trim(header, "0123456789") == "" {
		seconds, _ := strconv.ParseUint(header, 10, 64) // the maximum, if it is larger
		return time.Duration(min(seconds, uint64(maxRetryAfter/time.Second))) * time.Second
	}
	at, err := http.ParseTime(header)
	if err != nil {
		return 0
	}
	return min(max(at.Sub(now), 0), maxRetryAfter)
}
