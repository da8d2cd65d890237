package trigger

import "time"

// Bounds of how far ahead of now a stored time can lie, unless the clock that
// it was taken from ran ahead at the time.
const (
	// MaxLease is the longest lease of a delivery to a webhook: that of
	// MaxTimeout. It does not follow the webhook's settings, because those may
	// have changed since the claim.
	MaxLease = 2*MaxTimeout + 2*time.Second
	// MaxInboxLease is the longest lease of an event of the inbox, and the
	// longest delay after which a consumer can get an event again.
	MaxInboxLease = 12 * time.Hour
	// MaxBreakerOpen is the longest time for which a breaker is open, with
	// MaxRetryAfter.
	MaxBreakerOpen = MaxRetryAfter + 2*time.Minute
	// MaxClockSkew is how far ahead of now a time is that was taken a moment
	// ago, at most, and by how much the ids of a node run ahead of the clock.
	MaxClockSkew = time.Minute
)

// PulledBack returns the time at which an open delivery can be due at the
// latest, if its DueAt lies further ahead because the clock went back since it
// was set; else it returns DueAt. A retry never comes before its pause has
// passed since its last attempt.
//
// The schedule is that of its webhook; deliverAt is that of its event, before
// which it is not due; tried is when its last attempt ended, by the clock of
// that time, zero if that is not known.
func (d Delivery) PulledBack(s Schedule, deliverAt, tried, now time.Time) time.Time {
	from := later(now, deliverAt)
	if !d.Claim.IsZero() && d.Attempts > 0 && d.WebhookID != InboxID && !tried.IsZero() && !tried.After(now) {
		// A clock that was ahead has claimed it, perhaps before its pause was over.
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

// maxWait is how far ahead of now the delivery can be due.
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

// waitsSince is when the present wait began, as far as that is known: the lease
// with the claim, the pause with the end of the last attempt.
func (d Delivery) waitsSince(tried time.Time) time.Time {
	if d.Claim.IsZero() {
		return tried
	}
	return d.Claim.Time()
}

// PulledBack returns the health without times that lie ahead of now because the
// clock went back since they were set, and until when the breaker can be open
// at the latest, if heldUntil lies further ahead. How long the webhook has been
// failing stays as it is.
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
