package torture

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"time"
)

// request is a request to a node.
type request struct {
	method, path string
	key          string            // of the organization; may be empty
	header       map[string]string // besides the usual fields
	body         []byte
}

// reply is the answer to a request.
type reply struct {
	status       int
	header       http.Header
	body         []byte
	begun, ended time.Time
}

func (a *reply) String() string { return fmt.Sprintf("status %d: %.200s", a.status, a.body) }

// isUndone reports whether the answer says that nothing was done, because of
// the server's state or because the body was too slow.
func (a *reply) isUndone() bool {
	return a.status == http.StatusServiceUnavailable || a.status == http.StatusRequestTimeout
}

// send makes one request. The end of the run does not cancel a request that has
// begun, because its answer counts.
func (c *client) send(ctx context.Context, n *node, q request) (a reply, err error) {
	a.begun = c.Now()
	defer func() { a.ended = c.Now() }()
	req, err := http.NewRequestWithContext(context.WithoutCancel(ctx), q.method, n.url(q.path), bytes.NewReader(q.body))
	if err != nil {
		return a, err
	}
	req.Header.Set("Content-Type", "application/json")
	if q.key != "" {
		req.Header.Set("X-Api-Key", q.key)
	}
	for name, value := range q.header {
		req.Header.Set(name, value)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return a, err
	}
	defer resp.Body.Close()
	a.status, a.header = resp.StatusCode, resp.Header
	a.body, err = io.ReadAll(resp.Body)
	return a, err
}

// excuse records a breach if a request failed outside the window of a fault, or
// if a 503 has no Retry-After.
func (c *client) excuse(what any, a *reply, err error) {
	if !c.windows.cover(a.begun, a.ended) {
		c.report.breach(withoutFault, "%v: %v %v", what, a, err)
	}
	if err == nil && a.status == http.StatusServiceUnavailable && a.header.Get("Retry-After") == "" {
		c.report.breach(wrongAnswer, "a 503 without Retry-After for %v", what)
	}
}

var (
	errNoAnswer = errors.New("no answer")
	errRefused  = errors.New("refused")
)

// ask makes a request that is not a POST of events. The status must be one of
// good. The error is errNoAnswer if the request may be repeated, errRefused if
// not.
func (c *client) ask(ctx context.Context, n *node, q request, good ...int) (reply, error) {
	a, err := c.send(ctx, n, q)
	what := q.method + " " + q.path
	switch {
	case err == nil && slices.Contains(good, a.status):
		return a, nil
	case err == nil && a.status < 500 && !a.isUndone():
		c.report.breach(wrongAnswer, "%s: %v", what, &a)
		return a, errRefused
	case err == nil && a.status == http.StatusInternalServerError:
		c.report.breach(wrongAnswer, "%s: %v", what, &a)
	}
	c.excuse(what, &a, err)
	return a, errors.Join(errNoAnswer, err)
}

// insistOn repeats a request, each time to a random node, until it is answered
// or ctx ends. The reply's begun is the time of the first request.
func (c *client) insistOn(ctx context.Context, random *rand.Rand, q request, good ...int) (reply, error) {
	first := c.Now()
	for {
		a, err := c.ask(ctx, c.nodes[random.IntN(len(c.nodes))], q, good...)
		a.begun = first
		if err == nil || errors.Is(err, errRefused) || pause(ctx, retryPause) != nil {
			return a, err
		}
	}
}

// read parses the body of an answer, which must be JSON for into.
func (c *client) read(a *reply, into any) error {
	err := json.Unmarshal(a.body, into)
	if err != nil {
		c.report.breach(wrongAnswer, "%v: %v", a, err)
	}
	return err
}

// retryPause is the pause between a request without an answer and its repeat.
const retryPause = 200 * time.Millisecond
