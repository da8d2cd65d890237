package deliver_test

import (
	"bytes"
	"context"
	"math/rand/v2"
	"slices"
	"time"

	"triggerd/internal/trigger"
)

// replay is a replay, what it has not owed yet, and what is open of it.
type replay struct {
	trigger.Replay
	queue
	todo []*debt
}

// replayWindow is how many deliveries of a replay are open at most.
const replayWindow = 40

// reasonCancelled says of a delivery that its replay was cancelled.
const reasonCancelled = "cancelled"

// repeat is an owner who replays what a webhook was owed, or changes the state of a
// replay.
func (w *world) repeat(dice *rand.Rand) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if n := len(w.replays); n > 0 && dice.IntN(3) == 0 {
		switch r := w.replays[dice.IntN(n)]; {
		case r.State == trigger.ReplayPaused:
			r.State = trigger.ReplayRunning
		case r.State == trigger.ReplayRunning && dice.IntN(2) == 0:
			r.State = trigger.ReplayPaused
		case r.State == trigger.ReplayRunning:
			r.State = trigger.ReplayCancelling
		}
		return
	}
	h := w.hooks[dice.IntN(len(w.hooks))]
	if h.State == trigger.Gone {
		return
	}
	r := &replay{Replay: trigger.Replay{
		ID: int64(len(w.replays) + 1), OrganizationID: h.OrganizationID, WebhookID: h.ID, State: trigger.ReplayRunning,
		Pace: []float64{0, 0.5, 10}[dice.IntN(3)],
	}}
	for key := range w.debts {
		if key.WebhookID == h.ID && key.Job == 0 && w.events[key.EventID] != nil {
			key.Job = r.ID
			r.todo = append(r.todo, &debt{DeliveryKey: key, hook: h, in: &r.queue})
		}
	}
	slices.SortFunc(r.todo, func(a, b *debt) int { return bytes.Compare(a.EventID[:], b.EventID[:]) })
	for _, d := range r.todo {
		w.numbers++
		d.number = w.numbers
	}
	w.replays = append(w.replays, r)
}

// drop removes the deliveries of a replay that nobody is at, or all of them.
func (m *model) drop(r *replay, now time.Time, all bool) {
	for _, d := range slices.Clone(r.open) {
		if all || d.claim.IsZero() || !d.due.After(now) {
			m.end(d, trigger.DeliveryFailed, reasonCancelled, now)
		}
	}
}

// RunningReplays lists those that go on.
func (s *server) RunningReplays(ctx context.Context, after int64) (list []trigger.Replay, err error) {
	err = s.call(ctx, "RunningReplays", func(time.Time) {
		for _, r := range s.w.replays {
			if r.ID > after && (r.State == trigger.ReplayRunning || r.State == trigger.ReplayCancelling) {
				list = append(list, r.Replay)
			}
		}
	})
	if err != nil {
		return nil, err
	}
	return list, nil
}

// FeedReplay owes some more of a replay, or ends it.
func (s *server) FeedReplay(ctx context.Context, seen trigger.Replay) (due bool, err error) {
	err = s.call(ctx, "FeedReplay", func(at time.Time) {
		now := s.Now()
		r := s.w.replays[seen.ID-1]
		switch {
		case r.State == trigger.ReplayCancelling && len(r.open) > 0:
			s.w.drop(r, now, false)
		case r.State == trigger.ReplayCancelling:
			r.State = trigger.ReplayCancelled
		case r.State != trigger.ReplayRunning || len(r.open) > replayWindow/2:
		case s.w.byID[r.WebhookID].State == trigger.Gone:
			r.State = trigger.ReplayCancelling
		case len(r.todo) == 0 && len(r.open) == 0:
			r.State = trigger.ReplayDone
			s.w.met[replayed]++
		default:
			n := min(len(r.todo), replayWindow-len(r.open))
			for _, d := range r.todo[:n] {
				d.created, d.due = at, now
				s.w.owe(d)
			}
			r.todo = r.todo[n:]
		}
		due = slices.ContainsFunc(r.open, func(d *debt) bool { return !d.due.After(now) })
	})
	return due || err != nil, err
}
