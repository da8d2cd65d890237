package client

import (
	"context"
	"iter"
	"net/http"
	"time"
)

// InboxEvent is an event that waits in the inbox. It has no Status.
type InboxEvent struct {
	Event
	Attempts     int       `json:"attempts"`               // claims so far
	ClaimedUntil time.Time `json:"claimed_until,omitzero"` // zero: nobody has claimed it
}

// ClaimInput says what to claim. The zero value is what the server does by
// default.
type ClaimInput struct {
	Limit        int     `json:"limit,omitzero"`         // events at most, 1 to 1000; 0: 10
	LeaseSeconds float64 `json:"lease_seconds,omitzero"` // for how long they are ours, 1 to 43200; 0: 60
	WaitSeconds  float64 `json:"wait_seconds,omitzero"`  // for how long to wait for one, up to 30
}

// Claim is what was claimed. It is empty if nothing was there.
type Claim struct {
	ID          string       `json:"claim"` // what ack, release and extend want; "" if it is empty
	LeasedUntil time.Time    `json:"leased_until,omitzero"`
	Data        []InboxEvent `json:"data"`
}

// What became of an event of a claim.
const (
	InboxAcknowledged = "acknowledged"
	InboxReleased     = "released"
	InboxExtended     = "extended"
	InboxLost         = "lost" // claimed by another since, released, or not there
)

// InboxResult is what became of one event of a claim.
type InboxResult struct {
	ID     string `json:"id"`
	Status string `json:"status"` // InboxAcknowledged, …
}

// Extension is what became of a lease.
type Extension struct {
	LeasedUntil time.Time     `json:"leased_until,omitzero"`
	Data        []InboxResult `json:"data"`
}

const inboxPath = "/v1/inbox"

// Inbox goes through what is open in the inbox, the oldest first, claimed ones
// included. An error comes last.
func (c *Client) Inbox(ctx context.Context) iter.Seq2[InboxEvent, error] {
	return all(func(cursor string) (Page[InboxEvent], error) { return c.InboxPage(ctx, 0, cursor) })
}

// InboxPage gives one page of the inbox, the first if the cursor is empty. The
// limit is 1 to 100, and 0 is 20.
func (c *Client) InboxPage(ctx context.Context, limit int, cursor string) (Page[InboxEvent], error) {
	return listPage[InboxEvent](ctx, c, inboxPath, limit, cursor)
}

// ClaimInbox takes the oldest open events for a lease, in which nobody else
// gets them. When it ends without [Client.AckInbox], they are open again.
//
// A claim whose answer was lost is not repeated, since the second one would take
// other events: it fails, and what it may have taken comes back when the lease
// ends. After 429 and 503, and when no connection was made, it is repeated.
func (c *Client) ClaimInbox(ctx context.Context, in ClaimInput) (Claim, error) {
	return call[Claim](ctx, c, request{method: http.MethodPost, path: inboxPath + "/claim", once: true}, in)
}

// held names events of a claim.
type held struct {
	Claim        string   `json:"claim"`
	IDs          []string `json:"ids"`
	DelaySeconds float64  `json:"delay_seconds,omitzero"`
	LeaseSeconds float64  `json:"lease_seconds,omitzero"`
}

// AckInbox says that events of a claim, 1 to 1000, are done with. Those that
// come back as InboxLost were not ours any more, and may be done by another,
// too. It may be repeated.
func (c *Client) AckInbox(ctx context.Context, claim string, ids []string) ([]InboxResult, error) {
	l, err := call[list[InboxResult]](ctx, c, request{method: http.MethodPost, path: inboxPath + "/ack"}, held{Claim: claim, IDs: ids})
	return l.Data, err
}

// ReleaseInbox gives events of a claim, 1 to 1000, back before its lease ends;
// they can be claimed again after a delay of 0 to 43200 s. After a lost answer,
// those that were released come back as InboxLost.
func (c *Client) ReleaseInbox(ctx context.Context, claim string, ids []string, delaySeconds float64) ([]InboxResult, error) {
	in := held{Claim: claim, IDs: ids, DelaySeconds: delaySeconds}
	l, err := call[list[InboxResult]](ctx, c, request{method: http.MethodPost, path: inboxPath + "/release"}, in)
	return l.Data, err
}

// ExtendInbox begins the lease of events of a claim, 1 to 1000, anew: 1 to
// 43200 s from now, and 0 is 60.
func (c *Client) ExtendInbox(ctx context.Context, claim string, ids []string, leaseSeconds float64) (Extension, error) {
	in := held{Claim: claim, IDs: ids, LeaseSeconds: leaseSeconds}
	return call[Extension](ctx, c, request{method: http.MethodPost, path: inboxPath + "/extend"}, in)
}
