package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"triggerd/internal/api"
	"triggerd/internal/deliver"
	"triggerd/internal/ingest"
	"triggerd/internal/store"
	"triggerd/internal/telemetry"
	"triggerd/internal/trigger"
)

// Timeouts of the stop.
const (
	drainTimeout = 6 * time.Second  // for requests under way
	stopTimeout  = 14 * time.Second // for the whole stop
)

// Deadlines of connections.
const (
	headerTimeout = 5 * time.Second
	readTimeout   = headerTimeout + 15*time.Second // header and body
	writeTimeout  = 60 * time.Second
	maxHeader     = 16 << 10 // bytes; net/http allows 4 KiB more
)

type serveCommand struct {
	settings
}

func (c *serveCommand) run(ctx context.Context, errOut io.Writer, now func() time.Time) error {
	lines := newLineWriter(errOut, newLog(errOut, c.settings))
	defer lines.close()
	log := newLog(lines, c.settings)
	quietPackages(log)
	s, err := newServer(ctx, c.settings, log, now)
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) { // during the wait for the database
		log.Info("stopped")
		return nil
	}
	if err != nil {
		return err
	}
	s.api.Metrics.Counter("log_lines_dropped_total", "Log lines that were dropped because they were not read in time.",
		func() float64 { return float64(lines.dropped.Load()) })
	return s.run(ctx)
}

// newLog returns a logger that writes JSON, or text in development mode, and
// limits lines with the same cause.
func newLog(out io.Writer, s settings) *slog.Logger {
	var level slog.Level
	_ = level.UnmarshalText([]byte(s.LogLevel)) // kong has checked it
	options := &slog.HandlerOptions{Level: level}
	if s.Dev {
		return slog.New(newLimitedHandler(slog.NewTextHandler(out, options)))
	}
	return slog.New(newLimitedHandler(slog.NewJSONHandler(out, options)))
}

// server is all parts of the server, wired together.
type server struct {
	settings settings
	log      *slog.Logger
	listener net.Listener
	store    *store.Store
	writer   *ingest.Writer
	engine   *deliver.Engine
	sweeper  *deliver.Sweeper
	watcher  *deliver.ClockWatcher
	api      *api.API
	http     *http.Server
	handler  *switching
	served   chan error // why http ended; nil: it has not started
	conns    *connections
	tls      *certReloader   // nil: plain HTTP
	socket   *operatorSocket // nil: no socket
	stopping atomic.Bool
	ballast  []byte // see ballastSize

	stopTimeout time.Duration // stopTimeout, or less in a test
}

// ballastSize is the size of memory that is never touched, and so never in RAM.
// The garbage collector runs when there is as much garbage as live memory,
// which is about 10 MB in a server under load. With the ballast it runs a third
// as often, and the heap is larger by up to this size.
const ballastSize = 24 << 20

// newServer binds the address, opens the database, and wires the parts. It does
// not serve yet.
func newServer(ctx context.Context, set settings, log *slog.Logger, now func() time.Time) (*server, error) {
	if err := set.check(); err != nil {
		return nil, err
	}
	var pair *certReloader
	if set.TLSCert != "" {
		var err error
		if pair, err = newCertReloader(&set.listenSettings, log, now); err != nil {
			return nil, err
		}
	}
	listener, err := net.Listen("tcp", set.listen())
	if errors.Is(err, syscall.EADDRINUSE) {
		err = fmt.Errorf("the address %s is already in use: stop the program that listens there, or choose another address with --listen", set.listen())
	}
	if err != nil {
		return nil, fmt.Errorf("cannot listen: %w", err)
	}
	s := &server{settings: set, log: log, listener: listener, tls: pair, handler: &switching{}, ballast: make([]byte, ballastSize), stopTimeout: stopTimeout}
	s.conns = newConnections(cmp.Or(set.Descriptors, allowedDescriptors()), prefixesOf(set.TrustedProxies))
	s.http = s.newHTTP()
	for _, warning := range set.warnings() {
		log.Warn(warning)
	}
	if s.store, err = s.openStore(ctx, now); err != nil {
		return nil, errors.Join(err, s.abandon())
	}
	token, err := s.findToken(ctx, now)
	if err == nil {
		err = s.wire(now)
	}
	if err != nil {
		return nil, errors.Join(err, s.abandon(), s.store.Close())
	}
	s.api.MadeToken = token
	s.handler.set(s.api.Handler())
	s.socket = s.openSocket(ctx, s.api.OperatorHandler())
	s.api.MeasureReadiness(context.WithoutCancel(ctx))
	return s, nil
}

// newHTTP returns the HTTP server, whose handler may change.
func (s *server) newHTTP() *http.Server {
	return &http.Server{
		Handler: s.handler, MaxHeaderBytes: maxHeader - 4096,
		ReadHeaderTimeout: headerTimeout, ReadTimeout: readTimeout, WriteTimeout: writeTimeout, IdleTimeout: s.settings.IdleTimeout,
		ErrorLog:  slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
		ConnState: s.conns.changed,
		HTTP2:     &http.HTTP2Config{MaxConcurrentStreams: maxStreams, MaxReceiveBufferPerConnection: maxUnread, MaxReceiveBufferPerStream: maxUnread},

		DisableGeneralOptionsHandler: true, // OPTIONS * is answered like all others
	}
}

// wire creates the parts and connects them.
func (s *server) wire(now func() time.Time) error {
	metrics := telemetry.New()
	guard := deliver.NewGuard(prefixesOf(s.settings.AllowedTargets), s.settings.Dev)
	guard.RequireHTTPS = s.settings.RequireHTTPS
	s.engine = deliver.New(deliver.Config{
		Store: s.store, Guard: guard, Schedule: s.settings.RetrySchedule.Schedule, Timeout: s.settings.DeliveryTimeout,
		Endurance: trigger.Endurance{Pause: s.settings.PauseAfter.Duration, Attempts: s.settings.PauseAttempts},
		Now:       now, UserAgent: "triggerd/" + version, Metrics: metrics, Log: s.log,
	})
	cache := ingest.NewCache(s.store, s.settings.DedupMaxSize, s.settings.DedupRetention.Duration)
	s.api = &api.API{Store: s.store, Engine: s.engine, Guard: guard, Metrics: metrics, Log: s.log, Now: now, Version: version}
	s.writer = ingest.New(ingest.Config{
		Store: s.store, Dispatcher: s.engine, Arrived: s.api.Arrived, Cache: cache, Lease: s.engine.LeaseOf, Now: now, Metrics: metrics,
	})
	s.sweeper = &deliver.Sweeper{
		Store: s.store, Retention: s.settings.Retention.Duration, DedupRetention: s.settings.DedupRetention.Duration,
		Metrics: metrics, Log: s.log,
	}
	s.watcher = &deliver.ClockWatcher{Store: s.store, Schedule: s.settings.RetrySchedule.Schedule, Metrics: metrics, Log: s.log}
	s.api.Writer, s.api.Limits, s.api.MaxBody = s.writer, s.settings.limits(), s.settings.MaxBodyBytes
	s.api.AdminToken, s.api.OpenSignup, s.api.Proxies = s.settings.AdminToken, s.settings.OpenSignup, prefixesOf(s.settings.TrustedProxies)
	s.api.Loopback, s.api.PublicURL = s.settings.onLoopback(), s.settings.PublicURL
	s.api.Ahead, s.api.Ready = s.settings.Retention.Duration-s.settings.RetrySchedule.Span(), s.ready
	s.api.Admits = s.conns.admits
	s.measure(metrics)
	return nil
}

// measure adds the metrics that are read from the parts.
func (s *server) measure(metrics *telemetry.Metrics) {
	metrics.Gauge("database_connections_in_use", "Connections to the database in use.",
		func() float64 { return float64(s.store.Stats().InUse) })
	metrics.Gauge("database_connections_max", "Maximum number of connections to the database.",
		func() float64 { return float64(s.store.Stats().Max) })
	metrics.Gauge("delivery_queue", "Deliveries in this node's memory, including those under way.",
		func() float64 { return float64(s.engine.Load().Queued) })
	metrics.Gauge("ingest_queue_bytes", "Events in this node's memory that are not yet committed, in bytes.",
		func() float64 { return float64(s.writer.QueuedBytes()) })
	metrics.Backlog(func() (int, time.Duration) {
		b := s.engine.Backlog()
		return b.Open, b.Oldest
	})
	metrics.Gauge("http_connections", "Open client connections.", func() float64 { return float64(s.conns.count()) })
	metrics.Counter("http_idle_closed_total", "Idle client connections that were closed to make room.",
		func() float64 { return float64(s.conns.evicted.Load()) })
	metrics.Counter("http_connections_limited_total", "Client connections that could only request /livez and /readyz.",
		func() float64 { return float64(s.conns.limitedSoFar.Load()) })
}

func (s *server) ready() error {
	if s.stopping.Load() {
		return errors.New("stopping")
	}
	return nil
}

// run serves until ctx ends or a part fails, then stops in stages, each with
// its own context: not ready; no more claims; requests under way answered;
// their events committed; attempts under way ended and recorded; other claims
// released; the store closed. One timeout bounds all of them.
func (s *server) run(ctx context.Context) error {
	for _, warning := range s.store.Warnings {
		s.log.Warn(warning)
	}
	warnDescriptors(s.log)
	s.log.Info("listening", "address", s.listener.Addr().String(), "version", version, "node", s.store.NodeID.String(), "database", s.store.Database)
	base := context.WithoutCancel(ctx)
	group, failed := errgroup.WithContext(ctx)
	claiming, stopClaiming := context.WithCancel(base)
	accepting, stopAccepting := context.WithCancel(base)
	working, stopWorking := context.WithCancel(base)
	ingested := make(chan struct{})
	if s.served == nil {
		s.beginServing()
	}
	var running parts
	part := func(name string, run func() error) {
		running.begin(name)
		group.Go(func() error {
			defer running.end(name)
			return run()
		})
	}
	part("http", func() error {
		if err := <-s.served; !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
	if s.socket != nil {
		part("socket", s.socket.serve)
	}
	part("ingest", func() error {
		defer close(ingested)
		return s.writer.Run(accepting)
	})
	part("delivery", func() error { return s.engine.Run(claiming, working) })
	part("sweeper", func() error { return s.sweeper.Run(claiming) })
	part("clock", func() error { return s.watcher.Run(claiming) })
	part("api", func() error { return s.api.Run(claiming) })
	part("store", func() error { return s.store.Run(working) })
	group.Go(func() error {
		<-failed.Done()
		s.stopping.Store(true)
		s.log.Info("stopping", "reason", context.Cause(failed)) // the signal, or what failed
		stopClaiming()
		err := s.shutdown(base)
		stopAccepting()
		<-ingested
		stopWorking()
		return err
	})
	err := s.wait(failed, func() error {
		return errors.Join(group.Wait(), s.leave(base, &running))
	})
	if errors.Is(err, errStoppedHard) {
		return fmt.Errorf("%w: %s", err, running.names()) // parts that hang end with the process; acknowledged events are committed
	}
	s.log.Info("stopped")
	return err
}

// leave records that this node is gone, and closes the store.
func (s *server) leave(ctx context.Context, running *parts) error {
	const name = "closing the database"
	running.begin(name)
	defer running.end(name)
	if err := s.store.Leave(ctx); err != nil {
		s.log.Warn("this node is still counted as alive for some seconds", "error", err)
	}
	return s.store.Close()
}

// serve accepts connections until the server is shut down.
func (s *server) serve() error {
	listener := loudListener{s.listener, s.log, s.conns.relieve}
	if s.tls == nil {
		return s.http.Serve(listener)
	}
	s.http.TLSConfig = s.tls.config()
	return s.http.ServeTLS(listener, "", "")
}

// errStoppedHard is returned if the process ends before all of its parts.
var errStoppedHard = errors.New("stopped hard, because some parts did not end in time, for example because the database does not answer")

// parts are the parts of the server that have not ended.
type parts struct {
	mu      sync.Mutex
	running map[string]bool
}

func (p *parts) begin(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.running == nil {
		p.running = map[string]bool{}
	}
	p.running[name] = true
}

func (p *parts) end(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.running, name)
}

// names returns their names.
func (p *parts) names() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Join(slices.Sorted(maps.Keys(p.running)), ", ")
}

// wait returns when everything that end waits for has ended, or errStoppedHard
// when the time to stop is over.
func (s *server) wait(stopping context.Context, end func() error) error {
	ended := make(chan error, 1)
	go func() { ended <- end() }()
	select {
	case err := <-ended:
		return err
	case <-stopping.Done():
	}
	timer := time.NewTimer(s.stopTimeout)
	defer timer.Stop()
	select {
	case err := <-ended:
		return err
	case <-timer.C:
		return fmt.Errorf("%w, %v", errStoppedHard, s.stopTimeout)
	}
}

// shutdown lets requests under way finish, and cuts those that do not.
func (s *server) shutdown(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, drainTimeout)
	defer cancel()
	var ended errgroup.Group
	ended.Go(func() error { return s.socket.shutdown(ctx) })
	ended.Go(func() error {
		if err := s.http.Shutdown(ctx); err != nil {
			return s.http.Close()
		}
		return nil
	})
	return ended.Wait()
}
