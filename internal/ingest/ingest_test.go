package ingest_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"triggerd/internal/ingest"
	"triggerd/internal/store"
	"triggerd/internal/store/storetest"
	"triggerd/internal/telemetry"
	"triggerd/internal/trigger"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// lanes is a hand-off that keeps what it is given, up to a number.
type lanes struct {
	mu       sync.Mutex
	room     int
	reserved int
	taken    []trigger.Delivery
	expected []trigger.Delivery
}

func (l *lanes) Reserve(trigger.DeliveryKey, int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.room == 0 {
		return false
	}
	l.room--
	l.reserved++
	return true
}

func (l *lanes) Unreserve(trigger.DeliveryKey, int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.room++
	l.reserved--
}

func (l *lanes) Dispatch(d trigger.Delivery, _ *trigger.Event, _ *trigger.Webhook, _ time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.reserved--
	l.taken = append(l.taken, d)
}

func (l *lanes) Expect(d trigger.Delivery, w *trigger.Webhook, _ time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if d.WebhookID == w.ID { // else nobody may rely on it
		l.expected = append(l.expected, d)
	}
}

// fixture is a running writer with an organization that has one webhook.
type fixture struct {
	*ingest.Writer
	store *store.Store
	lanes *lanes
	org   int64
	hook  int64
	stop  func()
}

func start(t *testing.T, db *storetest.DB, s *store.Store, room int) *fixture {
	t.Helper()
	cache := ingest.NewCache(s, 100, 0)
	f := &fixture{store: s, lanes: &lanes{room: room}}
	f.Writer = ingest.New(ingest.Config{
		Store: s, Dispatcher: f.lanes, Cache: cache, Lease: func(*trigger.Webhook) time.Duration { return 32 * time.Second }, Now: db.Clock.Now, Metrics: telemetry.New(),
	})
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- f.Run(ctx) }()
	f.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(f.stop)
	f.org = storetest.NewOrganization(t, s)
	filter, _ := trigger.ParseFilter([]string{"user.*"}, nil)
	var err error
	f.hook, err = s.AddWebhook(t.Context(), f.org, trigger.Webhook{
		State: trigger.Active, URL: "http://127.0.0.1:9", Filter: filter, Secrets: trigger.OneSecret(trigger.NewSecret([32]byte{})),
	}, store.Once{})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func (f *fixture) event(eventType, dedupID string) *trigger.Event {
	return &trigger.Event{OrganizationID: f.org, Type: eventType, DedupID: dedupID, Payload: []byte(`{"a": 1}`)}
}

func TestOneDedupIDFromManyClientsOnTwoNodes(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		first := db.Open(t)
		nodes := []*fixture{start(t, db, first, 1000)}
		second := first
		if db.IsPostgres() {
			second = db.Open(t)
		}
		nodes = append(nodes, start(t, db, second, 1000))
		nodes[1].org = nodes[0].org
		const clients, ids = 100, 5
		var mu sync.Mutex
		accepted, seen := map[string]int{}, map[string]map[trigger.ID]bool{}
		var wg sync.WaitGroup
		for c := range clients {
			wg.Go(func() {
				for i := range ids {
					dedup := fmt.Sprint("d", i)
					r, err := nodes[c%2].Add(t.Context(), nodes[c%2].event("user.created", dedup))
					if err != nil {
						t.Error(err)
						return
					}
					mu.Lock()
					if !r.Duplicate {
						accepted[dedup]++
					}
					if seen[dedup] == nil {
						seen[dedup] = map[trigger.ID]bool{}
					}
					seen[dedup][r.EventID] = true
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		for dedup, n := range accepted {
			if n != 1 || len(seen[dedup]) != 1 {
				t.Errorf("%s: accepted %d times, with %d ids", dedup, n, len(seen[dedup]))
			}
		}
		if n := storetest.CountEvents(t, nodes[0].store, nodes[0].org)[trigger.Pending]; n != ids {
			t.Errorf("%d events stored, want %d", n, ids)
		}
		for i, node := range nodes {
			node.stop() // hand-offs come after the answers
			if node.lanes.reserved != 0 {
				t.Errorf("node %d keeps %d rooms reserved", i, node.lanes.reserved)
			}
		}
		if n := len(nodes[0].lanes.taken) + len(nodes[1].lanes.taken); n != ids {
			t.Errorf("%d deliveries handed off, want %d", n, ids)
		}
	})
}

func TestHandOffAndOverflow(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		f := start(t, db, db.Open(t), 3)
		for range 5 {
			if _, err := f.Add(t.Context(), f.event("user.created", "")); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := f.Add(t.Context(), f.event("nobody.wants", "")); err != nil {
			t.Fatal(err)
		}
		f.stop()
		if len(f.lanes.taken) != 3 {
			t.Errorf("%d handed off, want 3", len(f.lanes.taken))
		}
		now := f.store.Now()
		due, err := f.store.Claim(t.Context(), []store.Want{{Bucket: trigger.Bucket(f.org), WebhookID: f.hook, Room: 10}},
			f.store.NewClaim(), now, now.Add(time.Minute))
		if err != nil || len(due) != 2 {
			t.Errorf("%d due in the store, %v; want the 2 that found no room", len(due), err)
		}
	})
}

// A dedup id enters the cache only after its commit, and a hit asks nobody.
// A webhook that was there before an event gets it, though another node made
// it, and this one remembers the organization without it.
func TestWebhookOfAnotherNode(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		f := start(t, db, db.Open(t), 1000)
		other := f.store
		if db.IsPostgres() {
			other = db.Open(t)
		}
		if _, err := f.Add(t.Context(), f.event("new.one", "")); err != nil {
			t.Fatal(err)
		}
		for i := range 20 {
			filter, _ := trigger.ParseFilter([]string{"new.*"}, nil)
			if _, err := other.AddWebhook(t.Context(), f.org, trigger.Webhook{
				State: trigger.Active, URL: "http://127.0.0.1:9", Filter: filter, Secrets: trigger.OneSecret(trigger.NewSecret([32]byte{})),
			}, store.Once{}); err != nil {
				t.Fatal(err)
			}
			if _, err := f.Add(t.Context(), f.event("new.one", fmt.Sprint(i))); err != nil {
				t.Fatal(err)
			}
		}
		f.stop()
		if len(f.lanes.taken) != 20*21/2 || f.lanes.reserved != 0 {
			t.Errorf("%d handed off, %d rooms reserved", len(f.lanes.taken), f.lanes.reserved)
		}
	})
}

func TestCache(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		f := start(t, db, db.Open(t), 1000)
		for i := range 150 { // the cache holds 100
			if _, err := f.Add(t.Context(), f.event("a", fmt.Sprint(i))); err != nil {
				t.Fatal(err)
			}
		}
		if got := f.Cache.Stats(); got.Size != 100 || got.Max != 100 || got.HitRate != 0 {
			t.Errorf("cache %+v, want it full of 100 without a hit", got)
		}
		for _, id := range []string{"149", "0"} { // from the cache, from the store
			if r, err := f.Add(t.Context(), f.event("a", id)); err != nil || !r.Duplicate {
				t.Errorf("%s again: %+v, %v; want a duplicate", id, r, err)
			}
		}
		if got := f.Cache.Stats().HitRate; got != 1.0/152 {
			t.Errorf("hit rate %v, want 1/152", got)
		}
	})
}

// One event that the database can never take gets its own answer, and the
// others of its batch are stored.
func TestBadEventStandsAlone(t *testing.T) {
	t.Parallel()
	storetest.OnPostgres(t, func(t *testing.T, db *storetest.DB) { // SQLite takes any text
		f := start(t, db, db.Open(t), 1000)
		var wg sync.WaitGroup
		for i := range 64 {
			wg.Go(func() {
				e := f.event("user.created", fmt.Sprint(i))
				if i == 17 {
					e.Type = "nul\x00" // the parser would have refused it
				}
				_, err := f.Add(t.Context(), e)
				if bad := trigger.KindOf(err) == trigger.Invalid && err != nil; bad != (i == 17) {
					t.Errorf("event %d: %v", i, err)
				}
			})
		}
		wg.Wait()
		if n := storetest.CountEvents(t, f.store, f.org)[trigger.Pending]; n != 63 {
			t.Errorf("%d stored, want 63", n)
		}
	})
}

// Run ends only when everything queued is answered; after that nothing is
// taken.
func TestDrain(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		f := start(t, db, db.Open(t), 10_000)
		var wg sync.WaitGroup
		var mu sync.Mutex
		accepted := 0
		for range 50 {
			wg.Go(func() {
				for {
					_, err := f.Add(t.Context(), f.event("user.created", ""))
					if err != nil {
						if trigger.KindOf(err) != trigger.Unavailable {
							t.Error(err)
						}
						return
					}
					mu.Lock()
					if accepted++; accepted == 500 {
						go f.stop()
					}
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		f.stop()
		if n := storetest.CountEvents(t, f.store, f.org)[trigger.Pending]; n != accepted {
			t.Errorf("%d stored, %d accepted", n, accepted)
		}
	})
}

// What waits is bounded in bytes: a full queue refuses at once, before
// anything is accepted, and says when to come back. An organization gets as much
// of it as it leaves free.
func TestFullQueue(t *testing.T) {
	t.Parallel()
	db := storetest.SQLite(t)
	st := db.Open(t)
	cache := ingest.NewCache(st, 1, 0)
	w := ingest.New(ingest.Config{Store: st, Dispatcher: &lanes{}, Cache: cache, Now: db.Clock.Now, Metrics: telemetry.New()})
	gone, leave := context.WithCancel(t.Context())
	leave() // nobody waits, and Run does not run
	const size = 1 << 20
	before := 0
	for id, want := range []int{32 << 20, 16 << 20, 8 << 20} {
		for n := range 100 {
			_, err := w.Add(gone, &trigger.Event{OrganizationID: int64(id + 1), Type: "a", Payload: make([]byte, size)})
			if e, ok := errors.AsType[*trigger.Error](err); !ok || e.Kind != trigger.Unavailable || e.RetryAfter < time.Second {
				t.Fatalf("event %d: %v, want Unavailable with a time to come back", n, err)
			}
		}
		got := w.QueuedBytes() - before
		if got > want+size || got < want-2*size {
			t.Errorf("%d bytes of organization %d are queued, want up to %d", got, id+1, want)
		}
		before += got
	}
}
