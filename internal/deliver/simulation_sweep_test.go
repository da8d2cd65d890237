package deliver_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"triggerd/internal/trigger"
)

// What expires is seen as failed for an hour, whoever sweeps, and however long
// nobody has: its event goes later, and does go. The rules of the model's
// DropBefore hold it.
func TestSimulatedExpiryIsSeen(t *testing.T) {
	t.Parallel()
	for _, outage := range []time.Duration{0, 30 * time.Minute, 70 * time.Minute, 3 * time.Hour, 50 * time.Hour} {
		for _, servers := range []int{1, 2, 3} {
			t.Run(fmt.Sprintf("%d servers after %v", servers, outage), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) { expire(t, outage, servers) })
			})
		}
	}
}

// expire has deliveries wait for their end, at which there is an outage, and
// then some servers, one after the other.
func expire(t *testing.T, outage time.Duration, servers int) {
	w := newWorld(t, 5)
	w.calm = true
	w.retention = 25 * time.Hour
	w.addHooks(plan{{0, up}})
	w.hooks[0].State = trigger.Paused
	for range 20 {
		w.due(1, 3)
		<-time.After(10 * time.Minute)
	}
	<-time.After(20 * time.Hour)
	s := w.start()
	<-time.After(90 * time.Minute)
	s.stop(0)
	<-time.After(outage)
	for range servers {
		w.start()
		<-time.After(time.Minute)
	}
	w.settle()
	w.judge()
	if len(w.events) > 0 {
		t.Errorf("%d events are kept", len(w.events))
	}
	w.stop()
}
