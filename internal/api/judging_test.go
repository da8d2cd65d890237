package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"triggerd/client"
	"triggerd/internal/ingest"
	"triggerd/internal/store/storetest"
	"triggerd/internal/trigger"
)

// judgedBy judges a payload by a schema, for as long as it takes.
func judgedBy(t interface {
	Helper()
	Fatalf(format string, args ...any)
}, s *eventSchema, payload []byte,
) []trigger.Field {
	t.Helper()
	total := 0
	fields, err := s.judge(payload, func(steps int) error { total += steps; return nil })
	most := 2*(leastSteps+stepsPerByte*len(payload)) + len(payload)
	if slack := most; err != nil || total < 0 || total > most+slack {
		t.Fatalf("%d steps were counted, of at most %d: %v", total, most, err)
	}
	return fields
}

// validateOne judges the one event of a request.
func (c *typeCache) validateOne(ctx context.Context, org *trigger.Organization, e *trigger.Event) ([]trigger.Field, error) {
	j := c.judging(ctx, org)
	defer j.end()
	return j.validate(e)
}

// rest reports whether nobody has a turn or waits for one.
func (j *judges) rest() bool { return j.turns.IsIdle() && j.large.IsIdle() }

// bomb is a schema of which 2 KB take more steps than anybody has.
func bomb() json.RawMessage {
	const depth = 40
	defs := []string{fmt.Sprintf(`"a%d":{"type":"object"}`, depth)}
	for i := range depth {
		defs = append(defs, fmt.Sprintf(`"a%d":{"allOf":[{"$ref":"#/$defs/a%d"},{"$ref":"#/$defs/a%d"}]}`, i, i+1, i+1))
	}
	return json.RawMessage(`{"$ref":"#/$defs/a0","$defs":{` + strings.Join(defs, ",") + `}}`)
}

// A request is judged for so long, and no longer: what has had its turn by then is
// accepted, the rest is unavailable, and goes the next time.
func TestBatchThatTakesLong(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := newServer(t, db)
		s.api.types.judges.patience = time.Second
		r := s.newRegistrar(t)
		r.put(t, "bomb", client.EventTypeInput{Schema: bomb(), Mode: client.ModeWarn})
		events := make([]client.EventInput, client.MaxBatch)
		for i := range events {
			events[i] = client.EventInput{Type: "bomb", Payload: json.RawMessage(`{"x":"` + strings.Repeat("y", 7500) + `"}`)}
		}
		var accepted, unavailable int
		for _, v := range sure(r.c.PostEvents(t.Context(), events))(t) {
			switch {
			case v.Status == client.PostAccepted && len(v.Warnings) == 1 && unavailable == 0:
				accepted++
			case v.Status == client.PostUnavailable && v.Problem.Status == http.StatusServiceUnavailable:
				unavailable++
			default:
				t.Fatalf("%+v after %d that were accepted and %d that were not", v, accepted, unavailable)
			}
		}
		if accepted == 0 || unavailable == 0 {
			t.Errorf("%d of a batch were accepted, %d unavailable", accepted, unavailable)
		}
		if !s.api.types.judges.rest() {
			t.Errorf("turns go on: %+v", s.api.types.judges)
		}
	})
}

// A batch that takes longer than a request is judged for comes to its end when it is
// sent again as it is, and what was accepted stays so.
func TestBatchIsSentAgain(t *testing.T) {
	t.Parallel()
	s := newServer(t, storetest.SQLite(t), func(a *API) { a.Writer.Cache = ingest.NewCache(a.Store, 1000, 0) })
	s.api.types.judges.patience = time.Second
	r := s.newRegistrar(t)
	r.put(t, "bomb", client.EventTypeInput{Schema: bomb(), Mode: client.ModeWarn})
	const events = 500
	const line = `{"type":"bomb","payload":{}}`
	body := "[" + line + strings.Repeat(","+line, events-1) + "]"
	done, last, stalled := map[int]bool{}, 0, 0
	for len(done) < events {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, r.URL+"/v1/events", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+r.key)
		req.Header.Set("Idempotency-Key", "again")
		res, err := s.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		var answer struct{ Data []client.Verdict }
		if err := errors.Join(json.NewDecoder(res.Body).Decode(&answer), res.Body.Close()); err != nil {
			t.Fatal(err)
		}
		for _, v := range answer.Data {
			switch {
			case v.Status == client.PostAccepted || v.Status == client.PostDuplicate:
				done[v.Index] = true
			case done[v.Index] || v.Problem == nil || v.Problem.Status != http.StatusServiceUnavailable:
				t.Fatalf("%+v, although it was accepted before: %v", v, done[v.Index])
			}
		}
		if stalled++; len(done) > last {
			stalled = 0
		}
		if stalled == 20 { // a busy machine may do nothing for a second
			t.Fatalf("%d of %d events were accepted, and no more when the batch was sent again", last, events)
		}
		last = len(done)
	}
}

// While others have all turns, who waits in vain gets 503, of either API and never
// 429; and who needs no turn does not wait.
func TestNoTurn(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := newServer(t, db)
		judges := &s.api.types.judges
		judges.patience = 10 * time.Millisecond
		r := s.newRegistrar(t)
		r.put(t, "judged", client.EventTypeInput{Schema: json.RawMessage(`{"type":"object"}`), Mode: client.ModeReject})
		taken := max(1, runtime.GOMAXPROCS(0)/2)
		for range taken {
			if err := judges.turns.Take(t.Context(), -1); err != nil {
				t.Fatal(err)
			}
		}
		for path, body := range map[string]string{
			"/api/events": `{"type":"judged","payload":{}}`,
			"/v1/events":  `{"type":"judged","payload":{}}`,
		} {
			got := r.ask(t, http.MethodPost, path, body, "X-Api-Key", r.key)
			if got.status != http.StatusServiceUnavailable || got.header.Get("Retry-After") == "" {
				t.Errorf("%s: %d %v %s", path, got.status, got.header, got.body)
			}
		}
		list := sure(r.c.PostEvents(t.Context(), []client.EventInput{{Type: "judged", Payload: json.RawMessage(`{}`)}, {Type: "free", Payload: json.RawMessage(`{}`)}}))(t)
		if list[0].Status != client.PostUnavailable || list[1].Status != client.PostAccepted {
			t.Errorf("%+v", list)
		}
		for range taken {
			judges.turns.Done(-1, 0)
		}
		sure(r.c.PostEvent(t.Context(), client.EventInput{Type: "judged", Payload: json.RawMessage(`{}`)}))(t)
		if !judges.rest() {
			t.Errorf("turns go on: %+v", judges)
		}
	})
}
