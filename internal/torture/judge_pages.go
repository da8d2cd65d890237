package torture

import (
	"cmp"
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// shownEvent is an event in an answer of the API.
type shownEvent struct {
	ID      string
	Type    string
	Payload json.RawMessage
	Status  string
	DedupID *string `json:"dedup_id"` // missing in the original API
}

// settleTime is how long an event may be missing in lists with the oldest
// first.
const settleTime = 30 * time.Second

// pendingStatus is the status of events with open deliveries.
const pendingStatus = "pending"

// wanted returns the status that an event must have in the end: delivered if
// webhooks or consumers wanted it, failed if its webhook refuses it, and
// pending if it waits in the inbox.
func (e *event) wanted() string {
	if e.owedToInbox() && !e.tenant.consumed {
		return pendingStatus
	}
	if e.poison {
		return "failed"
	}
	return "delivered"
}

// listed reads a list by pages. It retries for startPatience.
func (r *run) listed(ctx context.Context, t *tenant, path string) (list []shownEvent, err error) {
	ended := until(ctx, startPatience, "", func(ctx context.Context) bool {
		list, err = r.pages(ctx, t, path)
		return err == nil || r.mute.Load()
	})
	if ended != nil || err != nil {
		r.mute.Store(true) // only the first failure is waited for
	}
	return list, cmp.Or(err, ended)
}

// judgeTenant compares everything that a tenant can read with the book.
func (r *run) judgeTenant(ctx context.Context, t *tenant) {
	newest, err := r.listed(ctx, t, "/v1/events?limit=100")
	begun := r.Now()
	var oldest []shownEvent
	if err == nil {
		oldest, err = r.listed(ctx, t, "/v1/events?order=oldest&limit=33")
	}
	if err != nil {
		r.report.breach(lostEvents, "the events of tenant %d cannot be read: %v", t.n, err)
		return
	}
	r.report.count(len(newest), len(newest)/100+len(oldest)/33+2)
	stored := r.judgeList(ctx, t, newest, "the newest first", time.Time{})
	r.judgeList(ctx, t, oldest, "the oldest first", begun.Add(-settleTime-margin))
	r.judgeOpen(ctx, t, stored)
	r.judgeHooks(ctx, t)
	if len(newest) <= 100 { // then one page of the original API has them all
		var page struct{ Events []shownEvent }
		q := request{method: http.MethodGet, path: "/api/inbox?limit=100", key: t.key}
		if a, err := r.client.ask(ctx, r.nodes[t.n%len(r.nodes)], q, http.StatusOK); err == nil && r.client.read(&a, &page) == nil {
			r.judgeList(ctx, t, page.Events, "the inbox of the original contract", time.Time{})
		}
	}
}

// judgeOrder checks that ids are unique and sorted.
func (r *run) judgeOrder(t *tenant, list []shownEvent, where string, up bool) {
	for i := 1; i < len(list); i++ {
		if way := cmp.Compare(list[i-1].ID, list[i].ID); way == 0 || (way < 0) != up {
			r.report.breach(misPaged, "%s comes after %s in tenant %d, %s", list[i].ID, list[i-1].ID, t.n, where)
		}
	}
}

// judgeList compares a list of all events of a tenant with the book, and
// returns the listed ones. If before is not zero, events accepted after it may
// be missing.
func (r *run) judgeList(ctx context.Context, t *tenant, list []shownEvent, where string, before time.Time) (stored []*event) {
	r.judgeOrder(t, list, where, !before.IsZero())
	there := map[string]bool{}
	first := map[*event]string{}
	for i := range list {
		there[list[i].ID] = true
		e := r.judgeShown(t, &list[i])
		if e == nil {
			continue
		}
		if first[e] == "" {
			first[e] = list[i].ID
			stored = append(stored, e)
		}
		r.judgeOne(e, first[e], list[i].ID)
		r.judgeStatus(ctx, e, &list[i])
	}
	for _, e := range t.events {
		for _, id := range e.ids {
			if !there[id] && !e.leaving && (before.IsZero() || acceptedAt(id).Before(before)) {
				r.judgeMissing(ctx, e, id, where)
			}
		}
	}
	return stored
}

// judgeOne checks that an event with a dedup id is stored once, with the
// acknowledged id.
func (r *run) judgeOne(e *event, first, id string) {
	switch {
	case e.dedupID == "":
	case id != first:
		r.report.breach(twoEvents, "%s is there as %s and %s", e, first, id)
	case e.acknowledged() && !slices.Contains(e.ids, id):
		r.report.breach(twoEvents, "%s is there as %s", e, id)
	}
}

// judgeMissing checks whether an event that is missing in a list exists at all.
func (r *run) judgeMissing(ctx context.Context, e *event, id, where string) {
	q := request{method: http.MethodGet, path: "/v1/events/" + id, key: e.tenant.key}
	if a, err := r.client.send(ctx, r.nodes[0], q); err == nil && a.status == http.StatusOK {
		r.report.breach(misPaged, "%s: %s is there, and not in tenant %d, %s", e, id, e.tenant.n, where)
		return
	}
	r.report.breach(lostEvents, "%s: %s is not in tenant %d, %s", e, id, e.tenant.n, where)
}

// acceptedAt returns the time in an id, to the millisecond; zero if the id is
// invalid.
func acceptedAt(id string) time.Time {
	digits := strings.ReplaceAll(id, "-", "")
	ms, err := strconv.ParseInt(digits[:min(12, len(digits))], 16, 64)
	if err != nil {
		return time.Time{}
	}
	return time.UnixMilli(ms)
}

// judgeShown compares an event in an answer to a tenant with the posted one. It
// returns nil for a breach, and for an operational event.
func (r *run) judgeShown(t *tenant, shown *shownEvent) *event {
	if isNotice(shown.Type) && (shown.DedupID == nil || strings.HasPrefix(*shown.DedupID, "triggerd/"+shown.Type+"/")) {
		return nil
	}
	c, intact := readPayload(shown.Payload)
	if !intact {
		r.report.breach(changed, "event %s of tenant %d: %.300q", shown.ID, t.n, shown.Payload)
		return nil
	}
	if c.Tenant != t.n {
		r.report.breach(foreign, "tenant %d sees event %s of tenant %d", t.n, shown.ID, c.Tenant)
		return nil
	}
	e := r.book.of(t, c.N)
	if e == nil || c.Refused || e.eventType != shown.Type {
		r.report.breach(neverSent, "event %s of tenant %d, type %s, number %d", shown.ID, t.n, shown.Type, c.N)
		return nil
	}
	if shown.DedupID != nil && *shown.DedupID != e.dedupID {
		r.report.breach(wrongAnswer, "%s is there with the dedup id %q", e, *shown.DedupID)
	}
	return e
}

// judgeStatus checks that the shown status is the wanted one.
func (r *run) judgeStatus(ctx context.Context, e *event, shown *shownEvent) {
	want := e.wanted()
	switch {
	case !e.deletedAt.IsZero():
		r.report.breach(cameDeleted, "%s is there", e)
	case shown.Status == want || e.leaving || e.tenant.doubtful:
	case shown.Status == pendingStatus && (e.mayStayOpen() || slices.ContainsFunc(e.owedTo(), func(h *hook) bool { return r.failedAhead(ctx, e, h) })):
	case shown.Status == "failed":
		r.report.breach(failedEvents, "%s is %s, as %s", e, shown.Status, shown.ID)
	default:
		r.report.breach(stillPending, "%s is %s, as %s, and not %s", e, shown.Status, shown.ID, want)
	}
}

// mayStayOpen reports whether an event may still be retried after settling,
// because a breaker is open.
func (e *event) mayStayOpen() bool { return e.poison && e.tenant.hooks[0].mayHold() }

// judgeHooks compares the states of a tenant's webhooks with the changes of
// their owner. Only the owner changes a state, because no endpoint answers 410.
func (r *run) judgeHooks(ctx context.Context, t *tenant) {
	if len(t.hooks) == 0 {
		return
	}
	shown, err := pagesOf[shownHook](ctx, r, t, "/v1/webhooks?limit=100")
	if err != nil {
		r.report.breach(stoppedHook, "the webhooks of tenant %d cannot be read: %v", t.n, err)
		return
	}
	for _, h := range t.hooks {
		i := slices.IndexFunc(shown, func(s shownHook) bool { return s.ID == h.id })
		switch held := inForce(h.pauses, r.Now()); {
		case i < 0:
			r.report.breach(stoppedHook, "webhook %d of tenant %d is not listed", h.id, t.n)
		case shown[i].State == "active" && !slices.Contains(held, ""), shown[i].State == "paused" && !slices.Contains(held, "paused"),
			shown[i].State != "active" && shown[i].State != "paused":
			r.report.breach(stoppedHook, "webhook %d of tenant %d is %s", h.id, t.n, shown[i].State)
		}
	}
}

// judgeSettings compares the requests to a webhook with its settings: no
// request while it is paused, and the current header. During faults a node may
// apply them later.
func (r *run) judgeSettings(h *hook) {
	if len(h.headers) == 0 && len(h.pauses) == 0 {
		return
	}
	for _, e := range h.tenant.events {
		for _, a := range e.came[h.n] {
			if r.windows.cover(a.at.Add(-followed-grace), a.at) {
				continue
			}
			if held := inForce(h.pauses, a.at); !slices.Contains(held, "") {
				r.report.breach(notFollowed, "%s came to webhook %d while that was paused", e, h.n)
			}
			if held := inForce(h.headers, a.at); !slices.Contains(held, a.header) {
				r.report.breach(notFollowed, "%s came to webhook %d with the header %q, which was %q", e, h.n, a.header, held)
			}
		}
	}
}

// count adds events and pages that were read back.
func (r *Report) count(events, pages int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ReadBack += events
	r.Pages += pages
}
