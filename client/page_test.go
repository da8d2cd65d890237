package client

import (
	"errors"
	"fmt"
	"net/http"
	"testing"
)

// pages serves pages by their cursors.
func pages(t *testing.T, by map[string]string) (*Client, *int) {
	n := new(int)
	return fake(func(r *http.Request) (*http.Response, error) {
		*n++
		diff(t, "filter", r.URL.Query().Get("status"), StatusFailed)
		if body, ok := by[r.URL.Query().Get("cursor")]; ok {
			return reply("200", body), nil
		}
		return reply("400 application/problem+json", problem(CodeInvalidCursor, "")), nil
	}).client(), n
}

func TestPages(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		by    map[string]string
		stop  int // after so many events
		want  string
		asked int
	}{
		{"none", map[string]string{"": `{"data":[],"next_cursor":null}`}, 9, "", 1},
		{"one page", map[string]string{"": `{"data":[{"id":"a"},{"id":"b"}],"next_cursor":null}`}, 9, "a b ", 1},
		{"short and empty ones", map[string]string{
			"": `{"data":[{"id":"a"}],"next_cursor":"1"}`, "1": `{"data":[],"next_cursor":"2"}`, "2": `{"data":[],"next_cursor":"3"}`, "3": `{"data":[{"id":"b"}],"next_cursor":null}`,
		}, 9, "a b ", 4},
		{"an error", map[string]string{"": `{"data":[{"id":"a"}],"next_cursor":"1"}`}, 9, "a invalid_cursor ", 2},
		{"the loop ends", map[string]string{"": `{"data":[{"id":"a"},{"id":"b"}],"next_cursor":"1"}`}, 1, "a ", 1},
		{"the loop ends with the page", map[string]string{"": `{"data":[{"id":"a"},{"id":"b"}],"next_cursor":"1"}`}, 2, "a b ", 1},
		{"a circle", map[string]string{"": `{"data":[{"id":"a"}],"next_cursor":"1"}`, "1": `{"data":[{"id":"b"}],"next_cursor":"1"}`}, 9, "a circle ", 2},
	}
	for _, tt := range tests {
		c, asked := pages(t, tt.by)
		got, n := "", 0
		for event, err := range c.Events(t.Context(), EventQuery{Status: StatusFailed}) {
			switch e, ok := errors.AsType[*Error](err); {
			case ok:
				got += e.Code
			case errors.Is(err, errCursor):
				got += "circle"
			case err != nil:
				t.Error(err)
			}
			got += event.ID + " "
			if n++; n == tt.stop {
				break
			}
		}
		diff(t, tt.name, got, tt.want)
		diff(t, tt.name+": pages", *asked, tt.asked)
	}
}

// An iterator can be used again, and begins anew.
func TestIteratorsBeginAnew(t *testing.T) {
	t.Parallel()
	c, asked := pages(t, map[string]string{"": `{"data":[{"id":"a"}],"next_cursor":"1"}`, "1": `{"data":[{"id":"b"}],"next_cursor":null}`})
	events := c.Events(t.Context(), EventQuery{Status: StatusFailed})
	got := ""
	for range 2 {
		for event, err := range events {
			got += fmt.Sprint(event.ID, err, " ")
		}
	}
	diff(t, "events", got, "a<nil> b<nil> a<nil> b<nil> ")
	diff(t, "pages", *asked, 4)
}
