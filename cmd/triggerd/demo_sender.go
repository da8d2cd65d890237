package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"

	"triggerd/internal/trigger"
)

const (
	demoPosters = 16               // concurrent POSTs
	demoTwice   = 20               // every 20th event is posted a second time
	demoTimeout = 20 * time.Second // for one request
)

// sender is an organization that posts real events.
type sender struct {
	url      string // of the server
	key      string // its API key, after signUp
	examples []example
	count    int // number of events
	rate     int // POSTs per second; 0: as fast as possible
	client   *http.Client
}

func newSender(url string, examples []example, count, rate int) *sender {
	transport := &http.Transport{MaxConnsPerHost: demoPosters, MaxIdleConnsPerHost: demoPosters}
	return &sender{
		url: url, examples: examples, count: cmp.Or(count, len(examples)), rate: rate,
		client: &http.Client{Transport: transport, Timeout: demoTimeout},
	}
}

// signUp creates the organization and its key.
func (s *sender) signUp(ctx context.Context) error {
	var answer struct {
		Key string `json:"api-key"`
	}
	err := s.post(ctx, "/api/keys/generate", []byte(`{"organization_name":"Demo","tier":"enterprise"}`), &answer)
	s.key = answer.Key
	return err
}

// register creates a webhook for all events and returns its secret.
func (s *sender) register(ctx context.Context, url string) (secret string, err error) {
	var answer struct{ Secret string }
	err = s.post(ctx, "/api/webhook/register", fmt.Appendf(nil, `{"url":%q}`, url), &answer)
	return answer.Secret, err
}

// postAll posts the events, some of them twice, and reports each answer. It
// returns when all are answered.
func (s *sender) postAll(ctx context.Context, answered func(posting)) error {
	group, ctx := errgroup.WithContext(ctx)
	queue := make(chan posting)
	group.Go(func() error {
		defer close(queue)
		return s.feed(ctx, queue)
	})
	for range demoPosters {
		group.Go(func() error {
			for p := range queue {
				if err := s.postEvent(ctx, &p); err != nil {
					return err
				}
				answered(p)
			}
			return nil
		})
	}
	return group.Wait()
}

// feed queues the postings, each when it is due.
func (s *sender) feed(ctx context.Context, queue chan<- posting) error {
	begun, n := time.Now(), 0
	for i := range s.count {
		p := posting{dedupID: fmt.Sprintf("demo-%d", i+1), example: s.examples[i%len(s.examples)]}
		times := 1
		if i%demoTwice == 0 {
			times = 2
		}
		for range times {
			due := begun
			if s.rate > 0 {
				due = due.Add(time.Duration(n) * time.Second / time.Duration(s.rate))
			}
			if err := sleepUntil(ctx, due); err != nil {
				return err
			}
			select {
			case queue <- p:
			case <-ctx.Done():
				return ctx.Err()
			}
			n++
		}
	}
	return nil
}

func sleepUntil(ctx context.Context, due time.Time) error {
	wait := time.Until(due)
	if wait <= 0 {
		return nil
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// postEvent posts an event, its payload byte for byte, and records the answer.
func (s *sender) postEvent(ctx context.Context, p *posting) error {
	body := []byte(`{"type":`)
	body = trigger.AppendString(body, p.example.Type)
	body = append(append(body, `,"dedup_id":`...), strconv.Quote(p.dedupID)...)
	body = append(append(body, `,"payload":`...), p.example.Payload...)
	body = append(body, '}')
	var answer struct {
		Status  string
		EventID string `json:"event-id"`
	}
	p.sent = time.Now()
	err := s.post(ctx, "/api/events", body, &answer)
	p.status, p.eventID = answer.Status, answer.EventID
	return err
}

// post sends a JSON body and decodes the answer, which must be a 200.
func (s *sender) post(ctx context.Context, path string, body []byte, answer any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-Api-Key", s.key)
	resp, err := s.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err != nil {
		return fmt.Errorf("POST %s: %w", path, err)
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("POST %s: status %d: %.200s", path, resp.StatusCode, got)
	}
	return json.Unmarshal(got, answer)
}
