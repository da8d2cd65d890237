package client

import (
	"context"
	"iter"
	"time"
)

// What a key may do.
const (
	ScopeIngest = "ingest" // post events
	ScopeRead   = "read"   // read, and work off the inbox
	ScopeManage = "manage" // change
)

// Key is an API key.
type Key struct {
	ID         int64     `json:"id"`
	Name       string    `json:"name"`
	Prefix     string    `json:"prefix"` // how it begins, to know it by
	Scopes     []string  `json:"scopes"`
	Networks   []string  `json:"networks"` // from where it holds, as CIDRs or addresses; none: from anywhere
	CreatedAt  time.Time `json:"created_at"`
	ExpiresAt  time.Time `json:"expires_at,omitzero"`   // zero: never
	LastUsedAt time.Time `json:"last_used_at,omitzero"` // to the minute; zero: never

	// Key is the key itself, in the answers alone that make it.
	Key string `json:"key,omitzero"`
}

// KeyInput is a key to be made.
type KeyInput struct {
	Name      string    `json:"name,omitzero"`
	Scopes    []string  `json:"scopes,omitzero"`     // nil: all that the caller has
	ExpiresAt time.Time `json:"expires_at,omitzero"` // zero: with the caller, or never
	Networks  []string  `json:"networks,omitzero"`   // nil: those of the caller, or any
}

const keysPath = "/v1/keys"

// Keys goes through the keys that hold, by id. An error comes last.
func (c *Client) Keys(ctx context.Context) iter.Seq2[Key, error] {
	return all(func(cursor string) (Page[Key], error) { return c.KeysPage(ctx, maxLimit, cursor) })
}

// KeysPage gives one page of the keys, the first if the cursor is empty. The
// limit is 1 to 100, and 0 is 20.
func (c *Client) KeysPage(ctx context.Context, limit int, cursor string) (Page[Key], error) {
	return listPage[Key](ctx, c, keysPath, limit, cursor)
}

// KeyByID gives a key by its id, without the key itself.
func (c *Client) KeyByID(ctx context.Context, id int64) (Key, error) {
	return get[Key](ctx, c, under(keysPath, id))
}

// CreateKey makes a key, which has no other scopes than the caller's key, no
// wider networks and no later end: otherwise CodeMissingScope or
// CodeValidationFailed. It outlives the caller's key. Its Key is shown this once;
// [ErrSecretLost] if the answer that had it was lost.
func (c *Client) CreateKey(ctx context.Context, in KeyInput) (Key, error) {
	return c.newKey(ctx, keysPath, in)
}

// RotateKey makes a new key with the name, scopes, networks and end of another,
// which must not be more than those of the caller's key. The other one goes on
// holding for the overlap: 0 to 2592000 s, and nil is a day. [ErrSecretLost] if
// the answer with the new key was lost.
func (c *Client) RotateKey(ctx context.Context, id int64, overlapSeconds *float64) (Key, error) {
	in := struct {
		OverlapSeconds *float64 `json:"overlap_seconds,omitzero"`
	}{overlapSeconds}
	return c.newKey(ctx, under(keysPath, id)+"/rotate", in)
}

// DeleteKey revokes a key. It holds nowhere any more within 5 s. CodeConflict
// if it is the last one with ScopeManage that never expires.
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
