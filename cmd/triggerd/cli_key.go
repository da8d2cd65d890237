package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"triggerd/client"
)

// keyFlags are the properties of a new key.
type keyFlags struct {
	Name    string   `help:"Name of the key."`
	Scope   []string `help:"Scope of the key: ingest, read or manage; may be repeated, or separated by commas. Default: all scopes of the caller."`
	Expires *moment  `help:"When it expires: a time, or a span from now, for example 90d. Default: with the caller's key, if that expires."`
	Network []string `help:"Network that it may be used from, as a CIDR or an address; may be repeated, or separated by commas. Default: as the caller's key."`
}

func (f *keyFlags) input(now time.Time) client.KeyInput {
	return client.KeyInput{Name: f.Name, Scopes: f.Scope, ExpiresAt: f.Expires.after(now), Networks: f.Network}
}

// onlyKey is embedded in commands that create a key.
type onlyKey struct {
	OnlyKey bool `help:"Write only the key."`
}

// write shows a new key, only once.
func (o *onlyKey) write(s *session, key client.Key) {
	if o.OnlyKey {
		fmt.Fprintln(s.out, key.Key)
		return
	}
	writeKey(s.out, key)
	if key.Key != "" {
		fmt.Fprintf(s.out, "\n%s\n", clean(key.Key))
		fmt.Fprintln(s.errOut, "The key is shown only once. To use it: export TRIGGERD_KEY=sk_…")
	}
}

func writeKey(w io.Writer, k client.Key) {
	networks := "any"
	if len(k.Networks) > 0 {
		networks = strings.Join(k.Networks, " ")
	}
	expires := "never"
	if !k.ExpiresAt.IsZero() {
		expires = localTime(k.ExpiresAt)
	}
	writeFields(w, "key", id(k.ID), "name", k.Name, "begins with", k.Prefix, "scopes", strings.Join(k.Scopes, " "),
		"networks", networks, "created", localTime(k.CreatedAt), "expires", expires, "last used", localTime(k.LastUsedAt))
}

type keyCreate struct {
	memberCommand
	onlyKey
	keyFlags
}

// Run creates a key and shows it.
func (c *keyCreate) Run(ctx context.Context, s *session) error {
	return show(s, c, func(api *client.Client) (client.Key, error) { return api.CreateKey(ctx, c.input(s.now())) },
		func(_ io.Writer, key client.Key) { c.write(s, key) })
}

type keyList struct {
	memberCommand
	listing
}

// Run lists the keys.
func (c *keyList) Run(ctx context.Context, s *session) error {
	return list(s, c, c.Limit, func(api *client.Client, limit int, cursor string) (client.Page[client.Key], error) {
		return api.KeysPage(ctx, limit, cursor)
	}, table[client.Key]{
		[]string{"ID", "NAME", "BEGINS", "SCOPES", "NETWORKS", "CREATED", "EXPIRES", "LAST USED"},
		func(k client.Key) []string {
			return []string{
				id(k.ID), k.Name, k.Prefix, strings.Join(k.Scopes, ","), strings.Join(k.Networks, ","),
				localTime(k.CreatedAt), localTime(k.ExpiresAt), localTime(k.LastUsedAt),
			}
		},
	})
}

type oneKey struct {
	memberCommand
	ID int64 `arg:"" help:"The key's id."`
}

type keyShow struct{ oneKey }

// Run shows a key, without the key itself.
func (c *keyShow) Run(ctx context.Context, s *session) error {
	return show(s, c, func(api *client.Client) (client.Key, error) { return api.KeyByID(ctx, c.ID) }, writeKey)
}

type keyRotate struct {
	oneKey
	onlyKey
	Overlap *days `help:"How long the old key stays valid, for example 1h or 7d. Default: a day."`
}

// Run creates a key that replaces another, and shows it.
func (c *keyRotate) Run(ctx context.Context, s *session) error {
	return show(s, c, func(api *client.Client) (client.Key, error) { return api.RotateKey(ctx, c.ID, secondsOf(c.Overlap)) },
		func(_ io.Writer, key client.Key) { c.write(s, key) })
}

type keyRevoke struct{ oneKey }

// Run revokes a key.
func (c *keyRevoke) Run(ctx context.Context, s *session) error {
	return do(s, c, func(api *client.Client) error { return api.DeleteKey(ctx, c.ID) }, fmt.Sprintf("key %d is revoked", c.ID))
}
