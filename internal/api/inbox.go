package api

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"triggerd/internal/store"
	"triggerd/internal/trigger"
)

// Limits of the inbox.
const (
	defaultClaim  = 10
	maxClaim      = 1000
	maxClaimBytes = 8 << 20 // of the events of one answer, except the first
	defaultLease  = time.Minute
	maxLease      = trigger.MaxInboxLease // also the longest delay
	maxWait       = 30 * time.Second
	lookAgain     = time.Second // in case another node has accepted an event
)

// appendInbox appends an event of the inbox.
func appendInbox(b []byte, e *store.InboxEvent) []byte {
	b = appendEvent(b, e.Event, "")
	b = append(b[:len(b)-1], `,"attempts":`...)
	b = strconv.AppendInt(b, int64(e.Attempts), 10)
	b = append(b, `,"claimed_until":`...)
	b = appendTimeOrNull(b, e.ClaimedUntil)
	return append(b, '}')
}

// listInbox lists the open deliveries of the inbox without claiming them.
func (a *API) listInbox(w http.ResponseWriter, r *request) error {
	q, err := parameters(r, "limit", "cursor")
	if err != nil {
		return err
	}
	limit, err := q.limit()
	if err != nil {
		return err
	}
	after, err := q.placeID()
	if err != nil {
		return err
	}
	held := a.holdingOf(r)
	defer held.free()
	page, next, err := a.Store.ListInbox(r.Context(), r.orgID(), after, held.page(limit))
	if err != nil {
		return err
	}
	tail := `],"next_cursor":null}`
	if !next.IsZero() {
		tail = `],"next_cursor":"` + *q.next(next[:]) + `"}`
	}
	answerInbox(w, `{"data":[`, page, tail)
	return nil
}

// page returns a page of an answer, whose memory is taken while it is read.
func (h *holding) page(limit int) store.InboxPage {
	return store.InboxPage{Limit: limit, Bytes: maxClaimBytes, Take: h.takeEvent}
}

// answerInbox answers with events of the inbox between head and tail.
func answerInbox(w http.ResponseWriter, head string, page []store.InboxEvent, tail string) {
	b := []byte(head)
	for i := range page {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendInbox(b, &page[i])
	}
	answerJSON(w, http.StatusOK, append(b, tail...))
}

// claimInbox claims events for a lease, and waits for some if requested.
func (a *API) claimInbox(w http.ResponseWriter, r *request) error {
	var in struct {
		Limit opt[int]     `json:"limit"`
		Lease opt[float64] `json:"lease_seconds"`
		Wait  opt[float64] `json:"wait_seconds"`
	}
	if _, err := a.readBody(w, r, &in); err != nil {
		return err
	}
	limit := in.Limit.or(defaultClaim)
	if limit < 1 || limit > maxClaim {
		return trigger.Errorf(trigger.Invalid, "limit must be from 1 to %d", maxClaim).At("#/limit")
	}
	lease, err := seconds("lease_seconds", in.Lease.or(defaultLease.Seconds()), time.Second, maxLease)
	if err != nil {
		return err
	}
	wait, err := seconds("wait_seconds", in.Wait.or(0), 0, maxWait)
	if err != nil {
		return err
	}
	// The default deadlines are too short for a request that waits.
	conn := http.NewResponseController(w)
	_ = conn.SetReadDeadline(time.Time{})
	claim := a.Store.NewClaim()
	held := a.holdingOf(r)
	defer held.free()
	page, until, err := a.claimWaiting(r, held.page(limit), claim, lease, wait)
	if err != nil {
		return err
	}
	if len(page) == 0 {
		answerJSON(w, http.StatusOK, []byte(`{"claim":null,"leased_until":null,"data":[]}`))
		return nil
	}
	if err := r.Context().Err(); err != nil { // the request ended while it waited
		ids := make([]trigger.ID, len(page))
		for i := range page {
			ids[i] = page[i].ID
		}
		if _, err := a.Store.ReleaseInbox(context.WithoutCancel(r.Context()), r.orgID(), claim, ids, 0); err != nil {
			a.Store.LoseClaim(r.orgID(), claim, until)
		}
		a.inboxes.notify(r.orgID())
		return err
	}
	head := append([]byte(`{"claim":"`+claim.String()+`","leased_until":`), appendTimeOrNull(nil, until)...)
	answerInbox(w, string(head)+`,"data":[`, page, `]}`)
	return nil
}

// claimWaiting claims until it gets events or the wait is over. The first claim
// runs at once, the later ones in turn.
func (a *API) claimWaiting(r *request, want store.InboxPage, claim trigger.ID, lease, wait time.Duration) (page []store.InboxEvent, until time.Time, err error) {
	if wait == 0 {
		return a.Store.ClaimInbox(r.Context(), r.orgID(), want, claim, lease)
	}
	inbox := a.inboxes.join(r.orgID())
	defer inbox.leave()
	try := func() error {
		begun := a.Now()
		page, until, err = a.Store.ClaimInbox(r.Context(), r.orgID(), want, claim, lease)
		if err == nil && len(page) == 0 {
			inbox.foundNothing(begun)
		}
		return err
	}
	waiting, cancel := context.WithTimeout(r.Context(), wait)
	defer cancel()
	again := time.NewTicker(lookAgain)
	defer again.Stop()
	for first := true; ; first = false {
		news, open := inbox.wait()
		if first {
			_ = try()
		} else {
			_ = inbox.claims.do(waiting, func() error { // else the wait is over
				if inbox.isEmpty(lookAgain / 2) { // another request has just found it empty
					return nil
				}
				return try()
			})
		}
		if err != nil || len(page) > 0 || !open {
			return page, until, err
		}
		select {
		case <-news:
		case <-again.C:
		case <-waiting.Done():
			if r.Context().Err() != nil {
				return nil, until, trigger.NewUnavailable(r.Context().Err(), time.Second)
			}
			return nil, until, nil
		}
	}
}

// claimed names events of a claim.
type claimed struct {
	claim        trigger.ID
	ids          []trigger.ID
	delay, lease opt[float64]
}

// readClaimed reads the body that names events of a claim. others are members
// that the route does not have.
func (a *API) readClaimed(w http.ResponseWriter, r *request, others ...string) (c claimed, err error) {
	var in struct {
		Claim string       `json:"claim"`
		IDs   []string     `json:"ids"`
		Delay opt[float64] `json:"delay_seconds"`
		Lease opt[float64] `json:"lease_seconds"`
	}
	if _, err := a.readBody(w, r, &in); err != nil {
		return c, err
	}
	for _, other := range others {
		if other == "delay_seconds" && in.Delay.Given || other == "lease_seconds" && in.Lease.Given {
			return c, trigger.Errorf(trigger.Invalid, "unknown member %q", other).At("#/" + other)
		}
	}
	if c.claim, err = trigger.ParseID(in.Claim); err != nil || c.claim.IsZero() { // no claim has the id zero
		return c, trigger.Errorf(trigger.Invalid, "claim must be the id that POST /v1/inbox/claim returned").At("#/claim")
	}
	if len(in.IDs) == 0 || len(in.IDs) > maxClaim {
		return c, trigger.Errorf(trigger.Invalid, "ids must have 1 to %d ids of events", maxClaim).At("#/ids")
	}
	c.delay, c.lease = in.Delay, in.Lease
	c.ids = make([]trigger.ID, len(in.IDs))
	for i, text := range in.IDs {
		if c.ids[i], err = trigger.ParseID(text); err != nil {
			return c, trigger.Errorf(trigger.Invalid, "%.64q is not the id of an event", text).At("#/ids/" + strconv.Itoa(i))
		}
	}
	return c, nil
}

// fate is the outcome of a request for one event of a claim.
type fate struct {
	ID     string `json:"id"`
	Status string `json:"status"`
}

// fates returns the outcomes of the events, in their order.
func (in *claimed) fates(had map[trigger.ID]bool, status string) []fate {
	list := make([]fate, len(in.ids))
	for i, id := range in.ids {
		list[i] = fate{id.String(), status}
		if !had[id] {
			list[i].Status = "lost"
		}
	}
	return list
}

type fates struct {
	Data []fate `json:"data"`
}

// ackInbox acknowledges events of a claim: they are delivered.
func (a *API) ackInbox(w http.ResponseWriter, r *request) error {
	in, err := a.readClaimed(w, r, "delay_seconds", "lease_seconds")
	if err != nil {
		return err
	}
	had, err := a.Store.AckInbox(r.Context(), r.orgID(), in.claim, in.ids)
	if err != nil {
		return err
	}
	answer(w, http.StatusOK, fates{in.fates(had, "acknowledged")})
	return nil
}

// releaseInbox releases events of a claim.
func (a *API) releaseInbox(w http.ResponseWriter, r *request) error {
	in, err := a.readClaimed(w, r, "lease_seconds")
	if err != nil {
		return err
	}
	delay, err := seconds("delay_seconds", in.delay.or(0), 0, maxLease)
	if err != nil {
		return err
	}
	had, err := a.Store.ReleaseInbox(r.Context(), r.orgID(), in.claim, in.ids, delay)
	if err != nil {
		return err
	}
	a.inboxes.notify(r.orgID())
	answer(w, http.StatusOK, fates{in.fates(had, "released")})
	return nil
}

// extendInbox sets a new end of the lease of events of a claim.
func (a *API) extendInbox(w http.ResponseWriter, r *request) error {
	in, err := a.readClaimed(w, r, "delay_seconds")
	if err != nil {
		return err
	}
	lease, err := seconds("lease_seconds", in.lease.or(defaultLease.Seconds()), time.Second, maxLease)
	if err != nil {
		return err
	}
	had, until, err := a.Store.ExtendInbox(r.Context(), r.orgID(), in.claim, in.ids, lease)
	if err != nil {
		return err
	}
	answer(w, http.StatusOK, struct {
		fates
		LeasedUntil *string `json:"leased_until"`
	}{fates{in.fates(had, "extended")}, shownTime(until)})
	return nil
}
