package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode"

	"triggerd/client"
)

// session is the environment of a command.
type session struct {
	in          io.Reader
	out, errOut io.Writer
	now         func() time.Time
	lookupEnv   func(name string) (value string, ok bool) // reports empty variables; may be nil
	noOutput    bool                                      // out may be closed, see isReplaced
}

// remote is the server that a command uses.
type remote struct {
	URL string `name:"url" help:"The server. Default: http://127.0.0.1:5001." variable:"TRIGGERD_URL"`
	CA  string `name:"ca" help:"PEM file with certificates to trust in addition to those of the system, for a server whose certificate is from your own CA." variable:"TRIGGERD_CA" type:"path"`
}

// defaultURL is where a server with default settings listens.
const defaultURL = "http://127.0.0.1:5001"

// server is the URL of the server.
func (r *remote) server() string { return cmp.Or(r.URL, defaultURL) }

// asMember holds the server and the key of an organization.
type asMember struct {
	remote
	asOperator
	Org *int64 `help:"Act in this organization as the operator, with the operator's token or socket instead of a key."`
	Key string `help:"The organization's API key, sk_…; prefer the environment, because flags are visible in the process list." variable:"TRIGGERD_KEY" secret:""`
}

// asOperator holds the credentials of the operator.
type asOperator struct {
	AdminToken string `help:"The operator's token. Without it and --url, the command uses the socket in the data folder." variable:"ADMIN_TOKEN" secret:""`
	DataDir    string `help:"Data folder of the server on this machine, for the operator." default:"./data" variable:"DATA_DIR" type:"path"`
}

// memberCommand is embedded in most commands.
type memberCommand struct {
	asMember
	JSON bool `name:"json" help:"Write the JSON that the API returns; a list as one line per item."`
}

// operatorCommand is embedded in commands that only the operator may use.
type operatorCommand struct {
	remote
	asOperator
	JSON bool `name:"json" help:"Write the JSON that the API returns; a list as one line per item."`
}

// link is a client with its last answer. It must be closed after its last use.
type link struct {
	*client.Client
	answers *answers
	json    bool
	server  string // for people
	hint    string // how to fix a 401
}

// opener is implemented by commands that use a server.
type opener interface{ open(*session) (*link, error) }

// commandRetries is the number of retries of a command: few enough that the
// user does not wait too long.
const commandRetries = 2

func (a *asMember) open(s *session) (*link, error) {
	switch {
	case a.Org != nil && *a.Org < 1:
		return nil, fmt.Errorf("--org must be the id of an organization, for example 42; got %d", *a.Org)
	case a.Org != nil:
		l, err := a.asOperator.link(s, &a.remote)
		if err == nil {
			l.OrganizationID = *a.Org
		}
		return l, err
	case a.Key == "":
		return nil, errors.New("the key is missing: set TRIGGERD_KEY, or TRIGGERD_KEY_FILE, to an API key of your organization (sk_…), or give --key; triggerd org create creates one")
	}
	if err := checkKey("TRIGGERD_KEY, or --key,", a.Key); err != nil {
		return nil, err
	}
	return a.remote.link(s, a.Key, "is TRIGGERD_KEY, or --key, a key of this server?")
}

func (c *memberCommand) open(s *session) (*link, error) {
	l, err := c.asMember.open(s)
	if err == nil {
		l.json = c.JSON
	}
	return l, err
}

func (c *operatorCommand) open(s *session) (*link, error) {
	l, err := c.asOperator.link(s, &c.remote)
	if err == nil {
		l.json = c.JSON
	}
	return l, err
}

// link returns a client for the operator: over the socket, unless a server or a
// token is set.
func (c *asOperator) link(s *session, to *remote) (*link, error) {
	if err := checkKey("ADMIN_TOKEN, or --admin-token,", c.AdminToken); err != nil {
		return nil, err
	}
	l, err := to.link(s, c.AdminToken, "set ADMIN_TOKEN, or --admin-token, to the operator's token of that server")
	if err == nil && to.URL == "" && c.AdminToken == "" {
		l.useSocket((&databaseSettings{DataDir: c.DataDir}).socketPath())
	}
	return l, err
}

// useSocket sends the calls of a link over the operator's socket.
func (l *link) useSocket(path string) {
	l.server, l.BaseURL = path, "http://localhost"
	l.answers.base.Proxy = nil
	l.answers.base.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, "unix", path)
		if err != nil {
			return nil, &noSocketError{path, err}
		}
		return conn, nil
	}
}

// noSocketError means that the operator's socket cannot be used.
type noSocketError struct {
	path  string
	cause error
}

func (e *noSocketError) Error() string {
	return fmt.Sprintf("the operator's socket %s cannot be used: %s; check that the server runs, on SQLite and as this user, and that DATA_DIR, or --data-dir, is its data folder. "+
		"For another server set TRIGGERD_URL and ADMIN_TOKEN", e.path, reasonOf(e.cause))
}

func (e *noSocketError) Unwrap() error { return e.cause }

// checkKey returns an error if a key cannot be sent, for example because of a
// newline at its end. name is the setting's name.
func checkKey(name, key string) error {
	if at := strings.IndexFunc(key, unicode.IsControl); at >= 0 {
		return fmt.Errorf("%s must not contain control characters, for example a newline; its byte %d is %q", name, at+1, key[at])
	}
	return nil
}

// link returns a client for a key or a token. hint tells how to fix a 401.
func (r *remote) link(s *session, key, hint string) (*link, error) {
	trusted, err := authorities(r.CA)
	if err != nil {
		return nil, err
	}
	a := &answers{errOut: s.errOut, base: &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 15 * time.Second}).DialContext,
		ForceAttemptHTTP2:     true,
		TLSClientConfig:       &tls.Config{RootCAs: trusted},
		TLSHandshakeTimeout:   10 * time.Second,
		ResponseHeaderTimeout: time.Minute, // a claim waits up to 30 s
	}}
	return &link{
		Client: &client.Client{
			BaseURL: r.server(), Key: key, Retries: commandRetries, UserAgent: "triggerd-cli/" + version,
			HTTP: &http.Client{
				Transport:     a,
				CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
			},
		},
		answers: a, server: r.server(), hint: hint,
	}, nil
}

func (l *link) close() { l.answers.base.CloseIdleConnections() }

// answers keeps the bytes of the last answer, for --json, because decoding
// loses members that this program does not know. It handles one call at a time.
type answers struct {
	base   *http.Transport
	errOut io.Writer     // for notices about waiting
	last   *bytes.Buffer // nil before the first answer, and for a stream
}

// RoundTrip implements [http.RoundTripper].
func (a *answers) RoundTrip(r *http.Request) (*http.Response, error) {
	res, err := a.base.RoundTrip(r)
	a.last = nil
	if err != nil || strings.HasPrefix(res.Header.Get("Content-Type"), "text/event-stream") {
		return res, err
	}
	if seconds, _ := strconv.Atoi(res.Header.Get("Retry-After")); seconds > 1 && a.errOut != nil {
		fmt.Fprintf(a.errOut, "%s: waiting %d s, as the server requests\n", res.Status, seconds)
	}
	a.last = &bytes.Buffer{}
	res.Body = struct {
		io.Reader
		io.Closer
	}{io.TeeReader(res.Body, a.last), res.Body}
	return res, nil
}

// failure is an error with a text for people.
type failure struct {
	text  string
	cause error
}

func (f *failure) Error() string { return f.text }
func (f *failure) Unwrap() error { return f.cause }

// explain returns an error with a text for people.
func (l *link) explain(err error) error {
	if err == nil {
		return nil
	}
	text := strings.TrimPrefix(err.Error(), "triggerd: ")
	problem, isProblem := errors.AsType[*client.Error](err)
	_, isURL := errors.AsType[*url.Error](err)
	absent, isLocal := errors.AsType[*noSocketError](err)
	_, distrusted := errors.AsType[*tls.CertificateVerificationError](err)
	switch {
	case errors.Is(err, context.Canceled):
		text = "interrupted"
	case errors.Is(err, client.ErrSecretLost):
		text = "it was created, but the answer with its secret was lost: rotate it, or delete it and create another"
	case isProblem:
		text = l.tell(problem)
	case errors.Is(err, client.ErrForeign):
		text = withoutPassword(l.server) + ": " + text + "; is TRIGGERD_URL, or --url, right?"
	case isLocal:
		text = absent.Error()
	case distrusted:
		text = withoutPassword(l.server) + " is not trusted: " + reasonOf(err) + "; if its certificate is of your own CA, set TRIGGERD_CA, or --ca, to a file with that CA's"
	case isURL:
		text = withoutPassword(l.server) + " cannot be reached: " + reasonOf(err) + "; does the server run, and is TRIGGERD_URL, or --url, right?"
	}
	return &failure{text, err}
}

// tell describes a problem in one line.
func (l *link) tell(e *client.Error) string {
	text := problemText(e)
	switch {
	case e.Code == client.CodeUnauthorized:
		text += "; " + l.hint
	case e.Code == "" && e.Detail == "":
		text = fmt.Sprintf("%s answered %d %s: check that it is a triggerd", l.server, e.Status, cmp.Or(e.Title, "without a reason"))
	case e.RetryAfter > 0:
		text += fmt.Sprintf("; try again in %v", e.RetryAfter.Round(time.Second))
	}
	return text
}

// problemText returns a problem's title, detail and invalid fields.
func problemText(e *client.Error) string {
	text := cmp.Or(e.Title, e.Code, fmt.Sprint(e.Status))
	if e.Detail != "" && e.Detail != e.Title {
		text += ": " + e.Detail
	}
	var fields []string
	for _, field := range e.Errors {
		text := field.Pointer + field.Parameter
		if field.Detail != e.Detail {
			text = strings.TrimPrefix(text+": "+field.Detail, ": ")
		}
		fields = append(fields, text)
	}
	if fields != nil {
		text += " (" + strings.Join(fields, "; ") + ")"
	}
	if e.EventID != "" {
		text += " (the first event is " + e.EventID + ")"
	}
	return clean(text)
}

// reasonOf returns the innermost error of a failed connection, without
// addresses.
func reasonOf(err error) string {
	if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
		return "it did not answer in time"
	}
	for inner := errors.Unwrap(err); inner != nil; inner = errors.Unwrap(err) {
		err = inner
	}
	return err.Error()
}

// withoutPassword returns a URL for a message: without a password, and cut off if
// it is long. A text that is not a URL with a host may be anything, and is not shown.
func withoutPassword(text string) string {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" {
		return "the server's URL"
	}
	return fmt.Sprintf("%.100s", u.Redacted())
}
