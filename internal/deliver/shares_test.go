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

// stuck is a transport for which requests to one host end with their context
// alone; all others succeed.
type stuck struct {
	held, passed atomic.Int64
}

func (s *stuck) RoundTrip(req *http.Request) (*http.Response, error) {
	if strings.HasPrefix(req.URL.Host, "slow.") {
		s.held.Add(1)
		<-req.Context().Done()
		return nil, req.Context().Err()
	}
	s.passed.Add(1)
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: http.NoBody, Request: req}, nil
}

// Organizations whose receivers are slow, and of which nothing is known yet,
// leave slots to others: the events of another one arrive meanwhile.
func TestSlowOrganizations(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		const organizations, each = 17, 4
		s := db.Open(t)
		for range organizations {
			slow := storetest.NewOrganization(t, s)
			for range trigger.MaxWebhooks {
				post(t, s, newWebhook(t, s, slow, "https://slow.example/"), each)
			}
		}
		hook := newWebhook(t, s, storetest.NewOrganization(t, s), "https://quick.example/")
		transport := &stuck{}
		n := startNode(t, db, s, func(c *deliver.Config) { c.Transport, c.Timeout = transport, 5*time.Minute })
		until(t, "all that is due has been claimed, and some wait for a slot", func() bool {
			return n.Load().Queued == organizations*trigger.MaxWebhooks*each && n.Load().Waiting > 0
		})
		events := post(t, s, hook, 20)
		n.Wake()
		until(t, "the other organization's events arrive", func() bool { return transport.passed.Load() >= 20 })
		for _, e := range events {
			untilStatus(t, s, e, trigger.Delivered)
		}
	})
}
