package api

import (
	"log/slog"
	"strconv"

	"triggerd/internal/trigger"
)

// organizationHeader names the organization in which the operator acts.
const organizationHeader = "Triggerd-Organization"

// authorizeAct lets the operator act in the organization that the request names,
// like a key with all scopes. The error is NotFound if the organization does not
// exist. It logs each such request.
func (a *API) authorizeAct(rt *route, r *request) error {
	values := r.Header.Values(organizationHeader)
	if _, isKey := trigger.HashAPIKey(bearer(r.Header)); isKey || r.Header.Get("X-Api-Key") != "" {
		return errOrganization(organizationHeader + " requires the operator's token: an API key acts only in its own organization")
	}
	if err := a.operator(r); err != nil {
		return err
	}
	if len(values) != 1 {
		return errOrganization(organizationHeader + " must be given exactly once, with the id of an organization, for example 42; got " + strconv.Itoa(len(values)) + " headers")
	}
	id, err := strconv.ParseInt(values[0], 10, 64)
	if err != nil || id < 1 || strconv.FormatInt(id, 10) != values[0] {
		return errOrganization(organizationHeader + " must be the id of an organization, for example 42; got " + strconv.Quote(clipped(values[0])))
	}
	org, err := a.Store.Organization(r.Context(), id)
	if err != nil {
		return err
	}
	r.key, r.acts = trigger.APIKey{Organization: org, Scopes: trigger.AllScopes}, true
	a.Log.LogAttrs(r.Context(), slog.LevelInfo, "operator acts", slog.Int64("organization_id", id), slog.String("method", r.Method), slog.String("route", rt.path))
	return a.allows(&r.key, rt.scope, r)
}

// clipped returns the beginning of a text for a message.
func clipped(text string) string { return text[:min(len(text), 60)] }

func errOrganization(message string) error {
	e := trigger.Errorf(trigger.Malformed, "%s", message).Of(organizationHeader)
	e.Code = "invalid_parameter"
	return e
}

// stillActs is authorizeAct for a request that was authorized before. It counts
// no guesses and does not change the request.
func (a *API) stillActs(rt *route, r *request) error {
	if err := a.checkToken(r, false); err != nil {
		return err
	}
	org, err := a.Store.Organization(r.Context(), r.orgID())
	switch {
	case err == nil:
		return a.allows(&trigger.APIKey{Organization: org, Scopes: trigger.AllScopes}, rt.scope, r)
	case trigger.KindOf(err) == trigger.NotFound: // it was deleted
		return errNoToken()
	}
	return err
}
