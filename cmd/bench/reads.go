package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"sync"
	"syscall"
	"time"

	"triggerd/internal/store"
	"triggerd/internal/trigger"
)

// growthCases measure the cost of stored and waiting events.
func growthCases() []measurement {
	return []measurement{
		{"reads", reads},
		{"claims", claims},
		{"snapshot", snapshot},
	}
}

// reading is a repeated request.
type reading struct {
	name         string
	method, path string
	body         string
	of           func(i int) string // appended to the path; may be nil
	target       *target            // of p99
}

const (
	readings    = 300              // of each kind
	longestRead = 10 * time.Second // for all of a kind, which then has fewer
	readBeside  = 500              // events a second that are posted meanwhile
)

// reads measures reads of an inbox in which many events wait, while other
// organizations post.
func reads(ctx context.Context, b *bench) (out outcome, err error) {
	err = b.with(ctx, nil, func(r *rig) error {
		hooks, err := r.organizations(2, 1)
		if err != nil {
			return err
		}
		inbox, err := r.fillInbox(ctx, b, hooks[0])
		if err != nil {
			return err
		}
		if err := r.warmUp(ctx, hooks[1:]); err != nil { // the waiting events stay the newest
			return err
		}
		list, err := r.readings(inbox, hooks[0].key)
		if err != nil {
			return err
		}
		posting, stop := context.WithCancel(ctx)
		var posts sync.WaitGroup
		posts.Go(func() { r.client.openLoop(posting, readBeside, forever, lasting(hooks[1:], forever)) })
		mark := r.book.mark()
		for _, one := range list {
			if err = r.read(ctx, &out, one, hooks[0].key); err != nil {
				break
			}
		}
		stop()
		posts.Wait()
		if err != nil {
			return err
		}
		if err := r.settle(ctx, hooks); err != nil {
			return err
		}
		begun, answered, _ := span(r.book.since(mark, anyHook))
		out.add("accepted beside", "events/s", perSecond(r.book.mark()-mark, answered-begun), nil)
		return nil
	})
	return out, err
}

// fillInbox writes events of a webhook's organization, with the server stopped.
// The newest ones wait in the inbox. Before them are a tenth as many failed
// ones, and before these as many delivered ones.
func (r *rig) fillInbox(ctx context.Context, b *bench, h *hook) (*past, error) {
	const span = 2 * time.Hour
	tenth := b.Pending / 10
	p := &past{events: b.Pending + 2*tenth, payload: b.Payload, since: lately().Add(-span), span: span}
	return p, r.fill(ctx, p, h, func(o *owner) []lot {
		return []lot{
			p.accepted(), p.tried(0, tenth, trigger.Success, 204), p.tried(tenth, 2*tenth, trigger.Permanent, 410),
			p.owed(tenth, 2*tenth, trigger.DeliveryFailed, o.webhook), p.owed(2*tenth, p.events, trigger.DeliveryOpen, 0),
		}
	})
}

// fill writes a past of a webhook's organization, with the server stopped.
func (r *rig) fill(ctx context.Context, p *past, h *hook, lots func(*owner) []lot) error {
	r.client.close()
	if err := r.stop(syscall.SIGTERM); err != nil {
		return err
	}
	o, err := r.ownerOf(ctx, h)
	if err != nil {
		return err
	}
	if err := makeDays(ctx, r.database, p.since); err != nil {
		return err
	}
	p.owners = []owner{o}
	f := filling{options: r.database}
	if err := f.write(ctx, lots(&p.owners[0])...); err != nil {
		return err
	}
	return r.start(ctx)
}

// ownerOf returns a webhook's organization from the database of a stopped
// server.
func (r *rig) ownerOf(ctx context.Context, h *hook) (o owner, err error) {
	o = owner{key: h.key, webhook: h.webhookID, eventType: h.eventType}
	err = offline(ctx, r.database, func(s *store.Store) error {
		org, err := organizationOf(ctx, s, h.key)
		o.id, o.version = org.ID, org.Version
		return err
	})
	return o, err
}

// readings returns the requests.
func (r *rig) readings(p *past, key string) ([]reading, error) {
	middle, err := r.cursor("/v1/inbox", key, p.id(p.events/2))
	if err != nil {
		return nil, err
	}
	pick := func(end string) func(int) string {
		return func(int) string { return "/" + p.id(rand.IntN(p.events)).String() + end }
	}
	soon := atMost(5)
	return []reading{
		{"the old inbox", "GET", "/api/inbox", "", nil, soon},
		{"the old inbox, pending", "GET", "/api/inbox?status=pending", "", nil, soon},
		{"the inbox, first page", "GET", "/v1/inbox", "", nil, soon},
		{"the inbox, in the middle", "GET", "/v1/inbox?cursor=" + middle, "", nil, soon},
		{"a claim of 100", "POST", "/v1/inbox/claim", `{"limit":100}`, nil, nil},
		{"pending events", "GET", "/v1/events?status=pending", "", nil, nil},
		{"failed events", "GET", "/v1/events?status=failed", "", nil, nil},
		{"delivered events", "GET", "/v1/events?status=delivered", "", nil, nil},
		{"an event", "GET", "/v1/events", "", pick(""), nil},
		{"why of an event", "GET", "/v1/events", "", pick("/why"), nil},
	}, nil
}

// cursor returns the cursor with which a list continues after an id. It is the
// list's first cursor, which ends in an id, with that id replaced. Turning the
// pages up to there would take as long as all measurements.
func (r *rig) cursor(path, key string, after trigger.ID) (string, error) {
	to, err := r.client.take()
	if err != nil {
		return "", err
	}
	text, err := to.request("GET", path+"?limit=1", "X-Api-Key: "+key, nil)
	if err != nil {
		return "", err
	}
	r.client.give(to)
	var page struct {
		Next string `json:"next_cursor"`
	}
	if err := json.Unmarshal(text, &page); err != nil {
		return "", err
	}
	raw, err := base64.RawURLEncoding.DecodeString(page.Next)
	if err != nil || len(raw) < len(after) {
		return "", fmt.Errorf("the list %s has a cursor that ends in no id: %.200q", path, text)
	}
	copy(raw[len(raw)-len(after):], after[:])
	return base64.RawURLEncoding.EncodeToString(raw), nil
}

// read makes the requests of a kind, one after the other.
func (r *rig) read(ctx context.Context, out *outcome, one reading, key string) error {
	to, err := r.client.take()
	if err != nil {
		return err
	}
	var took []time.Duration
	for begun := time.Now(); len(took) < readings && time.Since(begun) < longestRead && ctx.Err() == nil; {
		path := one.path
		if one.of != nil {
			path += one.of(len(took))
		}
		sent := time.Now()
		if _, err := to.request(one.method, path, "X-Api-Key: "+key, []byte(one.body)); err != nil {
			return err
		}
		took = append(took, time.Since(sent))
	}
	r.client.give(to)
	out.add(one.name+": p50", "ms", ms(percentile(took, 50)), nil)
	out.add(one.name+": p99", "ms", ms(percentile(took, 99)), one.target)
	if len(took) < readings {
		out.add(one.name+": requests", "", float64(len(took)), nil)
	}
	return nil
}
