package deliver_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"triggerd/internal/trigger"
)

// Servers, their database and their receivers live through everything that may
// happen to them, in virtual time, and keep the rules of simulation_rules_test.go.
// SIMULATION_SEED runs one seed again, or several with commas between them;
// SIMULATION_SEEDS runs the seeds from 0 to that number. Each of the situations
// that this is for must have come up, unless the seeds were chosen.
func TestSimulation(t *testing.T) {
	t.Parallel()
	list, chosen := seeds(t, 40)
	var mu sync.Mutex
	met := map[string]int{}
	t.Run("seed", func(t *testing.T) {
		for _, seed := range list {
			t.Run(fmt.Sprint(seed), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					w := simulate(t, seed)
					mu.Lock()
					defer mu.Unlock()
					for what, n := range w.met {
						met[what] += n
					}
				})
			})
		}
	})
	t.Log(met)
	for _, what := range situations() {
		if met[what] == 0 && !chosen && !t.Failed() {
			t.Errorf("it never came up: %s", what)
		}
	}
}

// simulate lives through one seed. Odd ones are calm: receivers fail, and
// servers stop and start, but nothing breaks. Of each forty, two go through
// the default schedule, which takes days, and four through a retention.
func simulate(t *testing.T, seed uint64) *world {
	w := newWorld(t, seed)
	dice := w.dice(1)
	w.calm = seed%2 == 1
	const s, m = time.Second, time.Minute
	span := 20*m + time.Duration(dice.Float64()*float64(20*m))
	traffic := span
	schedules := []trigger.Schedule{{s, 10 * s, m, 5 * m}, {}, {5 * s}, {0, 0, 0}, {2 * s, 3 * s, 20 * s}}
	w.schedule = schedules[dice.IntN(len(schedules))]
	servers := 1 + dice.IntN(3)
	switch seed % 40 {
	case 0, 1:
		w.schedule, span, traffic, servers = trigger.DefaultSchedule(), 75*time.Hour, 4*time.Hour, 2-int(seed%2)
	case 2, 3, 22, 23:
		w.retention, span, traffic, servers = 25*time.Hour, 30*time.Hour, 4*time.Hour, 1
	}
	if dice.IntN(4) == 0 {
		w.timeout = 4 * s
	}
	w.weather = newWeather(w, dice, span, traffic)
	w.ahead = newAheadTimes(w, span, traffic)
	for id := range 4 + dice.Int64N(8) {
		h := &hook{Webhook: trigger.Webhook{
			ID: id + 1, OrganizationID: 1 + dice.Int64N(3), State: trigger.Active, URL: fmt.Sprintf("http://hook%d", id+1),
			Secrets: trigger.OneSecret(trigger.NewSecret([32]byte{1})),
		}, plan: newPlan(dice, span)}
		if dice.IntN(4) == 0 {
			h.plan = plan{{0, up}}
		}
		h.settings(dice)
		w.addHook(h)
	}
	for range servers {
		w.start()
	}
	w.run(w.deeds(dice, span, traffic))
	if wait := span - time.Since(w.begun); wait > 0 {
		<-time.After(wait)
	}
	<-time.After(mostHeldUp + time.Minute) // all have started, and none is held up
	if len(w.alive()) == 0 {
		w.start()
	}
	w.judgeDues()
	w.settle()
	w.judge()
	w.stop()
	t.Logf("calm %v, schedule %v, %d deliveries, %d servers, %v, slowest %v, stop %v", w.calm, w.schedule, len(w.debts), len(w.servers), time.Since(w.begun), w.slowest, w.slowestStop)
	return w
}

// settings gives a webhook some of its own.
func (h *hook) settings(dice *rand.Rand) {
	const s = time.Second
	if dice.IntN(4) == 0 {
		h.Timeout = []time.Duration{s, 2 * s, 30 * s}[dice.IntN(3)]
	}
	if dice.IntN(4) == 0 {
		h.Schedule = []trigger.Schedule{{}, {s, s, s}, {10 * s, 30 * s}}[dice.IntN(3)]
	}
	if dice.IntN(4) == 0 {
		h.Rate = []float64{0.5, 2, 5, 100}[dice.IntN(4)]
	}
	if dice.IntN(4) == 0 {
		h.Concurrency = []int{1, 2, 64}[dice.IntN(3)]
	}
}

// situations are what must come up in one of the seeds.
func situations() []string {
	return []string{
		handedOff, overflowed, late, cut, givenBack, lost, dropped, stale, staleSuccess, again,
		wentBack, pulledBack, held, heldMeanwhile, probed, probeLost, probeSent, mended, replayed, revived, relocated,
		"outcome success", "outcome transient", "outcome gone", "outcome permanent",
		trigger.ReasonExhausted, trigger.ReasonGone, trigger.ReasonExpired, trigger.ReasonAborted, reasonCancelled,
	}
}

const (
	handedOff    = "a delivery was handed off"
	overflowed   = "a delivery found no room"
	late         = "a server was held up with a request in its hands"
	cut          = "a request was cut by a stop"
	givenBack    = "a delivery was given back unsent"
	lost         = "a claim was committed, and its server does not know"
	dropped      = "a delivery was dropped since its lease ran short"
	stale        = "a result of a lost claim changed nothing"
	staleSuccess = "a success of a lost claim ended a delivery"
	again        = "a delivery was sent again after a success"
)

// seeds returns the seeds to run: those of SIMULATION_SEED, and then they are
// chosen, or 0 to n-1, and half of them if the race detector makes each slow.
func seeds(t *testing.T, n uint64) (list []uint64, chosen bool) {
	t.Helper()
	if texts := os.Getenv("SIMULATION_SEED"); texts != "" {
		for text := range strings.SplitSeq(texts, ",") {
			seed, err := strconv.ParseUint(text, 10, 64)
			if err != nil {
				t.Fatalf("SIMULATION_SEED must be numbers with commas between them, for example 7,42; got %q", texts)
			}
			list = append(list, seed)
		}
		return list, true
	}
	if build, ok := debug.ReadBuildInfo(); ok && slices.Contains(build.Settings, debug.BuildSetting{Key: "-race", Value: "true"}) {
		n /= 2
	}
	if text := os.Getenv("SIMULATION_SEEDS"); text != "" {
		var err error
		if n, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatalf("SIMULATION_SEEDS must be a number, for example 120; got %q", text)
		}
	}
	for seed := range n {
		list = append(list, seed)
	}
	return list, false
}
