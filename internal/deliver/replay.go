package deliver

import (
	"context"
	"slices"
	"time"

	"golang.org/x/time/rate"

	"triggerd/internal/store"
	"triggerd/internal/trigger"
)

const (
	replayIdle = time.Second            // between two polls for replays, if there are none
	replayTick = 250 * time.Millisecond // if there are some, unless a lane runs empty

	replayRound = 500 * time.Millisecond // for several replays of one organization in one round
	replayClaim = 100 * time.Millisecond // between two claims in a round
)

// replay advances replays until ctx ends. It has their deliveries made and
// claims them into lanes of their own, which get a part of each receiver's
// attempts.
func (e *Engine) replay(ctx context.Context) {
	timer := time.NewTimer(replayIdle)
	defer timer.Stop()
	for after := int64(0); ; {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-e.again:
		}
		wait := replayIdle
		jobs, err := e.Store.RunningReplays(ctx, after)
		if err == nil {
			from := after
			if after = 0; len(jobs) == store.RunningPage {
				after = jobs[len(jobs)-1].ID
			}
			e.endReplays(jobs, from, after)
			var busy bool
			busy, err = e.advanceReplays(ctx, jobs)
			if err == nil && (busy || after != 0) {
				wait = replayTick
			}
		}
		if err != nil && ctx.Err() == nil {
			e.Log.Warn("cannot continue replays; will retry", "error", err)
			wait = replayIdle
		}
		timer.Reset(wait)
	}
}

// advanceReplays feeds replays and claims due deliveries as far as there is room.
// The replays of one organization, which may have many that read much, do not
// delay those of others: see inTurns; when replayRound is over, only organizations
// get a turn that had none. A replay that fails does not delay the others. busy
// reports whether there is more to do.
func (e *Engine) advanceReplays(ctx context.Context, jobs []trigger.Replay) (busy bool, err error) {
	begun := e.Now()
	claimed := begun
	fed := map[int64]int64{} // by organization: the last replay of this round
	var lanes []store.Lane
	for _, job := range inTurns(jobs, e.fed) {
		if now := e.Now(); len(lanes) > 0 && elapsed(now, claimed) > replayClaim {
			if _, _, err := e.claim(ctx, lanes); err != nil {
				return false, err
			}
			lanes, claimed = nil, now
		}
		if fed[job.OrganizationID] != 0 && elapsed(e.Now(), begun) > replayRound {
			busy = true // in the next round
			continue
		}
		fed[job.OrganizationID] = job.ID
		if e.feed(ctx, &job) {
			busy = true
			if e.paceReplay(&job); e.isHalfEmpty(laneKey{job.WebhookID, job.ID}) {
				lanes = append(lanes, store.Lane{Bucket: trigger.Bucket(job.OrganizationID), WebhookID: job.WebhookID, Job: job.ID})
			}
		}
	}
	e.fed = fed
	if len(lanes) > 0 {
		if _, _, err := e.claim(ctx, lanes); err != nil {
			return false, err
		}
	}
	return busy, nil
}

// feed has the next deliveries of a replay made, and reports whether some can be
// claimed.
func (e *Engine) feed(ctx context.Context, job *trigger.Replay) (due bool) {
	due, err := e.Store.FeedReplay(ctx, *job)
	if err != nil {
		if ctx.Err() == nil {
			e.Log.Warn("cannot continue a replay; will retry", "replay", job.ID, "organization_id", job.OrganizationID, "error", err)
		}
		return false
	}
	return due && job.State == trigger.ReplayRunning && e.Store.ClockTrusted()
}

// inTurns orders replays: first one of each organization, then the next of each,
// and so on. Those of one organization begin after the one that was fed last.
func inTurns(jobs []trigger.Replay, fed map[int64]int64) []trigger.Replay {
	of := map[int64][]trigger.Replay{}
	var organizations []int64
	for _, job := range jobs {
		if of[job.OrganizationID] == nil {
			organizations = append(organizations, job.OrganizationID)
		}
		of[job.OrganizationID] = append(of[job.OrganizationID], job)
	}
	for id, list := range of {
		at := slices.IndexFunc(list, func(job trigger.Replay) bool { return job.ID > fed[id] })
		if at > 0 {
			of[id] = slices.Concat(list[at:], list[:at])
		}
	}
	ordered := make([]trigger.Replay, 0, len(jobs))
	for rank := 0; len(ordered) < len(jobs); rank++ {
		for _, id := range organizations {
			if rank < len(of[id]) {
				ordered = append(ordered, of[id][rank])
			}
		}
	}
	return ordered
}

// paceReplay sets a replay's pace: this node's share of it.
func (e *Engine) paceReplay(job *trigger.Replay) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if job.Pace == 0 {
		delete(e.paces, job.ID)
		return
	}
	share := rate.Limit(job.Pace / float64(e.Store.Nodes()))
	limiter := e.paces[job.ID]
	if limiter == nil {
		limiter = rate.NewLimiter(share, 1)
		e.paces[job.ID] = limiter
	}
	if limiter.Limit() != share {
		limiter.SetLimitAt(e.Now(), share)
	}
}

// endReplays releases the queued deliveries of replays that no longer run. jobs
// are all running replays with from < id <= to; to is 0 for all after from.
func (e *Engine) endReplays(jobs []trigger.Replay, from, to int64) {
	running := make(map[int64]bool, len(jobs))
	for _, job := range jobs {
		running[job.ID] = job.State == trigger.ReplayRunning
	}
	ended := func(job int64) bool { return job > from && (to == 0 || job <= to) && !running[job] }
	e.mu.Lock()
	defer e.mu.Unlock()
	for key, l := range e.lanes {
		if l.cancelled = key.job != 0 && (l.cancelled && !running[key.job] || ended(key.job)); l.cancelled {
			e.evictLane(l)
		}
	}
	for id := range e.paces {
		if ended(id) {
			delete(e.paces, id)
		}
	}
}
