package api

import (
	"cmp"
	"net/http"
	"time"

	"triggerd/internal/trigger"
)

// orgView is the form of an organization in /v1.
type orgView struct {
	ID            int64                 `json:"id"`
	Name          string                `json:"name"`
	Tier          trigger.Tier          `json:"tier"`
	RateLimit     *int                  `json:"rate_limit"`
	Inbox         trigger.InboxMode     `json:"inbox"`
	Deduplication trigger.Deduplication `json:"deduplication"`
	Suspended     bool                  `json:"suspended"`
	CreatedAt     *string               `json:"created_at"`
}

func showOrganization(o *trigger.Organization) orgView {
	return orgView{
		ID: o.ID, Name: o.Name, Tier: o.Tier, RateLimit: o.RateLimit, Inbox: o.Inbox, Deduplication: o.Deduplication,
		Suspended: o.Suspended, CreatedAt: shownTime(o.CreatedAt),
	}
}

func (a *API) getMe(w http.ResponseWriter, r *request) error {
	if _, err := parameters(r); err != nil {
		return err
	}
	a.answerMe(w, r)
	return nil
}

// rateView is the form of a rate limit in /v1.
type rateView struct {
	Limit         int `json:"limit"`
	WindowSeconds int `json:"window_seconds"`
}

// answerMe answers with the organization, key and rate limit of the request.
func (a *API) answerMe(w http.ResponseWriter, r *request) {
	var rate *rateView
	if most := a.limitOf(&r.key.Organization); most > 0 {
		rate = &rateView{most, int(time.Minute / time.Second)}
	}
	var key *keyView
	if !r.acts {
		shown := showKey(&r.key)
		key = &shown
	}
	answer(w, http.StatusOK, struct {
		Organization orgView   `json:"organization"`
		Key          *keyView  `json:"key"`
		RateLimit    *rateView `json:"rate_limit"`
	}{showOrganization(&r.key.Organization), key, rate})
}

func (a *API) patchMe(w http.ResponseWriter, r *request) error {
	var in struct {
		Inbox         opt[string] `json:"inbox"`
		Deduplication opt[string] `json:"deduplication"`
	}
	if _, err := a.readBody(w, r, &in); err != nil {
		return err
	}
	change := orgChange{Inbox: in.Inbox, Deduplication: in.Deduplication}
	org, err := a.Store.SetOrganization(r.Context(), r.orgID(), change.apply)
	if err != nil {
		return err
	}
	a.keys.forget(r.orgID())
	r.key.Organization = org
	a.answerMe(w, r)
	return nil
}

// orgChange is a change of an organization.
type orgChange struct {
	Name          opt[string] `json:"name"`
	Tier          opt[string] `json:"tier"`
	RateLimit     opt[int]    `json:"rate_limit"`
	Inbox         opt[string] `json:"inbox"`
	Deduplication opt[string] `json:"deduplication"`
	Suspended     opt[bool]   `json:"suspended"`
}

// apply changes an organization; null sets the default. The error is Invalid,
// with a pointer, if a value is not valid.
func (in *orgChange) apply(o *trigger.Organization) error {
	if in.Name.Given {
		if o.Name = in.Name.or(""); trigger.CheckName(o.Name) != nil {
			return trigger.Errorf(trigger.Invalid, "name must have 1 to %d bytes of UTF-8 without control characters", trigger.MaxName).At("#/name")
		}
	}
	if in.RateLimit.Given {
		o.RateLimit = nil
		if most := in.RateLimit.Value; !in.RateLimit.Null {
			if most < 0 || most > trigger.MaxRateLimit {
				return trigger.Errorf(trigger.Invalid, "rate_limit must be from 0 to %d; got %d", trigger.MaxRateLimit, most).At("#/rate_limit")
			}
			o.RateLimit = &most
		}
	}
	if in.Suspended.Given {
		o.Suspended = in.Suspended.or(false)
	}
	return cmp.Or(
		setWord(&o.Tier, in.Tier, trigger.Free, trigger.ParseTier, "#/tier"),
		setWord(&o.Inbox, in.Inbox, trigger.Unmatched, trigger.ParseInboxMode, "#/inbox"),
		setWord(&o.Deduplication, in.Deduplication, trigger.Lenient, trigger.ParseDeduplication, "#/deduplication"),
	)
}

// setWord sets a word to the given value, if any. null sets the fallback.
func setWord[T ~string](word *T, given opt[string], fallback T, parse func(string) (T, error), pointer string) (err error) {
	switch {
	case given.Null:
		*word = fallback
	case given.Given:
		*word, err = parse(given.Value)
	}
	return trigger.AtMember(err, pointer)
}

// postOrganization creates an organization with its first key, which is shown
// only this once.
func (a *API) postOrganization(w http.ResponseWriter, r *request) error {
	var in struct {
		Name          opt[string] `json:"name"`
		Tier          opt[string] `json:"tier"`
		RateLimit     opt[int]    `json:"rate_limit"`
		Inbox         opt[string] `json:"inbox"`
		Deduplication opt[string] `json:"deduplication"`
	}
	body, err := a.readBody(w, r, &in)
	if err != nil {
		return err
	}
	if !in.Name.Given {
		return trigger.Errorf(trigger.Invalid, "name is missing").At("#/name")
	}
	o, err := once(r, body)
	if err != nil {
		return err
	}
	org := trigger.Organization{Tier: trigger.Free}
	change := orgChange{Name: in.Name, Tier: in.Tier, RateLimit: in.RateLimit, Inbox: in.Inbox, Deduplication: in.Deduplication}
	if err := change.apply(&org); err != nil {
		return err
	}
	shown, key := drawKey()
	id, err := a.Store.AddOrganization(r.Context(), org, key, o)
	return a.answerOrganization(w, r, madeKey{id, shown, err})
}

// answerOrganization answers with an organization that was made now or before,
// and its first key, or the oldest remaining one. One remains, because the last
// key cannot be revoked. The error is Conflict if the organization was deleted
// since.
func (a *API) answerOrganization(w http.ResponseWriter, r *request, made madeKey) error {
	before, again, err := repeated(w, made.err)
	if err != nil {
		return err
	}
	if again {
		made.id, made.shown = before, ""
	}
	keys, err := a.Store.ListAPIKeys(r.Context(), made.id, 0, 1)
	if err != nil {
		return err
	}
	org, err := a.Store.Organization(r.Context(), made.id)
	if err != nil && trigger.KindOf(err) == trigger.NotFound || err == nil && len(keys) == 0 {
		return goneSince(w, "the organization that this request created was deleted")
	}
	if err != nil {
		return err
	}
	key := showKey(&keys[0])
	key.Key = made.shown
	answer(w, http.StatusCreated, struct {
		Organization orgView `json:"organization"`
		Key          keyView `json:"key"`
	}{showOrganization(&org), key})
	return nil
}

func (a *API) listOrganizations(w http.ResponseWriter, r *request) error {
	q, limit, after, err := numbered(r)
	if err != nil {
		return err
	}
	found, err := a.Store.ListOrganizations(r.Context(), after, limit+1)
	if err != nil {
		return err
	}
	answer(w, http.StatusOK, newList(&q, found, limit, showOrganization, func(o *trigger.Organization) []byte { return placeOf(o.ID) }))
	return nil
}

func (a *API) getOrganization(w http.ResponseWriter, r *request) error {
	id, err := r.only("organization_id")
	if err != nil {
		return err
	}
	org, err := a.Store.Organization(r.Context(), id)
	if err != nil {
		return err
	}
	answer(w, http.StatusOK, showOrganization(&org))
	return nil
}

func (a *API) patchOrganization(w http.ResponseWriter, r *request) error {
	id, err := r.only("organization_id")
	if err != nil {
		return err
	}
	var in orgChange
	if _, err := a.readBody(w, r, &in); err != nil {
		return err
	}
	org, err := a.Store.SetOrganization(r.Context(), id, in.apply)
	if err != nil {
		return err
	}
	a.keys.forget(id)
	if in.Suspended.Given { // deliveries that waited may now be sent, or the reverse
		a.Engine.Wake()
	}
	answer(w, http.StatusOK, showOrganization(&org))
	return nil
}

func (a *API) deleteOrganization(w http.ResponseWriter, r *request) error {
	id, err := r.only("organization_id")
	if err != nil {
		return err
	}
	if err := a.Store.DeleteOrganization(r.Context(), id); err != nil {
		return err
	}
	a.keys.forget(id)
	w.WriteHeader(http.StatusNoContent)
	return nil
}
