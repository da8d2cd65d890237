package client

import (
	"context"
	"iter"
	"time"
)

// The scopes of a key.
const (
	ScopeIngest = "ingest" // post events
	ScopeRead   = "read"   // read, and consume the inbox
	ScopeManage = "manage" // change things
)

// Key is an API key.
type Key struct {
	ID         int64     `json:"id"`
	Name       string    `json:"name"`
	Prefix     string    `json:"prefix"` // its first characters, to recognize it
	Scopes     []string  `json:"scopes"`
	Networks   []string  `json:"networks"` // networks it may be used from, as CIDRs or addresses; empty: anywhere
	CreatedAt  time.Time `json:"created_at"`
	ExpiresAt  time.Time `json:"expires_at,omitzero"`   // zero: never
	LastUsedAt time.Time `json:"last_used_at,omitzero"` // to the minute; zero: never

	// Key is the key itself. Only the answers that create it have it.
	Key string `json:"key,omitzero"`
}

// KeyInput is a key to create.
type KeyInput struct {
	Name      string    `json:"name,omitzero"`
	Scopes    []string  `json:"scopes,omitzero"`     // nil: all scopes of the caller
	ExpiresAt time.Time `json:"expires_at,omitzero"` // zero: with the caller, or never
	Networks  []string  `json:"networks,omitzero"`   // nil: the networks of the caller, or any
}

const keysPath = "/v1/keys"

// Keys iterates over the valid keys, by id. An error comes last.
func (c *Client) Keys(ctx context.Context) iter.Seq2[Key, error] {
	return all(func(cursor string) (Page[Key], error) { return c.KeysPage(ctx, maxLimit, cursor) })
}

// KeysPage returns one page of the keys, the first one if the cursor is empty.
// The limit is 1 to 100, and 0 means 20.
func (c *Client) KeysPage(ctx context.Context, limit int, cursor string) (Page[Key], error) {
	return listPage[Key](ctx, c, keysPath, limit, cursor)
}

// KeyByID returns a key by its id, without the key itself.
func (c *Client) KeyByID(ctx context.Context, id int64) (Key, error) {
	return get[Key](ctx, c, under(keysPath, id))
}

// CreateKey creates a key. It must have no other scopes than the caller's key,
// no wider networks and no later expiry; otherwise the error is
// CodeMissingScope or CodeValidationFailed. It outlives the caller's key. Its
// Key is shown only once; the error is [ErrSecretLost] if the answer with it
// was lost.
func (c *Client) CreateKey(ctx context.Context, in KeyInput) (Key, error) {
	return c.newKey(ctx, keysPath, in)
}

// RotateKey creates a key with the name, scopes, networks and expiry of
// another, which must not exceed those of the caller's key. The other one stays
// valid for the overlap: 0 to 2592000 s, and nil means a day. The error is
// [ErrSecretLost] if the answer with the new key was lost.
func (c *Client) RotateKey(ctx context.Context, id int64, overlapSeconds *float64) (Key, error) {
	in := struct {
		OverlapSeconds *float64 `json:"overlap_seconds,omitzero"`
	}{overlapSeconds}
	return c.newKey(ctx, under(keysPath, id)+"/rotate", in)
}

// DeleteKey revokes a key, on all nodes within 5 s. It returns CodeConflict if
// the key is the last one with ScopeManage that never expires.
func (c *Client) DeleteKey(ctx context.Context, id int64) error {
	return c.delete(ctx, under(keysPath, id))
}

func (c *Client) newKey(ctx context.Context, path string, in any) (Key, error) {
	key, err := create[Key](ctx, c, path, in)
	if err == nil && key.Key == "" {
		err = ErrSecretLost
	}
	return key, err
}
