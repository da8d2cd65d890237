package client

import (
	"context"
	"errors"
	"iter"
	"net/http"
	"time"
)

// ErrSecretLost means that a key or webhook was created, but the answer with
// its secret was lost, and the server shows the secret only once. The call
// returns the created thing together with the error. Rotate its secret, or
// delete it.
var ErrSecretLost = errors.New("triggerd: made, but the answer with its secret was lost")

// The values of an organization's tier, inbox and deduplication.
const (
	TierFree         = "free"
	TierProfessional = "professional"
	TierEnterprise   = "enterprise"

	InboxUnmatched  = "unmatched"  // the inbox gets the events that match no webhook
	InboxEverything = "everything" // the inbox gets all events

	DeduplicationLenient = "lenient" // a known dedup id is a duplicate
	DeduplicationStrict  = "strict"  // the same, but CodePayloadDiffers if the payloads differ
)

// Organization is an owner of events, webhooks and keys.
type Organization struct {
	ID            int64     `json:"id"`
	Name          string    `json:"name"`
	Tier          string    `json:"tier"`                // TierFree, …
	RateLimit     *int      `json:"rate_limit,omitzero"` // events per minute; nil: the tier's limit; 0: no limit
	Inbox         string    `json:"inbox"`               // InboxUnmatched or InboxEverything
	Deduplication string    `json:"deduplication"`       // DeduplicationLenient or DeduplicationStrict
	Suspended     bool      `json:"suspended"`
	CreatedAt     time.Time `json:"created_at"`
}

// OrganizationInput is an organization to create.
type OrganizationInput struct {
	Name          string `json:"name"`
	Tier          string `json:"tier,omitzero"`          // "": TierFree
	RateLimit     *int   `json:"rate_limit,omitzero"`    // events per minute; nil: the tier's limit; 0: no limit
	Inbox         string `json:"inbox,omitzero"`         // "": InboxUnmatched
	Deduplication string `json:"deduplication,omitzero"` // "": DeduplicationLenient
}

// OrganizationPatch is a change of an organization.
type OrganizationPatch struct {
	Name          Opt[string] `json:"name,omitzero"`
	Tier          Opt[string] `json:"tier,omitzero"`
	RateLimit     Opt[int]    `json:"rate_limit,omitzero"` // null: the tier's limit; 0: no limit
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

// Organizations iterates over all organizations by id. Like the other methods
// for organizations, it requires the operator's token. An error comes last.
func (c *Client) Organizations(ctx context.Context) iter.Seq2[Organization, error] {
	return all(func(cursor string) (Page[Organization], error) { return c.OrganizationsPage(ctx, maxLimit, cursor) })
}

// OrganizationsPage returns one page of organizations, the first one if the
// cursor is empty. The limit is 1 to 100, and 0 means 20.
func (c *Client) OrganizationsPage(ctx context.Context, limit int, cursor string) (Page[Organization], error) {
	return listPage[Organization](ctx, c, organizationsPath, limit, cursor)
}

// Organization returns an organization.
func (c *Client) Organization(ctx context.Context, id int64) (Organization, error) {
	return get[Organization](ctx, c, under(organizationsPath, id))
}

// CreateOrganization creates an organization and its first key, which is shown
// only once; the error is [ErrSecretLost] if the answer with it was lost.
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

// DeleteOrganization erases an organization with all its data. Its keys stop at
// once; erasing continues in the background.
func (c *Client) DeleteOrganization(ctx context.Context, id int64) error {
	return c.delete(ctx, under(organizationsPath, id))
}

// CreateOrganizationKey creates a key for an organization, like
// [Client.CreateKey] for the caller's own.
func (c *Client) CreateOrganizationKey(ctx context.Context, id int64, in KeyInput) (Key, error) {
	return c.newKey(ctx, under(organizationsPath, id)+"/keys", in)
}

// Me is the organization of the caller, with its key.
type Me struct {
	Organization Organization `json:"organization"`
	Key          Key          `json:"key"`                 // zero if the operator acts in the organization
	RateLimit    *RateLimit   `json:"rate_limit,omitzero"` // nil: no limit
}

// RateLimit is the number of events that may be posted in a window of time.
type RateLimit struct {
	Limit         int     `json:"limit"`
	WindowSeconds float64 `json:"window_seconds"`
}

// MePatch is a change of the caller's own organization.
type MePatch struct {
	Inbox         Opt[string] `json:"inbox,omitzero"`
	Deduplication Opt[string] `json:"deduplication,omitzero"`
}

const mePath = "/v1/me"

// Me returns the organization of the key. It also works while the organization
// is suspended.
func (c *Client) Me(ctx context.Context) (Me, error) { return get[Me](ctx, c, mePath) }

// UpdateMe changes the organization of the key.
func (c *Client) UpdateMe(ctx context.Context, in MePatch) (Me, error) {
	return call[Me](ctx, c, request{method: http.MethodPatch, path: mePath}, in)
}
