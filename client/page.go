package client

import (
	"context"
	"errors"
	"iter"
	"net/http"
)

// Page is a part of a list. It may be short, even empty, and still not be the
// last: the last page has an empty NextCursor.
type Page[T any] struct {
	Data       []T    `json:"data"`
	NextCursor string `json:"next_cursor"` // cursor of the next page; "" at the end
}

// errCursor stops an endless iteration over the same page.
var errCursor = errors.New("triggerd: the server gave the cursor of a page as that of the next")

// maxLimit is the largest page size.
const maxLimit = 100

// getPage fetches one page.
func getPage[T any](ctx context.Context, c *Client, path string, q query, cursor string) (Page[T], error) {
	q.text("cursor", cursor)
	return get[Page[T]](ctx, c, q.on(path))
}

// listPage fetches one page of a list without filters.
func listPage[T any](ctx context.Context, c *Client, path string, limit int, cursor string) (Page[T], error) {
	q := query{}
	q.number("limit", int64(limit))
	return getPage[T](ctx, c, path, q, cursor)
}

// all iterates over all pages. An error comes last.
func all[T any](fetch func(cursor string) (Page[T], error)) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var none T
		for cursor := ""; ; {
			page, err := fetch(cursor)
			if err == nil && page.NextCursor != "" && page.NextCursor == cursor {
				err = errCursor
			}
			if err != nil {
				yield(none, err)
				return
			}
			for _, item := range page.Data {
				if !yield(item, nil) {
					return
				}
			}
			if cursor = page.NextCursor; cursor == "" {
				return
			}
		}
	}
}

// get fetches one resource.
func get[T complete](ctx context.Context, c *Client, path string) (T, error) {
	return call[T](ctx, c, request{method: http.MethodGet, path: path}, nil)
}

// list is an answer that contains a whole list.
type list[T any] struct {
	Data []T `json:"data"`
}
