package api

import (
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"strings"
)

// assetCache is for what every client gets alike. Its ETag is of its content,
// so that after the five minutes a cache asks again and gets it only if it has
// changed.
const assetCache = "public, max-age=300"

// isAsset reports a route whose answers are the same for everyone.
func (rt *route) isAsset() bool {
	return rt.scope == scopePublic && (rt.path == "/openapi.yaml" || rt.path == "/docs" || strings.HasPrefix(rt.path, "/docs/"))
}

// protect sets what holds for each answer of a route, whatever it says: no
// cache keeps what may be a tenant's, and no browser guesses its type.
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

// varies names the request headers that an answer depends on; "" for none.
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

// etagOf is an entity tag by the content (RFC 9110, section 8.8.3).
func etagOf(body []byte) string {
	sum := sha256.Sum256(body)
	return `"` + base64.RawURLEncoding.EncodeToString(sum[:18]) + `"`
}

// hasCurrent reports whether a client has the content of an entity tag already
// (If-None-Match; RFC 9110, section 13.1.2).
func hasCurrent(h http.Header, etag string) bool {
	for given := range strings.SplitSeq(strings.Join(h.Values("If-None-Match"), ","), ",") {
		if given = strings.TrimSpace(given); given == "*" || strings.TrimPrefix(given, "W/") == etag {
			return true
		}
	}
	return false
}
