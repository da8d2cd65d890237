package client

import (
	"context"
	"iter"
	"net/http"
	"time"
)

// InboxEvent is an open event in the inbox. It has no Status.
type InboxEvent struct {
	Event
	Attempts     int       `json:"attempts"`               // number of claims so far
	ClaimedUntil time.Time `json:"claimed_until,omitzero"` // zero: not claimed
}

// ClaimInput has the options of a claim. The zero value means the server's
// defaults.
type ClaimInput struct {
	Limit        int     `json:"limit,omitzero"`         // maximum number of events, 1 to 1000; 0: 10
	LeaseSeconds float64 `json:"lease_seconds,omitzero"` // length of the lease, 1 to 43200; 0: 60
	WaitSeconds  float64 `json:"wait_seconds,omitzero"`  // how long to wait for an event, up to 30
}

// Claim is a set of claimed events. It is empty if there were none.
type Claim struct {
	ID          string       `json:"claim"` // the argument of ack, release and extend; "" if it is empty
	LeasedUntil time.Time    `json:"leased_until,omitzero"`
	Data        []InboxEvent `json:"data"`
}

// The results for an event of a claim.
const (
	InboxAcknowledged = "acknowledged"
	InboxReleased     = "released"
	InboxExtended     = "extended"
	InboxLost         = "lost" // claimed by another consumer since, released, or deleted
)

// InboxResult is the result for one event of a claim.
type InboxResult struct {
	ID     string `json:"id"`
	Status string `json:"status"` // InboxAcknowledged, …
}

// Extension is the result of extending a lease.
type Extension struct {
	LeasedUntil time.Time     `json:"leased_until,omitzero"`
	Data        []InboxResult `json:"data"`
}

const inboxPath = "/v1/inbox"

// Inbox iterates over the open events of the inbox, the oldest first, including
// claimed ones. An error comes last.
func (c *Client) Inbox(ctx context.Context) iter.Seq2[InboxEvent, error] {
	return all(func(cursor string) (Page[InboxEvent], error) { return c.InboxPage(ctx, 0, cursor) })
}

// InboxPage returns one page of the inbox, the first one if the cursor is
// empty. The limit is 1 to 100, and 0 means 20.
func (c *Client) InboxPage(ctx context.Context, limit int, cursor string) (Page[InboxEvent], error) {
	return listPage[InboxEvent](ctx, c, inboxPath, limit, cursor)
}

// ClaimInbox claims the oldest open events for a lease, during which no other
// consumer gets them. If it ends without [Client.AckInbox], they are open
// again.
//
// If the answer of a claim was lost, it is not repeated, because a second claim
// would take other events: the call fails, and the claimed events come back
// when the lease ends. After 429 and 503, and if no connection was made, it is
// repeated.
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

// AckInbox acknowledges 1 to 1000 events of a claim. An event with the result
// InboxLost was no longer ours, and another consumer may also handle it. It may
// be repeated.
func (c *Client) AckInbox(ctx context.Context, claim string, ids []string) ([]InboxResult, error) {
	l, err := call[list[InboxResult]](ctx, c, request{method: http.MethodPost, path: inboxPath + "/ack"}, held{Claim: claim, IDs: ids})
	return l.Data, err
}

// ReleaseInbox releases 1 to 1000 events of a claim before its lease ends; they
// can be claimed again after a delay of 0 to 43200 s. If it is repeated after a
// lost answer, the released events have the result InboxLost.
func (c *Client) ReleaseInbox(ctx context.Context, claim string, ids []string, delaySeconds float64) ([]InboxResult, error) {
	in := held{Claim: claim, IDs: ids, DelaySeconds: delaySeconds}
	l, err := call[list[InboxResult]](ctx, c, request{method: http.MethodPost, path: inboxPath + "/release"}, in)
	return l.Data, err
}

// ExtendInbox restarts the lease of 1 to 1000 events of a claim: 1 to 43200 s
// from now, and 0 means 60.
func (c *Client) ExtendInbox(ctx context.Context, claim string, ids []string, leaseSeconds float64) (Extension, error) {
	in := held{Claim: claim, IDs: ids, LeaseSeconds: leaseSeconds}
	return call[Extension](ctx, c, request{method: http.MethodPost, path: inboxPath + "/extend"}, in)
}
