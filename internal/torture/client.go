package torture

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"golang.org/x/sync/errgroup"
)

// kind is what an answer says about an event.
type kind int

const (
	unanswered     kind = iota // it may be stored or not: no answer, or a 503
	acknowledgment             // it is stored
	refusal                    // it is not, and never will be
)

func (k kind) String() string { return [...]string{"unknown", "acknowledged", "refused"}[k] }

// answer is that to one POST of an event.
type answer struct {
	kind    kind
	status  string // accepted or duplicate
	eventID string
	note    string
}

// client is everybody who posts events.
type client struct {
	*run
	http *http.Client

	mu     sync.Mutex
	tenant *tenant // of the next event

	times sync.Mutex
	took  []time.Duration // by POSTs that were acknowledged
}

func newClient(r *run) *client {
	transport := &http.Transport{MaxConnsPerHost: 4 * r.Clients, MaxIdleConnsPerHost: r.Clients}
	return &client{run: r, http: &http.Client{Transport: transport, Timeout: 12 * time.Second}}
}

// load posts events, at the rate that was asked for, until ctx ends. It waits
// for the answers of those that are under way.
func (c *client) load(ctx context.Context) error {
	work := context.WithoutCancel(ctx)
	group, _ := errgroup.WithContext(work)
	due := make(chan struct{}, c.Rate)
	group.Go(func() error {
		defer close(due)
		every := time.NewTicker(time.Second / time.Duration(c.Rate))
		defer every.Stop()
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-every.C:
			}
			select {
			case due <- struct{}{}:
			default: // all clients are busy, or wait
			}
		}
	})
	for i := range c.Clients {
		random := c.random(forClients + uint64(i))
		group.Go(func() error {
			for range due {
				c.one(ctx, random)
			}
			return nil
		})
	}
	return group.Wait()
}

// one posts an event as some client would: once; by two at the same time; and
// again, at once after no answer or later after a good one.
func (c *client) one(ctx context.Context, random *rand.Rand) {
	e, err := c.newEvent(ctx, random)
	if err != nil {
		return // there is no organization for it: faults, or the end
	}
	x := random.IntN(100)
	if x < 5 && e.dedupID != "" {
		var twin sync.WaitGroup
		other := rand.New(rand.NewPCG(random.Uint64(), 0))
		twin.Go(func() { c.insist(ctx, e, other) })
		c.insist(ctx, e, random)
		twin.Wait()
		return
	}
	c.insist(ctx, e, random)
	if x < 10 && e.dedupID != "" && pause(ctx, time.Duration(random.IntN(5000))*time.Millisecond) == nil {
		c.insist(ctx, e, random)
	}
}

// insist posts an event until there is an answer; some clients give up early.
// What has no dedup id is posted once, since its repeat is another event.
func (c *client) insist(ctx context.Context, e *event, random *rand.Rand) {
	for {
		a := c.post(ctx, c.nodes[random.IntN(len(c.nodes))], e)
		if a.kind != unanswered || e.dedupID == "" || random.IntN(10) == 0 || pause(ctx, 200*time.Millisecond) != nil {
			return
		}
	}
}

// newEvent makes the next event, and a tenant for it where the last is full.
func (c *client) newEvent(ctx context.Context, random *rand.Rand) (*event, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.tenant == nil || len(c.tenant.events) >= perTenant {
		t, err := c.newTenant(ctx, random)
		if err != nil {
			return nil, err
		}
		c.tenant = t
	}
	e := &event{tenant: c.tenant, eventType: types()[random.IntN(len(types()))]}
	c.book.addEvent(e)
	switch x := random.IntN(100); {
	case x < 1:
		e.refused = true
	case x >= 6:
		e.dedupID = fmt.Sprintf("d%d-größe", e.n)
	}
	return e, nil
}

// newTenant signs up an organization and registers up to three webhooks. A
// fifth of them have none: their events wait in the inbox.
func (c *client) newTenant(ctx context.Context, random *rand.Rand) (*tenant, error) {
	var made struct {
		Key string `json:"api-key"`
	}
	t := &tenant{n: len(c.book.tenants) + 1}
	if err := c.repeat(ctx, random, "", "/api/keys/generate", `{"organization_name":"Torture","tier":"enterprise"}`, &made); err != nil {
		return nil, err
	}
	t.key = made.Key
	for i := range max(0, random.IntN(5)-1) {
		if err := c.newHook(ctx, random, t, i); err != nil {
			return nil, err
		}
	}
	c.book.addTenant(t)
	return t, nil
}

// newHook registers a webhook; where there was no answer, another one at
// another URL, so that nobody wonders whose signature it is.
func (c *client) newHook(ctx context.Context, random *rand.Rand, t *tenant, i int) error {
	filter := patterns()[random.IntN(len(patterns()))]
	for try := 0; ; try++ {
		path := fmt.Sprintf("/tenant/%d/%d/%d", t.n, i, try)
		h := &hook{tenant: t, filter: filter}
		c.book.addHook(path, h)
		var made struct{ Secret string }
		body := fmt.Sprintf(`{"url":%q,"event_type_filter":%q}`, c.receiver.url(path), filter)
		err := c.call(ctx, c.nodes[random.IntN(len(c.nodes))], t.key, "/api/webhook/register", body, &made)
		if err == nil {
			v, err := standardwebhooks.NewWebhook(made.Secret)
			if err == nil {
				c.book.setSecret(h, v)
			}
			return err
		}
		t.doubtful = true
		if try == 20 {
			return err
		}
		if err := pause(ctx, 200*time.Millisecond); err != nil {
			return err
		}
	}
}

// repeat makes a call until it is answered.
func (c *client) repeat(ctx context.Context, random *rand.Rand, key, path, body string, answer any) error {
	for {
		err := c.call(ctx, c.nodes[random.IntN(len(c.nodes))], key, path, body, answer)
		if err == nil {
			return nil
		}
		if ended := pause(ctx, 200*time.Millisecond); ended != nil {
			return err
		}
	}
}

// post posts an event and enters the answer.
func (c *client) post(ctx context.Context, n *node, e *event) answer {
	begun := c.Now()
	status, header, body, err := c.send(ctx, n, http.MethodPost, e.tenant.key, "/api/events", e.body(c.Seed))
	ended := c.Now()
	a := c.read(e, status, body, err)
	if a.kind == unanswered && !c.windows.cover(begun, ended) {
		c.report.breach(withoutFault, "%s: %s", e, a.note)
	}
	if status == http.StatusServiceUnavailable && header.Get("Retry-After") == "" {
		c.report.breach(wrongAnswer, "a 503 without Retry-After for %s", e)
	}
	c.book.posted(e, a)
	if a.kind == acknowledgment {
		c.times.Lock()
		c.took = append(c.took, ended.Sub(begun))
		c.times.Unlock()
	}
	return a
}

// read judges the answer to an event.
func (c *client) read(e *event, status int, body []byte, err error) (a answer) {
	a.note = fmt.Sprintf("status %d: %.200s", status, body)
	switch {
	case err != nil:
		return answer{note: err.Error()}
	case status == http.StatusServiceUnavailable:
		return a
	case e.refused && status == http.StatusBadRequest:
		a.kind = refusal
		return a
	case e.refused || status != http.StatusOK:
		c.report.breach(wrongAnswer, "%s: %s", e, a.note)
		return a
	}
	var got struct {
		Status  string
		EventID string `json:"event-id"`
	}
	if err := json.Unmarshal(body, &got); err != nil || got.EventID == "" || got.Status != "accepted" && got.Status != "duplicate" {
		c.report.breach(wrongAnswer, "%s: %s", e, a.note)
		return a
	}
	return answer{kind: acknowledgment, status: got.Status, eventID: got.EventID}
}

var errNoAnswer = errors.New("no answer")

// call posts something else than an event; only a 200 is no error.
func (c *client) call(ctx context.Context, n *node, key, path, body string, answer any) error {
	begun := c.Now()
	status, _, got, err := c.send(ctx, n, http.MethodPost, key, path, []byte(body))
	if err == nil && status == http.StatusOK {
		return json.Unmarshal(got, answer)
	}
	if ctx.Err() == nil && !c.windows.cover(begun, c.Now()) {
		c.report.breach(withoutFault, "POST %s: status %d %.200s %v", path, status, got, err)
	}
	if status >= 400 && status < 500 || status == 500 {
		c.report.breach(wrongAnswer, "POST %s: status %d %.200s", path, status, got)
	}
	return errors.Join(errNoAnswer, err)
}

// send makes one request. A request that has begun is not cut by the end of
// the run: its answer counts.
func (c *client) send(ctx context.Context, n *node, method, key, path string, body []byte) (int, http.Header, []byte, error) {
	req, err := http.NewRequestWithContext(context.WithoutCancel(ctx), method, n.url(path), bytes.NewReader(body))
	if err != nil {
		return 0, nil, nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	if key != "" {
		req.Header.Set("X-Api-Key", key)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return 0, nil, nil, err
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	return resp.StatusCode, resp.Header, got, err
}
