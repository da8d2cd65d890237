package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"
)

// healthTimeout bounds the whole health command.
const healthTimeout = 5 * time.Second

// healthCommand checks the health of a server on this machine. It needs no
// shell and no other program, so it works as the health check of an image.
type healthCommand struct {
	listenSettings
	Live bool `help:"Check whether the process serves (/livez), and not whether it is ready for requests (/readyz)." noenv:"true"`
}

// Help returns the text above the flags.
func (*healthCommand) Help() string {
	return "Health finds the server by the settings of serve for its address, writes one line, and ends within 5 seconds. " +
		"The exit code is 0 if the server is ready, otherwise 1.\n\n" +
		examples(`HEALTHCHECK CMD ["triggerd", "health"]`, "triggerd health --live")
}

func (c *healthCommand) run(ctx context.Context, out io.Writer) error {
	base, err := c.url()
	if err != nil {
		return err
	}
	url := base + "/readyz"
	if c.Live {
		url = base + "/livez"
	}
	ctx, cancel := context.WithTimeout(ctx, healthTimeout)
	defer cancel()
	if err := askHealth(ctx, url); err != nil {
		return fmt.Errorf("%s: %w", url, err)
	}
	_, err = fmt.Fprintln(out, url+": ok")
	return err
}

// toHTTPS is the beginning of net/http's answer to HTTP on an HTTPS port.
const toHTTPS = "Client sent an HTTP request to an HTTPS server"

// askHealth returns an error unless the answer comes from a healthy triggerd.
func askHealth(ctx context.Context, url string) error {
	transport := &http.Transport{ // no proxy: the server is on this machine
		DisableKeepAlives: true,
		// No secret is sent, and the certificate is for another name.
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
	}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"?verbose", nil)
	if err != nil {
		return err
	}
	res, err := transport.RoundTrip(req)
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok || errors.Is(err, http.ErrSchemeMismatch) {
		return errors.New("the server there does not speak HTTPS: unset TLS_CERT, or check that LISTEN and PORT are not those of another server")
	}
	if err != nil {
		return fmt.Errorf("no answer: %s; check that the server runs, and that LISTEN, PORT and TLS_CERT are those of the server", noAnswer(ctx, err))
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, 64<<10))
	if err != nil {
		return fmt.Errorf("the answer is incomplete: %s", noAnswer(ctx, err))
	}
	var health struct {
		Status string            `json:"status"`
		Checks map[string]string `json:"checks"`
	}
	err = json.Unmarshal(body, &health)
	switch {
	case res.StatusCode == http.StatusBadRequest && strings.HasPrefix(string(body), toHTTPS):
		return errors.New("the server there speaks HTTPS: set TLS_CERT, for example to the value of the server")
	case err != nil || health.Status == "":
		return fmt.Errorf("status %d, and not the answer of a triggerd: check whether another program listens there", res.StatusCode)
	case res.StatusCode != http.StatusOK || health.Status != "ok":
		return fmt.Errorf("status %d, %s", res.StatusCode, failedChecks(health.Status, health.Checks))
	}
	return nil
}

func noAnswer(ctx context.Context, err error) string {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return fmt.Sprintf("it did not answer within %v", healthTimeout)
	}
	return reasonOf(err)
}

// failedChecks describes the failed checks in one line.
func failedChecks(status string, checks map[string]string) string {
	text := clean(status)
	for _, name := range slices.Sorted(maps.Keys(checks)) {
		if checks[name] != "ok" {
			text += "; " + clean(name+": "+checks[name])
		}
	}
	return strings.TrimSpace(text)
}
