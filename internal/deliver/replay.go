package deliver

import (
	"context"
	"time"

	"golang.org/x/time/rate"

	"triggerd/internal/store"
	"triggerd/internal/trigger"
)

const (
	replayIdle = time.Second            // between two looks for replays, while there are none
	replayTick = 100 * time.Millisecond // and while there are
)

// replay goes on with replays until ctx ends: it has their deliveries made,
// and claims them into lanes of their own, which get a part of what the
// receivers bear.
func (e *Engine) replay(ctx context.Context) {
	timer := time.NewTimer(replayIdle)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		wait := replayIdle
		jobs, err := e.Store.RunningReplays(ctx)
		if err == nil && len(jobs) > 0 {
			wait = replayTick
			err = e.advanceReplays(ctx, jobs)
		}
		if err != nil && ctx.Err() == nil {
			e.Log.Warn("replays do not go on", "error", err)
			wait = replayIdle
		}
		if err == nil {
			e.endReplays(jobs)
		}
		timer.Reset(wait)
	}
}

// advanceReplays feeds each replay, and claims what there is room for.
func (e *Engine) advanceReplays(ctx context.Context, jobs []trigger.Replay) error {
	var due []store.Lane
	for _, job := range jobs {
		if _, err := e.Store.FeedReplay(ctx, job); err != nil {
			return err
		}
		if job.Queued == job.Delivered+job.Failed {
			continue // nothing was due a moment ago
		}
		if job.State == trigger.ReplayRunning && e.Store.ClockTrusted() {
			e.paceReplay(&job)
			due = append(due, store.Lane{Bucket: trigger.Bucket(job.OrganizationID), WebhookID: job.WebhookID, Job: job.ID})
		}
	}
	if len(due) == 0 {
		return nil
	}
	_, err := e.claim(ctx, due)
	return err
}

// paceReplay keeps a replay's pace: this node's share of it.
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

// endReplays gives back what waits of replays that do not run any more.
func (e *Engine) endReplays(jobs []trigger.Replay) {
	running := make(map[int64]bool, len(jobs))
	for _, job := range jobs {
		running[job.ID] = job.State == trigger.ReplayRunning
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for key, l := range e.lanes {
		if key.job != 0 && !running[key.job] {
			e.shedLane(l)
		}
	}
	for id := range e.paces {
		if !running[id] {
			delete(e.paces, id)
		}
	}
}
