package api

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"triggerd/internal/deliver"
	"triggerd/internal/ingest"
	"triggerd/internal/store"
	"triggerd/internal/store/storetest"
	"triggerd/internal/telemetry"
	"triggerd/internal/trigger"
)

// server is the API as the server command serves it, on a database of the
// test's own. Nothing is delivered: deliveries wait in the store.
type server struct {
	*httptest.Server
	api   *API
	db    *storetest.DB
	store *store.Store
	clock *clock // of the API alone; it stands still
	log   *logBuffer

	engine *engine
}

// minute is more than the window of the rate limits.
const minute = 61 * time.Second

// patience is for how long a test waits for what must come. It measures nothing,
// so it suits a machine with much other work.
const patience = 3 * time.Minute

// cacheSize is small, so that both layers of dedup are at work in all tests.
const cacheSize = 8

// newServer serves db until the test ends. Each set may change the API before
// it starts.
func newServer(t *testing.T, db *storetest.DB, set ...func(*API)) *server {
	t.Helper()
	return serveStore(t, db, db.Open(t), set...)
}

// serveStore is newServer on a store that was opened by the test.
func serveStore(t *testing.T, db *storetest.DB, st *store.Store, set ...func(*API)) *server {
	t.Helper()
	s := &server{db: db, store: st, clock: newClock(), log: &logBuffer{}, engine: &engine{}}
	metrics := telemetry.New()
	cache := ingest.NewCache(st, cacheSize, 0)
	writer := ingest.New(ingest.Config{
		Store: st, Dispatcher: noRoom{}, Arrived: func(orgID int64) { s.api.Arrived(orgID) }, Cache: cache, Lease: func(*trigger.Webhook) time.Duration { return time.Minute }, Now: db.Clock.Now, Metrics: metrics,
	})
	guard := deliver.NewGuard(nil, false)
	guard.Resolver = hosts{"example.com": "93.184.215.14", "localhost": "127.0.0.1", "inside.example": "10.0.0.1"}
	s.api = &API{
		Store: st, Writer: writer, Engine: s.engine, Guard: guard, Ahead: 20 * 24 * time.Hour, Metrics: metrics, Now: s.clock.Now, MaxBody: 1 << 20,
		Log:    slog.New(slog.NewJSONHandler(s.log, nil)),
		Limits: map[trigger.Tier]int{trigger.Free: 1000, trigger.Professional: 10_000, trigger.Enterprise: 100_000},
		Ready:  func() error { return nil }, Loopback: true,
	}
	for _, f := range set {
		f(s.api)
	}
	handler := s.api.Handler() // before Run, as the program does
	accepting, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { _ = writer.Run(accepting) })
	running.Go(func() { _ = s.api.Run(accepting) })
	s.Server = httptest.NewUnstartedServer(s.conforms(t, handler))
	for q := range s.api.meters { // no test but that of the quotas is to be held up by one: the clock stands still
		s.api.meters[q].policy.perMinute *= 1000
	}
	s.Config.MaxHeaderBytes = 16<<10 - 4096
	s.Config.ReadHeaderTimeout, s.Config.ReadTimeout = 5*time.Second, 20*time.Second
	s.Config.WriteTimeout, s.Config.IdleTimeout = time.Minute, time.Minute
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	s.Start()
	s.Client().CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	t.Cleanup(func() {
		s.api.inboxes.close() // ends what waits
		s.Close()
		stop()
		running.Wait()
	})
	return s
}

// noRoom is a hand-off that is always full.
type noRoom struct{}

func (noRoom) Reserve(trigger.DeliveryKey, int) bool                                  { return false }
func (noRoom) Unreserve(trigger.DeliveryKey, int)                                     {}
func (noRoom) Dispatch(trigger.Delivery, *trigger.Event, *trigger.Webhook, time.Time) {}

func (noRoom) Expect(trigger.Delivery, *trigger.Webhook, time.Time) {}
func (noRoom) Wake()                                                {}

// engine is a delivery engine that delivers nothing.
type engine struct {
	mu       sync.Mutex
	attempt  trigger.Attempt  // that Try makes
	tried    []*trigger.Event // that Try was given
	followed []int64          // webhooks
	woken    int
}

func (e *engine) WaitApplied(_ context.Context, webhookID int64) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.followed = append(e.followed, webhookID)
	return nil
}

func (e *engine) Try(_ context.Context, _ *trigger.Webhook, event *trigger.Event) trigger.Attempt {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.tried = append(e.tried, event)
	return e.attempt
}

func (e *engine) Wake() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.woken++
}

// hosts are the names that resolve.
type hosts map[string]string

func (h hosts) LookupNetIP(_ context.Context, _, host string) ([]netip.Addr, error) {
	addr, err := netip.ParseAddr(h[strings.ToLower(host)])
	if err != nil {
		return nil, errors.New("no such host")
	}
	return []netip.Addr{addr}, nil
}

// clock is a time that only a test moves.
type clock struct{ micros atomic.Int64 }

func newClock() *clock {
	c := &clock{}
	c.micros.Store(time.Date(2025, 11, 11, 17, 25, 41, 962_560_000, time.UTC).UnixMicro())
	return c
}

func (c *clock) Now() time.Time          { return time.UnixMicro(c.micros.Load()).In(time.FixedZone("", 3600)) }
func (c *clock) Advance(d time.Duration) { c.micros.Add(d.Microseconds()) }

// logBuffer keeps the log.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// settle ends the open deliveries of a webhook with an outcome.
func (s *server) settle(t *testing.T, key string, webhookID int64, outcome trigger.Outcome) {
	t.Helper()
	now, org := s.store.Now(), s.keyOf(t, key).Organization.ID
	want := store.Want{Bucket: trigger.Bucket(org), WebhookID: webhookID, Room: 100}
	taken, err := s.store.Claim(t.Context(), []store.Want{want}, s.store.NewClaim(), now, now.Add(time.Minute))
	if err != nil || len(taken) == 0 {
		t.Fatalf("claimed %d: %v", len(taken), err)
	}
	results := make([]store.Result, len(taken))
	for i, d := range taken {
		a := trigger.Attempt{DeliveryKey: d.DeliveryKey, Claim: d.Claim, Number: 1, At: now, Outcome: outcome, Error: "refused"}
		results[i] = store.Result{Attempt: a, Next: d.After(a, trigger.DefaultSchedule(), now, 0)}
	}
	if err := s.store.Finish(t.Context(), results); err != nil {
		t.Fatal(err)
	}
}

// keyOf reads a key as it is stored.
func (s *server) keyOf(t *testing.T, key string) trigger.APIKey {
	t.Helper()
	hash, ok := trigger.HashAPIKey(key)
	if !ok {
		t.Fatalf("%q is no key", key)
	}
	stored, err := s.store.APIKeyByHash(t.Context(), hash)
	if err != nil {
		t.Fatal(err)
	}
	return stored
}

// serve is a route for requests over the network.
func (a *API) serve(rt route) http.Handler { return a.serveAs(rt, false) }
