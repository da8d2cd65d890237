package deliver_test

import (
	"context"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"triggerd/internal/deliver"
	"triggerd/internal/store"
	"triggerd/internal/store/storetest"
	"triggerd/internal/trigger"
)

func TestDeliversSigned(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := db.Open(t)
		n := startNode(t, db, s, nil)
		r := newReceiver(t, nil)
		hook := newWebhook(t, s, storetest.NewOrganization(t, s), r.URL+"/hook")
		e := post(t, s, hook, 1)[0]
		n.Wake()
		g := r.wait(t, 1)[0]
		want := `{"id":"` + e.ID.String() + `","type":"user.created","timestamp":"` +
			e.ID.Time().Format("2006-01-02T15:04:05.000Z") + `","data":{"n": 9007199254740993 }}`
		if g.body != want || g.path != "/hook" {
			t.Errorf("got %s at %s\nwant %s", g.body, g.path, want)
		}
		verifier, err := standardwebhooks.NewWebhook(hook.Secrets[0].Reveal())
		if err != nil {
			t.Fatal(err)
		}
		if err := verifier.Verify([]byte(g.body), g.header); err != nil {
			t.Errorf("the signature does not verify: %v", err)
		}
		if g.header.Get("Webhook-Id") != e.ID.String() || g.header.Get("Content-Type") != "application/json" {
			t.Errorf("headers %v", g.header)
		}
		untilStatus(t, s, e, trigger.Delivered)
		if strings.Contains(n.log.String(), hook.Secrets[0].Reveal()) {
			t.Error("the log shows a secret")
		}
	})
}

// Retries come when the schedule says, with the same id, and end as failed.
func TestRetriesThenFails(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := db.Open(t)
		n := startNode(t, db, s, nil)
		r := newReceiver(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) })
		hook := newWebhook(t, s, storetest.NewOrganization(t, s), r.URL)
		e := post(t, s, hook, 1)[0]
		for i, pause := range []time.Duration{0, time.Minute, time.Hour} {
			moved := db.Clock.Now()
			if pause > 0 {
				until(t, "a recorded attempt", func() bool {
					lanes, err := s.Lanes(t.Context(), store.Lane{}, 10)
					if err != nil || len(lanes) != 1 {
						t.Fatalf("lanes %v, %v", lanes, err)
					}
					wait := lanes[0].DueAt.Sub(s.Now())
					if wait > pause*8/10-10*time.Second && wait <= pause*12/10 {
						return true
					}
					return false
				})
				db.Clock.Advance(pause * 13 / 10)
				if err := s.SyncClock(t.Context()); err != nil {
					t.Fatal(err)
				}
				if err := s.SyncClock(t.Context()); err != nil { // confirms the jump
					t.Fatal(err)
				}
			}
			n.Wake()
			g := r.wait(t, i+1)[i]
			at, _ := strconv.ParseInt(g.header.Get("Webhook-Timestamp"), 10, 64)
			if g.header.Get("Webhook-Id") != e.ID.String() || at < moved.Unix() {
				t.Errorf("attempt %d: headers %v", i+1, g.header)
			}
		}
		untilStatus(t, s, e, trigger.Failed)
	})
}

func TestGoneEndsEverything(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := db.Open(t)
		r := newReceiver(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusGone) })
		org := storetest.NewOrganization(t, s)
		hook := newWebhook(t, s, org, r.URL)
		events := post(t, s, hook, 50)
		n := startNode(t, db, s, nil)
		for _, e := range events {
			untilStatus(t, s, e, trigger.Failed)
		}
		until(t, "the webhook is gone", func() bool {
			w, err := s.Webhook(t.Context(), org, hook.ID)
			return err == nil && w.State == trigger.Gone
		})
		subs, err := s.Subscribers(t.Context(), []int64{org})
		if err != nil || len(subs[org].Webhooks) != 0 {
			t.Errorf("subscribers %+v, %v; want none", subs[org], err)
		}
		n.stop()
	})
}

// A webhook whose receiver answered 410 by mistake is resumed while much of what
// it was owed is still open: it gets all that comes from then on, and no late
// word of the old answers ends it again.
func TestGoneIsResumed(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := db.Open(t)
		var back atomic.Bool
		r := newReceiver(t, func(w http.ResponseWriter, _ *http.Request) {
			if !back.Load() {
				w.WriteHeader(http.StatusGone)
			}
		})
		org := storetest.NewOrganization(t, s)
		hook := newWebhook(t, s, org, r.URL)
		missed := post(t, s, hook, 1200)
		n := startNode(t, db, s, nil)
		state := func() trigger.WebhookState {
			w, err := s.Webhook(t.Context(), org, hook.ID)
			if err != nil {
				t.Fatal(err)
			}
			return w.State
		}
		until(t, "the webhook is gone", func() bool { return state() == trigger.Gone })
		for _, e := range missed {
			untilStatus(t, s, e, trigger.Failed)
		}
		late := post(t, s, hook, 20) // of a node that did not know yet
		for _, e := range late {
			untilStatus(t, s, e, trigger.Failed)
		}
		back.Store(true)
		if err := s.SetWebhookState(t.Context(), org, hook.ID, trigger.Active); err != nil {
			t.Fatal(err)
		}
		n.Wake()
		for _, e := range post(t, s, hook, 50) {
			untilStatus(t, s, e, trigger.Delivered)
		}
		if state() != trigger.Active {
			t.Errorf("it is %s", state())
		}
		n.stop()
		for _, got := range r.wait(t, 50) {
			if id, err := trigger.ParseID(got.header.Get("Webhook-Id")); err != nil || slices.ContainsFunc(late, func(e *trigger.Event) bool { return e.ID == id }) {
				t.Errorf("event %s was sent after the webhook was gone, %v", id, err)
			}
		}
	})
}

// What a receiver does costs one failed attempt with a short reason, and
// nothing is followed, unpacked or read for ever.
func TestFailures(t *testing.T) {
	t.Parallel()
	var followed atomic.Int64
	elsewhere := newReceiver(t, func(http.ResponseWriter, *http.Request) { followed.Add(1) })
	hang := make(chan struct{})
	t.Cleanup(func() { close(hang) })
	tests := []struct {
		name, reason string
		handle       http.HandlerFunc
	}{
		{"redirect", "status 302, a redirect to", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, elsewhere.URL, http.StatusFound)
		}},
		{"client error", "status 404", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotFound) }},
		{"cut", "connection closed", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			db := storetest.SQLite(t)
			s := db.Open(t)
			n := startNode(t, db, s, func(c *deliver.Config) { c.Timeout, c.Schedule = time.Second, trigger.Schedule{} })
			r := newReceiver(t, test.handle)
			e := post(t, s, newWebhook(t, s, storetest.NewOrganization(t, s), r.URL), 1)[0]
			n.Wake()
			untilStatus(t, s, e, trigger.Failed)
			n.stop()
			log := strings.ReplaceAll(n.log.String(), elsewhere.URL, "elsewhere") // which the receiver has told
			if !strings.Contains(log, test.reason) || strings.Contains(log, "127.0.0.1") {
				t.Errorf("want %q and no address in the log: %s", test.reason, log)
			}
		})
	}
	t.Cleanup(func() {
		if followed.Load() != 0 {
			t.Error("a redirect was followed")
		}
	})
}

// Answers of any size are a success, of which 64 KiB are read.
func TestHugeAnswer(t *testing.T) {
	t.Parallel()
	db := storetest.SQLite(t)
	s := db.Open(t)
	n := startNode(t, db, s, nil)
	var sent atomic.Int64
	r := newReceiver(t, func(w http.ResponseWriter, r *http.Request) {
		chunk := make([]byte, 1<<20)
		for range 1024 {
			m, err := w.Write(chunk)
			sent.Add(int64(m))
			if err != nil {
				return
			}
		}
	})
	e := post(t, s, newWebhook(t, s, storetest.NewOrganization(t, s), r.URL), 1)[0]
	n.Wake()
	untilStatus(t, s, e, trigger.Delivered)
	n.stop()
	r.Close() // waits for the handler
	if sent.Load() > 64<<20 {
		t.Errorf("%d bytes were taken", sent.Load())
	}
}

// Without permission loopback is never reached: no connection is made.
func TestGuardAtConnect(t *testing.T) {
	t.Parallel()
	db := storetest.SQLite(t)
	s := db.Open(t)
	n := startNode(t, db, s, func(c *deliver.Config) {
		c.Guard, c.Schedule = deliver.NewGuard(nil, false), trigger.Schedule{}
	})
	r := newReceiver(t, nil)
	for _, url := range []string{r.URL, strings.Replace(r.URL, "127.0.0.1", "localhost", 1)} {
		e := post(t, s, newWebhook(t, s, storetest.NewOrganization(t, s), url), 1)[0]
		n.Wake()
		untilStatus(t, s, e, trigger.Failed)
	}
	n.stop()
	if len(r.got) != 0 || !strings.Contains(n.log.String(), "not allowed") {
		t.Errorf("%d requests came; log %s", len(r.got), n.log.String())
	}
}

// A delivery whose lease ran short in memory is dropped unsent; it comes due
// when the lease ends.
func TestStaleDeliveryIsNotSent(t *testing.T) {
	t.Parallel()
	db := storetest.SQLite(t)
	s := db.Open(t)
	r := newReceiver(t, nil)
	n := startNode(t, db, s, nil)
	hook := newWebhook(t, s, storetest.NewOrganization(t, s), r.URL)
	stale := db.Clock.Now().Add(-n.Lease() + n.Timeout)
	e := &trigger.Event{OrganizationID: hook.OrganizationID, ID: s.NewClaim(), Type: "a", Payload: []byte("1")}
	d := trigger.Delivery{DeliveryKey: trigger.DeliveryKey{OrganizationID: e.OrganizationID, EventID: e.ID, WebhookID: hook.ID}, Claim: s.NewClaim()}
	until(t, "room, once it is known which breakers are open", func() bool { return n.Reserve(keyOf(hook), e.Size()) })
	n.Dispatch(d, e, hook, stale)
	until(t, "the lane is empty", func() bool { return n.Load() == deliver.Load{} })
	n.stop()
	if len(r.got) != 0 {
		t.Errorf("%d requests came", len(r.got))
	}
}

// Two nodes on one database send each delivery once.
func TestTwoNodesSendOnce(t *testing.T) {
	t.Parallel()
	storetest.OnPostgres(t, func(t *testing.T, db *storetest.DB) {
		s := db.Open(t)
		r := newReceiver(t, nil)
		org := storetest.NewOrganization(t, s)
		const hooks, each = 10, 100
		for range hooks {
			post(t, s, newWebhook(t, s, org, r.URL), each)
		}
		nodes := []*node{startNode(t, db, s, nil), startNode(t, db, db.Open(t), nil)}
		r.wait(t, hooks*each)
		until(t, "nothing is open", func() bool {
			b, err := s.Backlog(t.Context())
			return err == nil && b.Open == 0
		})
		for _, n := range nodes {
			n.stop()
		}
		if len(r.got) != hooks*each {
			t.Errorf("%d requests for %d deliveries", len(r.got), hooks*each)
		}
	})
}

// A receiver that hangs fills its own lane and nothing else.
func TestHangingReceiverHoldsUpNobody(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := db.Open(t)
		release := make(chan struct{})
		slow := newReceiver(t, func(http.ResponseWriter, *http.Request) { <-release })
		free := sync.OnceFunc(func() { close(release) })
		t.Cleanup(free)
		fast := newReceiver(t, nil)
		org := storetest.NewOrganization(t, s)
		late := post(t, s, newWebhook(t, s, org, slow.URL), 300)
		quick := post(t, s, newWebhook(t, s, org, fast.URL), 300)
		n := startNode(t, db, s, nil)
		slow.wait(t, 4)
		for _, e := range quick {
			untilStatus(t, s, e, trigger.Delivered)
		}
		free()
		for _, e := range late {
			untilStatus(t, s, e, trigger.Delivered)
		}
		n.stop()
		if n.Load() != (deliver.Load{}) {
			t.Errorf("left in memory: %+v", n.Load())
		}
	})
}

// Stopping lets attempts under way end, and gives back what was not sent.
func TestStopGivesBack(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := db.Open(t)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		r := newReceiver(t, func(http.ResponseWriter, *http.Request) { <-ctx.Done() })
		hook := newWebhook(t, s, storetest.NewOrganization(t, s), r.URL)
		post(t, s, hook, 100)
		n := startNode(t, db, s, nil)
		r.wait(t, 4)
		stopped := make(chan struct{})
		go func() { defer close(stopped); n.stop() }()
		until(t, "it takes nothing new", func() bool {
			if n.Reserve(keyOf(hook), 1) {
				n.Unreserve(keyOf(hook), 1)
				return false
			}
			return n.Load().Queued <= 100
		})
		cancel()
		<-stopped
		now := s.Now()
		due, err := s.Claim(t.Context(), []store.Want{{Bucket: trigger.Bucket(hook.OrganizationID), WebhookID: hook.ID, Room: 1000}},
			s.NewClaim(), now, now.Add(time.Minute))
		if err != nil || len(due)+len(r.got) != 100 || len(due) == 0 {
			t.Errorf("%d due and %d sent, %v; want 100 in all", len(due), len(r.got), err)
		}
		for _, d := range due {
			if d.Attempts != 0 {
				t.Errorf("what was not sent has %d attempts", d.Attempts)
			}
		}
	})
}
