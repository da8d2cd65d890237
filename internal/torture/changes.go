package torture

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"
)

// changers is the number of owners that change webhooks.
const changers = 3

// markHeader is the header that webhooks are set to send.
const markHeader = "X-Torture"

// change changes webhooks until ctx ends: it sets headers, pauses them, and
// resends events to them.
func (c *client) change(ctx context.Context, random *rand.Rand) error {
	for pause(ctx, time.Duration(50+random.IntN(450))*time.Millisecond) == nil {
		h, done := c.book.someHook(random)
		if h == nil {
			continue
		}
		switch x := random.IntN(100); {
		case x < 35:
			c.mark(ctx, h, random)
		case x < 43:
			c.pauseHook(ctx, h, random)
		default:
			c.resend(ctx, h, random)
		}
		done()
	}
	return nil
}

// mark sets another header of a webhook.
func (c *client) mark(ctx context.Context, h *hook, random *rand.Rand) {
	value := strconv.Itoa(len(h.headers) + 1)
	q := request{method: http.MethodPatch, path: h.path(""), key: h.tenant.key, body: fmt.Appendf(nil, `{"headers":{%q:%q}}`, markHeader, value)}
	answered := c.book.changing(&h.headers, h, value)
	if _, err := c.insistOn(ctx, random, q, http.StatusOK); err == nil {
		answered()
		c.book.count(func(n *counts) { n.Changes++ })
	}
}

// path returns the path of a webhook, with more appended.
func (h *hook) path(more string) string { return "/v1/webhooks/" + strconv.FormatInt(h.id, 10) + more }

// pauseHook pauses a webhook for some seconds. It resumes it even if the run
// ends meanwhile.
func (c *client) pauseHook(ctx context.Context, h *hook, random *rand.Rand) {
	answered := c.book.changing(&h.pauses, h, "paused")
	q := request{method: http.MethodPost, path: h.path("/pause"), key: h.tenant.key}
	if _, err := c.insistOn(ctx, random, q, http.StatusOK); err == nil {
		answered()
		c.book.count(func(n *counts) { n.Pauses++ })
	}
	_ = pause(ctx, followed+time.Duration(500+random.IntN(3000))*time.Millisecond)
	answered = c.book.changing(&h.pauses, h, "")
	q.path = h.path("/resume")
	work, cancel := context.WithTimeout(context.WithoutCancel(ctx), startPatience)
	defer cancel()
	if _, err := c.insistOn(work, random, q, http.StatusOK); err == nil {
		answered()
	}
}

// resend requests one more delivery, exactly one, of an event to a webhook that
// has had it.
func (c *client) resend(ctx context.Context, h *hook, random *rand.Rand) {
	e, id, i := c.book.someDelivered(h, random)
	if e == nil {
		return
	}
	q := request{
		method: http.MethodPost, path: "/v1/events/" + id + "/resend", key: h.tenant.key, body: fmt.Appendf(nil, `{"webhook_id":%d}`, h.id),
		header: map[string]string{"Idempotency-Key": fmt.Sprintf("resend %d %d %d", e.n, h.n, i)},
	}
	var made struct {
		Replay int64 `json:"replay_id"`
	}
	if a, err := c.insistOn(ctx, random, q, http.StatusAccepted); err == nil && c.read(&a, &made) == nil {
		c.book.resent(e, h, i, made.Replay)
	}
}
