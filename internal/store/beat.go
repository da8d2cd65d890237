package store

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

// A node writes its row, the beat, every beatEvery to show that it lives. That
// is a commit like any other. If it fails or takes longer than beatLimit,
// nothing can be accepted, and the node becomes not ready within beatEvery +
// beatLimit.
const (
	beatEvery = 3 * time.Second
	beatLimit = 1500 * time.Millisecond
	beatGap   = 500 * time.Millisecond // minimum between beats, even if commits fail
)

// beats is the state of this node's beats.
type beats struct {
	soon   chan struct{} // holds a token if a beat is wanted now, because another commit failed
	failed atomic.Bool   // another commit failed, and no thorough beat has succeeded since

	mu    sync.Mutex
	begun time.Time // start of the current beat, by the process's clock; zero between beats
	err   error     // of the last beat that ended
}

// errSlowCommit is the error of a beat that takes too long, because the disk or
// the standby does not answer.
var errSlowCommit = errors.New("a commit takes over " + beatLimit.String())

// Committing returns Unavailable if, according to its last beat, this node
// cannot commit: the database is read-only or full, does not sync, waits for a
// standby, or has an unknown schema.
func (s *Store) Committing() error {
	s.beats.mu.Lock()
	defer s.beats.mu.Unlock()
	err := s.beats.err
	if begun := s.beats.begun; err == nil && !begun.IsZero() && s.clock.monotonic().Sub(begun) > beatLimit {
		err = errSlowCommit
	}
	return wrap("commit", err)
}

// beat writes this node's row and tests commits.
func (s *Store) beat(ctx context.Context) error {
	s.beats.mu.Lock()
	s.beats.begun = s.clock.monotonic()
	s.beats.mu.Unlock()
	err := checkSchema(ctx, s.hot, s.schema)
	if err == nil {
		err = s.TouchNode(ctx)
	}
	if thorough := s.beats.failed.Load(); err == nil {
		if err = s.dialect.beat(ctx, newID(s.Now()), thorough); err == nil && thorough {
			s.beats.failed.Store(false)
		}
	}
	s.beats.mu.Lock()
	before, took := s.beats.err, s.clock.monotonic().Sub(s.beats.begun)
	s.beats.begun, s.beats.err = time.Time{}, err
	s.beats.mu.Unlock()
	if err == nil {
		s.releaseLost(ctx)
	}
	switch {
	case ctx.Err() != nil:
	case err != nil && before == nil:
		s.log.Error("cannot commit: this node is not ready", "error", err)
	case err == nil && before != nil:
		s.log.Info("commits succeed again: this node is ready")
	case took > beatLimit:
		s.log.Warn("a commit took too long, and this node was not ready meanwhile: check the disk, the standby and locks", "took", took)
	}
	return err
}

// keepBeating beats until ctx ends. It returns an error if a newer program has
// changed the database so that this one must stop.
func (s *Store) keepBeating(ctx context.Context) error {
	tick := time.NewTicker(beatEvery)
	defer tick.Stop()
	for {
		if err := s.beat(ctx); errors.Is(err, errOutdated) {
			return err
		}
		gap := time.NewTimer(beatGap)
		select {
		case <-ctx.Done():
		case <-gap.C:
		}
		gap.Stop()
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-s.beats.soon:
		}
	}
}

// noteFailure handles a failed commit of the hot path. Beats may still succeed,
// because they write only the node's row. So it requests a thorough beat, which
// writes more.
func (s *Store) noteFailure(err error) {
	if classify(err) == rejected { // the event is at fault
		return
	}
	s.beats.failed.Store(true)
	s.beatSoon()
}

// beatSoon requests a beat.
func (s *Store) beatSoon() {
	select {
	case s.beats.soon <- struct{}{}:
	default:
	}
}
