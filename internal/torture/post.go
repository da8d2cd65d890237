package torture

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"time"
)

// kind is what an answer says about an event.
type kind int

const (
	unanswered     kind = iota // it may be stored or not: no answer, or a 503
	acknowledgment             // it is stored
	refusal                    // it is not stored and never will be
)

func (k kind) String() string { return [...]string{"unknown", "acknowledged", "refused"}[k] }

// answer is the answer to one POST of an event.
type answer struct {
	kind    kind
	status  string // accepted or duplicate
	eventID string
	note    string
}

// insist posts an event until there is an answer; some clients stop early. It
// posts an event without a dedup id once, because a repeat is another event.
func (c *client) insist(ctx context.Context, e *event, random *rand.Rand) {
	for {
		c.hush(ctx)
		a := c.post(ctx, c.nodes[random.IntN(len(c.nodes))], e, e.anyForm(random))
		if a.kind != unanswered || e.dedupID == "" || random.IntN(10) == 0 || pause(ctx, retryPause) != nil {
			return
		}
	}
}

// post posts an event and records the answer.
func (c *client) post(ctx context.Context, n *node, e *event, f form) answer {
	got, err := c.send(ctx, n, e.request(f, c.Seed))
	a := c.readOne(e, f, &got, err)
	if a.kind == unanswered {
		c.excuse(e, &got, err)
	}
	c.judgeAway(e, &a, got.begun)
	c.book.posted(e, a)
	c.book.count(func(n *counts) { n.Posts++ })
	if a.kind == acknowledgment {
		c.times.Lock()
		c.took = append(c.took, got.ended.Sub(got.begun))
		c.times.Unlock()
	}
	return a
}

// judgeAway checks an acknowledgment that comes while the database's files are
// away.
func (c *client) judgeAway(e *event, a *answer, begun time.Time) {
	if a.kind == acknowledgment && c.away.covers(begun, a.status != "accepted") {
		c.report.breach(ackedAway, "%s is %s", e, a.status)
	}
}

// readOne checks the answer to an event.
func (c *client) readOne(e *event, f form, got *reply, err error) answer {
	a := answer{note: got.String()}
	good := got.status == http.StatusOK || f != original && got.status == http.StatusCreated
	bad := got.status == http.StatusBadRequest || f != original && got.status == http.StatusUnprocessableEntity
	switch {
	case err != nil:
		return answer{note: err.Error()}
	case got.isUndone():
		return a
	case e.refused && bad:
		a.kind = refusal
		return a
	case e.refused || !good:
		c.report.breach(wrongAnswer, "%s: %s", e, a.note)
		return a
	}
	var said verdict
	if err := json.Unmarshal(got.body, &said); err != nil {
		c.report.breach(wrongAnswer, "%s: %s", e, a.note)
		return a
	}
	if f == original {
		said.ID = said.EventID
	}
	if f != original && (got.status == http.StatusCreated) != (said.Status == "accepted") {
		c.report.breach(wrongAnswer, "%s: %s", e, a.note)
	}
	return c.readVerdict(e, &said, a.note)
}

// verdict is the answer about one event.
type verdict struct {
	Index   int
	Status  string
	ID      string
	EventID string `json:"event-id"` // in the original API
	Matches *bool  `json:"payload_matches"`
	Problem *struct {
		Code   string
		Status int
	}
}

// readVerdict checks the answer about an event.
func (c *client) readVerdict(e *event, v *verdict, note string) answer {
	switch {
	case v.Status == "unavailable" && v.Problem != nil && v.Problem.Status >= 500:
		return answer{note: note}
	case e.refused && v.Status == "rejected" && v.Problem != nil && v.Problem.Status < 500:
		return answer{kind: refusal, note: note}
	case e.refused, v.ID == "", v.Status != "accepted" && v.Status != "duplicate", v.Matches != nil && !*v.Matches:
		c.report.breach(wrongAnswer, "%s: %s: %s", e, v.Status, note)
		return answer{note: note}
	}
	return answer{kind: acknowledgment, status: v.Status, eventID: v.ID}
}

// many posts a batch like a client that repeats it: at once if answers are
// missing, and sometimes after a complete answer.
func (c *client) many(ctx context.Context, b *batch, random *rand.Rand) {
	again := random.IntN(10) == 0
	for {
		c.hush(ctx)
		whole := c.postBatch(ctx, c.nodes[random.IntN(len(c.nodes))], b)
		if whole && !again || !b.repeatable() || pause(ctx, retryPause) != nil {
			return
		}
		again = again && !whole
	}
}

// postBatch posts a batch and records its verdicts. whole reports whether each
// event has one.
func (c *client) postBatch(ctx context.Context, n *node, b *batch) (whole bool) {
	got, err := c.send(ctx, n, b.request(c.Seed))
	answers := c.readBatch(b, &got, err)
	whole = true
	for i, e := range b.events {
		c.judgeAway(e, &answers[i], got.begun)
		c.book.posted(e, answers[i])
		whole = whole && answers[i].kind != unanswered
	}
	c.book.count(func(n *counts) { n.Posts, n.Batches = n.Posts+1, n.Batches+1 })
	if !whole {
		c.excuse(fmt.Sprintf("a batch of %d, the first %s", len(b.events), b.events[0]), &got, err)
	}
	return whole
}

// readBatch checks the answer to a batch and returns one answer for each event.
func (c *client) readBatch(b *batch, got *reply, err error) []answer {
	answers := make([]answer, len(b.events))
	for i := range answers {
		answers[i].note = got.String()
	}
	switch {
	case err != nil || got.isUndone():
		return answers
	case b.cut && got.status == http.StatusBadRequest:
		for i := range answers {
			answers[i].kind = refusal
		}
		return answers
	}
	verdicts, ok := readVerdicts(b, got)
	if !ok {
		c.report.breach(wrongAnswer, "a batch of %d, the first %s: %v", len(b.events), b.events[0], got)
		return answers
	}
	bad := false
	for i, e := range b.events {
		line, _ := json.Marshal(verdicts[i])
		answers[i] = c.readVerdict(e, &verdicts[i], string(line))
		bad = bad || answers[i].kind != acknowledgment
	}
	if b.form != lines && bad != (got.status == http.StatusMultiStatus) {
		c.report.breach(wrongAnswer, "status %d for a batch, the first %s", got.status, b.events[0])
	}
	return answers
}

// readVerdicts parses an answer. ok reports whether it has one verdict for each
// event, in order.
func readVerdicts(b *batch, got *reply) (list []verdict, ok bool) {
	if got.status != http.StatusOK && (b.form == lines || got.status != http.StatusMultiStatus) {
		return nil, false
	}
	if b.form == lines {
		for line := range bytes.Lines(got.body) {
			var v verdict
			if json.Unmarshal(line, &v) != nil {
				return nil, false
			}
			list = append(list, v)
		}
	} else {
		var all struct{ Data []verdict }
		if json.Unmarshal(got.body, &all) != nil {
			return nil, false
		}
		list = all.Data
	}
	for i := range list {
		if list[i].Index != i {
			return nil, false
		}
	}
	return list, len(list) == len(b.events)
}
