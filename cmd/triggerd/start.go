package main

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"
	"time"

	"triggerd/internal/api"
	"triggerd/internal/store"
)

// A database that cannot be reached yet is asked again each openPause, and each
// openTold of them the log says so.
const (
	openPause = time.Second
	openTold  = 10
)

// switching is a handler that another one takes the place of, while requests
// come.
type switching struct{ now atomic.Pointer[http.Handler] }

func (s *switching) set(h http.Handler) { s.now.Store(&h) }

// ServeHTTP implements [http.Handler].
func (s *switching) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	(*s.now.Load()).ServeHTTP(w, r)
}

// openStore opens the database. While that is starting, as after a restart of
// the whole machine, the server answers that it lives and is not ready, until
// there is a database or ctx ends.
func (s *server) openStore(ctx context.Context, now func() time.Time) (*store.Store, error) {
	options := s.settings.store(now)
	options.Log = s.log
	for tries := 0; ; tries++ {
		st, err := store.Open(ctx, options)
		switch {
		case err == nil:
			return st, nil
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case !errors.Is(err, store.ErrStarting):
			return nil, err
		}
		if tries == 0 {
			s.handler.set((&api.API{Now: now}).Starting())
			s.beginServing()
		}
		if tries%openTold == 0 {
			s.log.Warn("this node waits for its database", "listening", s.listener.Addr().String(), "error", err)
		}
		timer := time.NewTimer(openPause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil, ctx.Err()
		case err := <-s.served:
			timer.Stop()
			return nil, err
		case <-timer.C:
		}
	}
}

// beginServing takes connections, until the server is shut down: served tells
// why.
func (s *server) beginServing() {
	s.served = make(chan error, 1)
	go func() { s.served <- s.serve() }()
}

// abandon ends a server that does not run.
func (s *server) abandon() error {
	err := s.listener.Close()
	if s.served != nil {
		return s.http.Close()
	}
	return err
}
