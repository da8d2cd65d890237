package deliver

import (
	"context"
	"time"

	"golang.org/x/time/rate"

	"triggerd/internal/store"
	"triggerd/internal/trigger"
)

const (
	replayIdle = time.Second            // between two polls for replays, if there are none
	replayTick = 250 * time.Millisecond // if there are some, unless a lane runs empty
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

// advanceReplays feeds each replay and claims due deliveries as far as there is
// room. busy reports whether there were any. A replay that fails does not delay
// the others.
func (e *Engine) advanceReplays(ctx context.Context, jobs []trigger.Replay) (busy bool, err error) {
	var lanes []store.Lane
	for _, job := range jobs {
		due, err := e.Store.FeedReplay(ctx, job)
		if err != nil {
			if ctx.Err() == nil {
				e.Log.Warn("cannot continue a replay; will retry", "replay", job.ID, "organization_id", job.OrganizationID, "error", err)
			}
			continue
		}
		if !due || job.State != trigger.ReplayRunning || !e.Store.ClockTrusted() {
			continue
		}
		busy = true
		if e.paceReplay(&job); e.isHalfEmpty(laneKey{job.WebhookID, job.ID}) {
			lanes = append(lanes, store.Lane{Bucket: trigger.Bucket(job.OrganizationID), WebhookID: job.WebhookID, Job: job.ID})
		}
	}
	if len(lanes) > 0 {
		if _, _, err := e.claim(ctx, lanes); err != nil {
			return false, err
		}
	}
	return busy, nil
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
