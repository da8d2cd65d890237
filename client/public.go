package client

import (
	"context"
	"net/http"
)

// OpenAPI gives the description of the API, as the server has it, in YAML. It
// wants no key.
func (c *Client) OpenAPI(ctx context.Context) ([]byte, error) {
	req := request{method: http.MethodGet, path: "/openapi.yaml"}
	req.set("Accept", "*/*")
	res, err := c.do(ctx, req)
	return res.body, err
}

// Permission is what a server lets a sender of CloudEvents do.
type Permission struct {
	Origin string // the sender that was asked for; "*": any
	Rate   string // requests a minute; "*": any number
}

// Handshake asks whether a sender may post events, as the HTTP webhooks of
// CloudEvents 1.0 do it (section 4, "Abuse protection"). It wants no key.
func (c *Client) Handshake(ctx context.Context, origin string) (Permission, error) {
	req := request{method: http.MethodOptions, path: eventsPath}
	req.set("WebHook-Request-Origin", origin)
	res, err := c.do(ctx, req)
	if err != nil {
		return Permission{}, err
	}
	return Permission{res.header.Get("WebHook-Allowed-Origin"), res.header.Get("WebHook-Allowed-Rate")}, nil
}
