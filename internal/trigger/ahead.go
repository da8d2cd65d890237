package trigger

import "time"

// Bounds of how far ahead of now a stored time can lie, unless it was taken from
// a clock that was ahead.
const (
	// MaxLease is the longest lease of a delivery to a webhook: the lease with
	// MaxTimeout. It does not depend on the webhook's settings, because they may
	// have changed since the claim.
	MaxLease = 2*MaxTimeout + 2*time.Second
	// MaxInboxLease is the longest lease of an event of the inbox, and the
	// longest delay after which a consumer can get an event again.
	MaxInboxLease = 12 * time.Hour
	// MaxBreakerOpen is the longest time for which a breaker is open, with
	// MaxRetryAfter.
	MaxBreakerOpen = MaxRetryAfter + 2*time.Minute
	// MaxClockSkew is how far ahead of now a time taken a moment ago can be, and
	// how far the ids of a node can run ahead of the clock.
	MaxClockSkew = time.Minute
)

// PulledBack returns the latest time at which an open delivery can be due, if
// its DueAt lies further ahead because the clock went back since it was set;
// else it returns DueAt. A retry never comes before its pause has passed since
// its last attempt.
//
// s is the schedule of its webhook. deliverAt is the DeliverAt of its event,
// before which it is not due. tried is when its last attempt ended, by the clock
// of that time; zero if unknown.
func (d Delivery) PulledBack(s Schedule, deliverAt, tried, now time.Time) time.Time {
	from := later(now, deliverAt)
	if !d.Claim.IsZero() && d.Attempts > 0 && d.WebhookID != InboxID && !tried.IsZero() && !tried.After(now) {
		// A node whose clock was ahead claimed it, perhaps before its pause was over.
		unclaimed := d
		unclaimed.Claim = ID{}
		from = later(from, tried.Add(unclaimed.maxWait(s)))
	}
	if latest := from.Add(d.maxWait(s)); !d.DueAt.After(latest) {
		return d.DueAt
	} else if d.Claim.IsZero() && d.Attempts == 0 {
		return from
	} else if begun := d.waitsSince(tried); begun.After(from) && !begun.After(d.DueAt) {
		return earlier(latest, from.Add(d.DueAt.Sub(begun))) // the whole wait, from now on
	} else {
		return latest
	}
}

// maxWait returns how far ahead of now the delivery can be due.
func (d Delivery) maxWait(s Schedule) time.Duration {
	switch {
	case d.WebhookID == InboxID && d.Attempts > 0:
		return MaxInboxLease
	case !d.Claim.IsZero() || d.Attempts == 0:
		return MaxLease
	}
	pause, ok := s.Pause(d.Attempts, 1)
	if !ok { // the schedule was longer when it was tried
		pause = MaxPause + MaxPause/5
	}
	return max(pause, MaxRetryAfter)
}

// waitsSince returns when the present wait began, if known: a lease begins with
// the claim, a pause with the end of the last attempt.
func (d Delivery) waitsSince(tried time.Time) time.Time {
	if d.Claim.IsZero() {
		return tried
	}
	return d.Claim.Time()
}

// PulledBack returns the health without times that lie ahead of now because the
// clock went back since they were set, and the latest time until which the
// breaker can be open, if heldUntil lies further ahead. The time for which the
// webhook has been failing does not change.
func (h Health) PulledBack(heldUntil, now time.Time) (Health, time.Time) {
	if latest := now.Add(MaxBreakerOpen); heldUntil.After(latest) {
		if h.LastAt.After(now) && heldUntil.After(h.LastAt) {
			latest = earlier(latest, now.Add(heldUntil.Sub(h.LastAt)))
		}
		heldUntil = latest
	}
	if ahead := h.LastAt.Sub(now); ahead > MaxClockSkew {
		if h.LastAt = now; h.Since.After(now) {
			h.Since = h.Since.Add(-ahead)
		}
	}
	if h.Since.After(now.Add(MaxClockSkew)) {
		h.Since = h.LastAt
	}
	return h, heldUntil
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}
