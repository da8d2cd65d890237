package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"triggerd/client"
)

type meCommand struct {
	memberCommand
	Inbox         *string `help:"Events that go to the inbox: unmatched (those that match no webhook) or everything."`
	Deduplication *string `help:"How to treat a known dedup id with another payload: lenient (a duplicate) or strict (an error)."`
}

// Run shows the organization of the key, after the changes, if any.
func (c *meCommand) Run(ctx context.Context, s *session) error {
	none := &resets{}
	patch := client.MePatch{
		Inbox:         change(none, "inbox", c.Inbox),
		Deduplication: change(none, "deduplication", c.Deduplication),
	}
	return show(s, c, func(api *client.Client) (client.Me, error) {
		if patch == (client.MePatch{}) {
			return api.Me(ctx)
		}
		return api.UpdateMe(ctx, patch)
	}, writeMe)
}

func writeMe(w io.Writer, me client.Me) {
	limit := "none"
	if me.RateLimit != nil {
		limit = fmt.Sprintf("%d events in %s", me.RateLimit.Limit, duration(me.RateLimit.WindowSeconds))
	}
	writeFields(w, append(organizationFields(me.Organization), "limit", limit)...)
	if me.Key.ID != 0 { // otherwise the operator acts
		fmt.Fprintln(w)
		writeKey(w, me.Key)
	}
}

type orgCreate struct {
	operatorCommand
	onlyKey
	Name          string `arg:"" help:"Name of the organization."`
	Tier          string `help:"Tier: free, professional or enterprise. Default: free."`
	RateLimit     *int   `help:"Events per minute, instead of the tier's limit. 0: no limit."`
	Inbox         string `help:"Events that go to the inbox: unmatched or everything. Default: unmatched."`
	Deduplication string `help:"Deduplication: lenient or strict. Default: lenient."`
}

// Run creates an organization, and shows its key.
func (c *orgCreate) Run(ctx context.Context, s *session) error {
	in := client.OrganizationInput{
		Name: c.Name, Tier: c.Tier, RateLimit: c.RateLimit, Inbox: c.Inbox, Deduplication: c.Deduplication,
	}
	return show(s, c, func(api *client.Client) (client.NewOrganization, error) {
		return api.CreateOrganization(ctx, in)
	}, func(w io.Writer, made client.NewOrganization) {
		if !c.OnlyKey {
			writeOrganization(w, made.Organization)
			fmt.Fprintln(w)
		}
		c.write(s, made.Key)
	})
}

type orgList struct {
	operatorCommand
	listing
}

// Run lists the organizations.
func (c *orgList) Run(ctx context.Context, s *session) error {
	return list(s, c, c.Limit, func(api *client.Client, limit int, cursor string) (client.Page[client.Organization], error) {
		return api.OrganizationsPage(ctx, limit, cursor)
	}, table[client.Organization]{
		[]string{"ID", "NAME", "TIER", "LIMIT", "INBOX", "DEDUPLICATION", "SUSPENDED", "CREATED"},
		func(o client.Organization) []string {
			return []string{id(o.ID), o.Name, o.Tier, rateLimit(o), o.Inbox, o.Deduplication, yesNo(o.Suspended), localTime(o.CreatedAt)}
		},
	})
}

type oneOrg struct {
	operatorCommand
	ID int64 `arg:"" help:"The organization's id."`
}

// update changes the organization and shows it.
func (c *oneOrg) update(ctx context.Context, s *session, patch client.OrganizationPatch) error {
	return show(s, c, func(api *client.Client) (client.Organization, error) {
		return api.UpdateOrganization(ctx, c.ID, patch)
	}, writeOrganization)
}

type orgShow struct{ oneOrg }

// Run shows an organization.
func (c *orgShow) Run(ctx context.Context, s *session) error {
	return show(s, c, func(api *client.Client) (client.Organization, error) { return api.Organization(ctx, c.ID) }, writeOrganization)
}

type orgSet struct {
	oneOrg
	resets
	Name          *string `help:"Name of the organization."`
	Tier          *string `help:"Tier: free, professional or enterprise."`
	RateLimit     *int    `help:"Events per minute, instead of the tier's limit. 0: no limit."`
	Inbox         *string `help:"Events that go to the inbox: unmatched or everything."`
	Deduplication *string `help:"Deduplication: lenient or strict."`
}

// Run changes the settings that have a flag.
func (c *orgSet) Run(ctx context.Context, s *session) error {
	patch, err := c.patch()
	if err != nil {
		return err
	}
	return c.update(ctx, s, patch)
}

func (c *orgSet) patch() (p client.OrganizationPatch, err error) {
	r := &c.resets
	err = r.check(map[string]bool{
		"tier": c.Tier != nil, "rate-limit": c.RateLimit != nil, "inbox": c.Inbox != nil, "deduplication": c.Deduplication != nil,
	})
	p = client.OrganizationPatch{
		Name: change(r, "name", c.Name), Tier: change(r, "tier", c.Tier), RateLimit: change(r, "rate-limit", c.RateLimit),
		Inbox: change(r, "inbox", c.Inbox), Deduplication: change(r, "deduplication", c.Deduplication),
	}
	if err == nil && p == (client.OrganizationPatch{}) {
		err = errNothingToSet
	}
	return p, err
}

var errNothingToSet = errors.New("no change was given: give a flag, or --reset")

type orgSuspend struct{ oneOrg }

// Run suspends an organization.
func (c *orgSuspend) Run(ctx context.Context, s *session) error {
	return c.update(ctx, s, client.OrganizationPatch{Suspended: client.Set(true)})
}

type orgResume struct{ oneOrg }

// Run ends a suspension.
func (c *orgResume) Run(ctx context.Context, s *session) error {
	return c.update(ctx, s, client.OrganizationPatch{Suspended: client.Set(false)})
}

type orgDelete struct {
	oneOrg
	Yes bool `help:"Confirm the deletion."`
}

// Run erases an organization, if the user confirms.
func (c *orgDelete) Run(ctx context.Context, s *session) error {
	if !c.Yes {
		return fmt.Errorf("this permanently erases organization %d, its events, webhooks and keys: add --yes to confirm", c.ID)
	}
	return do(s, c, func(api *client.Client) error { return api.DeleteOrganization(ctx, c.ID) },
		fmt.Sprintf("organization %d is deleted; its data is being erased", c.ID))
}

type orgKey struct {
	oneOrg
	onlyKey
	keyFlags
}

// Run creates a key for an organization.
func (c *orgKey) Run(ctx context.Context, s *session) error {
	return show(s, c, func(api *client.Client) (client.Key, error) {
		return api.CreateOrganizationKey(ctx, c.ID, c.input(s.now()))
	}, func(_ io.Writer, key client.Key) { c.write(s, key) })
}

func writeOrganization(w io.Writer, o client.Organization) { writeFields(w, organizationFields(o)...) }

func organizationFields(o client.Organization) []string {
	return []string{
		"organization", id(o.ID), "name", o.Name, "tier", o.Tier, "rate limit", rateLimit(o), "inbox", o.Inbox,
		"deduplication", o.Deduplication, "suspended", yesNo(o.Suspended), "created", localTime(o.CreatedAt),
	}
}

// rateLimit formats the limit of an organization.
func rateLimit(o client.Organization) string {
	switch {
	case o.RateLimit == nil:
		return "the tier's"
	case *o.RateLimit == 0:
		return "none"
	}
	return id(int64(*o.RateLimit))
}

// orAll joins items; "all" for an empty list.
func orAll(items []string) string {
	if len(items) == 0 {
		return "all"
	}
	return strings.Join(items, " ")
}
