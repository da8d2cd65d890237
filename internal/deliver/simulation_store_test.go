package deliver_test

import (
	"context"
	"math/rand/v2"
	"slices"
	"time"

	"triggerd/internal/deliver"
	"triggerd/internal/store"
	"triggerd/internal/trigger"
)

// A server is what its engine and its sweeper take for the store. What a call
// returns beside an error misleads: whoever uses it breaks a rule.
var (
	_ deliver.Store      = (*server)(nil)
	_ deliver.SweptStore = (*server)(nil)
)

// Now is the database's time, as the server has it.
func (s *server) Now() time.Time {
	return time.Now().Add(s.ahead()).Round(0).UTC().Truncate(time.Microsecond)
}

// NewClaim makes a claim id.
func (s *server) NewClaim() trigger.ID { return trigger.NewID(s.Now(), 0, rand.Uint64()) }

// ClockTrusted is false while the weather clouds the clock, or a step of it is
// not confirmed.
func (s *server) ClockTrusted() bool {
	if s.sync(); s.clock.jumped() {
		return false
	}
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	return !s.w.weather.cloudy(s, 0)
}

// Lanes reads the model's.
func (s *server) Lanes(ctx context.Context, after store.Lane, limit int) (lanes []store.Lane, err error) {
	err = s.call(ctx, "Lanes", func(time.Time) { lanes = s.w.lanes(after, limit) })
	if err != nil {
		return nil, err
	}
	return lanes, nil
}

// DueLanes reads the model's.
func (s *server) DueLanes(ctx context.Context, of []store.Lane, from, until time.Time) (lanes []store.Lane, err error) {
	err = s.call(ctx, "DueLanes", func(time.Time) { lanes = s.w.dueLanes(of, from, until) })
	if err != nil {
		return nil, err
	}
	return lanes, nil
}

// Backlog counts what is open.
func (s *server) Backlog(ctx context.Context) (b store.Backlog, err error) {
	err = s.call(ctx, "Backlog", func(time.Time) { b.Open = s.w.openDebts() })
	return b, err
}

// Nodes is how many servers there are.
func (s *server) Nodes() int { return max(1, len(s.w.alive())) }

// Claim takes what is due, as the server's clock had it when it asked.
func (s *server) Claim(ctx context.Context, wants []store.Want, id trigger.ID, now, lease time.Time) (taken []trigger.Delivery, err error) {
	s.judgeClaiming(wants, now, lease)
	by := &claim{id: id, server: s, lease: lease, until: time.Now().Add(lease.Sub(now))}
	err = s.call(ctx, "Claim", func(at time.Time) {
		by.at = at
		dice := s.w.dice(s.number, s.calls["Claim"])
		for _, want := range wants {
			s.w.judgeTouch(&debt{hook: s.w.byID[want.WebhookID]}, at, true)
			taken = append(taken, s.w.take(want, by, now, func(*debt) bool { return s.w.stormy() && dice.IntN(20) == 0 })...)
		}
	})
	if err != nil {
		s.lose(taken)
		return taken, err
	}
	slices.SortFunc(taken, byEvent)
	return taken, nil
}

// judgeClaiming judges what a server claims: by a clock that is trusted, once
// for each webhook and replay, and nothing that it knows to be stopped.
func (s *server) judgeClaiming(wants []store.Want, now, lease time.Time) {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	if s.Now().Sub(now).Abs() > time.Millisecond || s.w.weather.cloudy(s, 30*time.Second) {
		s.w.wrong(nil, "claimed at %v, or by a clock that is not trusted", now)
	}
	for i, want := range wants {
		h := s.w.byID[want.WebhookID]
		twice := slices.ContainsFunc(wants[:i], func(w store.Want) bool { return w.WebhookID == want.WebhookID && w.Job == want.Job })
		if want.Bucket != h.bucket || want.Room < 1 || want.Room > h.concurrency()+256 || twice || lease.Sub(now) != s.w.leaseOf(h) {
			s.w.wrong(nil, "claimed %+v for %v", want, lease.Sub(now))
		}
		if known := s.seen[h.ID]; h.State != trigger.Active && known.After(h.changed.Add(claimSlack)) {
			s.w.wrong(nil, "claimed of webhook %d, %v after the server saw it as %s", h.ID, known.Sub(h.changed), h.State)
		}
		if open := h.HeldUntil; !open.IsZero() && !s.probes(h) && s.seen[h.ID].After(h.opened.Add(claimSlack)) {
			s.w.wrong(nil, "claimed of webhook %d, whose breaker is open until %v", h.ID, open.Sub(s.w.begun))
		}
	}
}

// claimSlack is how long a claim may take after the webhooks were read.
const claimSlack = time.Minute

// probes says that the server may make a probe.
func (s *server) probes(h *hook) bool { return h.probe != nil && h.probe.server == s }

// lose notes that the server does not know of claims it has.
func (s *server) lose(taken []trigger.Delivery) {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	for _, t := range taken {
		if d := s.w.debts[t.DeliveryKey]; d != nil && d.find(t.Claim) != nil {
			d.find(t.Claim).lost = true
		}
	}
}

// EventsOf reads some of the events before it fails, which the next call tells.
// Beside an error none of the events is there any more.
func (s *server) EventsOf(ctx context.Context, ds []trigger.Delivery, maxBytes int) (found map[trigger.ID]*trigger.Event, rest []trigger.Delivery, err error) {
	found, rest = map[trigger.ID]*trigger.Event{}, ds
	read := func(n int) {
		for _, d := range ds[:n] {
			if maxBytes <= 0 {
				return
			}
			rest = rest[1:]
			if e := s.w.events[d.EventID]; e != nil {
				found[e.ID] = e
				maxBytes -= e.Size()
			}
		}
	}
	err = s.call(ctx, "EventsOf", func(time.Time) { read(len(ds)) })
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	unread := rest
	if err != nil {
		found, rest, unread = map[trigger.ID]*trigger.Event{}, ds, ds
		if n := s.w.dice(s.number, s.calls["EventsOf"]).IntN(len(ds)); n > 0 && ctx.Err() == nil {
			read(n)
			return found, rest, nil
		}
		rest = nil
	}
	for _, d := range unread {
		if owed := s.w.debts[d.DeliveryKey]; owed != nil {
			owed.find(d.Claim).unread = true
		}
	}
	return found, rest, err
}

// Finish judges what the engine wants recorded, and records it.
func (s *server) Finish(ctx context.Context, results []store.Result) error {
	if len(results) > 500 {
		s.w.wrong(nil, "%d results in one transaction", len(results))
	}
	if !s.gate() {
		return errOver
	}
	s.w.mu.Lock()
	for _, r := range results {
		s.judge(r)
	}
	s.w.mu.Unlock()
	err := s.call(ctx, "Finish", func(now time.Time) {
		for _, r := range results {
			d := s.w.debts[r.Attempt.DeliveryKey]
			fresh := d != nil && d.claim == r.Attempt.Claim
			if d != nil {
				s.w.judgeTouch(d, now, false)
			}
			moved := s.w.finish(r, now)
			if moved {
				s.recorded(d, r, now)
			}
			switch {
			case moved && !fresh:
				s.w.met[staleSuccess]++
			case !moved && d != nil && d.state == trigger.DeliveryOpen:
				s.w.met[stale]++
			}
		}
		s.w.mark(results, now)
	})
	if err == nil || isRefused(err) && len(results) == 1 {
		s.settled(results)
	}
	return err
}

// Release judges what the engine gives back, and takes it.
func (s *server) Release(ctx context.Context, ds []trigger.Delivery) error {
	if len(ds) == 0 {
		return nil
	}
	if !s.gate() {
		return errOver
	}
	s.w.mu.Lock()
	for _, d := range ds {
		s.judgeRelease(d)
	}
	s.w.mu.Unlock()
	return s.call(ctx, "Release", func(now time.Time) {
		for _, d := range ds {
			if owed := s.w.debts[d.DeliveryKey]; owed != nil {
				s.w.judgeTouch(owed, now, false)
			}
			s.w.release(d, s.Now())
		}
	})
}

// WebhooksByID reads webhooks as they are now. Beside an error all are gone, or
// paused.
func (s *server) WebhooksByID(ctx context.Context, ids []int64) (found map[int64]*trigger.Webhook, err error) {
	found = map[int64]*trigger.Webhook{}
	var at time.Time
	err = s.call(ctx, "WebhooksByID", func(now time.Time) {
		at = now
		for _, id := range ids {
			if h := s.w.byID[id]; h != nil {
				w := h.Webhook
				found[id] = &w
			}
		}
	})
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	if err != nil {
		for _, id := range ids {
			found[id] = &trigger.Webhook{ID: id, State: trigger.Gone}
			if h := s.w.byID[id]; h != nil {
				found[id].OrganizationID = h.OrganizationID
			}
			if s.calls["WebhooksByID"]%2 == 0 {
				found[id].State = trigger.Paused
			}
		}
		return found, err
	}
	for id := range found {
		s.seen[id] = at
	}
	return found, nil
}

// FailWebhook is called for webhooks that are gone, or were a moment ago.
func (s *server) FailWebhook(ctx context.Context, orgID, webhookID int64, reason string) (n int, done bool, err error) {
	err = s.call(ctx, "FailWebhook", func(now time.Time) {
		h := s.w.byID[webhookID]
		if h.OrganizationID != orgID || !h.ended || reason != trigger.ReasonGone {
			s.w.wrong(nil, "the deliveries of webhook %d of organization %d, which is %s, are ended as %q", webhookID, orgID, h.State, reason)
		}
		if h.State.Receives() {
			return
		}
		dice := s.w.dice(s.number, s.calls["FailWebhook"])
		n = s.w.fail(h, reason, now, func(*debt) bool { return s.w.stormy() && dice.IntN(20) == 0 })
	})
	return n, n == 0 || err != nil, err
}

// MakeDays and the others are what the sweeper asks for.
func (s *server) MakeDays(ctx context.Context) error {
	return s.call(ctx, "MakeDays", func(time.Time) {})
}

// DropRequests and Erase have nothing to do.
func (s *server) DropRequests(ctx context.Context) error {
	return s.call(ctx, "DropRequests", func(time.Time) {})
}

// DropGone has nothing to do.
func (s *server) DropGone(ctx context.Context, _ time.Time) error {
	return s.call(ctx, "DropGone", func(time.Time) {})
}

// Erase is described above.
func (s *server) Erase(ctx context.Context) error {
	return s.call(ctx, "Erase", func(time.Time) {})
}

// DropPermits has nothing to do.
func (s *server) DropPermits(ctx context.Context) error {
	return s.call(ctx, "DropPermits", func(time.Time) {})
}

// DropDedup has nothing to do.
func (s *server) DropDedup(ctx context.Context, _ time.Time) error {
	return s.call(ctx, "DropDedup", func(time.Time) {})
}

// Expire ends what is too old, and nothing else.
func (s *server) Expire(ctx context.Context, before time.Time) (expired int, err error) {
	err = s.call(ctx, "Expire", func(now time.Time) {
		if now.Sub(before) < s.w.retention {
			s.w.wrong(nil, "deliveries expire after %v", now.Sub(before))
		}
		expired = s.w.expire(before, now)
	})
	return expired, err
}

// DropBefore drops events: an hour after the retention at the earliest, none
// that is still owed, and none that could not be seen as expired for an hour.
func (s *server) DropBefore(ctx context.Context, before time.Time) error {
	return s.call(ctx, "DropBefore", func(now time.Time) {
		for _, d := range s.w.debts {
			if !d.EventID.Time().Before(before) || s.w.events[d.EventID] == nil {
				continue
			}
			if d.state == trigger.DeliveryOpen {
				s.w.wrong(d, "its event goes while it is open")
			}
			if seen := now.Sub(d.endedAt); d.reason == trigger.ReasonExpired && seen < time.Hour-time.Minute {
				s.w.wrong(d, "it could be seen as expired for %v alone", seen)
			}
			if age := now.Sub(d.EventID.Time()); age < s.w.retention+time.Hour {
				s.w.wrong(d, "its event goes after %v", age)
			}
			s.w.dropped[d.EventID] = true
		}
		for id := range s.w.dropped {
			delete(s.w.events, id)
		}
	})
}
