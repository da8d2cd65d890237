package api

import (
	"cmp"
	"context"
	"crypto/subtle"
	"time"

	"golang.org/x/sync/singleflight"

	"triggerd/internal/store"
	"triggerd/internal/trigger"
)

// authorizeOperator decides about a request of a route that wants the
// operator's token. The metrics are open to whom signup is open without a
// setting: to this machine, and to no page or proxy on it.
func (a *API) authorizeOperator(s scope, r *request) error {
	if s == scopeMetrics && a.closedSignup(r.Request) == nil {
		return nil
	}
	return a.operator(r)
}

// operator is checkToken, which limits guesses: after too many wrong tokens from
// one address, the next is RateLimited.
func (a *API) operator(r *request) error {
	tooMany, _ := a.guesses.Blocked(a.limitedAddr(r), wrongKeys, a.Now())
	err := a.checkToken(r, tooMany)
	if trigger.KindOf(err) != trigger.Unauthorized || bearer(r.Header) == "" {
		return err
	}
	if ok, wait := a.guesses.Allow(a.limitedAddr(r), wrongKeys, 1, a.Now()); !ok {
		return rateLimited(wrongKeys, wait)
	}
	return err
}

// checkToken returns nil if the request carries the operator's token, or came by
// the operator's socket, and Unauthorized otherwise. There is always a token to
// be right: if none was made, every one is wrong. That there is none may be known
// for absentTTL to an address with too many guesses.
func (a *API) checkToken(r *request, tooMany bool) error {
	if r.isOperator {
		return nil
	}
	given := bearer(r.Header)
	if given == "" {
		return errNoToken()
	}
	want, err := a.tokenHash(r.Context(), tooMany)
	if err != nil && trigger.KindOf(err) != trigger.NotFound {
		return err
	}
	hash := trigger.HashOperatorToken(given)
	if err == nil && subtle.ConstantTimeCompare(hash[:], want[:]) == 1 {
		return nil
	}
	return errNoToken()
}

func errNoToken() *trigger.Error {
	return trigger.Errorf(trigger.Unauthorized, "Missing or wrong admin token")
}

// tokenHash returns the hash of the operator's token. NotFound if there is no
// token; Unavailable if the database cannot be asked.
func (a *API) tokenHash(ctx context.Context, tooMany bool) ([32]byte, error) {
	if token := cmp.Or(a.AdminToken, a.MadeToken); token != "" {
		return trigger.HashOperatorToken(token), nil
	}
	return a.token.find(ctx, a.Now(), tooMany)
}

// absentTTL is for how long guesses believe that there is no token, so that
// they do not cost a query each.
const absentTTL = time.Second

// tokenCache remembers the hash that is in the database for a few seconds, so
// that a token that another one has replaced is good for no longer than keyTTL.
type tokenCache struct {
	read   func(ctx context.Context) ([32]byte, error)
	entry  *store.Cache[struct{}, cachedToken]
	asking singleflight.Group
}

type cachedToken struct {
	hash   [32]byte
	absent bool
	read   time.Time
}

func newTokenCache(s *store.Store) *tokenCache {
	return &tokenCache{read: s.OperatorToken, entry: store.NewCache[struct{}, cachedToken](s, 1)}
}

// find returns the hash. NotFound if there is none; to an address with too many
// guesses it may have been so absentTTL ago.
func (c *tokenCache) find(ctx context.Context, now time.Time, tooMany bool) ([32]byte, error) {
	cached, ok := c.entry.View().Get(struct{}{})
	switch age := now.Sub(cached.read); {
	case ok && !cached.absent && age < keyTTL:
		return cached.hash, nil
	case ok && cached.absent && age < absentTTL && tooMany:
		return [32]byte{}, notFound()
	}
	found, err, _ := c.asking.Do("", func() (any, error) {
		view := c.entry.View()
		hash, err := c.read(context.WithoutCancel(ctx))
		if err == nil || trigger.KindOf(err) == trigger.NotFound {
			view.Add(struct{}{}, cachedToken{hash, err != nil, now})
		}
		return hash, err
	})
	hash, _ := found.([32]byte)
	return hash, err
}
