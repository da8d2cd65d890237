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

// authorizeOperator checks a request of a route that needs the operator's token.
// The metrics need no token if signup is open without a setting: to this
// machine, but to no page or proxy on it.
func (a *API) authorizeOperator(s scope, r *request) error {
	if s == scopeMetrics && a.closedSignup(r.Request) == nil {
		return nil
	}
	return a.operator(r)
}

// operator is checkToken with a limit of guesses: after too many wrong tokens
// from one address, the error is RateLimited.
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

// checkToken returns nil if the request has the operator's token or came to the
// operator's listener, otherwise Unauthorized. If no token exists, all are
// wrong; for an address with too many guesses, its absence may be cached for
// absentTTL.
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

// tokenHash returns the hash of the operator's token. The error is NotFound if
// it does not exist, and Unavailable if the database fails.
func (a *API) tokenHash(ctx context.Context, tooMany bool) ([32]byte, error) {
	if token := cmp.Or(a.AdminToken, a.MadeToken); token != "" {
		return trigger.HashOperatorToken(token), nil
	}
	return a.token.find(ctx, a.Now(), tooMany)
}

// absentTTL is how long the absence of a token is cached for guesses, so that
// not each costs a query.
const absentTTL = time.Second

// tokenCache caches the hash from the database for keyTTL. So a replaced token
// works for at most that long.
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

// find returns the hash. The error is NotFound if it does not exist; for an
// address with too many guesses, its absence may be cached for absentTTL.
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
