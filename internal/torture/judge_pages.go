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

// shownEvent is an event as the API shows it.
type shownEvent struct {
	ID      string
	Type    string
	Payload json.RawMessage
	Status  string
	DedupID *string `json:"dedup_id"` // not by the original contract
}

// settleTime is for how long an event may be missing where the oldest come
// first.
const settleTime = 30 * time.Second

// pendingStatus is that of events that somebody is still owed.
const pendingStatus = "pending"

// wanted returns the status that an event must have in the end: delivered if
// webhooks or consumers wanted it, failed if its webhook refuses it, and pending
// if it waits in the inbox.
func (e *event) wanted() string {
	if e.owedToInbox() && !e.tenant.consumed {
		return pendingStatus
	}
	if e.poison {
		return "failed"
	}
	return "delivered"
}

// listed is pages, for as long as it takes to get them.
func (r *run) listed(ctx context.Context, t *tenant, path string) (list []shownEvent, err error) {
	ended := until(ctx, startPatience, "", func(ctx context.Context) bool {
		list, err = r.pages(ctx, t, path)
		return err == nil || r.mute.Load()
	})
	if ended != nil || err != nil {
		r.mute.Store(true) // patience is for the first one
	}
	return list, cmp.Or(err, ended)
}

// judgeTenant holds all that a tenant can read against the book.
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
	if len(newest) <= 100 { // then one page of the original contract has them all
		var page struct{ Events []shownEvent }
		q := request{method: http.MethodGet, path: "/api/inbox?limit=100", key: t.key}
		if a, err := r.client.ask(ctx, r.nodes[t.n%len(r.nodes)], q, http.StatusOK); err == nil && r.client.read(&a, &page) == nil {
			r.judgeList(ctx, t, page.Events, "the inbox of the original contract", time.Time{})
		}
	}
}

// judgeOrder: each id is there once, and they go one way.
func (r *run) judgeOrder(t *tenant, list []shownEvent, where string, up bool) {
	for i := 1; i < len(list); i++ {
		if way := cmp.Compare(list[i-1].ID, list[i].ID); way == 0 || (way < 0) != up {
			r.report.breach(misPaged, "%s comes after %s in tenant %d, %s", list[i].ID, list[i-1].ID, t.n, where)
		}
	}
}

// judgeList holds a list of all events of a tenant against the book, and
// returns those that are there. Where before is not zero, events that were
// accepted after it may be missing.
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

// judgeOne: what has a dedup id is there as one event, the one that answers
// have named.
func (r *run) judgeOne(e *event, first, id string) {
	switch {
	case e.dedupID == "":
	case id != first:
		r.report.breach(twoEvents, "%s is there as %s and %s", e, first, id)
	case e.acknowledged() && !slices.Contains(e.ids, id):
		r.report.breach(twoEvents, "%s is there as %s", e, id)
	}
}

// judgeMissing finds out whether an event that a list does not have is there
// at all.
func (r *run) judgeMissing(ctx context.Context, e *event, id, where string) {
	q := request{method: http.MethodGet, path: "/v1/events/" + id, key: e.tenant.key}
	if a, err := r.client.send(ctx, r.nodes[0], q); err == nil && a.status == http.StatusOK {
		r.report.breach(misPaged, "%s: %s is there, and not in tenant %d, %s", e, id, e.tenant.n, where)
		return
	}
	r.report.breach(lostEvents, "%s: %s is not in tenant %d, %s", e, id, e.tenant.n, where)
}

// acceptedAt is the time that an id says, to the millisecond; zero if it says
// none.
func acceptedAt(id string) time.Time {
	digits := strings.ReplaceAll(id, "-", "")
	ms, err := strconv.ParseInt(digits[:min(12, len(digits))], 16, 64)
	if err != nil {
		return time.Time{}
	}
	return time.UnixMilli(ms)
}

// judgeShown holds one event that a tenant is shown against what was sent; nil
// if it is none of the tenant's, or the server's own.
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

// judgeStatus: what is shown of an event is what has to be in the end.
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

// mayStayOpen reports whether an event may still be tried when all has settled,
// because a breaker holds it.
func (e *event) mayStayOpen() bool { return e.poison && e.tenant.hooks[0].mayHold() }

// judgeHooks compares the states of a tenant's webhooks with what their owner
// wanted. Nothing else changes a state, because no endpoint answers 410.
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

// judgeSettings holds what came to a webhook against what it was told: nothing
// while it is paused, and the header that it was given last. Where there are
// faults, a node may follow later.
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

// count adds what was read back.
func (r *Report) count(events, pages int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ReadBack += events
	r.Pages += pages
}
