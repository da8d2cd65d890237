package deliver_test

import (
	"slices"
	"time"

	"triggerd/internal/trigger"
)

// freshness is how long after a change of a webhook a request may begin that
// does not know of it.
const freshness = 1500 * time.Millisecond

// judgeWebhook judges a request by the state of its webhook, as it leaves the
// server.
func (s *server) judgeWebhook(snd *sending, now time.Time) {
	d, h := snd.debt, snd.hook
	switch {
	case s.running[h.ID] > h.concurrency():
		s.w.wrong(d, "%d requests at a time", s.running[h.ID])
	case h.State != trigger.Active && now.Sub(h.changed) > freshness+slack:
		s.w.wrong(d, "a request %v after the webhook became %s", now.Sub(h.changed), h.State)
	case snd.url != h.URL && now.Sub(h.moved) > freshness+slack:
		s.w.wrong(d, "a request to %s, %v after the webhook got another URL", snd.url, now.Sub(h.moved))
	case !h.left[s].IsZero() && h.left[s].After(h.changed) && now.Sub(h.left[s]) > slack:
		s.w.wrong(d, "a request %v after its receiver wanted no more", now.Sub(h.left[s]))
	}
	s.judgeProbe(snd, now)
	s.w.judgeRate(snd, now)
}

// judgeProbe judges a request while a breaker is open: it belongs to the probe
// that the database has granted, or its server may not know yet. At most one
// probe is under way, unless its lease ran out.
func (s *server) judgeProbe(snd *sending, now time.Time) {
	h := snd.hook
	if h.HeldUntil.IsZero() || now.Sub(h.opened) <= freshness+slack || s.w.unsteady(now) {
		return
	}
	p := h.probe
	switch {
	case p == nil || p.server != s || len(p.sent) >= mostProbed:
		s.w.wrong(snd.debt, "a request %v after the breaker opened, until %v", now.Sub(h.opened), h.HeldUntil.Sub(s.w.begun))
		return
	case now.After(p.until) && !s.awake.After(now):
		s.w.wrong(snd.debt, "a probe %v too late", now.Sub(p.until))
	}
	if last := h.probing; last != nil && last != p && now.Before(last.until) &&
		slices.ContainsFunc(last.sent, func(snd *sending) bool { return snd.end.IsZero() }) {
		s.w.wrong(snd.debt, "two probes at a time, the other by server %d", last.server.number)
	}
	p.sent = append(p.sent, snd)
	h.probing = p
	s.w.met[probeSent]++
}

// judgeRate judges how many requests a webhook with a rate gets, in any time
// up to now.
func (w *world) judgeRate(snd *sending, now time.Time) {
	h := snd.hook
	if h.Rate == 0 {
		return
	}
	h.asked = append(h.asked, now)
	const window = 200 // that many requests back
	h.asked = h.asked[max(0, len(h.asked)-window):]
	for i, since := range h.asked {
		n := float64(len(h.asked) - i)
		rate := h.Rate
		if since.Before(w.changed.Add(time.Minute)) {
			rate *= 2 // the others' shares are another by now, and some of the old ones are still to be used
		}
		if most := rate*now.Sub(since).Seconds() + float64(w.most); n > most+1e-3 {
			w.wrong(snd.debt, "%v requests in %v, of %v a second", n, now.Sub(since), h.Rate)
		}
	}
}

// judgeTouch judges that something is claimed, or written, of a webhook: not
// while it is paused, but for what was under way. Claimed says which.
func (w *world) judgeTouch(d *debt, now time.Time, claimed bool) {
	h, until := d.hook, freshness+slack
	if !claimed {
		until += 2*w.timeoutOf(h) + 2*time.Second
		if h.Rate > 0 { // what waits for its turn by the rate is given back when that comes
			until += w.timeout + time.Duration(float64(w.most)/h.Rate*float64(time.Second))
		}
	}
	if wait := now.Sub(h.changed); w.calm && h.State == trigger.Paused && wait > until {
		w.wrong(d, "it is touched (claimed: %v), %v after it was paused", claimed, wait)
	}
}

// judgeAdvance judges what an owner is told of a failing webhook.
func (w *world) judgeAdvance(h *hook, seen trigger.Health, stage trigger.HealthStage, n trigger.Notice) {
	e := w.endurance
	failing := seen.LastAt.Sub(seen.Since)
	least := e.Attempts
	if stage == trigger.HealthWarned {
		least = trigger.WarnAttempts
	}
	want := map[trigger.HealthStage]string{
		trigger.HealthWarned: trigger.WebhookFailing, trigger.HealthPaused: trigger.WebhookPaused, trigger.HealthRecovered: trigger.WebhookRecovered,
	}[stage]
	switch {
	case n.Type != want || n.About != h.ID:
		w.wrong(nil, "stage %d of webhook %d is told as %+v", stage, h.ID, n)
	case stage == trigger.HealthRecovered:
	case failing < e.Pause/5 || stage == trigger.HealthPaused && failing < e.Pause || seen.Failures < least:
		w.wrong(nil, "webhook %d is in stage %d after %d failures in %v", h.ID, stage, seen.Failures, failing)
	}
}

// unbound says that the owner has set no limit.
func (h *hook) unbound() bool { return h.Rate == 0 && h.Concurrency == 0 }

// concurrency is how many requests at a time a server may have.
func (h *hook) concurrency() int {
	if h.Concurrency > 0 {
		return h.Concurrency
	}
	return 16
}

func (w *world) timeoutOf(h *hook) time.Duration {
	if h.Timeout > 0 {
		return h.Timeout
	}
	return w.timeout
}

func (w *world) leaseOf(h *hook) time.Duration {
	return 2*max(w.timeout, w.timeoutOf(h)) + 2*time.Second
}

func (w *world) scheduleOf(h *hook) trigger.Schedule {
	if h.Schedule != nil {
		return h.Schedule
	}
	return w.schedule
}
