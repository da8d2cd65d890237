package deliver_test

import (
	"context"
	"fmt"
	"time"

	"triggerd/internal/store"
	"triggerd/internal/trigger"
)

// breaker is that of a webhook, as the database has it.
type breaker struct {
	opened  time.Time // when it opened; zero: it is closed
	liftAt  time.Time // a success lifts it if its attempt began no earlier
	probe   *probing  // the last that the database has granted
	probing *probing  // the last that was made
}

// probing is the leave to make some attempts while a breaker is open.
type probing struct {
	server *server
	until  time.Time
	sent   []*sending
}

// mostProbed is how many attempts a probe may have.
const mostProbed = 4

// health is how a webhook fares.
type health struct{ trigger.Health }

// row is the webhook's row in webhook_health; it is made if it has none.
func (h *hook) row(now time.Time) *health {
	if h.health == nil {
		h.health = &health{Health: trigger.Health{OrganizationID: h.OrganizationID, WebhookID: h.ID, Since: now, LastAt: now}}
	}
	return h.health
}

// setHeld changes the breaker.
func (h *hook) setHeld(until time.Time, holds int, now time.Time) {
	switch {
	case until.IsZero():
		h.opened, h.probe, h.probing = time.Time{}, nil, nil
	case h.opened.IsZero():
		h.opened = now
	}
	h.HeldUntil, h.Holds = until, holds
}

// heal forgets what the row says, at a resumption, or at a success of an
// attempt that began at some time.
func (h *hook) heal(stage trigger.HealthStage, began, now time.Time) {
	lifted := !h.liftAt.After(began)
	if lifted {
		h.setHeld(time.Time{}, 0, now)
		h.liftAt = time.Time{}
	}
	if h.health == nil {
		return
	}
	if h.health.Stage == trigger.HealthNoted && !lifted {
		h.health.Failures = 0
		return
	}
	if h.health.Stage == trigger.HealthNoted {
		h.health = nil
		return
	}
	h.health.Stage, h.health.Failures = stage, 0
}

// setState makes a webhook active, paused or gone; health follows.
func (h *hook) setState(state trigger.WebhookState, now time.Time) {
	before := h.State
	if state != before {
		h.State, h.changed, h.troubled = state, now, true
		h.AsOf++
		h.ended = h.ended || state == trigger.Gone
	}
	switch {
	case state == trigger.Gone, before == trigger.Gone:
		h.setHeld(time.Time{}, 0, now)
		h.health = nil
	case state == trigger.Active && before == trigger.Paused:
		h.renew(now)
	}
}

// renew forgets how a webhook has fared: it is resumed, or has another URL.
func (h *hook) renew(now time.Time) {
	h.liftAt = time.Time{}
	if h.health == nil {
		h.setHeld(time.Time{}, 0, now)
		return
	}
	stage := h.health.Stage
	if stage == trigger.HealthPaused {
		stage = trigger.HealthWarned
	}
	h.heal(stage, now, now)
	if h.health != nil {
		h.health.Since, h.health.LastAt = now, now
	}
}

// move gives a webhook another URL.
func (h *hook) move(now time.Time) {
	h.AsOf++
	h.URL = fmt.Sprintf("http://hook%d/%d", h.ID, h.AsOf)
	h.changed, h.moved, h.troubled, h.asks = now, now, true, 0
	if h.State.Receives() {
		h.renew(now)
	}
}

// mark is what Store.Finish makes of a group of results, beside the rows.
func (m *model) mark(results []store.Result, now time.Time) {
	fineAt := map[int64]time.Time{}
	counts := func(a *trigger.Attempt) bool { return a.Outcome != "" && a.Error != trigger.ReasonNoEvent }
	for _, r := range results {
		a := &r.Attempt
		if counts(a) && a.Outcome == trigger.Success && a.At.After(fineAt[a.WebhookID]) {
			fineAt[a.WebhookID] = a.At
		}
	}
	for id, began := range fineAt {
		m.byID[id].heal(trigger.HealthRecovered, began, now)
	}
	for _, r := range results {
		a := &r.Attempt
		if !counts(a) || a.Outcome == trigger.Success || !a.At.After(fineAt[a.WebhookID]) {
			continue
		}
		row := m.byID[a.WebhookID].row(a.At)
		if row.Failures == 0 {
			row.Since = a.At
		}
		if row.Failures++; a.At.After(row.LastAt) {
			row.LastAt = a.At
		}
	}
}

// StopWebhook is called by a server whose request was answered so.
func (s *server) StopWebhook(ctx context.Context, stop store.Stop) (stopped bool, err error) {
	err = s.call(ctx, "StopWebhook", func(now time.Time) {
		h := s.w.byID[stop.WebhookID]
		if h.OrganizationID != stop.OrganizationID || h.wishes == 0 {
			s.w.wrong(nil, "webhook %d of organization %d is made %s", stop.WebhookID, stop.OrganizationID, stop.State)
		}
		switch {
		case h.State == trigger.Gone || h.State == stop.State:
			stopped = true
		case stop.AsOf < h.AsOf:
			s.w.met[outdated]++
		default:
			if h.wished.Before(h.changed) && !s.w.unsteady(now) {
				s.w.wrong(nil, "webhook %d is made %s by an answer to what was sent before it changed", h.ID, stop.State)
			}
			h.setState(stop.State, now)
			stopped = true
		}
	})
	return stopped || err != nil, err
}

// Holds lists the breakers that are open. Beside an error, all are, or none is.
func (s *server) Holds(ctx context.Context) (list []store.Hold, err error) {
	err = s.call(ctx, "Holds", func(time.Time) {
		for _, h := range s.w.hooks {
			if !h.HeldUntil.IsZero() {
				list = append(list, store.Hold{WebhookID: h.ID, Until: h.HeldUntil, Holds: h.Holds})
			}
		}
	})
	if err != nil {
		list = nil
		for _, h := range s.w.hooks {
			list = append(list, store.Hold{WebhookID: h.ID, Until: s.Now().Add(time.Hour)})
		}
		if s.holdsRead.Add(1)%2 == 0 {
			list = nil
		}
	}
	return list, err
}

const (
	held          = "a breaker opened"
	heldMeanwhile = "a breaker was another by then"
	probed        = "a probe was granted"
	probeLost     = "a probe was not granted"
	probeSent     = "a probe was sent"
	outdated      = "an answer to what was sent before a webhook changed did not stop it"
	mended        = "a delivery waited until its receiver was mended"
	replayed      = "a replay came to its end"
	revived       = "a webhook that was gone was resumed"
	relocated     = "a webhook got another URL"
)

// Bounds of the breaker, as they are promised.
const (
	firstHeld = time.Second
	mostHold  = time.Minute
	spread    = 1.2
)

// SetBreaker opens a breaker, for as long as it may be open, or closes it.
func (s *server) SetBreaker(ctx context.Context, c store.BreakerChange) error {
	return s.call(ctx, "SetBreaker", func(now time.Time) {
		h := s.w.byID[c.WebhookID]
		if h.OrganizationID != c.OrganizationID {
			s.w.wrong(nil, "the breaker of webhook %d of organization %d is set", c.WebhookID, c.OrganizationID)
		}
		if c.AsOf < h.AsOf || !h.HeldUntil.Equal(c.Seen) && !(c.Asked && h.liftAt.Before(c.LiftAt)) {
			s.w.met[heldMeanwhile]++
			return
		}
		if h.probing != nil && h.probing.server == s && !c.Seen.IsZero() {
			h.probing = nil // it has seen enough
		}
		if c.Until.IsZero() {
			h.setHeld(c.Until, 0, now)
			h.liftAt = time.Time{}
			return
		}
		if !s.w.unsteady(now) {
			s.judgeHold(h, c, s.Now())
		}
		s.w.met[held]++
		h.row(s.Now())
		holds := h.Holds
		if c.Until.After(s.Now()) { // not of a probe that was not made
			holds++
		}
		h.setHeld(c.Until, holds, now)
		if !c.LiftAt.IsZero() {
			h.liftAt = c.LiftAt
		}
	})
}

// judgeHold judges for how long a breaker opens: as long as its receiver has
// asked for, or as it has been open before.
func (s *server) judgeHold(h *hook, c store.BreakerChange, now time.Time) {
	most := firstHeld
	if !c.Seen.IsZero() {
		most = min(firstHeld<<min(h.Holds, 20), mostHold)
	}
	most = time.Duration(float64(most) * spread)
	if c.Asked {
		most = h.asks
	}
	if hold := c.Until.Sub(now); hold > most+slack {
		s.w.wrong(nil, "the breaker of webhook %d opens for %v after %d times, and may for %v", h.ID, hold, h.Holds, most)
	}
}

// Probe grants one attempt while a breaker is open, to one server.
func (s *server) Probe(ctx context.Context, webhookID int64, seen, until time.Time) (ok bool, err error) {
	err = s.call(ctx, "Probe", func(now time.Time) {
		h := s.w.byID[webhookID]
		if (until.Sub(s.Now()) > s.w.leaseOf(h)+slack || seen.After(s.Now())) && !s.w.unsteady(now) {
			s.w.wrong(nil, "a probe of webhook %d until %v, of a breaker that is open until %v", webhookID, until, seen)
		}
		if ok = h.HeldUntil.Equal(seen); !ok {
			s.w.met[probeLost]++
			return
		}
		h.setHeld(until, h.Holds, now)
		h.probe = &probing{server: s, until: now.Add(until.Sub(s.Now()))}
		s.w.met[probed]++
	})
	return ok || err != nil, err
}

// Failing lists webhooks of which something is to be told.
func (s *server) Failing(ctx context.Context, e trigger.Endurance) (list []trigger.Health, err error) {
	err = s.call(ctx, "Failing", func(time.Time) {
		for _, h := range s.w.hooks {
			if h.health == nil {
				continue
			}
			if _, _, due := h.health.Due(e); due {
				list = append(list, h.health.Health)
			}
		}
	})
	if err != nil {
		list = nil
		for _, h := range s.w.hooks {
			list = append(list, trigger.Health{WebhookID: h.ID, Stage: trigger.HealthRecovered})
		}
	}
	return list, err
}

// Advance notes a stage, and tells of it, once.
func (s *server) Advance(ctx context.Context, seen trigger.Health, stage trigger.HealthStage, n trigger.Notice) error {
	return s.call(ctx, "Advance", func(now time.Time) {
		h := s.w.byID[seen.WebhookID]
		if seen.OrganizationID != h.OrganizationID {
			s.w.wrong(nil, "webhook %d of organization %d is noted as %d", h.ID, seen.OrganizationID, stage)
		}
		if h.health == nil || h.health.Stage != seen.Stage {
			return
		}
		s.w.judgeAdvance(h, seen, stage, n)
		row := h.health
		row.Stage = stage
		switch {
		case stage == trigger.HealthRecovered && row.Failures == 0:
			h.setHeld(time.Time{}, 0, now)
			h.health = nil
		case stage == trigger.HealthRecovered:
			row.Stage = trigger.HealthNoted
		case stage == trigger.HealthPaused:
			if h.State != trigger.Active {
				return
			}
			h.setState(trigger.Paused, now)
		}
		h.told = append(h.told, n.Type)
	})
}
