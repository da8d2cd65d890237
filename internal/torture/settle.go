package torture

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"slices"

	"golang.org/x/sync/errgroup"
)

// settle heals everything and waits until all that was acknowledged has come,
// and nothing is pending any more.
func (r *run) settle(ctx context.Context) {
	r.receiver.healed.Store(true)
	r.book.note("settle", "")
	fmt.Fprintln(r.Out, "settling")
	begun := r.Now()
	if err := r.allReady(ctx); err != nil {
		r.report.breach(notHealed, "%v", err)
		return
	}
	least, since := math.MaxInt, begun
	_ = until(ctx, settlePatience, "", func(context.Context) bool {
		n, again, _ := r.book.missing()
		if n += again; n < least {
			least, since = n, r.Now()
		}
		return n == 0 || r.Now().Sub(since) > quietPatience
	})
	r.report.Settled = r.Now().Sub(begun)
	r.drain(ctx)
	for _, t := range r.book.allTenants() { // results may still be on their way to the database
		if until(ctx, 2*lease, "", func(ctx context.Context) bool { return r.unsettled(ctx, t) == 0 }) != nil {
			return // one is enough
		}
	}
}

// drain has the inboxes that have consumers emptied.
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
	_ = group.Wait() // nobody fails
}

// drainOne claims and acknowledges until an inbox has nothing left.
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
		return r.Now().Sub(since) > quietPatience
	})
}

// unsettled counts a tenant's events that are pending and should not be.
func (r *run) unsettled(ctx context.Context, t *tenant) (n int) {
	events, err := r.pages(ctx, t, "/v1/events?limit=100&status=pending")
	if err != nil {
		return -1
	}
	for i := range events {
		c, intact := readPayload(events[i].Payload)
		if e := r.book.of(t, c.N); intact && e != nil && e.wanted() != pendingStatus {
			n++
		}
	}
	return n
}

// pages reads a list by its cursors, to its end.
func (r *run) pages(ctx context.Context, t *tenant, path string) (list []shownEvent, err error) {
	for next := ""; ; {
		q := request{method: http.MethodGet, path: path + next, key: t.key}
		a, err := r.client.send(ctx, r.nodes[t.n%len(r.nodes)], q)
		if err != nil || a.status != http.StatusOK {
			return nil, fmt.Errorf("GET %s: %v %w", q.path, &a, err)
		}
		var page struct {
			Data []shownEvent
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

// allTenants are those that there are now.
func (b *book) allTenants() []*tenant {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.tenants)
}
