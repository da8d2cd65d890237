package client

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
)

func TestMalformedAnswers(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]string{
		"":                 "it is not JSON: unexpected end of JSON input",
		"{":                "it is not JSON: unexpected end of JSON input",
		"[]":               "it is a JSON array",
		`{"id":1}`:         "id is a JSON number",
		`{"id":"a"} x`:     "it is not JSON: invalid character 'x' after top-level value",
		"null":             "it has no id",
		`{"ok":true}`:      "it has no id",
		`{"id":""}`:        "it has no id",
		"<html></html>":    "it is not JSON: invalid character '<' looking for beginning of value",
		`{"data":[{}]}`:    "it has no id",
		`{"ID":null}`:      "it has no id",
		"\ufeff{\"id\":1}": "it is not JSON: invalid character 'ï' looking for beginning of value",
	} {
		n := 0
		c := fake(func(*http.Request) (*http.Response, error) { n++; return reply("200", body), nil }).client()
		_, err := c.Event(t.Context(), eventID)
		if want := "triggerd: GET /v1/events/" + eventID + ": not the answer of a triggerd: " + want; err == nil || err.Error() != want || !errors.Is(err, ErrForeign) {
			t.Errorf("%q: %v, want %s", body, err, want)
		}
		diff(t, "tries", n, 1)
	}
}

// No call takes the success of another server for its own.
func TestForeignAnswers(t *testing.T) {
	t.Parallel()
	for _, tt := range append(eventRoutes(), settingRoutes()...) {
		if tt.name == "OpenAPI" || tt.name == "Handshake" { // have no JSON
			continue
		}
		for _, body := range []string{`{"ok":true}`, `{"status":"ok","id":""}`, "[{}]", "null", "1"} {
			if body == "[{}]" && tt.name == "Samples" {
				continue
			}
			c := fake(func(*http.Request) (*http.Response, error) { return reply("200", body), nil }).client()
			if err := tt.do(t.Context(), c); !errors.Is(err, ErrForeign) {
				t.Errorf("%s takes %s: %v", tt.name, body, err)
			}
		}
	}
}

// Each verdict on an event of several is complete.
func TestForeignVerdicts(t *testing.T) {
	t.Parallel()
	for _, second := range []string{
		`{"index":1}`, `{"index":1,"status":"ok","id":"e"}`, `{"index":1,"status":"accepted"}`, `{"index":1,"status":"rejected"}`,
		`{"index":0,"status":"accepted","id":"e"}`, "", `{"index":1,"status":"unavailable"}`, `{"index":1,"status":1}`, "1",
	} {
		const first = `{"index":0,"status":"accepted","id":"e"}`
		c := fake(func(r *http.Request) (*http.Response, error) {
			if strings.HasSuffix(r.Header.Get("Content-Type"), "ndjson") {
				return reply("200", first+"\n"+second), nil
			}
			return reply("207", `{"data":[`+strings.TrimSuffix(first+","+second, ",")+"]}"), nil
		}).client()
		_, err := c.PostEvents(t.Context(), []EventInput{{}, {}})
		_, errOfArray := c.PostEvents(t.Context(), []EventInput{{Payload: []byte("[\n]")}, {}})
		_, errOfLines := c.PostEventLines(t.Context(), [][]byte{[]byte("1"), []byte("2")})
		_, errOfCloud := c.PostCloudEvents(t.Context(), []json.RawMessage{[]byte("1"), []byte("2")})
		for _, err := range []error{err, errOfArray, errOfLines, errOfCloud} {
			if !errors.Is(err, ErrForeign) {
				t.Errorf("%s is taken: %v", second, err)
			}
		}
	}
}

// Only what was refused at all tries is certain not to be done.
func TestIsRefused(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		steps []any
		want  bool
	}{
		{[]any{"413"}, true},
		{[]any{"429"}, true},
		{[]any{errDial, "429", "400"}, true},
		{[]any{"408 application/problem+json", "403"}, true},
		{[]any{"408"}, false},
		{[]any{"503", "400"}, false},
		{[]any{errCut, "413"}, false},
		{[]any{"cut", "429"}, false},
		{[]any{"504", "401"}, false},
		{[]any{errCut}, false},
		{[]any{errDial}, false},
		{[]any{"500"}, false},
		{[]any{"302"}, false},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := &script{steps: tt.steps, body: `{"code":"request_timeout"}`}
			_, err := s.client().PostEvent(t.Context(), EventInput{Type: "t"})
			if err == nil || IsRefused(err) != tt.want {
				t.Errorf("%v: refused is %v, want %v: %v", tt.steps, IsRefused(err), tt.want, err)
			}
		})
	}
	if IsRefused(nil) {
		t.Error("no error is a refusal")
	}
}
