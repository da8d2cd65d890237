package deliver_test

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"triggerd/internal/trigger"
)

// A receiver is out for a while with much to come, and then back: it gets few
// requests meanwhile, all of what waited afterwards, and a receiver beside it
// notices nothing. What there is in memory goes back to the store.
func TestSimulatedOutage(t *testing.T) {
	t.Parallel()
	for _, how := range []conduct{refuses, hangs, limits} {
		for _, servers := range []int{1, 3} {
			t.Run(fmt.Sprintf("conduct %d with %d servers", how, servers), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) { outage(t, how, servers) })
			})
		}
	}
}

func outage(t *testing.T, how conduct, servers int) {
	w := newWorld(t, 6)
	w.calm = true
	const begins, lasts = time.Minute, 40 * time.Minute
	w.addHooks(plan{{0, prompt}, {begins, how}, {begins + lasts, prompt}}, plan{{0, prompt}})
	for range servers {
		w.start()
	}
	<-time.After(begins)
	const waiting = 2000
	w.due(1, waiting)
	for second := range int(lasts / time.Second) {
		s := w.oneOf(w.dice(uint64(second)))
		s.posting.Add(1)
		go w.accept(s, 1, 100, []*hook{w.byID[1+int64(second%2)]})
		<-time.After(time.Second)
	}
	w.mu.Lock()
	requests := 0
	for _, d := range w.debts {
		if d.WebhookID == 1 {
			requests += len(d.sends)
		} else {
			d.judgePace(w, 50*time.Millisecond, 0)
		}
	}
	w.mu.Unlock()
	// Each server may need some attempts to notice, and then there are probes of
	// some requests, after 1 s, 2 s and so on, and each 15 s and more.
	if most := servers*80 + mostProbed*(9+int(lasts/(12*time.Second))); requests > most {
		t.Errorf("%d requests in an outage, more than %d", requests, most)
	}
	if how == limits {
		<-time.After(trigger.MaxRetryAfter)
	}
	// The last hold ends, and what waited is not many at a time.
	if <-time.After(6*time.Minute + 2*time.Minute); true {
		w.mu.Lock()
		for _, d := range w.debts {
			if d.state == trigger.DeliveryOpen && len(d.sends) == 0 {
				w.wrong(d, "is not tried after the outage")
			}
		}
		w.mu.Unlock()
	}
	w.settle()
	w.judge()
	w.stop()
}

// A webhook that does nothing but fail for five days is paused, and its owner
// is told so before and at it, once, however many servers there are, and
// whatever breaks. When it is back, it is told once. With more servers than
// one, days are of two hours: what they do each second is simulated.
func TestSimulatedFailingWebhook(t *testing.T) {
	t.Parallel()
	for seed := range uint64(3) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				failing5Days(t, seed, []time.Duration{24 * time.Hour, 2 * time.Hour, 2 * time.Hour}[seed])
			})
		})
	}
}

func failing5Days(t *testing.T, seed uint64, day time.Duration) {
	w := newWorld(t, seed)
	w.calm = seed%2 == 1
	hour := day / 24
	w.endurance.Pause = 5 * day
	for i, p := range w.schedule {
		w.schedule[i] = p / (time.Hour / hour)
	}
	w.weather = newWeather(w, w.dice(1), 6*day, 6*day)
	w.addHooks(plan{{0, refuses}, {6 * day, up}}, plan{{0, down}}, plan{{0, up}})
	for range 1 + seed%3 {
		w.start()
	}
	for h := range 6 * 24 {
		w.due(1, 1)
		if h < 2 { // few enough failures to go unnoticed
			w.due(2, 1)
		}
		w.due(3, 1)
		<-time.After(hour)
	}
	w.mu.Lock()
	h := w.byID[1]
	if want := []string{trigger.WebhookFailing, trigger.WebhookPaused}; !slices.Equal(h.told, want) || h.State != trigger.Paused {
		t.Errorf("told of %v, and it is %s; want %v", h.told, h.State, want)
	}
	paused := h.changed.Sub(w.begun)
	if paused < 5*day || paused > 5*day+2*hour {
		t.Errorf("paused after %v", paused)
	}
	if other := w.byID[3]; len(other.told) > 0 || other.State != trigger.Active {
		t.Errorf("told of %v of a webhook that is up", other.told)
	}
	h.setState(trigger.Active, time.Now())
	w.mu.Unlock()
	<-time.After(time.Hour)
	w.mu.Lock()
	if want := []string{trigger.WebhookFailing, trigger.WebhookPaused, trigger.WebhookRecovered}; !slices.Equal(h.told, want) {
		t.Errorf("told of %v; want %v", h.told, want)
	}
	w.mu.Unlock()
	w.settle()
	w.judge()
	w.stop()
}

// A webhook that is paused with much to come gets nothing more, and nothing is
// claimed or written for it; when it is resumed, all of it drains.
func TestSimulatedPause(t *testing.T) {
	t.Parallel()
	for _, servers := range []int{1, 2, 3} {
		t.Run(fmt.Sprint(servers), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { pause(t, servers) })
		})
	}
}

func pause(t *testing.T, servers int) {
	w := newWorld(t, 8)
	w.calm = true
	w.addHooks(plan{{0, up}}, plan{{0, disables}, {time.Minute, up}})
	for range servers {
		w.start()
	}
	w.due(1, 3000)
	w.due(2, 3000)
	<-time.After(3 * time.Second)
	w.mu.Lock()
	w.byID[1].setState(trigger.Paused, time.Now())
	w.mu.Unlock()
	<-time.After(2 * time.Second)
	w.mu.Lock()
	sent := w.requests()
	w.mu.Unlock()
	for second := range 900 {
		s := w.oneOf(w.dice(uint64(second)))
		s.posting.Add(1)
		go w.accept(s, 1, 100, []*hook{w.byID[1+int64(second%2)]})
		<-time.After(time.Second)
	}
	w.mu.Lock()
	if now := w.requests(); now != sent {
		t.Errorf("%d requests, and %d a quarter of an hour later", sent, now)
	}
	if h := w.byID[2]; h.State != trigger.Paused {
		t.Errorf("the webhook whose receiver wanted no more is %s", h.State)
	}
	for _, h := range w.hooks {
		h.setState(trigger.Active, time.Now())
	}
	w.mu.Unlock()
	if !w.await(10 * time.Minute) {
		t.Error("it does not drain when it is resumed")
	}
	w.judge()
	w.stop()
}

// requests is how many there were.
func (w *world) requests() (n int) {
	for _, d := range w.debts {
		n += len(d.sends)
	}
	return n
}

// A server that cannot read what webhooks are sends nothing, since one may be
// paused: what waits in its memory comes when it can, or goes to another.
func TestSimulatedPauseUnread(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 11)
		w.addHooks(plan{{0, up}})
		w.hooks[0].Rate = 2
		w.weather.until = w.begun.Add(time.Hour)
		w.weather.spells = []spell{{from: w.begun.Add(10 * time.Second), to: w.begun.Add(time.Minute), kind: away, server: 3}}
		w.start()
		w.due(1, 200)
		<-time.After(10*time.Second + time.Millisecond)
		w.mu.Lock()
		w.hooks[0].setState(trigger.Paused, time.Now())
		w.mu.Unlock()
		<-time.After(5 * time.Minute)
		w.settle()
		w.judge()
		w.stop()
	})
}
