package store

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

// A node shows that it lives by a row that it writes every beatEvery. That is a
// commit as any other: where it fails, or takes longer than beatLimit, nothing
// can be accepted, and the node is not ready, within beatEvery + beatLimit.
const (
	beatEvery = 3 * time.Second
	beatLimit = 1500 * time.Millisecond
	beatGap   = 500 * time.Millisecond // at least, though commits fail meanwhile
)

// beats is what is known of them.
type beats struct {
	soon   chan struct{} // holds a token if one is wanted now, since another commit has failed
	failed atomic.Bool   // another commit has failed, and no thorough beat has succeeded since

	mu    sync.Mutex
	begun time.Time // when the one under way began, by the process's clock; zero: there is none
	err   error     // of the last that ended
}

// errSlowCommit is for a beat that takes too long: the disk or the standby does
// not answer.
var errSlowCommit = errors.New("a commit takes over " + beatLimit.String())

// Committing returns Unavailable if this node can commit nothing, as far as its
// last beat tells: the database is read-only or full, does not sync, waits for a
// standby, or has a schema that is not ours.
func (s *Store) Committing() error {
	s.beats.mu.Lock()
	defer s.beats.mu.Unlock()
	err := s.beats.err
	if begun := s.beats.begun; err == nil && !begun.IsZero() && s.clock.monotonic().Sub(begun) > beatLimit {
		err = errSlowCommit
	}
	return wrap("commit", err)
}

// beat shows that this node lives.
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

// noteFailure is for a commit of the hot path that has failed. It may be alone in
// that: a beat is asked for, which tries more than its own row.
func (s *Store) noteFailure(err error) {
	if classify(err) == rejected { // it is the event's fault
		return
	}
	s.beats.failed.Store(true)
	s.beatSoon()
}

// beatSoon asks for a beat.
func (s *Store) beatSoon() {
	select {
	case s.beats.soon <- struct{}{}:
	default:
	}
}
