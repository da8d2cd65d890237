// Package client speaks the API /v1 of triggerd: it posts events, reads them
// back, works off the inbox, and looks after webhooks, replays, event types,
// keys and organizations. It needs nothing but the standard library.
//
// A [Client] is a struct whose fields are set before its first use, as those of
// [net/http.Client]. It has one method for each route; the openapi.yaml of the
// server says what each route means. Inputs leave out what is zero, so that the
// server's default holds; where zero itself means something, the member is a
// pointer, and in a change (PATCH) an [Opt], which tells unchanged, null and
// value apart. In answers, null is the zero value: a zero [time.Time], 0, "".
// Spans of time are numbers of seconds, with decimals where wanted, and have
// Seconds in their names.
//
// Payloads are [encoding/json.RawMessage], and go through byte for byte in both
// directions: no space, escape or digit in them is changed. All other strings
// must be UTF-8: a call with one that is not fails before anything is sent.
//
// What is listed comes as an iterator that asks for one page after the other:
//
//	for event, err := range c.Events(ctx, client.EventQuery{Status: client.StatusFailed}) {
//		if err != nil {
//			return err
//		}
//		fmt.Println(event.ID, event.Type)
//	}
//
// An answer that is no success is an [*Error], with a code to tell them apart
// ([IsCode]). A success that no triggerd answers so is [ErrForeign]. Answers 429, 502, 503 and 504 and network errors are tried again,
// see [Client.Retries]; what creates something carries a key by which the
// server knows the second try, so that it makes nothing twice.
//
// The other side is here, too: a [Verifier] checks that a delivery which has
// come in by a webhook is triggerd's, and [Sign] makes such a signature.
package client

import (
	"net"
	"net/http"
	"sync"
	"time"
)

// DefaultRetries is how often a call is tried again if [Client.Retries] is 0.
const DefaultRetries = 4

// Client speaks to one server, with one key. Its fields are set before its
// first use; then it may be used concurrently. It must not be copied.
type Client struct {
	// BaseURL is the server, as "https://triggerd.example.com": http or https,
	// and a path before /v1 if a proxy adds one.
	BaseURL string

	// Key is an organization's API key (sk_…), or the operator's token.
	// It is sent as Authorization: Bearer; nothing is sent if it is empty.
	Key string

	// OrganizationID is the id of the organization in which the operator acts, if
	// Key is the operator's token; 0 for none. It is sent as the header
	// Triggerd-Organization, which the operator's own routes ignore.
	OrganizationID int64

	// HTTP sends the requests. Nil is one of the client's own: it follows no
	// redirects, and waits 10 s for a connection and 60 s for the head of an
	// answer. A Timeout of one given here cuts [Client.StreamInbox], too, which
	// then connects again.
	HTTP *http.Client

	// Retries is how often a call is tried again: 0 for DefaultRetries, less for
	// never. The pauses are random: 125 to 250 ms before the first, and double
	// that before each next one, up to 10 s. They are as long as the answer's
	// Retry-After where that is longer. A pause that is over two minutes, or
	// longer than the context lasts, is not waited for: the call fails at once.
	Retries int

	// UserAgent is sent as such; "triggerd-client" if it is empty.
	UserAgent string

	now  func() time.Time // nil: the clock
	once sync.Once
	own  *http.Client // made if HTTP is nil
}

// CloseIdleConnections closes the connections that wait for another call.
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

// clock reads the clock of a test, or the real one.
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
