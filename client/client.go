// Package client is a client of triggerd's API /v1. It posts events, reads them
// back, consumes the inbox, and manages webhooks, replays, event types, keys
// and organizations. It needs only the standard library.
//
// For example:
//
//	c := &client.Client{BaseURL: "https://triggerd.example.com", Key: key}
//	accepted, err := c.PostEvent(ctx, client.EventInput{Type: "user.created", Payload: payload})
//
// A [Client] is a struct whose fields are set before its first use, like
// [net/http.Client]. It has one method for each route; the openapi.yaml of the
// server describes the routes. Zero fields of an input are left out, so that
// the server uses its default. If zero itself has a meaning, the field is a
// pointer, and in a change (PATCH) an [Opt], which distinguishes unchanged,
// null and a value. In answers, null is the zero value: a zero [time.Time], 0,
// "". Durations are numbers of seconds, with decimals if needed, and have
// Seconds in their names.
//
// Payloads are [encoding/json.RawMessage], and are sent and returned byte for
// byte: no space, escape or digit in them is changed. All other strings must be
// UTF-8: a call with any other string fails before anything is sent.
//
// Lists are iterators that fetch one page after the other:
//
//	for event, err := range c.Events(ctx, client.EventQuery{Status: client.StatusFailed}) {
//		if err != nil {
//			return err
//		}
//		fmt.Println(event.ID, event.Type)
//	}
//
// An unsuccessful answer is an [*Error], whose code tells errors apart
// ([IsCode]). A successful answer that is not one of triggerd is [ErrForeign].
// Answers 429, 502, 503 and 504 and network errors are retried, see
// [Client.Retries]. A call that creates something carries a key by which the
// server recognizes a retry, so that it creates nothing twice.
//
// The package also has the receiver's side: a [Verifier] checks that a delivery
// to a webhook comes from triggerd, and [Sign] makes such a signature.
package client

import (
	"net"
	"net/http"
	"sync"
	"time"
)

// DefaultRetries is the number of retries if [Client.Retries] is 0.
const DefaultRetries = 4

// Client talks to one server with one key. Its fields must be set before its
// first use; after that it is safe for concurrent use. It must not be copied.
type Client struct {
	// BaseURL is the server, for example "https://triggerd.example.com": http
	// or https, and a path before /v1 if a proxy adds one.
	BaseURL string

	// Key is an organization's API key (sk_…), or the operator's token. It is
	// sent as Authorization: Bearer. If it is empty, no key is sent.
	Key string

	// OrganizationID is the id of the organization in which the operator acts,
	// if Key is the operator's token; 0 means none. It is sent in the header
	// Triggerd-Organization, which the operator's own routes ignore.
	OrganizationID int64

	// HTTP sends the requests. If it is nil, the client uses its own: it
	// follows no redirects, and waits 10 s for a connection and 60 s for the
	// headers of an answer. A Timeout set here also cuts [Client.StreamInbox],
	// which then reconnects.
	HTTP *http.Client

	// Retries is the number of retries of a call: 0 means DefaultRetries, a
	// negative number none. The pauses are random: 125 to 250 ms before the
	// first retry, and twice as long before each further one, up to 10 s. If
	// the answer's Retry-After is longer, it is used instead. If a pause is
	// over two minutes, or longer than the context lasts, the call fails at
	// once.
	Retries int

	// UserAgent is sent as User-Agent; the default is "triggerd-client".
	UserAgent string

	now  func() time.Time // nil: the real clock
	once sync.Once
	own  *http.Client // created if HTTP is nil
}

// CloseIdleConnections closes idle connections.
func (c *Client) CloseIdleConnections() { c.http().CloseIdleConnections() }

func (c *Client) http() *http.Client {
	if c.HTTP != nil {
		return c.HTTP
	}
	c.once.Do(func() {
		dialer := &net.Dialer{Timeout: 10 * time.Second, KeepAlive: 15 * time.Second}
		c.own = &http.Client{
			Transport: &http.Transport{
				Proxy:                 http.ProxyFromEnvironment,
				DialContext:           dialer.DialContext,
				ForceAttemptHTTP2:     true,
				MaxIdleConns:          64,
				MaxIdleConnsPerHost:   64,
				IdleConnTimeout:       50 * time.Second, // the server's is 60 s
				TLSHandshakeTimeout:   10 * time.Second,
				ResponseHeaderTimeout: 60 * time.Second, // a claim waits up to 30 s
			},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}
	})
	return c.own
}

func (c *Client) clock() time.Time { return clock(c.now) }

// clock reads now, or the real clock if now is nil.
func clock(now func() time.Time) time.Time {
	if now != nil {
		return now()
	}
	return time.Now()
}

func (c *Client) retries() int {
	if c.Retries == 0 {
		return DefaultRetries
	}
	return max(c.Retries, 0)
}
