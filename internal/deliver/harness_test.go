package deliver_test

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"triggerd/internal/deliver"
	"triggerd/internal/store"
	"triggerd/internal/store/storetest"
	"triggerd/internal/telemetry"
	"triggerd/internal/trigger"
)

// got is one request that a receiver had.
type got struct {
	header http.Header
	body   string
	path   string
}

// receiver is a webhook's endpoint that keeps what comes.
type receiver struct {
	*httptest.Server
	mu   sync.Mutex
	cond *sync.Cond
	got  []got
}

// newReceiver answers with handle after it has kept the request; nil is 200.
func newReceiver(t *testing.T, handle http.HandlerFunc) *receiver {
	t.Helper()
	r := &receiver{}
	r.cond = sync.NewCond(&r.mu)
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, _ := io.ReadAll(req.Body)
		r.mu.Lock()
		r.got = append(r.got, got{req.Header, string(body), req.URL.Path})
		r.cond.Broadcast()
		r.mu.Unlock()
		if handle != nil {
			handle(w, req)
		}
	}))
	t.Cleanup(r.Close)
	return r
}

// wait blocks until n requests have come and returns all.
func (r *receiver) wait(t *testing.T, n int) []got {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	stop := context.AfterFunc(ctx, r.cond.Broadcast)
	defer stop()
	r.mu.Lock()
	defer r.mu.Unlock()
	for len(r.got) < n && ctx.Err() == nil {
		r.cond.Wait()
	}
	if len(r.got) < n {
		t.Fatalf("%d requests came, want %d", len(r.got), n)
	}
	return append([]got(nil), r.got...)
}

// node is a running engine on a store.
type node struct {
	*deliver.Engine
	store *store.Store
	stop  func()
	log   *logBuffer
}

// logBuffer keeps what is logged.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logBuffer) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// startNode runs an engine that may reach loopback; change may make it other.
func startNode(t *testing.T, db *storetest.DB, s *store.Store, change func(*deliver.Config)) *node {
	t.Helper()
	n := &node{store: s, log: &logBuffer{}}
	config := deliver.Config{
		Store: s, Guard: deliver.NewGuard(nil, true), Schedule: trigger.Schedule{time.Minute, time.Hour},
		Timeout: 15 * time.Second, Now: db.Clock.Now, UserAgent: "triggerd/test",
		Metrics: telemetry.New(), Log: slog.New(slog.NewTextHandler(n.log, nil)),
	}
	if change != nil {
		change(&config)
	}
	n.Engine = deliver.New(config)
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx, ctx) }()
	var keeping sync.WaitGroup
	keeping.Go(func() { // as Store.Run does: a clock that nobody measures is trusted for 30 s
		tick := time.NewTicker(5 * time.Second)
		defer tick.Stop()
		for ctx.Err() == nil {
			select {
			case <-ctx.Done():
			case <-tick.C:
				_ = s.SyncClock(ctx) // a test may have closed the store
			}
		}
	})
	n.stop = sync.OnceFunc(func() {
		cancel()
		keeping.Wait()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(n.stop)
	return n
}

func newWebhook(t *testing.T, s *store.Store, orgID int64, url string) *trigger.Webhook {
	t.Helper()
	w := trigger.Webhook{State: trigger.Active, URL: url, OrganizationID: orgID, Secrets: trigger.OneSecret(trigger.NewSecret([32]byte{7}))}
	var err error
	if w.ID, err = s.AddWebhook(t.Context(), orgID, w, store.Once{}); err != nil {
		t.Fatal(err)
	}
	return &w
}

// keyOf is the key of a delivery to a webhook.
func keyOf(w *trigger.Webhook) trigger.DeliveryKey {
	return trigger.DeliveryKey{OrganizationID: w.OrganizationID, WebhookID: w.ID}
}

// post stores n events that are owed to a webhook, due now.
func post(t *testing.T, s *store.Store, w *trigger.Webhook, n int) []*trigger.Event {
	t.Helper()
	b := &store.Batch{}
	for i := range n {
		e := &trigger.Event{
			OrganizationID: w.OrganizationID, ID: trigger.NewID(s.Now(), uint16(i), rand.Uint64()),
			Type: "user.created", Payload: []byte(`{"n": 9007199254740993 }`),
		}
		b.Events = append(b.Events, e)
		b.Deliveries = append(b.Deliveries, []trigger.Delivery{{
			DeliveryKey: trigger.DeliveryKey{OrganizationID: e.OrganizationID, EventID: e.ID, WebhookID: w.ID}, DueAt: s.Now(),
		}})
	}
	err := store.RunBatch(t.Context(), time.Now, time.Minute, []*store.Batch{b}, func(_ []*store.Batch, again bool) error {
		_, err := s.AddEvents(t.Context(), b, again)
		return err
	}, func(_ *store.Batch, err error) { t.Error(err) })
	if err != nil {
		t.Error(err)
	}
	return b.Events
}

// until waits until a condition holds, and fails the test if it never does.
func until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		if ctx.Err() != nil {
			t.Fatalf("never: %s", what)
		}
		select { // what is waited for needs the machine more than the question does
		case <-ctx.Done():
		case <-tick.C:
		}
	}
}

// untilStatus waits until an event has a status.
func untilStatus(t *testing.T, s *store.Store, e *trigger.Event, want trigger.Status) {
	t.Helper()
	until(t, "event "+string(want), func() bool {
		_, status, err := s.Event(t.Context(), e.OrganizationID, e.ID)
		if err != nil {
			t.Fatal(err)
		}
		return status == want
	})
}
