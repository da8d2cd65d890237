package api

import "slices"

// routes returns all routes of the API.
func (a *API) routes() []route { return slices.Concat(a.oldRoutes(), a.newRoutes()) }

// oldRoutes returns the routes of the original contract and of the operator.
func (a *API) oldRoutes() []route {
	return []route{
		// the original contract
		{"GET", "/health", scopePublic, a.getHealth},
		{"POST", "/api/keys/generate", scopeSignup, a.postKey},
		{"POST", "/api/events", scopeIngest, a.postEvent},
		{"GET", "/api/inbox", scopeRead, a.getInbox},
		{"POST", "/api/webhook/register", scopeManage, a.registerWebhook},
		{"GET", "/stats/cache", scopePublic, a.getCacheStats},
		// of the operator
		{"GET", "/livez", scopePublic, a.getLive},
		{"GET", "/readyz", scopePublic, a.getReady},
		{"GET", "/metrics", scopeMetrics, a.getMetrics},
		{"GET", "/debug/pprof/{profile}", scopeAdmin, a.getProfile},
	}
}

// newRoutes returns the routes of /v1, which openapi.yaml describes.
func (a *API) newRoutes() []route {
	return []route{
		// documentation and the caller's own key
		{"GET", "/openapi.yaml", scopePublic, a.getOpenAPI},
		{"GET", "/docs", scopePublic, a.getDocs},
		{"GET", "/docs/problems", scopePublic, a.getDocs},
		{"GET", "/docs/assets/{file}", scopePublic, a.getDocs},
		{"GET", "/v1/me", scopeKey, a.getMe},
		{"PATCH", "/v1/me", scopeManage, a.patchMe},
		// organizations and keys
		{"POST", "/v1/organizations", scopeAdmin, a.postOrganization},
		{"GET", "/v1/organizations", scopeAdmin, a.listOrganizations},
		{"GET", "/v1/organizations/{organization_id}", scopeAdmin, a.getOrganization},
		{"PATCH", "/v1/organizations/{organization_id}", scopeAdmin, a.patchOrganization},
		{"DELETE", "/v1/organizations/{organization_id}", scopeAdmin, a.deleteOrganization},
		{"POST", "/v1/organizations/{organization_id}/keys", scopeAdmin, a.postOrganizationKey},
		{"GET", "/v1/keys", scopeManage, a.listKeys},
		{"POST", "/v1/keys", scopeManage, a.postAPIKey},
		{"GET", "/v1/keys/{key_id}", scopeManage, a.getKey},
		{"DELETE", "/v1/keys/{key_id}", scopeManage, a.deleteKey},
		{"POST", "/v1/keys/{key_id}/rotate", scopeManage, a.rotateKey},
		// events
		{"OPTIONS", "/v1/events", scopePublic, a.optionsEvents},
		{"POST", "/v1/events", scopeIngest, a.postEvents},
		{"GET", "/v1/events", scopeRead, a.listEvents},
		{"GET", "/v1/events/{event_id}", scopeRead, a.getEvent},
		{"DELETE", "/v1/events/{event_id}", scopeManage, a.deleteEvent},
		{"GET", "/v1/events/{event_id}/why", scopeRead, a.getWhy},
		{"GET", "/v1/events/{event_id}/attempts", scopeRead, a.getEventAttempts},
		{"POST", "/v1/events/{event_id}/resend", scopeManage, a.resendEvent},
		{"GET", "/v1/samples", scopeRead, a.listSamples},
		{"GET", "/v1/event-types", scopeRead, a.listEventTypes},
		{"GET", "/v1/event-types/{name}", scopeRead, a.getEventType},
		{"PUT", "/v1/event-types/{name}", scopeManage, a.putEventType},
		{"DELETE", "/v1/event-types/{name}", scopeManage, a.deleteEventType},
		// the inbox
		{"GET", "/v1/inbox", scopeRead, a.listInbox},
		{"GET", "/v1/inbox/stream", scopeRead, a.streamInbox},
		{"POST", "/v1/inbox/claim", scopeRead, a.claimInbox},
		{"POST", "/v1/inbox/ack", scopeRead, a.ackInbox},
		{"POST", "/v1/inbox/release", scopeRead, a.releaseInbox},
		{"POST", "/v1/inbox/extend", scopeRead, a.extendInbox},
		// webhooks
		{"POST", "/v1/webhooks", scopeManage, a.postWebhook},
		{"GET", "/v1/webhooks", scopeRead, a.listWebhooks},
		{"POST", "/v1/webhooks/dry-run", scopeRead, a.dryRunWebhook},
		{"GET", "/v1/webhooks/{webhook_id}", scopeRead, a.getWebhook},
		{"PATCH", "/v1/webhooks/{webhook_id}", scopeManage, a.patchWebhook},
		{"DELETE", "/v1/webhooks/{webhook_id}", scopeManage, a.deleteWebhook},
		{"POST", "/v1/webhooks/{webhook_id}/pause", scopeManage, a.pauseWebhook},
		{"POST", "/v1/webhooks/{webhook_id}/resume", scopeManage, a.resumeWebhook},
		{"POST", "/v1/webhooks/{webhook_id}/rotate-secret", scopeManage, a.rotateSecret},
		{"POST", "/v1/webhooks/{webhook_id}/test", scopeManage, a.testWebhook},
		{"GET", "/v1/deliveries", scopeRead, a.listDeliveries},
		{"GET", "/v1/attempts", scopeRead, a.listAttempts},
		{"POST", "/v1/replays", scopeManage, a.postReplay},
		{"GET", "/v1/replays", scopeRead, a.listReplays},
		{"POST", "/v1/replays/preview", scopeRead, a.previewReplay},
		{"GET", "/v1/replays/{replay_id}", scopeRead, a.getReplay},
		{"POST", "/v1/replays/{replay_id}/pause", scopeManage, a.pauseReplay},
		{"POST", "/v1/replays/{replay_id}/resume", scopeManage, a.resumeReplay},
		{"POST", "/v1/replays/{replay_id}/cancel", scopeManage, a.cancelReplay},
	}
}
