package deliver

import (
	"testing"
	"testing/synctest"
	"time"

	"triggerd/internal/telemetry"
	"triggerd/internal/trigger"
)

// While nothing is recorded, the attempts of an organization with many results
// wait, and those of another one go on.
func TestResultsOfOthersDoNotWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := New(Config{Store: &known{}, Timeout: time.Minute, Now: time.Now, Metrics: telemetry.New(), Transport: longAnswer{}})
		conclude := func(organization, webhook int64) {
			key := trigger.DeliveryKey{OrganizationID: organization, WebhookID: webhook}
			e.conclude(trigger.Delivery{DeliveryKey: key}, trigger.Attempt{Outcome: trigger.Success}, nil, nil)
		}
		for i := range int64(2 * maxPending) {
			go conclude(1, i%trigger.MaxWebhooks)
		}
		synctest.Wait()
		greedy := len(e.results)
		for i := range int64(trigger.MaxWebhooks) {
			go conclude(2, 1000+i)
		}
		synctest.Wait()
		if others := len(e.results) - greedy; others != trigger.MaxWebhooks || greedy > maxPending/3 || greedy < maxPending/3-10 {
			t.Errorf("%d results of one organization and %d of another are on their way, want up to %d and %d", greedy, others, maxPending/3, trigger.MaxWebhooks)
		}
		for range 2*maxPending + trigger.MaxWebhooks { // as record takes them
			r := <-e.results
			e.pending.leave(r.Attempt.OrganizationID, r.Attempt.WebhookID)
		}
		if synctest.Wait(); e.pending.used != 0 || len(e.pending.of) != 0 {
			t.Errorf("at the end %d places are taken", e.pending.used)
		}
	})
}
