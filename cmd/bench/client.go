package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// answerPatience is how long an answer may take.
const answerPatience = 30 * time.Second

// conn is a kept connection to the server. It uses less CPU than http.Client
// and so leaves more for the server.
type conn struct {
	net.Conn
	in  *bufio.Reader
	out []byte
}

func dial(address string) (*conn, error) {
	c, err := net.Dial("tcp", address)
	if err != nil {
		return nil, err
	}
	return &conn{Conn: c, in: bufio.NewReader(c)}, nil
}

// post makes one request with one additional header and returns the body of the
// answer. Any status but 200 is an error.
func (c *conn) post(path, header string, body []byte) (answer []byte, err error) {
	return c.request("POST", path, header, body)
}

// request is post with any method.
func (c *conn) request(method, path, header string, body []byte) (answer []byte, err error) {
	if err := c.SetDeadline(time.Now().Add(answerPatience)); err != nil {
		return nil, err
	}
	c.out = append(append(c.out[:0], method...), ' ')
	c.out = append(c.out, path...)
	c.out = append(c.out, " HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n"...)
	c.out = append(c.out, header...)
	c.out = append(c.out, "\r\nContent-Length: "...)
	c.out = strconv.AppendInt(c.out, int64(len(body)), 10)
	c.out = append(c.out, "\r\n\r\n"...)
	c.out = append(c.out, body...)
	if _, err := c.Write(c.out); err != nil {
		return nil, err
	}
	resp, err := http.ReadResponse(c.in, nil)
	if err != nil {
		return nil, err
	}
	answer, err = io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s %s: status %d: %.200q", method, path, resp.StatusCode, answer)
	}
	return answer, err
}

// client posts to the server and records the results in the book.
type client struct {
	address string
	book    *book
	payload int  // bytes
	dedup   bool // each event has a dedup id

	mu    sync.Mutex
	idle  []*conn
	conns []*conn
}

// take returns an idle connection or a new one.
func (c *client) take() (*conn, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n := len(c.idle); n > 0 {
		to := c.idle[n-1]
		c.idle = c.idle[:n-1]
		return to, nil
	}
	to, err := dial(c.address)
	if err == nil {
		c.conns = append(c.conns, to)
	}
	return to, err
}

func (c *client) give(back *conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.idle = append(c.idle, back)
}

// close closes all connections. The client can be used again.
func (c *client) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, to := range c.conns {
		_ = to.Close()
	}
	c.idle, c.conns = nil, nil
}

// ask posts a request without an event, and parses the answer.
func (c *client) ask(path, header, body string, answer any) error {
	to, err := c.take()
	if err != nil {
		return err
	}
	text, err := to.post(path, header, []byte(body))
	if err != nil {
		return err
	}
	c.give(to)
	return json.Unmarshal(text, answer)
}

// event posts an event for a webhook.
func (c *client) event(to *conn, h *hook) error {
	n, sent := c.book.send(h)
	body := append(make([]byte, 0, c.payload+200), `{"type":"`...)
	body = append(body, h.eventType...)
	if c.dedup {
		body = append(body, `","dedup_id":"bench-`...)
		body = strconv.AppendInt(body, int64(n), 10)
	}
	body = append(body, `","payload":`...)
	body = append(appendPayload(body, n, sent, c.payload), '}')
	answer, err := to.post("/api/events", "X-Api-Key: "+h.key, body)
	if err == nil && !bytes.Contains(answer, []byte(`"accepted"`)) {
		err = fmt.Errorf("event %d: %.200q", n, answer)
	}
	if err != nil {
		c.book.fail(err)
		return err
	}
	c.book.answer(n)
	return nil
}

// closedLoop posts over conns connections, each event after the answer to the
// previous one, until next returns nil. If rate is not 0, it posts at most rate
// events a second.
func (c *client) closedLoop(ctx context.Context, conns, rate int, next func() *hook) {
	var all sync.WaitGroup
	var slot atomic.Int64
	begun := time.Now()
	for range conns {
		all.Go(func() {
			to, err := c.take()
			if err != nil {
				c.book.fail(err)
				return
			}
			for h := next(); h != nil && ctx.Err() == nil; h = next() {
				if rate > 0 {
					due := time.Duration(slot.Add(1)) * time.Second / time.Duration(rate)
					if pause(ctx, due-time.Since(begun)) != nil {
						return
					}
				}
				if c.event(to, h) != nil {
					return
				}
			}
			c.give(to)
		})
	}
	all.Wait()
}

// openLoop posts rate events a second for a time, without waiting for answers.
// Each event has a random time in its own slot, so that the events are not in
// step with the clocks of the server. openLoop returns how late they were.
func (c *client) openLoop(ctx context.Context, rate int, d time.Duration, next func() *hook) (late []time.Duration) {
	var all sync.WaitGroup
	defer all.Wait()
	every, begun := time.Second/time.Duration(rate), time.Now()
	for at := time.Duration(0); at < d; at += every {
		due := begun.Add(at + rand.N(every))
		if pause(ctx, time.Until(due)) != nil {
			return late
		}
		late = append(late, time.Since(due))
		h := next()
		all.Go(func() {
			to, err := c.take()
			if err != nil {
				c.book.fail(err)
				return
			}
			if c.event(to, h) == nil {
				c.give(to)
			}
		})
	}
	return late
}

// count returns a function that returns the webhooks in turn, events times in
// all.
func count(hooks []*hook, events int) func() *hook {
	var n atomic.Int64
	return func() *hook {
		i := int(n.Add(1)) - 1
		if i >= events {
			return nil
		}
		return hooks[i%len(hooks)]
	}
}

// lasting returns a function that returns the webhooks in turn, for a time.
func lasting(hooks []*hook, d time.Duration) func() *hook {
	var n atomic.Int64
	end := time.Now().Add(d)
	return func() *hook {
		if !time.Now().Before(end) {
			return nil
		}
		return hooks[int(n.Add(1))%len(hooks)]
	}
}

// pause waits for d. It returns the context's error if that ends first.
func pause(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
