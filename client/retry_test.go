package client

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"
)

var (
	errCut  = errors.New("connection reset by peer")
	errDial = &net.OpError{Op: "dial", Net: "tcp", Err: errors.New("connection refused")}
)

// script answers one try after the other: an error, a reply's head, or "cut", an
// answer that breaks off. The last one is repeated.
type script struct {
	steps []any
	body  string // of successes
	tries []time.Time
	keys  []string
}

func (s *script) client() *Client {
	return fake(func(r *http.Request) (*http.Response, error) {
		step := s.steps[min(len(s.tries), len(s.steps)-1)]
		s.tries = append(s.tries, time.Now())
		s.keys = append(s.keys, r.Header.Get("Idempotency-Key"))
		if err, ok := step.(error); ok {
			return nil, err
		}
		if step == "cut" {
			res := reply("200", "")
			res.Body = io.NopCloser(io.MultiReader(strings.NewReader("{"), iotest.ErrReader(io.ErrUnexpectedEOF)))
			return res, nil
		}
		return reply(step.(string), s.body), nil
	}).client()
}

// waits are the pauses between the tries.
func (s *script) waits() (waits []time.Duration) {
	for i := range s.tries[1:] {
		waits = append(waits, s.tries[i+1].Sub(s.tries[i]))
	}
	return waits
}

func TestWhatIsTriedAgain(t *testing.T) {
	t.Parallel()
	get := func(ctx context.Context, c *Client) error { return use(c.Me(ctx)) }
	claim := func(ctx context.Context, c *Client) error { return use(c.ClaimInbox(ctx, ClaimInput{})) }
	remove := func(ctx context.Context, c *Client) error { return c.DeleteWebhook(ctx, 1) }
	rotate := func(ctx context.Context, c *Client) error {
		return use(c.RotateWebhookSecret(ctx, 1, SecretRotation{Secret: "whsec_1"}))
	}
	rotateNew := func(ctx context.Context, c *Client) error {
		return use(c.RotateWebhookSecret(ctx, 1, SecretRotation{}))
	}
	test := func(ctx context.Context, c *Client) error { return use(c.TestWebhook(ctx, 1, TestInput{})) }
	distrust := &tls.CertificateVerificationError{Err: errors.New("unknown authority")}
	tests := []struct {
		name  string
		do    func(context.Context, *Client) error
		steps []any
		tries int
		ok    bool
	}{
		{"at once", get, []any{"200"}, 1, true},
		{"the last try", get, []any{"503", "429", "502", "504", "200"}, 5, true},
		{"one too many", get, []any{"503", "429", "502", "504", "503", "200"}, 5, false},
		{"slow body", get, []any{"408", "200"}, 2, true},
		{"network", get, []any{errCut, errDial, "cut", "200"}, 4, true},
		{"never", get, []any{errCut}, 5, false},
		{"client's fault", get, []any{"400"}, 1, false},
		{"server's fault", get, []any{"500"}, 1, false},
		{"redirect", get, []any{"302"}, 1, false},
		{"certificate", get, []any{distrust}, 1, false},
		{"claim, answered", claim, []any{"503", "429", "200"}, 3, true},
		{"claim, never sent", claim, []any{errDial, "200"}, 2, true},
		{"claim, unanswered", claim, []any{errCut, "200"}, 1, false},
		{"claim, answer cut", claim, []any{"cut", "200"}, 1, false},
		{"claim, proxy", claim, []any{"502", "200"}, 1, false},
		{"claim, slow body", claim, []any{"408 application/problem+json", "200"}, 2, true},
		{"claim, slow body to a proxy", claim, []any{"408", "200"}, 1, false},
		{"claim, slow proxy", claim, []any{"504", "200"}, 1, false},
		{"test, unanswered", test, []any{errCut, "200"}, 1, false},
		{"rotation, unanswered", rotateNew, []any{errCut, "200"}, 1, false},
		{"rotation to a known secret", rotate, []any{errCut, "200"}, 2, true},
		{"gone, by the try before", remove, []any{errCut, "404"}, 2, true},
		{"gone, by the proxy's", remove, []any{"504", "404"}, 2, true},
		{"gone, by an earlier one", remove, []any{"503", "429", "404"}, 3, true},
		{"not there", remove, []any{"404"}, 1, false},
		{"not there, after a refusal", remove, []any{"429", "404"}, 2, false},
		{"not there, after no connection", remove, []any{errDial, "404"}, 2, false},
		{"not there, and no DELETE", get, []any{errCut, "404"}, 2, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := &script{steps: tt.steps, body: `{"code":"request_timeout",` + anyAnswer("GET", "")[1:]} // read as a problem's where the head says so
				err := tt.do(t.Context(), s.client())
				diff(t, "tries", len(s.tries), tt.tries)
				if (err == nil) != tt.ok {
					t.Error(err)
				}
			})
		})
	}
}

func TestRetriesSetting(t *testing.T) {
	t.Parallel()
	for retries, want := range map[int]int{0: 1 + DefaultRetries, -1: 1, 1: 2, 9: 10} {
		synctest.Test(t, func(t *testing.T) {
			s := &script{steps: []any{"503"}}
			c := s.client()
			c.Retries = retries
			_, err := c.Me(t.Context())
			diff(t, "status", statusOf(err), 503)
			diff(t, "tries", len(s.tries), want)
		})
	}
}

func TestPauses(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &script{steps: []any{errCut}}
		c := s.client()
		c.Retries = 70 // no shift overflows
		_, err := c.Me(t.Context())
		diff(t, "error", errors.Is(err, errCut), true)
		for i, wait := range s.waits() {
			longest := min(minPause<<min(i, 10), maxPause)
			if wait < longest/2 || wait > longest {
				t.Errorf("pause %d: %v, not between %v and %v", i, wait, longest/2, longest)
			}
		}
		different := slices.Compact(slices.Sorted(slices.Values(s.waits())))
		if len(different) < 60 {
			t.Errorf("%d pauses are all the same", 70-len(different))
		}
	})
}

func TestRetryAfterIsHonoured(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		date := strings.ReplaceAll(time.Now().Add(100*time.Second).UTC().Format(http.TimeFormat), " ", "_")
		s := &script{steps: []any{"429 Retry-After=60", "503 Retry-After=" + date, "200"}, body: anyAnswer("GET", "")}
		c := s.client()
		inner := c.HTTP.Transport
		c.HTTP.Transport = fake(func(r *http.Request) (*http.Response, error) {
			res, err := inner.RoundTrip(r)
			res.Header.Set("Retry-After", strings.ReplaceAll(res.Header.Get("Retry-After"), "_", " "))
			return res, err
		})
		begun := time.Now()
		if _, err := c.Me(t.Context()); err != nil {
			t.Fatal(err)
		}
		if wait := s.waits()[0]; wait < 60*time.Second || wait > 61*time.Second+1 {
			t.Errorf("waited %v, not 60 s", wait)
		}
		if all := time.Since(begun); all < 100*time.Second || all > 102*time.Second {
			t.Errorf("waited %v, not until 100 s", all)
		}
	})
}

// What is not worth waiting for, or would be over after the caller is gone.
func TestLongPausesFailAtOnce(t *testing.T) {
	t.Parallel()
	for after, patience := range map[string]time.Duration{"121": time.Hour, "60": 59 * time.Second, "1": time.Second} {
		synctest.Test(t, func(t *testing.T) {
			s := &script{steps: []any{"429 Retry-After=" + after}}
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			begun := time.Now()
			_, err := s.client().Me(ctx)
			diff(t, "status", statusOf(err), 429)
			diff(t, "waited", time.Since(begun), 0)
		})
	}
}

func TestContextEndsAPause(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &script{steps: []any{"429 Retry-After=60"}}
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(5*time.Second, cancel)
		begun := time.Now()
		_, err := s.client().Me(ctx)
		diff(t, "canceled", errors.Is(err, context.Canceled), true)
		diff(t, "status", statusOf(err), 429)
		diff(t, "waited", time.Since(begun), 5*time.Second)
	})
}

func TestContextEndsATry(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	n := 0
	c := fake(func(r *http.Request) (*http.Response, error) {
		n++
		cancel()
		return nil, r.Context().Err()
	}).client()
	_, err := c.Me(ctx)
	diff(t, "canceled", errors.Is(err, context.Canceled), true)
	diff(t, "tries", n, 1)
}

// One key for all tries of a call, another for each call.
func TestIdempotencyKeys(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &script{steps: []any{errCut, "503", "201"}, body: `{"id":1,"key":"sk_1"}`}
		c := s.client()
		for range 2 {
			if _, err := c.CreateKey(t.Context(), KeyInput{}); err != nil {
				t.Error(err)
			}
		}
		diff(t, "same", s.keys[0] == s.keys[1] && s.keys[1] == s.keys[2] && s.keys[0] != "", true)
		diff(t, "another", s.keys[3] != s.keys[0] && s.keys[3] != "", true)
	})
}

func TestUnsendable(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]*Client{
		"none": {}, "relative": {BaseURL: "/v1"}, "scheme": {BaseURL: "ftp://a"}, "host": {BaseURL: "http://"}, "odd": {BaseURL: "http://a b"},
		"key": {BaseURL: "http://a", Key: "sk_1\n"}, "agent": {BaseURL: "http://a", UserAgent: "\x00"},
	} {
		c.HTTP = &http.Client{Transport: fake(func(*http.Request) (*http.Response, error) {
			t.Errorf("%s: sent", name)
			return nil, errCut
		})}
		if _, err := c.Me(t.Context()); !errors.Is(err, errUnsendable) {
			t.Errorf("%s: %v", name, err)
		}
		for _, err := range c.StreamInbox(t.Context(), "") {
			diff(t, "stream", errors.Is(err, errUnsendable), true)
		}
	}
}

func TestBaseURLHasAPath(t *testing.T) {
	t.Parallel()
	for _, base := range []string{"http://a/b", "http://a/b/"} {
		c := fake(func(r *http.Request) (*http.Response, error) {
			diff(t, "URL", r.URL.String(), "http://a/b/v1/event-types/%2F")
			diff(t, "agent", r.UserAgent(), "me")
			diff(t, "key", fmt.Sprint(r.Header["Authorization"]), "[]")
			return reply("200", anyAnswer(r.Method, "")), nil
		}).client()
		c.BaseURL, c.Key, c.UserAgent = base, "", "me"
		if _, err := c.EventType(t.Context(), "/"); err != nil {
			t.Error(err)
		}
	}
}
