package deliver

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"testing"
	"time"

	"triggerd/internal/trigger"
)

// slowFeeds has replays of which each step takes long.
type slowFeeds struct {
	Store // nil: nothing else is used
	now   time.Time
	fed   []int64
}

func (s *slowFeeds) FeedReplay(_ context.Context, job trigger.Replay) (bool, error) {
	s.now = s.now.Add(100 * time.Millisecond)
	s.fed = append(s.fed, job.ID)
	return false, nil
}

// Many replays of one organization, of which each reads for long, do not delay
// those of others, and each of them gets on.
func TestReplaysTakeTurns(t *testing.T) {
	t.Parallel()
	s := &slowFeeds{now: time.Unix(1, 0)}
	e := New(Config{Store: s, Transport: http.DefaultTransport, Now: func() time.Time { return s.now }, Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
	var jobs []trigger.Replay
	for id := range int64(50) {
		jobs = append(jobs, trigger.Replay{ID: id + 1, OrganizationID: 1, State: trigger.ReplayRunning})
	}
	jobs = append(jobs,
		trigger.Replay{ID: 51, OrganizationID: 2, State: trigger.ReplayRunning},
		trigger.Replay{ID: 52, OrganizationID: 3, State: trigger.ReplayRunning})
	times := map[int64]int{}
	const rounds = 25
	for round := range rounds {
		s.fed = nil
		busy, err := e.advanceReplays(t.Context(), jobs)
		if err != nil || !busy {
			t.Fatalf("round %d: busy %v, %v", round, busy, err)
		}
		if len(s.fed) < 3 || len(s.fed) > 8 || s.fed[1] != 51 || s.fed[2] != 52 {
			t.Fatalf("round %d feeds %v, want one of each organization first, and some more", round, s.fed)
		}
		for _, id := range s.fed {
			times[id]++
		}
	}
	for _, job := range jobs {
		if n := times[job.ID]; n < 2 {
			t.Errorf("replay %d of organization %d is fed %d times in %d rounds", job.ID, job.OrganizationID, n, rounds)
		}
	}
}
