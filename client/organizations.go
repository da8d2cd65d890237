package client

import (
	"context"
	"errors"
	"iter"
	"net/http"
	"time"
)

// ErrSecretLost says that something was made, and is returned beside the error,
// but without its key or secret: the answer that had it was lost, and the
// server shows it only once. Rotate it, or delete the thing.
var ErrSecretLost = errors.New("triggerd: made, but the answer with its secret was lost")

// What tiers, inbox and deduplication of an organization can be.
const (
	TierFree         = "free"
	TierProfessional = "professional"
	TierEnterprise   = "enterprise"

	InboxUnmatched  = "unmatched"  // the inbox gets what no webhook matches
	InboxEverything = "everything" // the inbox gets all events

	DeduplicationLenient = "lenient" // a known dedup id is a duplicate
	DeduplicationStrict  = "strict"  // the same, but CodePayloadDiffers if the payload is another
)

// Organization is an owner of events, webhooks and keys.
type Organization struct {
	ID            int64     `json:"id"`
	Name          string    `json:"name"`
	Tier          string    `json:"tier"`                // TierFree, …
	RateLimit     *int      `json:"rate_limit,omitzero"` // events a minute; nil: the tier's; 0: no limit
	Inbox         string    `json:"inbox"`               // InboxUnmatched or InboxEverything
	Deduplication string    `json:"deduplication"`       // DeduplicationLenient or DeduplicationStrict
	Suspended     bool      `json:"suspended"`
	CreatedAt     time.Time `json:"created_at"`
}

// OrganizationInput is an organization to be made.
type OrganizationInput struct {
	Name          string `json:"name"`
	Tier          string `json:"tier,omitzero"`          // "": TierFree
	RateLimit     *int   `json:"rate_limit,omitzero"`    // events a minute; nil: the tier's; 0: no limit
	Inbox         string `json:"inbox,omitzero"`         // "": InboxUnmatched
	Deduplication string `json:"deduplication,omitzero"` // "": DeduplicationLenient
}

// OrganizationPatch is what is to change of an organization.
type OrganizationPatch struct {
	Name          Opt[string] `json:"name,omitzero"`
	Tier          Opt[string] `json:"tier,omitzero"`
	RateLimit     Opt[int]    `json:"rate_limit,omitzero"` // null: the tier's; 0: no limit
	Inbox         Opt[string] `json:"inbox,omitzero"`
	Deduplication Opt[string] `json:"deduplication,omitzero"`
	Suspended     Opt[bool]   `json:"suspended,omitzero"`
}

// NewOrganization is an organization and its first key, which has all scopes.
type NewOrganization struct {
	Organization Organization `json:"organization"`
	Key          Key          `json:"key"`
}

const organizationsPath = "/v1/organizations"

// Organizations goes through all organizations by id. It wants the operator's
// token, as all that follows here. An error comes last.
func (c *Client) Organizations(ctx context.Context) iter.Seq2[Organization, error] {
	return all(func(cursor string) (Page[Organization], error) { return c.OrganizationsPage(ctx, maxLimit, cursor) })
}

// OrganizationsPage gives one page of organizations, the first if the cursor is
// empty. The limit is 1 to 100, and 0 is 20.
func (c *Client) OrganizationsPage(ctx context.Context, limit int, cursor string) (Page[Organization], error) {
	return listPage[Organization](ctx, c, organizationsPath, limit, cursor)
}

// Organization gives an organization.
func (c *Client) Organization(ctx context.Context, id int64) (Organization, error) {
	return get[Organization](ctx, c, under(organizationsPath, id))
}

// CreateOrganization makes an organization and its first key, which is shown
// this once; [ErrSecretLost] if the answer that had it was lost.
func (c *Client) CreateOrganization(ctx context.Context, in OrganizationInput) (NewOrganization, error) {
	made, err := create[NewOrganization](ctx, c, organizationsPath, in)
	if err == nil && made.Key.Key == "" {
		err = ErrSecretLost
	}
	return made, err
}

// UpdateOrganization changes an organization.
func (c *Client) UpdateOrganization(ctx context.Context, id int64, in OrganizationPatch) (Organization, error) {
	return call[Organization](ctx, c, request{method: http.MethodPatch, path: under(organizationsPath, id)}, in)
}

// DeleteOrganization erases an organization with all that it has. Its keys stop
// at once; erasing goes on in the background.
func (c *Client) DeleteOrganization(ctx context.Context, id int64) error {
	return c.delete(ctx, under(organizationsPath, id))
}

// CreateOrganizationKey makes a key for an organization, as [Client.CreateKey]
// does for one's own.
func (c *Client) CreateOrganizationKey(ctx context.Context, id int64, in KeyInput) (Key, error) {
	return c.newKey(ctx, under(organizationsPath, id)+"/keys", in)
}

// Me says whose key it is that asks.
type Me struct {
	Organization Organization `json:"organization"`
	Key          Key          `json:"key"`                 // zero if the operator acts in the organization
	RateLimit    *RateLimit   `json:"rate_limit,omitzero"` // nil: no limit
}

// RateLimit is how many events may be posted in a window of time.
type RateLimit struct {
	Limit         int     `json:"limit"`
	WindowSeconds float64 `json:"window_seconds"`
}

// MePatch is what an organization may change of itself.
type MePatch struct {
	Inbox         Opt[string] `json:"inbox,omitzero"`
	Deduplication Opt[string] `json:"deduplication,omitzero"`
}

const mePath = "/v1/me"

// Me says whose key it is. It is answered also while the organization is
// suspended.
func (c *Client) Me(ctx context.Context) (Me, error) { return get[Me](ctx, c, mePath) }

// UpdateMe changes the organization of the key.
func (c *Client) UpdateMe(ctx context.Context, in MePatch) (Me, error) {
	return call[Me](ctx, c, request{method: http.MethodPatch, path: mePath}, in)
}
