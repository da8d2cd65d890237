package deliver_test

import (
	"math/rand/v2"
	"slices"
	"time"

	"triggerd/internal/store"
	"triggerd/internal/trigger"
)

// deed is something that happens at its time.
type deed struct {
	at time.Duration
	do func(dice *rand.Rand)
}

// deeds are what happens over the time of a simulation.
func (w *world) deeds(dice *rand.Rand, span, traffic time.Duration) (todo []deed) {
	within := func(d time.Duration) time.Duration { return time.Duration(dice.Float64() * float64(d)) }
	for range 20 + dice.IntN(40) {
		n := 1 + dice.IntN(8)
		if dice.IntN(12) == 0 {
			n = 50 + dice.IntN(250)
		}
		todo = append(todo, deed{within(traffic), func(dice *rand.Rand) { w.post(dice, n) }})
	}
	trouble := []func(*rand.Rand){w.replace, w.own, w.step}
	if !w.calm {
		trouble = append(trouble, w.crash, w.crash, w.freeze, w.step)
	}
	for range 6 + dice.IntN(10) {
		todo = append(todo, deed{within(traffic), trouble[dice.IntN(len(trouble))]})
		if span > traffic {
			todo = append(todo, deed{within(span), trouble[dice.IntN(len(trouble))]})
		}
	}
	for range 3 {
		if span < 24*time.Hour {
			todo = append(todo, deed{within(traffic), w.repeat})
		}
	}
	for range 5 { // to meet lanes with a queue
		todo = append(todo, deed{within(traffic), w.step})
	}
	if w.retention > 0 {
		todo = append(todo, deed{w.retention - 10*time.Minute + within(2*time.Hour), w.darkness})
	}
	return todo
}

// run does the deeds, each at its time.
func (w *world) run(deeds []deed) {
	slices.SortFunc(deeds, func(a, b deed) int { return int(a.at - b.at) })
	for i, d := range deeds {
		if wait := d.at - time.Since(w.begun); wait > 0 {
			<-time.After(wait)
		}
		d.do(w.dice(uint64(i), 5))
	}
}

// oneOf picks a server that is alive; nil if there is none.
func (w *world) oneOf(dice *rand.Rand) *server {
	if servers := w.alive(); len(servers) > 0 {
		return servers[dice.IntN(len(servers))]
	}
	return nil
}

// post has one of the servers accept a batch.
func (w *world) post(dice *rand.Rand, n int) {
	s, first := w.oneOf(dice), w.hooks[dice.IntN(len(w.hooks))]
	size := 2 + dice.IntN(500)
	if n >= 50 && dice.IntN(8) == 0 && len(w.schedule) < 5 {
		size = 300 << 10 // 64 MiB of them are less than what a lane takes
	}
	var hooks []*hook
	w.mu.Lock()
	for _, h := range w.hooks {
		if h.State != trigger.Gone && (h == first || h.OrganizationID == first.OrganizationID && n < 50 && dice.IntN(3) == 0) {
			hooks = append(hooks, h)
		}
	}
	w.mu.Unlock()
	if s != nil && len(hooks) > 0 {
		s.posting.Add(1)
		go w.accept(s, n, size, hooks)
	}
}

// accept does what ingest does with a batch of events that all go to the same
// webhooks: it reserves room, commits, and hands over.
func (w *world) accept(s *server, n, size int, hooks []*hook) {
	defer s.posting.Done()
	if !s.gate() {
		return
	}
	claimedAt, at, id := s.processTime(), s.Now(), s.NewClaim()
	var debts []*debt
	var claims []*claim // by debt; nil: due
	var events []*trigger.Event
	for i := range n {
		e := &trigger.Event{
			OrganizationID: hooks[0].OrganizationID, ID: trigger.NewID(at, uint16(i), rand.Uint64()),
			Type: "user.created", Payload: payload(size),
		}
		events = append(events, e)
		for _, h := range hooks {
			d, c := w.newDebt(s, e, h, id, at)
			debts, claims = append(debts, d), append(claims, c)
		}
	}
	err := store.RunBatch(w.ctx, s.processTime, 3*time.Second, debts, func([]*debt, bool) error {
		return s.call(w.ctx, "AddEvents", func(now time.Time) {
			for i, e := range events {
				if w.dropped[e.ID] || w.events[e.ID] != nil {
					continue // by an earlier try
				}
				w.events[e.ID] = e
				for _, d := range debts[i*len(hooks) : (i+1)*len(hooks)] {
					d.created = now
					w.owe(d)
				}
			}
		})
	}, func(*debt, error) {})
	w.mu.Lock()
	stored := w.debts[debts[0].DeliveryKey] != nil || debts[0].state != trigger.DeliveryOpen
	as := make([]trigger.Webhook, len(debts)) // they are now
	for i, d := range debts {
		as[i] = d.hook.Webhook
	}
	w.mu.Unlock()
	for i, d := range debts {
		switch e, hook := events[i/len(hooks)], as[i]; {
		case claims[i] == nil && err == nil && stored && hook.State == trigger.Active:
			s.Expect(trigger.Delivery{DeliveryKey: d.DeliveryKey, DueAt: at}, &hook, claimedAt)
		case claims[i] == nil:
		case err == nil && stored:
			s.Dispatch(trigger.Delivery{DeliveryKey: d.DeliveryKey, DueAt: claims[i].lease, Claim: id}, e, &hook, claimedAt)
		default:
			s.lose([]trigger.Delivery{{DeliveryKey: d.DeliveryKey, Claim: id}})
			s.Unreserve(d.DeliveryKey, e.Size())
		}
	}
}

// newDebt decides what an event is owed to a webhook: claimed, if there is
// room, else due.
func (w *world) newDebt(s *server, e *trigger.Event, h *hook, id trigger.ID, at time.Time) (*debt, *claim) {
	d := &debt{
		DeliveryKey: trigger.DeliveryKey{OrganizationID: e.OrganizationID, EventID: e.ID, WebhookID: h.ID},
		hook:        h, due: at,
	}
	w.mu.Lock()
	w.numbers++
	d.number = w.numbers
	active := h.State == trigger.Active
	w.mu.Unlock()
	if !active {
		return d, nil
	}
	reserved := s.Reserve(d.DeliveryKey, e.Size())
	w.mu.Lock()
	defer w.mu.Unlock()
	if !reserved {
		w.met[overflowed]++
		return d, nil
	}
	if w.weather.cloudy(s, 0) {
		w.wrong(nil, "room for a hand-off, by a clock that is not trusted")
	}
	w.met[handedOff]++
	now := time.Now()
	c := &claim{id: id, server: s, handed: true, at: now, lease: at.Add(w.leaseOf(h)), until: now.Add(w.leaseOf(h))}
	d.claim, d.due, d.claims = id, c.lease, []*claim{c}
	return d, c
}

// payload is JSON of a size, always the same bytes.
func payload(size int) []byte { return payloads[:max(2, min(size, len(payloads)))] }

var payloads = slices.Repeat([]byte("1"), 1<<20)

// replace stops a server when another one has started.
func (w *world) replace(dice *rand.Rand) {
	if s := w.oneOf(dice); s != nil {
		w.start()
		go s.stop(time.Duration(dice.Float64() * float64(2*time.Second)))
	}
}

// crash kills a server. Another one starts some time later.
func (w *world) crash(dice *rand.Rand) {
	s, wait := w.oneOf(dice), time.Duration(dice.Float64()*float64(30*time.Second))
	if s == nil {
		return
	}
	s.kill()
	go func() { <-time.After(wait); w.start() }()
}

// darkness is an outage of all servers for up to three hours.
func (w *world) darkness(dice *rand.Rand) {
	for _, s := range w.alive() {
		go s.stop(0)
	}
	length, servers := time.Duration(dice.Float64()*float64(3*time.Hour)), 1+dice.IntN(2)
	go func() {
		<-time.After(length)
		for range servers {
			w.start()
			<-time.After(time.Minute)
		}
	}()
}

// freeze holds a server up.
func (w *world) freeze(dice *rand.Rand) {
	s := w.oneOf(dice)
	if s == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	s.hold(time.Duration(dice.ExpFloat64()*float64(s.Lease())), dice.IntN(2) == 0)
}

// step sets the wall clock of a server back or ahead, as people and NTP do.
// Ahead, it makes its leases look short, and they run out: that is no calm.
func (w *world) step(dice *rand.Rand) {
	s, step := w.oneOf(dice), time.Duration((1-2*dice.Float64())*float64(time.Hour))
	if s == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case s.slept > 0:
		step = step.Abs()
	case w.calm:
		step = -step.Abs()
	}
	s.stepped += step
	s.leapt = time.Now()
	s.setBack = s.setBack || step < 0
}

// own is an owner who pauses, resumes, moves or deletes a webhook. One whose
// receiver has answered 410 is resumed, too.
func (w *world) own(dice *rand.Rand) {
	w.mu.Lock()
	defer w.mu.Unlock()
	h := w.hooks[dice.IntN(len(w.hooks))]
	switch {
	case h.deleted:
		return
	case dice.IntN(4) == 0 && h.State.Receives():
		h.move(time.Now())
		w.met[relocated]++
	case h.State == trigger.Gone:
		h.setState(trigger.Active, time.Now())
		w.met[revived]++
	case dice.IntN(10) == 0:
		h.deleted = true
		h.setState(trigger.Gone, time.Now())
	case h.State == trigger.Paused:
		h.setState(trigger.Active, time.Now())
	default:
		h.setState(trigger.Paused, time.Now())
	}
}
