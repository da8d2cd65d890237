package deliver_test

import (
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"triggerd/internal/deliver"
	"triggerd/internal/store/storetest"
	"triggerd/internal/trigger"
)

// What a receiver answers after the owner has given its webhook another URL, or
// has resumed it, is about the webhook as it was: it does not stop what is there
// now, and events come there.
func TestLateAnswers(t *testing.T) {
	t.Parallel()
	header := func(status int, name, value string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set(name, value)
			w.WriteHeader(status)
		}
	}
	move := func(w *trigger.Webhook, url string) { w.URL = url }
	pause := func(w *trigger.Webhook, _ string) { w.State = trigger.Paused }
	resume := func(w *trigger.Webhook, _ string) { w.State = trigger.Active }
	for name, answer := range map[string]http.HandlerFunc{
		"410":                  header(http.StatusGone, "Date", ""),
		"disable":              header(http.StatusBadRequest, "Webhook-Delivery", "disable"),
		"503 with Retry-After": header(http.StatusServiceUnavailable, "Retry-After", "3600"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			storetest.Each(t, func(t *testing.T, db *storetest.DB) {
				waits := strings.HasPrefix(name, "503")
				lateAnswer(t, db, answer, waits, move)
				lateAnswer(t, db, answer, waits, pause, resume) // sooner than the node looks
			})
		})
	}
}

// lateAnswer has a receiver answer when its webhook was changed; waits says that
// the answer puts the event off.
func lateAnswer(t *testing.T, db *storetest.DB, answer http.HandlerFunc, waits bool, changes ...func(w *trigger.Webhook, url string)) {
	t.Helper()
	s := db.Open(t)
	defer s.Close()
	n := startNode(t, db, s, func(c *deliver.Config) { c.Schedule = trigger.Schedule{time.Second, time.Second, time.Second} })
	asked, moved := make(chan struct{}), make(chan struct{})
	var requests atomic.Int64
	former := newReceiver(t, func(w http.ResponseWriter, r *http.Request) {
		if requests.Add(1) == 1 {
			close(asked)
			<-moved
			answer(w, r)
		}
	})
	now := newReceiver(t, nil)
	w := newWebhook(t, s, storetest.NewOrganization(t, s), former.URL)
	first := post(t, s, w, 1)[0]
	n.Wake()
	<-asked
	for _, change := range changes {
		if _, err := s.SetWebhook(t.Context(), w.OrganizationID, w.ID, func(w *trigger.Webhook) error { change(w, now.URL); return nil }); err != nil {
			t.Fatal(err)
		}
	}
	close(moved)
	second := post(t, s, w, 1)[0]
	n.Wake()
	if !waits {
		untilStatus(t, s, first, trigger.Delivered)
	}
	untilStatus(t, s, second, trigger.Delivered)
	n.stop()
	got, err := s.Webhook(t.Context(), w.OrganizationID, w.ID)
	if err != nil || got.State != trigger.Active || !got.HeldUntil.IsZero() {
		t.Errorf("the webhook is %s, held until %v; %v", got.State, got.HeldUntil, err)
	}
}

// A webhook that was gone and is resumed stays so, though another 410 comes from
// before.
func TestLateGone(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := db.Open(t)
		n := startNode(t, db, s, func(c *deliver.Config) { c.Schedule = trigger.Schedule{time.Second, time.Second} })
		var asked atomic.Int64
		answer := [...]chan struct{}{make(chan struct{}), make(chan struct{})}
		r := newReceiver(t, func(w http.ResponseWriter, _ *http.Request) {
			if i := asked.Add(1); i <= 2 {
				<-answer[i-1]
				w.WriteHeader(http.StatusGone)
			}
		})
		w := newWebhook(t, s, storetest.NewOrganization(t, s), r.URL)
		post(t, s, w, 2)
		n.Wake()
		until(t, "two requests", func() bool { return asked.Load() == 2 })
		close(answer[0])
		state := func() trigger.WebhookState {
			got, err := s.Webhook(t.Context(), w.OrganizationID, w.ID)
			if err != nil {
				t.Fatal(err)
			}
			return got.State
		}
		until(t, "gone", func() bool { return state() == trigger.Gone })
		if err := s.SetWebhookState(t.Context(), w.OrganizationID, w.ID, trigger.Active); err != nil {
			t.Fatal(err)
		}
		last := post(t, s, w, 1)[0]
		close(answer[1])
		n.Wake()
		untilStatus(t, s, last, trigger.Delivered)
		if got := state(); got != trigger.Active {
			t.Errorf("the webhook is %s again", got)
		}
		n.stop()
	})
}
