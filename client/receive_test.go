package client

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"
)

const deliveryBody = `{"id":"e","type":"t","timestamp":"2026-01-02T03:04:05.678Z","data":{ "a": 1.0 }}`

// deliver hands a body to a receiver, signed with a secret.
func deliver(t *testing.T, h http.Handler, key, body string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequest(http.MethodPost, "/hook", io.NopCloser(strings.NewReader(body)))
	r.ContentLength = -1
	signature, err := Sign(key, "e", at, []byte(body))
	if err != nil {
		t.Fatal(err)
	}
	for name, values := range headers("e", strconv.FormatInt(at.Unix(), 10), signature) {
		r.Header[name] = values
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestHandler(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, key, body string
		err             error
		want, taken     int
	}{
		{"taken", exampleSecret, deliveryBody, nil, 204, 1},
		{"not taken", exampleSecret, deliveryBody, errors.New("secret cause"), 500, 1},
		{"another key", secret(make([]byte, 32)), deliveryBody, nil, 401, 0},
		{"the payload alone", exampleSecret, `{"a":1}`, nil, 400, 0},
		{"not JSON", exampleSecret, `a`, nil, 400, 0},
		{"empty", exampleSecret, ``, nil, 400, 0},
	}
	for _, tt := range tests {
		var got []Delivery
		h := verifierAt(t, at.Unix(), exampleSecret).Handler(func(_ context.Context, d Delivery) error {
			got = append(got, d)
			return tt.err
		})
		w := deliver(t, h, tt.key, tt.body)
		diff(t, tt.name, w.Code, tt.want)
		diff(t, tt.name, strings.Contains(w.Body.String(), "cause"), false)
		if diff(t, tt.name, len(got), tt.taken); len(got) > 0 {
			if d := cmp.Diff(Delivery{"e", "t", at, json.RawMessage(`{ "a": 1.0 }`)}, got[0]); d != "" {
				t.Error(d)
			}
		}
	}
}

func TestMiddlewarePassesTheBodyOn(t *testing.T) {
	t.Parallel()
	for _, body := range []string{"", "a", strings.Repeat("a", MaxDelivery)} {
		called := false
		h := verifierAt(t, at.Unix(), exampleSecret).Middleware(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			got, err := io.ReadAll(r.Body)
			diff(t, "body", string(got) == body, true)
			diff(t, "error", err, nil)
			diff(t, "length", r.ContentLength, int64(len(body)))
			called = true
		}))
		diff(t, "status", deliver(t, h, exampleSecret, body).Code, 200)
		diff(t, "called", called, true)
	}
}

func TestMiddlewareRefusesBodies(t *testing.T) {
	t.Parallel()
	h := verifierAt(t, at.Unix(), exampleSecret).Middleware(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("called") }))
	diff(t, "too large", deliver(t, h, exampleSecret, strings.Repeat("a", MaxDelivery+1)).Code, 413)
	r := httptest.NewRequest(http.MethodPost, "/", iotest.ErrReader(io.ErrUnexpectedEOF))
	r.Header = headers("e", strconv.FormatInt(at.Unix(), 10), "v1,AAAA")
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	diff(t, "cut", w.Code, 400)
}

// Whoever sends no headers, or old ones, is not read.
func TestMiddlewareReadsNoBodyForNothing(t *testing.T) {
	t.Parallel()
	h := verifierAt(t, at.Unix(), exampleSecret).Middleware(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("called") }))
	now := strconv.FormatInt(at.Unix(), 10)
	for name, header := range map[string]http.Header{
		"none": {}, "old": headers("e", strconv.FormatInt(at.Unix()-301, 10), "v1,AAAA"), "ahead": headers("e", strconv.FormatInt(at.Unix()+301, 10), "v1,AAAA"),
		"a dot": headers("e.1", now, "v1,AAAA"), "no signature": headers("e", now, ""), "no digits": headers("e", "1e9", "v1,AAAA"),
	} {
		body := &countedBody{}
		r := httptest.NewRequest(http.MethodPost, "/", body)
		r.Header = header
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		diff(t, name, w.Code, 401)
		diff(t, name+": reads", body.reads, 0)
	}
}

// countedBody is an endless body that counts what is read of it.
type countedBody struct{ reads int }

func (b *countedBody) Read(p []byte) (int, error) {
	b.reads++
	return len(p), nil
}

func TestParseDelivery(t *testing.T) {
	t.Parallel()
	d, err := ParseDelivery([]byte(`{"id":"e","type":"t","timestamp":"2026-01-02T04:04:05.678+01:00","data":null,"more":1}`))
	diff(t, "error", err, nil)
	diff(t, "data", string(d.Data), "null")
	diff(t, "time", d.Timestamp.Equal(at), true)
	for _, body := range []string{``, `{}`, `[]`, `{"id":"e","type":"t"}`, `{"id":"e","data":1}`, `{"type":"t","data":1}`, `{"id":"e","type":"t","timestamp":"x","data":1}`} {
		if _, err := ParseDelivery([]byte(body)); err == nil {
			t.Errorf("%s is taken", body)
		}
	}
}

// A whole way: over HTTP, from Sign to a handler, by the real clock.
func TestHandlerOverHTTP(t *testing.T) {
	t.Parallel()
	v, err := NewVerifier(examplePublic)
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(v.Handler(func(ctx context.Context, d Delivery) error {
		diff(t, "data", string(d.Data), `{ "a": 1.0 }`)
		return ctx.Err()
	}))
	defer srv.Close()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, srv.URL, strings.NewReader(deliveryBody))
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	signature, err := Sign(examplePrivate, "e", now, []byte(deliveryBody))
	if err != nil {
		t.Fatal(err)
	}
	r.Header = headers("e", strconv.FormatInt(now.Unix(), 10), signature)
	res, err := srv.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	diff(t, "status", res.StatusCode, 204)
}
