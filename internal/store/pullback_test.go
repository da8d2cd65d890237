package store_test

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"triggerd/internal/store"
	"triggerd/internal/store/storetest"
	"triggerd/internal/trigger"
)

// pulling is an organization whose deliveries are made while the clock is
// right and while it is ahead, and what becomes of them.
type pulling struct {
	t         *testing.T
	db        *storetest.DB
	s         *store.Store
	org       int64
	orgs      []int64 // all of them
	hook, own int64   // with the usual schedule, and with one of its own
	wants     map[trigger.DeliveryKey]wanted
}

// wanted is when a delivery is to be due, from the moment it is pulled back.
type wanted struct {
	what  string
	wait  time.Duration
	fixed time.Time // or at that very time
}

func newPulling(t *testing.T, db *storetest.DB) *pulling {
	p := &pulling{t: t, db: db, s: db.Open(t), wants: map[trigger.DeliveryKey]wanted{}}
	p.org = storetest.NewOrganization(t, p.s)
	p.orgs = []int64{p.org}
	p.hook = newWebhook(t, p.s, p.org, "")
	var err error
	p.own, err = p.s.AddWebhook(t.Context(), p.org, trigger.Webhook{
		State: trigger.Active, URL: "http://127.0.0.1:9/", Secrets: trigger.OneSecret(trigger.NewSecret([32]byte{1})),
		Schedule: trigger.Schedule{10 * time.Hour},
	}, store.Once{})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// pullLease is that of claims of webhooks.
const pullLease = 32 * time.Second

// make makes a delivery of each kind to a webhook, a replay or the inbox. They
// are due after a wait when the clock was ahead, else when they are anyway.
func (p *pulling) make(ahead bool) {
	p.t.Helper()
	deliverAt := p.s.Now().Add(3 * time.Hour).Truncate(time.Second)
	note := func(what string, d trigger.Delivery, wait time.Duration) {
		w := wanted{what: fmt.Sprintf("%s (ahead %v)", what, ahead), wait: wait}
		if !ahead || wait < 0 {
			w.fixed = d.DueAt
		}
		p.wants[d.DeliveryKey] = w
	}
	for _, hook := range []int64{p.hook, p.own} {
		note("accepted", p.open(hook, time.Time{}), 0)
	}
	for _, hook := range []int64{p.hook, p.own, trigger.InboxID} {
		note("for later", p.open(hook, deliverAt), -1)
	}
	note("claimed", p.claim(p.open(p.hook, time.Time{})), pullLease)
	note("tried", p.tried(p.open(p.hook, time.Time{}), 1), 5*time.Second)
	note("tried twice", p.tried(p.open(p.hook, time.Time{}), 2), 5*time.Minute)
	note("tried by its own schedule", p.tried(p.open(p.own, time.Time{}), 1), 10*time.Hour)
	note("resent", p.resent(), 0)
	note("claimed of a replay", p.claim(p.resent()), pullLease)

	p.makeInbox(note)
}

// makeInbox makes what an inbox of its own is owed; a consumer's lease and delay
// are twelve hours at most.
func (p *pulling) makeInbox(note func(string, trigger.Delivery, time.Duration)) {
	p.t.Helper()
	s, org := p.s, p.org
	defer func() { p.org = org }()
	p.org = storetest.NewOrganization(p.t, s)
	p.orgs = append(p.orgs, p.org)
	released := p.open(trigger.InboxID, time.Time{})
	const longest = 12 * time.Hour
	claim := func(lease time.Duration) (trigger.ID, time.Time) {
		id := s.NewClaim()
		list, until, err := s.ClaimInbox(p.t.Context(), p.org, store.InboxPage{Limit: 10, Bytes: 1 << 20}, id, lease)
		if err != nil || len(list) != 1 {
			p.t.Fatalf("%d events were claimed, %v", len(list), err)
		}
		return id, until
	}
	id, _ := claim(time.Minute)
	if _, err := s.ReleaseInbox(p.t.Context(), p.org, id, []trigger.ID{released.EventID}, longest); err != nil {
		p.t.Fatal(err)
	}
	note("released in the inbox", p.read(released.DeliveryKey), longest)
	for _, lease := range []time.Duration{time.Minute, longest} {
		d := p.open(trigger.InboxID, time.Time{})
		_, d.DueAt = claim(lease)
		note(fmt.Sprintf("claimed from the inbox for %v", lease), d, lease)
	}
	note("accepted for the inbox", p.open(trigger.InboxID, time.Time{}), 0)
}

// open makes an open delivery; due when its sender wants.
func (p *pulling) open(hook int64, deliverAt time.Time) trigger.Delivery {
	p.t.Helper()
	e := event(p.s, p.org, "")
	e.DeliverAt = deliverAt
	ds := owed(e, hook)
	if !deliverAt.IsZero() {
		ds[0].DueAt = deliverAt
	}
	if _, err := p.s.AddEvents(p.t.Context(), &store.Batch{Events: []*trigger.Event{e}, Deliveries: [][]trigger.Delivery{ds}}, false); err != nil {
		p.t.Fatal(err)
	}
	return ds[0]
}

// claim claims a delivery, by the moment at which it alone is due.
func (p *pulling) claim(d trigger.Delivery) trigger.Delivery {
	p.t.Helper()
	want := store.Want{Bucket: trigger.Bucket(p.org), WebhookID: d.WebhookID, Job: d.Job, Room: 2, From: d.DueAt}
	taken, err := p.s.Claim(p.t.Context(), []store.Want{want}, p.s.NewClaim(), d.DueAt, p.s.Now().Add(pullLease))
	if err != nil || len(taken) != 1 || taken[0].DeliveryKey != d.DeliveryKey {
		p.t.Fatalf("claimed %+v, %v; want %+v", taken, err, d.DeliveryKey)
	}
	return taken[0]
}

// tried makes attempts that fail, and waits for each but the last pause.
func (p *pulling) tried(d trigger.Delivery, attempts int) trigger.Delivery {
	p.t.Helper()
	for n := range attempts {
		if n > 0 {
			p.db.Clock.Advance(d.DueAt.Sub(p.s.Now()) + time.Second)
		}
		d = p.claim(d)
		a := trigger.Attempt{DeliveryKey: d.DeliveryKey, Claim: d.Claim, At: p.s.Now(), Outcome: trigger.Transient}
		schedule := trigger.DefaultSchedule()
		if d.WebhookID == p.own {
			schedule = trigger.Schedule{10 * time.Hour}
		}
		d = d.After(a, schedule, a.At, 0)
		if err := p.s.Finish(p.t.Context(), []store.Result{{Attempt: a, Next: d}}); err != nil {
			p.t.Fatal(err)
		}
	}
	return d
}

// resent makes an open delivery of a replay of one event.
func (p *pulling) resent() trigger.Delivery {
	p.t.Helper()
	d := p.claim(p.open(p.hook, time.Time{}))
	if err := p.s.Finish(p.t.Context(), []store.Result{result(p.s, d, trigger.Success)}); err != nil {
		p.t.Fatal(err)
	}
	job, err := p.s.Resend(p.t.Context(), p.org, d.EventID, p.hook, store.Once{})
	if err != nil || job == 0 {
		p.t.Fatalf("replay %d, %v", job, err)
	}
	d.Job = job
	return p.read(d.DeliveryKey)
}

// read reads a delivery as it is.
func (p *pulling) read(key trigger.DeliveryKey) trigger.Delivery {
	p.t.Helper()
	list := p.list()
	i := slices.IndexFunc(list, func(d trigger.Delivery) bool { return d.DeliveryKey == key })
	if i < 0 {
		p.t.Fatalf("%+v is not there", key)
	}
	return list[i]
}

// list lists all deliveries.
func (p *pulling) list() (list []trigger.Delivery) {
	p.t.Helper()
	for _, org := range p.orgs {
		page, err := p.s.ListDeliveries(p.t.Context(), org, store.DeliveryQuery{AnyState: true, Limit: 1000})
		if err != nil {
			p.t.Fatal(err)
		}
		list = append(list, page...)
	}
	return list
}

// After the clock was ahead for a while and went back, each delivery is due
// when it would be if the step had not been, counted from now on, and nothing
// else has moved: however many nodes pull back at a time, and how often.
func TestPullBack(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		p := newPulling(t, db)
		nodes := []*store.Store{p.s, p.s}
		if db.IsPostgres() {
			nodes[1] = db.Open(t)
		}
		p.make(false)
		if n, err := p.s.PullBack(t.Context(), trigger.DefaultSchedule()); n != 0 || err != nil {
			t.Errorf("%d due times were pulled back while the clock was right, %v", n, err)
		}
		const step = 26 * time.Hour // so that what was for later has come before
		db.Clock.Advance(step)
		ahead := p.s.Now()
		p.make(true)
		db.Clock.Advance(-p.s.Now().Sub(ahead) - step)

		before := p.s.Now()
		var wg sync.WaitGroup
		for _, s := range nodes {
			wg.Go(func() {
				if _, err := s.PullBack(t.Context(), trigger.DefaultSchedule()); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if _, err := p.s.PullBack(t.Context(), trigger.DefaultSchedule()); err != nil { // what was locked
			t.Error(err)
		}
		after := p.s.Now()
		p.check(before, after)
		if n, err := p.s.PullBack(t.Context(), trigger.DefaultSchedule()); n != 0 || err != nil {
			t.Errorf("%d due times were pulled back again, %v", n, err)
		}
	})
}

func (p *pulling) check(before, after time.Time) {
	p.t.Helper()
	seen := 0
	for _, d := range p.list() {
		w, ok := p.wants[d.DeliveryKey]
		if !ok {
			continue
		}
		seen++
		from, to := before.Add(w.wait), after.Add(w.wait)
		if !w.fixed.IsZero() {
			from, to = w.fixed, w.fixed
		}
		if d.DueAt.Before(from) || d.DueAt.After(to) {
			p.t.Errorf("%s, webhook %d, %d attempts: due %v from now, want %v to %v", w.what, d.WebhookID, d.Attempts,
				d.DueAt.Sub(before), from.Sub(before), to.Sub(before))
		}
	}
	if seen != len(p.wants) || seen < 25 {
		p.t.Errorf("%d deliveries of %d were found", seen, len(p.wants))
	}
}
