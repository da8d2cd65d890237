package client

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"unicode"
)

// request is one call, as it is sent at each try.
type request struct {
	method string
	path   string // escaped, with its query
	header http.Header
	body   []byte
	once   bool // do not send it again if the server may have done it
}

// answer is a successful answer.
type answer struct {
	header http.Header
	body   []byte
}

// call makes a call with an optional body, and decodes the answer.
func call[T complete](ctx context.Context, c *Client, req request, in any) (out T, err error) {
	if in != nil {
		if req.body, err = encode(in); err != nil {
			return out, err
		}
		req.set("Content-Type", "application/json")
	}
	res, err := c.do(ctx, req)
	if err != nil {
		return out, err
	}
	if out, err = readAnswer[T](res.body); err != nil {
		return out, req.foreign(err)
	}
	return out, nil
}

// create makes a call that creates something at most once.
func create[T complete](ctx context.Context, c *Client, path string, in any) (T, error) {
	req := request{method: http.MethodPost, path: path}
	req.set("Idempotency-Key", rand.Text())
	return call[T](ctx, c, req, in)
}

// post makes a call without a body, which may be repeated.
func post[T complete](ctx context.Context, c *Client, path string) (T, error) {
	return call[T](ctx, c, request{method: http.MethodPost, path: path}, nil)
}

// delete makes a call that removes something. Its answer has no body.
func (c *Client) delete(ctx context.Context, path string) error {
	req := request{method: http.MethodDelete, path: path}
	res, err := c.do(ctx, req)
	if err == nil && len(res.body) > 0 {
		err = req.foreign(fmt.Errorf("%w: it has a body", ErrForeign))
	}
	return err
}

// foreign adds the name of the call to an error about its answer.
func (r *request) foreign(err error) error {
	return fmt.Errorf("triggerd: %s %s: %w", r.method, r.path, err)
}

func (r *request) set(name, value string) {
	if r.header == nil {
		r.header = http.Header{}
	}
	r.header.Set(name, value)
}

// again reports whether a call may be retried after err.
func (r *request) again(err error) bool {
	switch status := statusOf(err); {
	case status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable || IsCode(err, CodeRequestTimeout):
		return true
	case status == http.StatusRequestTimeout || status == http.StatusBadGateway || status == http.StatusGatewayTimeout:
		return !r.once
	case status != 0:
		return false
	}
	_, distrusted := errors.AsType[*tls.CertificateVerificationError](err)
	if distrusted || errors.Is(err, errUnsendable) || errors.Is(err, errHuge) {
		return false
	}
	return !r.once || unsent(err)
}

// unsent reports whether err means that no connection was made.
func unsent(err error) bool {
	op, ok := errors.AsType[*net.OpError](err)
	return ok && op.Op == "dial"
}

// do makes a call, and retries it if that may help and is safe.
func (c *Client) do(ctx context.Context, req request) (answer, error) {
	unsure := false // whether an earlier try may have been done
	for try := 0; ; try++ {
		res, err := c.try(ctx, req)
		if err == nil {
			return res, nil
		}
		if unsure && req.method == http.MethodDelete && statusOf(err) == http.StatusNotFound {
			return answer{}, nil // the earlier try did it
		}
		if ctx.Err() != nil || try >= c.retries() || !req.again(err) {
			return answer{}, doubted(err, unsure)
		}
		unsure = unsure || !IsRefused(err) && !unsent(err)
		if err := c.wait(ctx, pause(try, afterOf(err)), err); err != nil {
			return answer{}, doubted(err, unsure)
		}
	}
}

// maxAnswer bounds what is read of an answer, in bytes.
const maxAnswer = 512 << 20

// try makes a call once, and reads the whole answer.
func (c *Client) try(ctx context.Context, req request) (answer, error) {
	res, err := c.send(ctx, req)
	if err != nil {
		return answer{}, err
	}
	defer res.Body.Close()
	body, err := readUpTo(maxAnswer, res.Body)
	if err != nil {
		return answer{}, fmt.Errorf("triggerd: %s %s: the answer: %w", req.method, req.path, err)
	}
	return answer{res.Header, body}, nil
}

// readUpTo reads everything from r. It returns errHuge if that is more than
// most bytes.
func readUpTo(most int64, r io.Reader) ([]byte, error) {
	body, err := io.ReadAll(io.LimitReader(r, most+1))
	if err == nil && int64(len(body)) > most {
		return nil, errHuge
	}
	return body, err
}

var (
	errHuge       = errors.New("it is over 512 MiB")
	errUnsendable = errors.New("triggerd: no request can be made")
)

// send sends a request. It returns an error for an unsuccessful answer.
func (c *Client) send(ctx context.Context, req request) (*http.Response, error) {
	r, err := c.build(ctx, req)
	if err != nil {
		return nil, err
	}
	res, err := c.http().Do(r)
	if err != nil {
		return nil, fmt.Errorf("triggerd: %w", err)
	}
	if res.StatusCode >= 200 && res.StatusCode <= 299 {
		return res, nil
	}
	defer res.Body.Close()
	body, _ := io.ReadAll(io.LimitReader(res.Body, 1<<20)) // the status is enough
	return nil, readError(res, body, c.clock())
}

func (c *Client) build(ctx context.Context, req request) (*http.Request, error) {
	base, err := url.Parse(c.BaseURL)
	if err != nil || base.Scheme != "http" && base.Scheme != "https" || base.Host == "" {
		return nil, fmt.Errorf("%w: BaseURL must be an absolute http or https URL", errUnsendable)
	}
	if strings.ContainsFunc(c.Key+c.UserAgent, unicode.IsControl) {
		return nil, fmt.Errorf("%w: there is a control character in Key or UserAgent", errUnsendable)
	}
	r, err := http.NewRequestWithContext(ctx, req.method, strings.TrimRight(c.BaseURL, "/")+req.path, bytes.NewReader(req.body))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errUnsendable, err)
	}
	r.Header.Set("Accept", "application/json")
	r.Header.Set("User-Agent", "triggerd-client")
	if c.UserAgent != "" {
		r.Header.Set("User-Agent", c.UserAgent)
	}
	if c.Key != "" {
		r.Header.Set("Authorization", "Bearer "+c.Key)
	}
	if c.OrganizationID != 0 {
		r.Header.Set("Triggerd-Organization", strconv.FormatInt(c.OrganizationID, 10))
	}
	for name, values := range req.header {
		r.Header[name] = values
	}
	if err := checkRequest(r.URL, r.Header); err != nil {
		return nil, fmt.Errorf("triggerd: %w", err)
	}
	return r, nil
}
