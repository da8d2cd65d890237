package api

import (
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"strings"
)

// assetCache is the Cache-Control of answers that are equal for all clients.
// After five minutes a cache asks again with the ETag, and gets the content only
// if it has changed.
const assetCache = "public, max-age=300"

// isAsset reports whether the answers of the route are equal for all clients.
func (rt *route) isAsset() bool {
	return rt.scope == scopePublic && (rt.path == "/openapi.yaml" || rt.path == "/docs" || strings.HasPrefix(rt.path, "/docs/"))
}

// protect sets headers of every answer: caches must not store what may be a
// tenant's, and browsers must not guess the type.
func (rt *route) protect(h http.Header, status int) {
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	if rt.isAsset() && (status == http.StatusOK || status == http.StatusNotModified) {
		h.Set("Cache-Control", assetCache)
	}
	if vary := rt.varies(); vary != "" {
		h.Set("Vary", vary)
	}
}

// varies returns the request headers that an answer depends on, or "".
func (rt *route) varies() string {
	switch {
	case rt.needsKey() && rt.isNew():
		return "Authorization, X-Api-Key"
	case rt.needsKey():
		return "X-Api-Key"
	case rt.scope == scopeMetrics:
		return "Authorization, Accept, Accept-Encoding"
	case rt.scope == scopeAdmin || rt.scope == scopeSignup:
		return "Authorization"
	}
	return ""
}

// etagOf returns the entity tag of a content (RFC 9110, section 8.8.3).
func etagOf(body []byte) string {
	sum := sha256.Sum256(body)
	return `"` + base64.RawURLEncoding.EncodeToString(sum[:18]) + `"`
}

// hasCurrent reports whether the client already has the content of an entity tag
// (If-None-Match; RFC 9110, section 13.1.2).
func hasCurrent(h http.Header, etag string) bool {
	for given := range strings.SplitSeq(strings.Join(h.Values("If-None-Match"), ","), ",") {
		if given = strings.TrimSpace(given); given == "*" || strings.TrimPrefix(given, "W/") == etag {
			return true
		}
	}
	return false
}
