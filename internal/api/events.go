package api

import (
	"context"
	"net/http"
	"strings"

	"triggerd/internal/ingest"
	"triggerd/internal/trigger"
)

// acceptEvent judges a posted event, in the order of the contract (rate limit,
// type of the body, its size, what it says), and commits it.
func (a *API) acceptEvent(w http.ResponseWriter, r *request) (result ingest.Result, err error) {
	org := r.key.Organization
	limit := a.Limits[org.Tier]
	if ok, wait := a.rates.Allow(r.Context(), org.ID, limit, 1, a.Now()); !ok {
		return result, rateLimited(limit, wait)
	}
	body, free, err := a.readJSON(w, r)
	if err != nil {
		return result, err
	}
	defer free()
	event, err := parseEnvelope(org.ID, body)
	if err != nil {
		return result, err
	}
	// Not ended by the client: one that has only closed its own half, as nc -N
	// does, still waits for the answer.
	return a.Writer.Add(context.WithoutCancel(r.Context()), event)
}

// reasonOf names the kind of a refusal for the metrics.
func reasonOf(err error) string {
	return strings.ToLower(http.StatusText(statusOf(trigger.KindOf(err))))
}
