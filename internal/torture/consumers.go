package torture

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"time"
)

// consumers is the number of consumers; each uses all inboxes with consumers.
const consumers = 6

// Actions of a consumer on events of a claim.
const (
	deedAck     = "ack"
	deedRelease = "release"
	deedExtend  = "extend"
)

// consume claims events from inboxes until ctx ends.
func (c *client) consume(ctx context.Context, random *rand.Rand) error {
	for pause(ctx, time.Duration(random.IntN(250))*time.Millisecond) == nil {
		t := c.book.someInbox(random.Int())
		if t == nil || c.receiver.ahead.Load() {
			continue
		}
		lease := time.Duration(1000+random.IntN(3000)) * time.Millisecond
		list, err := c.claim(ctx, random, t, 1+random.IntN(40), lease, time.Duration(random.IntN(3))*time.Second)
		if err == nil && len(list) > 0 {
			c.handle(context.WithoutCancel(ctx), random, t, list, lease)
		}
	}
	return nil
}

// handle does what consumers do with the events of a claim: it acknowledges
// them at once, twice, too late, or only some; releases them; or does nothing,
// like a consumer that died.
func (c *client) handle(ctx context.Context, random *rand.Rand, t *tenant, list []*handed, lease time.Duration) {
	switch x := random.IntN(100); {
	case x < 40:
		c.tell(ctx, random, t, deedAck, list, "")
	case x < 50:
		c.ackTwice(ctx, random, t, list)
	case x < 60:
		c.tell(ctx, random, t, deedAck, list[:(len(list)+1)/2], "")
	case x < 72:
		_ = pause(ctx, lease+time.Duration(random.IntN(1000))*time.Millisecond)
		c.tell(ctx, random, t, deedAck, list, "")
	case x < 80:
		_ = pause(ctx, lease/2)
		c.tell(ctx, random, t, deedExtend, list, `,"lease_seconds":2`)
		_ = pause(ctx, time.Second)
		c.tell(ctx, random, t, deedAck, list, "")
	case x < 92:
		c.tell(ctx, random, t, deedRelease, list, fmt.Sprintf(`,"delay_seconds":%d`, random.IntN(2)))
		if x%2 == 0 { // the server must not accept this
			_ = pause(ctx, time.Duration(random.IntN(500))*time.Millisecond)
			c.tell(ctx, random, t, deedAck, list, "")
		}
	}
}

// ackTwice acknowledges twice and checks that the answers are equal.
func (c *client) ackTwice(ctx context.Context, random *rand.Rand, t *tenant, list []*handed) {
	first := c.tell(ctx, random, t, deedAck, list, "")
	second := c.tell(ctx, random, t, deedAck, list, "")
	for i, h := range list {
		if first != nil && second != nil && first[i] == "acknowledged" && second[i] != first[i] {
			c.report.breach(wrongAnswer, "%s was acknowledged by %s, and then it is %s", h.event, h.claim, second[i])
		}
	}
}

// claim claims events of an inbox from a random node.
func (c *client) claim(ctx context.Context, random *rand.Rand, t *tenant, limit int, lease, wait time.Duration) ([]*handed, error) {
	q := request{method: http.MethodPost, path: "/v1/inbox/claim", key: t.key}
	q.body = fmt.Appendf(nil, `{"limit":%d,"lease_seconds":%v,"wait_seconds":%v}`, limit, lease.Seconds(), wait.Seconds())
	a, err := c.ask(ctx, c.nodes[random.IntN(len(c.nodes))], q, http.StatusOK)
	if err != nil {
		return nil, err
	}
	var got struct {
		Claim string
		Until time.Time `json:"leased_until"`
		Data  []shownEvent
	}
	if err := c.read(&a, &got); err != nil {
		return nil, err
	}
	if len(got.Data) > limit || (got.Claim == "") != (len(got.Data) == 0) {
		c.report.breach(wrongAnswer, "%d events, and the claim %q, where %d were asked for", len(got.Data), got.Claim, limit)
	}
	var list []*handed
	for i := range got.Data {
		if e := c.judgeShown(t, &got.Data[i]); e != nil {
			leases := []span{{a.ended, got.Until}}
			list = append(list, &handed{event: e, id: got.Data[i].ID, claim: got.Claim, asked: a.begun, leases: leases})
		}
	}
	if len(list) > 0 {
		c.book.handOut(list)
	}
	return list, nil
}

// tell sends a deed for events of one claim until there is an answer. It
// returns the status of each event; nil without an answer.
func (c *client) tell(ctx context.Context, random *rand.Rand, t *tenant, deed string, list []*handed, more string) (statuses []string) {
	ctx, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	var ids []string
	for _, h := range list {
		ids = append(ids, h.id)
	}
	named, _ := json.Marshal(ids) // cannot fail
	q := request{method: http.MethodPost, path: "/v1/inbox/" + deed, key: t.key}
	q.body = fmt.Appendf(nil, `{"claim":%q,"ids":%s%s}`, list[0].claim, named, more)
	if deed != deedExtend {
		c.book.ending(list)
	}
	a, err := c.insistOn(ctx, random, q, http.StatusOK)
	var got struct {
		Until time.Time `json:"leased_until"`
		Data  []struct{ ID, Status string }
	}
	if err == nil {
		err = c.read(&a, &got)
	}
	if err == nil && len(got.Data) != len(list) {
		c.report.breach(wrongAnswer, "%s of %d events: %v", deed, len(list), &a)
		err = errors.New("not one for each")
	}
	for i, h := range list {
		status := ""
		if err == nil {
			status = got.Data[i].Status
			statuses = append(statuses, status)
			if got.Data[i].ID != h.id {
				c.report.breach(wrongAnswer, "%s of %s names %s", deed, h.event, got.Data[i].ID)
			}
		}
		if deed == deedExtend && status != "lost" {
			c.book.extended(h, a.begun, a.ended, got.Until)
			continue
		}
		c.book.fate(h, deed, status, a.begun, a.ended)
	}
	return statuses
}
