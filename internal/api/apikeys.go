package api

import (
	"crypto/rand"
	"net/http"
	"strconv"
	"time"

	"triggerd/internal/store"
	"triggerd/internal/trigger"
)

// For how long a rotated key overlaps with the new one.
const (
	keyOverlap    = 24 * time.Hour
	maxKeyOverlap = 30 * 24 * time.Hour
)

// keyView is the form of a key in /v1.
type keyView struct {
	ID         int64    `json:"id"`
	Name       string   `json:"name"`
	Prefix     string   `json:"prefix"`
	Scopes     []string `json:"scopes"`
	Networks   []string `json:"networks"`
	CreatedAt  *string  `json:"created_at"`
	ExpiresAt  *string  `json:"expires_at"`
	LastUsedAt *string  `json:"last_used_at"`
	Key        string   `json:"key,omitempty"` // only in the answer to the request that made the key
}

func showKey(k *trigger.APIKey) keyView {
	networks := make([]string, len(k.Networks))
	for i, network := range k.Networks {
		networks[i] = network.String()
	}
	return keyView{
		ID: k.ID, Name: k.Name, Prefix: k.Prefix, Scopes: k.Scopes.Names(), Networks: networks,
		CreatedAt: shownTime(k.CreatedAt), ExpiresAt: shownTime(k.ExpiresAt), LastUsedAt: shownTime(k.LastUsedAt.Truncate(time.Minute)),
	}
}

// drawKey returns a new key and the part of it that is stored.
func drawKey() (shown string, key trigger.APIKey) {
	var random [32]byte
	_, _ = rand.Read(random[:]) // never fails
	shown = trigger.NewAPIKey(random)
	hash, _ := trigger.HashAPIKey(shown)
	return shown, trigger.APIKey{Hash: hash, Prefix: trigger.KeyPrefix(shown)}
}

// keyInput is the body of a request for a new key.
type keyInput struct {
	Name      opt[string]   `json:"name"`
	Scopes    opt[[]string] `json:"scopes"`
	ExpiresAt opt[string]   `json:"expires_at"`
	Networks  opt[[]string] `json:"networks"`
}

// apply sets the members of the new key k; absent ones are copied from asks, the
// key of the request. The error is Forbidden or Invalid if asks must not make k.
// It is Invalid, with a pointer, if a member is not valid.
func (in *keyInput) apply(k, asks *trigger.APIKey, now time.Time) error {
	k.Name, k.Scopes, k.Networks, k.ExpiresAt = in.Name.or(""), asks.Scopes, asks.Networks, asks.ExpiresAt
	if in.Scopes.Given && !in.Scopes.Null {
		k.Scopes = 0
		for i, name := range in.Scopes.Value {
			scope, err := trigger.ParseScopes([]string{name})
			if err != nil {
				return trigger.AtMember(err, "#/scopes/"+strconv.Itoa(i))
			}
			k.Scopes |= scope
		}
	}
	if in.Networks.Given && !in.Networks.Null {
		k.Networks = nil
	}
	for i, text := range in.Networks.or(nil) {
		network, err := trigger.ParseNetwork(text)
		if err != nil {
			return trigger.AtMember(err, "#/networks/"+strconv.Itoa(i))
		}
		k.Networks = append(k.Networks, network)
	}
	if in.ExpiresAt.Given && !in.ExpiresAt.Null {
		var err error
		if k.ExpiresAt, err = expiry(in.ExpiresAt.Value, now); err != nil {
			return err
		}
	}
	if err := k.Check(); err != nil { // only the error about the name has no pointer yet
		return trigger.AtMember(err, "#/name")
	}
	return asks.MayMake(k)
}

// expiry parses the expiry time of a key.
func expiry(text string, now time.Time) (time.Time, error) {
	at, ok := parseRFC3339(text)
	switch {
	case !ok || at.Year() > 9999: // the year in UTC, as it will be shown
		return at, trigger.Errorf(trigger.Invalid, "expires_at must be an RFC 3339 time, for example 2026-01-02T03:04:05Z; got %.60q", text).At("#/expires_at")
	case !at.After(now):
		return at, trigger.Errorf(trigger.Invalid, "expires_at must be in the future; got %s", trigger.AppendTime(nil, at)).At("#/expires_at")
	}
	return at, nil
}

func (a *API) postAPIKey(w http.ResponseWriter, r *request) error {
	return a.makeKey(w, r, r.orgID(), &r.key)
}

func (a *API) postOrganizationKey(w http.ResponseWriter, r *request) error {
	orgID, err := r.pathNumber("organization_id")
	if err != nil {
		return err
	}
	return a.makeKey(w, r, orgID, &trigger.APIKey{Scopes: trigger.AllScopes})
}

// makeKey makes a key of an organization, with no more rights than asks.
func (a *API) makeKey(w http.ResponseWriter, r *request, orgID int64, asks *trigger.APIKey) error {
	var in keyInput
	body, err := a.readBody(w, r, &in)
	if err != nil {
		return err
	}
	o, err := once(r, body)
	if err != nil {
		return err
	}
	shown, drawn := drawKey()
	fill := func(asks *trigger.APIKey) (trigger.APIKey, error) {
		key := drawn
		err := in.apply(&key, asks, a.Store.Now())
		return key, err
	}
	key, err := fill(asks)
	if err != nil {
		return err
	}
	var id int64
	if asks.ID == 0 { // the operator
		id, err = a.Store.AddAPIKey(r.Context(), orgID, key, o)
	} else { // asks may have changed since the request began
		id, err = a.Store.MakeAPIKey(r.Context(), orgID, asks.ID, fill, o)
	}
	return a.answerKey(w, r, orgID, madeKey{id, shown, err})
}

// madeKey is the outcome of making a key: the key in plain text, which is shown
// once, or an error, for example that it was made before.
type madeKey struct {
	id    int64
	shown string
	err   error
}

// answerKey answers with a key that was made now or before. The error is
// Conflict if it has ended since.
func (a *API) answerKey(w http.ResponseWriter, r *request, orgID int64, made madeKey) error {
	before, again, err := repeated(w, made.err)
	if err != nil {
		return err
	}
	if again {
		made.id, made.shown = before, ""
	}
	key, err := a.Store.APIKey(r.Context(), orgID, made.id)
	if err != nil && trigger.KindOf(err) == trigger.NotFound {
		return goneSince(w, "the key that this request created has ended")
	}
	if err != nil {
		return err
	}
	v := showKey(&key)
	v.Key = made.shown
	answer(w, http.StatusCreated, v)
	return nil
}

func (a *API) listKeys(w http.ResponseWriter, r *request) error {
	q, limit, after, err := numbered(r)
	if err != nil {
		return err
	}
	found, err := a.Store.ListAPIKeys(r.Context(), r.orgID(), after, limit+1)
	if err != nil {
		return err
	}
	answer(w, http.StatusOK, newList(&q, found, limit, showKey, func(k *trigger.APIKey) []byte { return placeOf(k.ID) }))
	return nil
}

func (a *API) getKey(w http.ResponseWriter, r *request) error {
	id, err := r.only("key_id")
	if err != nil {
		return err
	}
	key, err := a.Store.APIKey(r.Context(), r.orgID(), id)
	if err != nil {
		return err
	}
	answer(w, http.StatusOK, showKey(&key))
	return nil
}

func (a *API) deleteKey(w http.ResponseWriter, r *request) error {
	id, err := r.only("key_id")
	if err != nil {
		return err
	}
	if err := a.Store.RevokeAPIKey(r.Context(), r.orgID(), id); err != nil {
		return err
	}
	a.keys.forget(r.orgID())
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (a *API) rotateKey(w http.ResponseWriter, r *request) error {
	id, err := r.only("key_id")
	if err != nil {
		return err
	}
	var in struct {
		Overlap opt[float64] `json:"overlap_seconds"`
	}
	body, err := a.readBody(w, r, &in)
	if err != nil {
		return err
	}
	o, err := once(r, body)
	if err != nil {
		return err
	}
	overlap, err := seconds("overlap_seconds", in.Overlap.or(keyOverlap.Seconds()), 0, maxKeyOverlap)
	if err != nil {
		return err
	}
	shown, next := drawKey()
	nextID, err := a.Store.RotateAPIKey(r.Context(), store.Rotation{
		OrganizationID: r.orgID(), KeyID: id, By: r.key.ID, Next: next, Overlap: overlap,
	}, o)
	if err == nil {
		a.keys.forget(r.orgID())
	}
	return a.answerKey(w, r, r.orgID(), madeKey{nextID, shown, err})
}
