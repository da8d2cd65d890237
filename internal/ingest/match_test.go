package ingest_test

import (
	"context"
	"errors"
	"runtime"
	"testing"
	"time"

	"triggerd/internal/store/storetest"
	"triggerd/internal/trigger"
)

// setContent gives the fixture's webhook a content filter.
func (f *fixture) setContent(t *testing.T, content string) {
	t.Helper()
	_, err := f.store.SetWebhook(t.Context(), f.org, f.hook, func(w *trigger.Webhook) (err error) {
		w.Filter, err = trigger.ParseFilter([]string{"user.*"}, []byte(content))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// takeTurns takes all turns, for an organization that does not exist, until the
// returned function is called.
func (f *fixture) takeTurns(t *testing.T) (done func()) {
	t.Helper()
	all := max(1, runtime.GOMAXPROCS(0)/2)
	for range all {
		if err := f.Turns.Take(t.Context(), -1); err != nil {
			t.Fatal(err)
		}
	}
	return func() {
		for range all {
			f.Turns.Done(-1, 0)
		}
	}
}

// addLater adds an event, and returns a channel of the error.
func (f *fixture) addLater(t *testing.T, e *trigger.Event) <-chan error {
	t.Helper()
	done := make(chan error, 1)
	go func() {
		_, err := f.Add(context.WithoutCancel(t.Context()), e)
		done <- err
	}()
	return done
}

// Events that wait to be compared with content filters hold up neither the events
// of other organizations nor those of the same one that need not wait. They are
// compared with the filters as these are when they are committed.
func TestContentFiltersWaitForTheirTurn(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		f := start(t, db, db.Open(t), 1000)
		f.setContent(t, `{"path":"/a","equals":1}`)
		other := storetest.NewOrganization(t, f.store)
		done := f.takeTurns(t)
		var waiting []<-chan error
		for range 3 { // the first one, or all, when the loop knows the webhooks and the request did not
			waiting = append(waiting, f.addLater(t, f.event("user.created", "")))
			if _, err := f.Add(t.Context(), &trigger.Event{OrganizationID: other, Type: "x", Payload: []byte("1")}); err != nil {
				t.Fatal(err)
			}
		}
		hurried, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		if _, err := f.Add(hurried, f.event("user.created", "")); trigger.KindOf(err) != trigger.Unavailable {
			t.Errorf("without a turn: %v, want Unavailable", err)
		}
		for _, v := range f.AddAll(hurried, []*trigger.Event{f.event("user.created", ""), f.event("user.created", "")}) {
			if trigger.KindOf(v.Err) != trigger.Unavailable {
				t.Errorf("without a turn: %v, want Unavailable", v.Err)
			}
		}
		f.setContent(t, `{"path":"/a","equals":2}`) // meanwhile
		done()
		for _, w := range waiting {
			if err := <-w; err != nil {
				t.Fatal(err)
			}
		}
		if len(f.lanes.taken) != 0 {
			t.Errorf("%d events were sent to a webhook by its former filter", len(f.lanes.taken))
		}
		f.setContent(t, `{"path":"/a","equals":1}`)
		for range 3 {
			if _, err := f.Add(t.Context(), f.event("user.created", "")); err != nil {
				t.Fatal(err)
			}
		}
		f.stop()
		if len(f.lanes.taken) != 3 || f.lanes.reserved != 0 || !f.Turns.IsIdle() || f.QueuedBytes() != 0 {
			t.Errorf("%d handed off, want 3; %d rooms reserved, %d bytes queued, turns idle: %v",
				len(f.lanes.taken), f.lanes.reserved, f.QueuedBytes(), f.Turns.IsIdle())
		}
	})
}

// Events that have left the queue to be compared with content filters are
// committed before the writer stops.
func TestStopWaitsForContentFilters(t *testing.T) {
	t.Parallel()
	db := storetest.SQLite(t)
	f := start(t, db, db.Open(t), 1000)
	f.setContent(t, `{"path":"/a","equals":1}`)
	done := f.takeTurns(t)
	waiting := f.addLater(t, f.event("user.created", "")) // the first of its organization is queued at once
	for f.QueuedBytes() == 0 {
		runtime.Gosched()
	}
	stopped := make(chan struct{})
	go func() { defer close(stopped); f.stop() }()
	for !isStopping(t, f) {
		runtime.Gosched()
	}
	done()
	<-stopped
	if err := <-waiting; err != nil || len(f.lanes.taken) != 1 {
		t.Errorf("%v, %d handed off", err, len(f.lanes.taken))
	}
}

// isStopping reports whether the writer takes no new events.
func isStopping(t *testing.T, f *fixture) bool {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := f.Add(ctx, &trigger.Event{OrganizationID: -2, Type: "x", Payload: []byte("1")})
	return err != nil && errors.Unwrap(err) != nil && errors.Unwrap(err).Error() == "stopping"
}
