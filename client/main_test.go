package client

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fake answers requests without a network, so that the clock of a synctest
// bubble goes on.
type fake func(*http.Request) (*http.Response, error)

func (f fake) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func (f fake) client() *Client {
	return &Client{BaseURL: "http://triggerd.test", Key: "sk_test", HTTP: &http.Client{Transport: f}}
}

// reply is an answer: "429 problem+json Retry-After=7", and its body.
func reply(head, body string) *http.Response {
	fields := strings.Fields(head)
	res := &http.Response{
		StatusCode: statusCode(fields[0]),
		Header:     http.Header{"Content-Type": {"application/json"}},
		Body:       io.NopCloser(strings.NewReader(body)),
	}
	for _, field := range fields[1:] {
		name, value, ok := strings.Cut(field, "=")
		if !ok || strings.Contains(name, "/") {
			name, value = "Content-Type", field
		}
		res.Header.Set(name, value)
	}
	return res
}

// anyAnswer has what each answer to a request must have.
func anyAnswer(method, path string) string {
	switch {
	case method == http.MethodDelete:
		return ""
	case strings.HasPrefix(path, eventsPath):
		return `{"id":"e","status":"accepted","data":[],"event_id":"e"}`
	}
	return `{"id":1,"name":"a","organization":{"id":1},"data":[],"event_id":"e","samples":[]}`
}

func statusCode(text string) (code int) {
	for _, digit := range text {
		code = 10*code + int(digit-'0')
	}
	return code
}

func problem(code, detail string) string {
	return `{"type":"/docs/problems#` + code + `","title":"T","status":400,"code":"` + code + `","detail":"` + detail + `"}`
}

// bodyOf reads what a request carries.
func bodyOf(t testing.TB, r *http.Request) string {
	t.Helper()
	if r.Body == nil {
		return ""
	}
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Error(err)
	}
	return string(b)
}

// diff fails if got is not want.
func diff[T comparable](t testing.TB, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}
