package torture

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"net/http"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
)

// settle heals everything and waits until all acknowledged events have come and
// none is pending.
func (r *run) settle(ctx context.Context) {
	r.receiver.healed.Store(true)
	r.book.note("settle", "")
	fmt.Fprintln(r.Out, "settling")
	begun := r.Now()
	if err := r.allReady(ctx); err != nil {
		r.report.breach(notHealed, "%v", err)
		return
	}
	_ = r.await(ctx, func(context.Context) (int, []*tenant) { return r.book.missing() })
	r.report.Settled = r.Now().Sub(begun)
	r.drain(ctx)
	for _, t := range r.book.allTenants() { // results may not be recorded yet
		if !r.await(ctx, func(ctx context.Context) (int, []*tenant) { return r.unsettled(ctx, t), []*tenant{t} }) {
			return // one is enough
		}
	}
}

// await waits until left returns 0, and reports whether it did; a negative n is
// unknown. await stops after its patience without progress. But if the server
// reports that deliveries of the tenants are due later, or that their breakers
// are open, await first waits for that, once.
func (r *run) await(ctx context.Context, left func(context.Context) (n int, of []*tenant)) bool {
	least, since := math.MaxInt, r.Now()
	n, of, asked := 0, []*tenant(nil), false
	_ = until(ctx, settlePatience, "", func(ctx context.Context) bool {
		if n, of = left(ctx); n == 0 {
			return true
		}
		if n >= 0 && n < least {
			least, since, asked = n, r.Now(), false
		}
		if r.Now().Sub(since) <= r.patience() {
			return false
		}
		if !asked {
			since, asked = later(since, r.dueUntil(ctx, of)), true
		}
		return r.Now().Sub(since) > r.patience()
	})
	if n != 0 {
		r.stuck.Store(true)
	}
	return n == 0
}

// patience returns how long to wait for progress. It is less after a wait has
// timed out.
func (r *run) patience() time.Duration {
	patience := cmp.Or(r.Patience, quietPatience)
	if r.stuck.Load() {
		patience /= 4
	}
	return patience
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// longestWait is how far ahead a delivery of the run may be due, or a breaker
// open: a minute and a fifth, and some seconds. A later time is a fault of the
// server, and settling does not wait for it.
const longestWait = 75 * time.Second

// dueUntil returns the last time at which, by the server's answers, deliveries
// of the tenants are due or their breakers close; zero without any.
func (r *run) dueUntil(ctx context.Context, of []*tenant) (last time.Time) {
	const enough = 20 // tenants; their pages are read one after the other
	latest := r.Now().Add(longestWait)
	note := func(at time.Time) {
		if at.Before(latest) {
			last = later(last, at)
		}
	}
	for _, t := range of[:min(len(of), enough)] {
		hooks, _ := pagesOf[shownHook](ctx, r, t, "/v1/webhooks?limit=100") // on error there is nothing to wait for
		for _, h := range hooks {
			note(h.Health.HeldUntil)
		}
		open, _ := pagesOf[struct {
			Next time.Time `json:"next_attempt_at"`
		}](ctx, r, t, "/v1/deliveries?limit=100&status=open")
		for _, d := range open {
			note(d.Next)
		}
	}
	return last
}

// shownHook is a webhook in an answer of the API.
type shownHook struct {
	ID     int64
	State  string
	Health struct {
		HeldUntil time.Time `json:"held_until"`
	}
}

// drain empties the inboxes that have consumers.
func (r *run) drain(ctx context.Context) {
	if err := pause(ctx, r.book.last().Sub(r.Now())); err != nil {
		return
	}
	group, draining := errgroup.WithContext(ctx)
	group.SetLimit(consumers)
	for _, t := range r.book.allTenants() {
		if t.consumed {
			group.Go(func() error {
				r.drainOne(draining, t)
				return nil
			})
		}
	}
	_ = group.Wait() // no goroutine returns an error
}

// drainOne claims and acknowledges until an inbox is empty.
func (r *run) drainOne(ctx context.Context, t *tenant) {
	random := r.random(forDrains + uint64(t.n))
	since := r.Now()
	_ = until(ctx, settlePatience, "", func(ctx context.Context) bool {
		list, err := r.client.claim(ctx, random, t, 200, settlePatience, 0)
		switch left, _ := r.book.unread(t); {
		case err == nil && len(list) > 0:
			r.client.tell(ctx, random, t, deedAck, list, "")
			since = r.Now()
			return false
		case err == nil && left == 0:
			shown, err := r.pages(ctx, t, "/v1/inbox?limit=1")
			if err == nil && len(shown) == 0 {
				return true
			}
		}
		if r.Now().Sub(since) <= r.patience() {
			return false
		}
		r.stuck.Store(true)
		return true
	})
}

// unsettled counts a tenant's events that are pending but must not be. It
// returns -1 if they cannot be read.
func (r *run) unsettled(ctx context.Context, t *tenant) (n int) {
	events, err := r.pages(ctx, t, "/v1/events?limit=100&status=pending")
	if err != nil {
		return -1
	}
	for i := range events {
		c, intact := readPayload(events[i].Payload)
		if e := r.book.of(t, c.N); intact && e != nil && e.wanted() != pendingStatus && !e.mayStayOpen() {
			n++
		}
	}
	return n
}

// pages reads all pages of a list of events.
func (r *run) pages(ctx context.Context, t *tenant, path string) ([]shownEvent, error) {
	return pagesOf[shownEvent](ctx, r, t, path)
}

// pagesOf reads all pages of a list.
func pagesOf[T any](ctx context.Context, r *run, t *tenant, path string) (list []T, err error) {
	for next := ""; ; {
		q := request{method: http.MethodGet, path: path + next, key: t.key}
		a, err := r.client.send(ctx, r.nodes[t.n%len(r.nodes)], q)
		if err != nil || a.status != http.StatusOK {
			return nil, fmt.Errorf("GET %s: %v %w", q.path, &a, err)
		}
		var page struct {
			Data []T
			Next *string `json:"next_cursor"`
		}
		if err := r.client.read(&a, &page); err != nil {
			return nil, err
		}
		list = append(list, page.Data...)
		if page.Next == nil {
			return list, nil
		}
		if next = "&cursor=" + *page.Next; ctx.Err() != nil {
			return nil, ctx.Err()
		}
	}
}

// allTenants returns the current tenants.
func (b *book) allTenants() []*tenant {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.tenants)
}
