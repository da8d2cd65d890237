package deliver_test

import (
	"net/http"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"triggerd/internal/deliver"
	"triggerd/internal/store"
	"triggerd/internal/store/storetest"
	"triggerd/internal/trigger"
)

// change changes a webhook as its owner would.
func change(t *testing.T, s *store.Store, w *trigger.Webhook, to func(*trigger.Webhook)) {
	t.Helper()
	_, err := s.SetWebhook(t.Context(), w.OrganizationID, w.ID, func(w *trigger.Webhook) error { to(w); return nil })
	if err != nil {
		t.Fatal(err)
	}
}

// What the receiver asks for in webhook-delivery is done: one delivery is
// given up, or the webhook is paused and waits until its owner resumes it.
func TestDirectives(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := db.Open(t)
		org := storetest.NewOrganization(t, s)
		var directive atomic.Value
		directive.Store("abort-message")
		r := newReceiver(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("webhook-delivery", directive.Load().(string))
			if directive.Load() != "" {
				w.WriteHeader(http.StatusTeapot)
			}
		})
		hook := newWebhook(t, s, org, r.URL)
		n := startNode(t, db, s, nil)
		aborted := post(t, s, hook, 1)[0]
		n.Wake()
		untilStatus(t, s, aborted, trigger.Failed)
		why, err := s.Why(t.Context(), org, aborted.ID)
		if err != nil || why[0].Kind != trigger.VerdictFailed || why[0].Reason != trigger.ReasonAborted || why[0].Attempts != 1 {
			t.Errorf("an aborted delivery is %+v, %v", why, err)
		}

		directive.Store("Disable ")
		waiting := post(t, s, hook, 1)[0]
		n.Wake()
		until(t, "the webhook is paused", func() bool {
			w, err := s.Webhook(t.Context(), org, hook.ID)
			return err == nil && w.State == trigger.Paused && w.PausedBy == trigger.PausedByReceiver
		})
		more := post(t, s, hook, 1)[0]
		directive.Store("")
		sent := len(r.wait(t, 2))
		if why, err := s.Why(t.Context(), org, more.ID); err != nil || why[0].Kind != trigger.VerdictPaused {
			t.Errorf("what waits is %+v, %v", why, err)
		}
		change(t, s, hook, func(w *trigger.Webhook) { w.State, w.Schedule = trigger.Active, trigger.Schedule{0, 0} })
		if err := n.WaitApplied(t.Context(), hook.ID); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Resend(t.Context(), org, waiting.ID, hook.ID, store.Once{}); err != nil { // its retry is due in a minute
			t.Fatal(err)
		}
		n.Wake()
		untilStatus(t, s, waiting, trigger.Delivered)
		untilStatus(t, s, more, trigger.Delivered)
		if got := len(r.wait(t, sent+2)); got != sent+2 {
			t.Errorf("%d requests after it was resumed, want 2", got-sent)
		}
	})
}

// Once a pause is followed nothing is sent, claimed or written, what waits in
// memory included; then all of it is sent.
func TestPauseHoldsWhatIsQueued(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := db.Open(t)
		org := storetest.NewOrganization(t, s)
		release := make(chan struct{})
		r := newReceiver(t, func(http.ResponseWriter, *http.Request) { <-release })
		hook := newWebhook(t, s, org, r.URL)
		n := startNode(t, db, s, nil)
		posted := post(t, s, hook, 40)
		n.Wake()
		under := len(r.wait(t, 4))
		change(t, s, hook, func(w *trigger.Webhook) { w.State = trigger.Paused })
		if err := n.WaitApplied(t.Context(), hook.ID); err != nil {
			t.Fatal(err)
		}
		close(release)
		until(t, "nothing is in memory", func() bool { return n.Load().Queued == 0 })
		until(t, "nothing is claimed", func() bool {
			var claimed int
			err := db.SQL(t).QueryRowContext(t.Context(), `SELECT count(*) FROM deliveries WHERE state = 0 AND claim <> $1`,
				make([]byte, 16)).Scan(&claimed)
			return err == nil && claimed == 0
		})
		if got := len(r.wait(t, 0)); got != under {
			t.Errorf("%d requests after the pause, %d were under way", got-under, under)
		}
		change(t, s, hook, func(w *trigger.Webhook) { w.State = trigger.Active })
		n.Wake()
		for _, e := range posted {
			untilStatus(t, s, e, trigger.Delivered)
		}
		if got := len(r.wait(t, 40)); got != 40 {
			t.Errorf("%d requests for 40 deliveries", got)
		}
	})
}

// A webhook's own timeout, schedule and headers are followed, and changes of
// them.
func TestOwnSettings(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := db.Open(t)
		org := storetest.NewOrganization(t, s)
		r := newReceiver(t, func(w http.ResponseWriter, req *http.Request) {
			if req.Header.Get("X-Mood") == "hang" {
				<-req.Context().Done()
			}
		})
		hook := newWebhook(t, s, org, r.URL)
		change(t, s, hook, func(w *trigger.Webhook) {
			w.Timeout, w.Schedule, w.Headers = time.Second, trigger.Schedule{0}, map[string]string{"x-mood": "hang"}
			w.Auth, w.Format = trigger.Auth{Bearer: "t0ken"}, trigger.FormatPayload
		})
		n := startNode(t, db, s, nil)
		hanging := post(t, s, hook, 1)[0]
		n.Wake()
		untilStatus(t, s, hanging, trigger.Failed)
		attempts, err := s.Attempts(t.Context(), org, hanging.ID)
		if err != nil || len(attempts) != 2 || attempts[0].Error != "timeout" || attempts[0].Took > 10*time.Second {
			t.Errorf("attempts %+v, %v", attempts, err)
		}
		for _, got := range r.wait(t, 2) {
			if got.body != `{"n": 9007199254740993 }` || got.header.Get("Authorization") != "Bearer t0ken" {
				t.Errorf("got %s with %v", got.body, got.header)
			}
		}
		change(t, s, hook, func(w *trigger.Webhook) { w.Headers = nil })
		fine := post(t, s, hook, 1)[0]
		n.Wake()
		untilStatus(t, s, fine, trigger.Delivered)
		attempts, err = s.Attempts(t.Context(), org, fine.ID)
		if err != nil || len(attempts) != 1 {
			t.Fatalf("attempts %+v, %v", attempts, err)
		}
		timing := attempts[0].Timing
		if timing.FirstByte <= 0 || timing.FirstByte > attempts[0].Took || timing.Connect > timing.FirstByte || timing.DNS != 0 || timing.TLS != 0 {
			t.Errorf("the time went to %+v of %v", timing, attempts[0].Took)
		}
	})
}

// A replay goes through the engine, marked as one, beside what is live.
func TestReplayIsSent(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := db.Open(t)
		org := storetest.NewOrganization(t, s)
		r := newReceiver(t, nil)
		hook := newWebhook(t, s, org, r.URL)
		since := s.Now()
		posted := post(t, s, hook, 30)
		n := startNode(t, db, s, nil)
		n.Wake()
		for _, e := range posted {
			untilStatus(t, s, e, trigger.Delivered)
		}
		job, err := s.AddReplay(t.Context(), org, trigger.Replay{WebhookID: hook.ID, Since: since, Pace: 1000}, store.Once{})
		if err != nil {
			t.Fatal(err)
		}
		db.Clock.Advance(time.Minute) // replays stay behind
		for n := 1; n < 4; n++ {
			_ = s.SyncClock(t.Context())
		}
		came := map[string]int{}
		for _, got := range r.wait(t, 60) {
			if got.header.Get("Webhook-Replay") == strconv.FormatInt(job, 10) {
				came[got.header.Get("Webhook-Id")]++
			}
		}
		for _, e := range posted {
			if came[e.ID.String()] != 1 {
				t.Errorf("event %s was replayed %d times", e.ID, came[e.ID.String()])
			}
		}
		until(t, "the replay is done", func() bool {
			r, err := s.Replay(t.Context(), org, job)
			return err == nil && r.State == trigger.ReplayDone && r.Delivered == 30
		})
	})
}

// Trying a webhook is judged by the guard as every attempt is, and recorded
// nowhere.
func TestTry(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := db.Open(t)
		org := storetest.NewOrganization(t, s)
		r := newReceiver(t, nil)
		hook := newWebhook(t, s, org, r.URL)
		event := &trigger.Event{OrganizationID: org, ID: trigger.NewID(s.Now(), 0, 1), Type: "test", Payload: []byte(`1`)}
		open := startNode(t, db, s, nil)
		if a := open.Try(t.Context(), hook, event); a.Outcome != trigger.Success || a.Status != 200 {
			t.Errorf("tried: %+v", a)
		}
		for what, guard := range map[string]*deliver.Guard{"inside": deliver.NewGuard(nil, false), "http": deliver.NewGuard(nil, true)} {
			want := deliver.ErrTarget.Error()
			if guard.RequireHTTPS = what == "http"; guard.RequireHTTPS {
				want = "url must be https"
			}
			closed := startNode(t, db, s, func(c *deliver.Config) { c.Guard = guard })
			if a := closed.Try(t.Context(), hook, event); a.Outcome != trigger.Transient || a.Error != want {
				t.Errorf("%s: tried: %+v", what, a)
			}
		}
		if got := len(r.wait(t, 1)); got != 1 {
			t.Errorf("%d requests", got)
		}
		if page, err := s.ListEvents(t.Context(), org, "", 10); err != nil || len(page) != 0 {
			t.Errorf("stored: %v, %v", page, err)
		}
	})
}
