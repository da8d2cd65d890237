package client

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestErrors(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	tests := []struct {
		head, body string
		want       Error
		text       string
	}{
		{
			"422 application/problem+json;charset=utf-8",
			`{"type":"/docs/problems#validation_failed","title":"Not valid","status":422,"code":"validation_failed","detail":"no","errors":[{"detail":"bad","pointer":"#/url"},{"detail":"odd","parameter":"limit"}]}`,
			Error{
				Type: "/docs/problems#validation_failed", Title: "Not valid", Status: 422, Code: CodeValidationFailed, Detail: "no",
				Errors: []FieldError{{"bad", "#/url", ""}, {"odd", "", "limit"}},
			},
			"triggerd: 422 validation_failed no; #/url: bad; limit: odd",
		},
		{
			"422 application/problem+json", `{"title":"T","status":409,"code":"payload_differs","event_id":"e"}`,
			Error{Title: "T", Status: 422, Code: CodePayloadDiffers, EventID: "e"},
			"triggerd: 422 payload_differs",
		},
		{
			"429 application/problem+json Retry-After=7", `{"title":"T","status":429,"code":"rate_limited"}`,
			Error{Title: "T", Status: 429, Code: CodeRateLimited, RetryAfter: 7 * time.Second},
			"triggerd: 429 rate_limited",
		},
		{"404 text/html", "<html>", Error{Title: "Not Found", Status: 404}, "triggerd: 404 Not Found"},
		{"431 text/plain", " 431 too large\n", Error{Title: "Request Header Fields Too Large", Status: 431, Detail: "431 too large"}, "triggerd: 431 431 too large"},
		{"500 text/plain", strings.Repeat("a", 299) + "éé", Error{Title: "Internal Server Error", Status: 500, Detail: strings.Repeat("a", 299)}, "triggerd: 500 " + strings.Repeat("a", 299)},
		{"502 text/plain", "\xff", Error{Title: "Bad Gateway", Status: 502}, "triggerd: 502 Bad Gateway"},
		{"400 application/problem+json", `{"code":"invalid_json","status":"x"}`, Error{Title: "Bad Request", Status: 400}, "triggerd: 400 Bad Request"},
		{"302 Location=/x", "", Error{Title: "Found", Status: 302}, "triggerd: 302 Found"},
	}
	for _, tt := range tests {
		got := readError(reply(tt.head, ""), []byte(tt.body), now)
		if d := cmp.Diff(&tt.want, got); d != "" {
			t.Errorf("%s: %s", tt.head, d)
		}
		diff(t, tt.head, got.Error(), tt.text)
	}
}

func TestIsCode(t *testing.T) {
	t.Parallel()
	err := fmt.Errorf("around: %w", &Error{Status: 404, Code: CodeNotFound})
	diff(t, "its code", IsCode(err, CodeNotFound), true)
	diff(t, "another", IsCode(err, CodeConflict), false)
	diff(t, "none", IsCode(nil, CodeNotFound), false)
	diff(t, "other error", IsCode(errors.New("a"), ""), false)
}

func TestCallsFailWithTheProblem(t *testing.T) {
	t.Parallel()
	c := fake(func(*http.Request) (*http.Response, error) {
		return reply("404 application/problem+json", problem(CodeNotFound, "no such event")), nil
	}).client()
	_, err := c.Event(t.Context(), eventID)
	diff(t, "code", IsCode(err, CodeNotFound), true)
	for _, err := range c.Events(t.Context(), EventQuery{}) {
		diff(t, "code", IsCode(err, CodeNotFound), true)
	}
	diff(t, "code", IsCode(c.DeleteEvent(t.Context(), eventID), CodeNotFound), true)
}

func TestRetryAfter(t *testing.T) {
	t.Parallel()
	now := time.Date(1994, 11, 6, 8, 49, 30, 0, time.UTC)
	for header, want := range map[string]time.Duration{
		"": 0, "0": 0, "7": 7 * time.Second, "007": 7 * time.Second, "99999999999999999999999": maxRetryAfter, "-7": 0, "+7": 0, "7.5": 0, "7s": 0,
		"Sun, 06 Nov 1994 08:49:37 GMT": 7 * time.Second, "Sunday, 06-Nov-94 08:49:37 GMT": 7 * time.Second,
		"Sun Nov  6 08:49:37 1994": 7 * time.Second, "Sun, 06 Nov 1994 08:49:23 GMT": 0, "Sun, 06 Nov 2994 08:49:37 GMT": maxRetryAfter,
	} {
		diff(t, header, retryAfter(header, now), want)
	}
}
