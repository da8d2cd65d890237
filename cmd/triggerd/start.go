package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"
	"time"

	"triggerd/internal/api"
	"triggerd/internal/store"
)

// A database that cannot be reached yet is tried again every openPause; every
// openTold tries the log says so.
const (
	openPause = time.Second
	openTold  = 10
)

// openMoment is how long an opening of the database may take before the server
// answers /livez, and the log says what it waits for.
const openMoment = 200 * time.Millisecond

// switching is a handler that can be replaced during requests.
type switching struct{ now atomic.Pointer[http.Handler] }

func (s *switching) set(h http.Handler) { s.now.Store(&h) }

// ServeHTTP implements [http.Handler].
func (s *switching) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	(*s.now.Load()).ServeHTTP(w, r)
}

// openStore opens the database. While the database is starting, for example
// after a reboot, or is being migrated, the server answers /livez and is not
// ready, until the database is open or ctx ends.
func (s *server) openStore(ctx context.Context, now func() time.Time) (*store.Store, error) {
	options := s.settings.store(now)
	options.Log = s.log
	for tries := 0; ; tries++ {
		tell := openTold * openPause
		if tries == 0 {
			tell = openMoment
		}
		st, err := s.openOnce(ctx, options, tell)
		switch {
		case err == nil:
			return st, nil
		case errors.Is(err, errStoppedHard):
			return nil, err
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case !errors.Is(err, store.ErrStarting):
			return nil, err
		}
		if err := s.awaitDatabase(ctx, now, tries, err); err != nil {
			return nil, err
		}
	}
}

// awaitDatabase serves the routes that need no database until it is time to try
// again. It fails if ctx ends, or serving fails. cause is why the database has
// not answered; tries is the number of tries.
func (s *server) awaitDatabase(ctx context.Context, now func() time.Time, tries int, cause error) error {
	s.beginStarting(now)
	if tries%openTold == 0 {
		s.log.Warn("this node waits for its database", "listening", s.listener.Addr().String(), "error", cause)
	}
	timer := time.NewTimer(openPause)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case err := <-s.served:
		return err
	case <-timer.C:
		return nil
	}
}

// openOnce tries to open the database. If that takes longer than tell, the
// server begins to serve, and the log says what the opening waits for.
func (s *server) openOnce(ctx context.Context, options store.Options, tell time.Duration) (*store.Store, error) {
	doing, changes := "the opening to begin", make(chan string, 16)
	options.Doing = func(what string) {
		select {
		case changes <- what:
		default: // the caller has returned
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type result struct {
		store *store.Store
		err   error
	}
	ended := make(chan result, 1)
	go func() {
		st, err := store.Open(ctx, options)
		ended <- result{st, err}
	}()
	timer := time.NewTimer(tell)
	defer timer.Stop()
	stopping, told := ctx.Done(), false
	for {
		select {
		case r := <-ended:
			return r.store, r.err
		case doing = <-changes:
			if told {
				s.tellOpening(doing)
			}
		case err := <-s.served:
			return nil, err
		case <-stopping:
			stopping = nil
			timer.Reset(s.stopTimeout)
		case <-timer.C:
			if stopping == nil {
				return nil, fmt.Errorf("%w, %v: opening the database", errStoppedHard, s.stopTimeout)
			}
			s.beginStarting(options.Now)
			s.tellOpening(doing)
			told = true
			timer.Reset(openTold * openPause)
		}
	}
}

// tellOpening logs what an opening of the database waits for.
func (s *server) tellOpening(what string) {
	s.log.Info("this node does not have its database yet", "listening", s.listener.Addr().String(), "waits_for", what)
}

// beginStarting begins to serve the routes that need no database, unless it is
// already serving.
func (s *server) beginStarting(now func() time.Time) {
	if s.served == nil {
		s.handler.set((&api.API{Now: now}).Starting())
		s.beginServing()
	}
}

// beginServing accepts connections until the server is shut down; served
// receives the reason.
func (s *server) beginServing() {
	s.served = make(chan error, 1)
	go func() { s.served <- s.serve() }()
}

// abandon ends a server that was not run.
func (s *server) abandon() error {
	err := s.listener.Close()
	if s.served != nil {
		return s.http.Close()
	}
	return err
}
