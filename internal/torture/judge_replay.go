package torture

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"
)

// replayPatience is how long a replay may take: it stays half a minute behind.
const replayPatience = settleTime + 30*time.Second

// maxReplays is how many replays of single events are checked.
const maxReplays = 30

// replayed is a replay in an answer of the API.
type replayed struct {
	ID                        int64
	State                     string
	Queued, Delivered, Failed int
}

// judgeReplays replays all events of one webhook, and checks that this replay,
// and earlier resends, end as they must. In most cases it leaves out the last
// half minute, for which it would have to wait.
func (r *run) judgeReplays(ctx context.Context) {
	random := r.random(forReplays)
	begun := r.Now()
	before, until := begun, ""
	if random.IntN(4) > 0 || r.report.Faults[faultStep] > 0 {
		before = begun.Add(-settleTime - margin).Truncate(time.Millisecond)
		until = fmt.Sprintf(`,"until":%q`, before.UTC().Format(time.RFC3339Nano))
	}
	h := r.book.busiest(before)
	if h == nil {
		return
	}
	stored, err := r.listed(ctx, h.tenant, "/v1/events?limit=100")
	if err != nil {
		return // judgeTenant reports it
	}
	want := 0
	for i := range stored {
		if matches(h.filter, stored[i].Type) && acceptedAt(stored[i].ID).Before(before) {
			want++
		}
	}
	_ = pause(ctx, r.dueUntil(ctx, []*tenant{h.tenant}).Sub(r.Now())) // an open breaker would delay the replay
	q := request{
		method: http.MethodPost, path: "/v1/replays", key: h.tenant.key, body: fmt.Appendf(nil, `{"webhook_id":%d,"pace":0%s}`, h.id, until),
		header: map[string]string{"Idempotency-Key": "the last replay"},
	}
	var made replayed
	a, err := r.client.insistOn(ctx, random, q, http.StatusCreated)
	if err != nil || r.client.read(&a, &made) != nil {
		r.report.breach(badReplay, "a replay to webhook %d could not be begun: %v", h.n, err)
		return
	}
	r.judgeReplay(ctx, random, h, made.ID, want)
	if came := r.book.cameSince(h, begun); came != want {
		r.report.breach(badReplay, "%d of %d events came to webhook %d by a replay", came, want, h.n)
	}
	r.report.Replayed = want
	r.judgeResends(ctx, random)
}

// judgeResends checks that the replays of single events have ended.
func (r *run) judgeResends(ctx context.Context, random *rand.Rand) {
	n := 0
	for _, e := range r.book.events {
		for _, h := range e.owedTo() {
			for _, again := range e.resent[h.n] {
				if n++; again.replay != 0 && n <= maxReplays {
					r.judgeReplay(ctx, random, h, again.replay, 1)
				}
			}
		}
	}
}

// judgeReplay waits for the end of a replay that must deliver want events.
func (r *run) judgeReplay(ctx context.Context, random *rand.Rand, h *hook, id int64, want int) {
	var got replayed
	q := request{method: http.MethodGet, path: "/v1/replays/" + strconv.FormatInt(id, 10), key: h.tenant.key}
	patience := replayPatience
	if r.stuck.Load() {
		patience /= 10
	}
	ended := until(ctx, patience, "", func(ctx context.Context) bool {
		a, err := r.client.insistOn(ctx, random, q, http.StatusOK)
		return err != nil || r.client.read(&a, &got) != nil || got.State == "done"
	})
	if ended != nil {
		r.stuck.Store(true)
	}
	if got != (replayed{id, "done", want, want, 0}) {
		r.report.breach(badReplay, "of %d events to webhook %d: %+v", want, h.n, got)
	}
}

// busiest returns the webhook that matches most of the events acknowledged
// before a time; nil without a match.
func (b *book) busiest(before time.Time) (busiest *hook) {
	b.mu.Lock()
	defer b.mu.Unlock()
	most := 0
	for _, t := range b.tenants {
		for _, h := range t.hooks {
			if h.poisoned != good {
				continue
			}
			n := 0
			for _, e := range t.events {
				if e.acknowledged() && acceptedAt(e.ids[0]).Before(before) && matches(h.filter, e.eventType) {
					n++
				}
			}
			if n > most {
				busiest, most = h, n
			}
		}
	}
	return busiest
}

// cameSince counts the events that a webhook has answered with a 2xx since a
// time.
func (b *book) cameSince(h *hook, since time.Time) (n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, e := range h.tenant.events {
		if b.answeredSince(e, h, since) {
			n++
		}
	}
	return n
}
