package client

import (
	"context"
	"net/http"
)

// OpenAPI returns the server's OpenAPI description in YAML. It requires no key.
func (c *Client) OpenAPI(ctx context.Context) ([]byte, error) {
	req := request{method: http.MethodGet, path: "/openapi.yaml"}
	req.set("Accept", "*/*")
	res, err := c.do(ctx, req)
	return res.body, err
}

// Permission is what a server allows a sender of CloudEvents.
type Permission struct {
	Origin string // the requested sender; "*": any
	Rate   string // requests per minute; "*": any number
}

// Handshake checks whether a sender may post events, according to the HTTP
// webhooks of CloudEvents 1.0 (section 4, "Abuse protection"). It requires no
// key.
func (c *Client) Handshake(ctx context.Context, origin string) (Permission, error) {
	req := request{method: http.MethodOptions, path: eventsPath}
	req.set("WebHook-Request-Origin", origin)
	res, err := c.do(ctx, req)
	if err != nil {
		return Permission{}, err
	}
	return Permission{res.header.Get("WebHook-Allowed-Origin"), res.header.Get("WebHook-Allowed-Rate")}, nil
}
