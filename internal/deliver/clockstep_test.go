package deliver_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"triggerd/internal/deliver"
	"triggerd/internal/telemetry"
	"triggerd/internal/trigger"
)

// steppedStore is a store whose clock goes back on command.
type steppedStore struct {
	mu        sync.Mutex
	begun     time.Time
	steps     int
	untrusted bool
	failing   bool
	pulled    []time.Duration // when due times were pulled back
}

func (s *steppedStore) StepsBack() (int, time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.steps, time.Hour
}

func (s *steppedStore) ClockTrusted() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.untrusted
}

func (s *steppedStore) PullBack(context.Context, trigger.Schedule) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pulled = append(s.pulled, time.Since(s.begun))
	if s.failing {
		return 1, errors.New("away")
	}
	return 2, nil
}

// Due times are pulled back at the start, within a second of a step back, half
// a minute later, every ten minutes, and again after an error; never by a clock
// that is not trusted.
func TestClockWatcher(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &steppedStore{begun: time.Now(), untrusted: true}
		var log bytes.Buffer
		metrics := telemetry.New()
		w := &deliver.ClockWatcher{Store: s, Metrics: metrics, Log: slog.New(slog.NewTextHandler(&log, nil))}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- w.Run(ctx) }()
		at := func(since time.Duration, do func()) {
			<-time.After(since + 500*time.Millisecond - time.Since(s.begun))
			s.mu.Lock()
			defer s.mu.Unlock()
			do()
		}
		const sec = time.Second
		at(4*sec, func() { s.untrusted = false })
		at(100*sec, func() { s.steps = 1 })
		at(200*sec, func() { s.failing, s.steps = true, 2 })
		at(215*sec, func() { s.failing = false })
		at(900*sec, func() { s.untrusted, s.steps = true, 3 })
		at(907*sec, func() { s.untrusted = false })
		at(1000*sec, cancel)
		if err := <-ended; err != nil {
			t.Error(err)
		}
		want := []time.Duration{5 * sec, 101 * sec, 131 * sec, 201 * sec, 211 * sec, 221 * sec, 821 * sec, 908 * sec, 938 * sec}
		if !slices.Equal(s.pulled, want) {
			t.Errorf("pulled back at %v, want %v", s.pulled, want)
		}
		scrape := httptest.NewRecorder()
		metrics.Handler().ServeHTTP(scrape, httptest.NewRequest("GET", "/metrics", nil))
		if !strings.Contains(scrape.Body.String(), "triggerd_due_times_pulled_back_total 16\n") {
			t.Errorf("other than 16 due times were counted:\n%s", scrape.Body)
		}
		if n := strings.Count(log.String(), `level=WARN msg="the database's clock went back" by=1h0m0s due_times_pulled_back=2`); n != 2 {
			t.Errorf("%d lines of two steps that were pulled back:\n%s", n, log.String())
		}
	})
}

// No lease is longer than MaxLease, by which it is judged how far ahead a
// claimed delivery can be due.
func TestLongestLease(t *testing.T) {
	t.Parallel()
	c := deliver.Config{Timeout: trigger.MaxTimeout}
	if got := c.LeaseOf(&trigger.Webhook{Timeout: trigger.MaxTimeout}); got != trigger.MaxLease {
		t.Errorf("the longest lease is %v, want %v", got, trigger.MaxLease)
	}
}
