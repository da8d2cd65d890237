package deliver_test

import (
	"net/http"
	"testing"
	"time"

	"triggerd/internal/deliver"
	"triggerd/internal/store/storetest"
	"triggerd/internal/trigger"
)

// What a receiver says while the engine stops counts as at any other time: the
// store, and with it every node, knows it before the stop has ended, though
// another attempt still hangs; and it counts though the body of the answer never
// comes.
func TestAnswersDuringStop(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		status        int
		header, value string
		follows       func(w trigger.Webhook) bool
	}{
		"410":         {status: 410, header: "Date", follows: func(w trigger.Webhook) bool { return w.State == trigger.Gone }},
		"disable":     {status: 400, header: "Webhook-Delivery", value: "disable", follows: func(w trigger.Webhook) bool { return w.State == trigger.Paused }},
		"Retry-After": {status: 429, header: "Retry-After", value: "3000", follows: func(w trigger.Webhook) bool { return !w.HeldUntil.IsZero() }},
		"500":         {status: 500, header: "Date", follows: func(trigger.Webhook) bool { return true }},
	} {
		for body, cut := range map[string]bool{"whole": false, "cut": true} {
			t.Run(name+", "+body, func(t *testing.T) {
				t.Parallel()
				storetest.Each(t, func(t *testing.T, db *storetest.DB) {
					s := db.Open(t)
					n := startNode(t, db, s, func(c *deliver.Config) { c.Schedule = trigger.Schedule{time.Hour} })
					asked, answer, hang := make(chan struct{}, 2), make(chan struct{}), make(chan struct{})
					r := newReceiver(t, func(w http.ResponseWriter, req *http.Request) {
						asked <- struct{}{}
						if req.URL.Path == "/hangs" {
							<-hang
							return
						}
						<-answer
						w.Header().Set(c.header, c.value)
						if cut {
							w.Header().Set("Content-Length", "10")
						}
						w.WriteHeader(c.status)
						if cut {
							_ = http.NewResponseController(w).Flush()
							<-hang
						}
					})
					defer close(hang)
					org := storetest.NewOrganization(t, s)
					w, other := newWebhook(t, s, org, r.URL), newWebhook(t, s, org, r.URL+"/hangs")
					event := post(t, s, w, 1)[0]
					post(t, s, other, 1)
					n.Wake()
					<-asked
					<-asked
					stopped := make(chan struct{})
					go func() {
						defer close(stopped)
						n.stop()
					}()
					until(t, "the engine stops", n.Closed)
					close(answer)
					until(t, "the store knows what the receiver has said", func() bool {
						got, err := s.Webhook(t.Context(), org, w.ID)
						if err != nil {
							t.Fatal(err)
						}
						return c.follows(got)
					})
					if !cut {
						select {
						case <-stopped:
							t.Error("the store knows it only when the engine has stopped")
						default:
						}
					}
					<-stopped
					attempts, err := s.Attempts(t.Context(), org, event.ID)
					if err != nil || len(attempts) != 1 || attempts[0].Status != c.status {
						t.Fatalf("attempts %+v, %v; want one with status %d", attempts, err, c.status)
					}
				})
			})
		}
	}
}
