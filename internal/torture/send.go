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

// request is one to a node.
type request struct {
	method, path string
	key          string            // of the organization; "": none
	header       map[string]string // beside the usual ones
	body         []byte
}

// reply is what came of it.
type reply struct {
	status       int
	header       http.Header
	body         []byte
	begun, ended time.Time
}

func (a *reply) String() string { return fmt.Sprintf("status %d: %.200s", a.status, a.body) }

// isUndone reports an answer which says that nothing was done, because of the
// server's state or because it was too slow to get the body.
func (a *reply) isUndone() bool {
	return a.status == http.StatusServiceUnavailable || a.status == http.StatusRequestTimeout
}

// send makes one request. A request that has begun is not cut by the end of
// the run: its answer counts.
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

// excuse enters as a breach that something was not done, where no fault
// excuses it, and what of the answer is wrong in any case.
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

// ask makes another request than a POST of events. Its answer has to have one
// of some statuses: errNoAnswer if it may be asked again, errRefused if not.
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

// insistOn asks any of the nodes until it is answered, or ctx ends. The answer
// begins when it was asked for the first time.
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

// read reads the body of an answer, which has to be JSON of its kind.
func (c *client) read(a *reply, into any) error {
	err := json.Unmarshal(a.body, into)
	if err != nil {
		c.report.breach(wrongAnswer, "%v: %v", a, err)
	}
	return err
}

// retryPause is between a request without an answer and its repeat.
const retryPause = 200 * time.Millisecond
