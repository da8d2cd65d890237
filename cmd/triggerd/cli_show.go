package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"triggerd/client"
)

// listing is embedded in commands that list.
type listing struct {
	Limit int `help:"Maximum number of items to show. 0: all." default:"20"`
}

// table describes how items are listed.
type table[T any] struct {
	head []string
	row  func(T) []string
}

// show makes a call and shows its result. If the call also returns
// ErrSecretLost, the result, which lacks its secret, is shown too.
func show[T any](s *session, from opener, call func(*client.Client) (T, error), view func(io.Writer, T)) error {
	l, err := from.open(s)
	if err != nil {
		return err
	}
	defer l.close()
	value, err := call(l.Client)
	if err != nil && !errors.Is(err, client.ErrSecretLost) {
		return l.explain(err)
	}
	if l.json {
		writeRaw(s.out, l.answers.last)
	} else {
		view(s.out, value)
	}
	return l.explain(err)
}

// do makes a call without a result, and reports that it is done.
func do(s *session, from opener, call func(*client.Client) error, done string) error {
	l, err := from.open(s)
	if err != nil {
		return err
	}
	defer l.close()
	if err := call(l.Client); err != nil {
		return l.explain(err)
	}
	if !l.json {
		fmt.Fprintln(s.out, done)
	}
	return nil
}

// showAll makes a call that returns a whole list, and shows it.
func showAll[T any](s *session, from opener, call func(*client.Client) ([]T, error), t table[T]) error {
	page := func(c *client.Client, _ int, _ string) (p client.Page[T], err error) {
		p.Data, err = call(c)
		return p, err
	}
	return list(s, from, 0, page, t)
}

// maxPage is the largest page of the API.
const maxPage = 100

// list fetches pages, up to limit items, and shows them. It shows the items
// before an error.
func list[T any](s *session, from opener, limit int,
	page func(c *client.Client, limit int, cursor string) (client.Page[T], error), t table[T],
) error {
	if limit < 0 {
		return fmt.Errorf("--limit must not be negative; got %d", limit)
	}
	l, err := from.open(s)
	if err != nil {
		return err
	}
	defer l.close()
	items, more, err := gather(s, l, limit, page)
	if !l.json && (err == nil || items != nil) {
		writeRows(s.out, t, items)
	}
	if !l.json && err == nil && more {
		fmt.Fprintln(s.errOut, "there may be more: --limit 0 shows all")
	}
	return l.explain(err)
}

// gather fetches pages, and writes them at once if the output is JSON.
func gather[T any](s *session, l *link, limit int,
	page func(c *client.Client, limit int, cursor string) (client.Page[T], error),
) (items []T, more bool, err error) {
	for cursor := ""; ; {
		size := maxPage
		if limit > 0 {
			size = min(limit-len(items), maxPage)
		}
		p, err := page(l.Client, size, cursor)
		if err != nil {
			return items, true, err
		}
		if l.json {
			if _, err := writeItems(s.out, l.answers.last); err != nil {
				return items, true, err
			}
		}
		items, cursor = append(items, p.Data...), p.NextCursor
		if cursor == "" || limit > 0 && len(items) >= limit {
			return items, cursor != "", nil
		}
	}
}

// writeRaw writes an answer unchanged.
func writeRaw(w io.Writer, answer *bytes.Buffer) {
	if answer != nil && answer.Len() > 0 {
		fmt.Fprintf(w, "%s\n", bytes.TrimSpace(answer.Bytes()))
	}
}

// writeItems writes each item of a list unchanged, but on one line. It returns
// the number of items written before the first error.
func writeItems(w io.Writer, answer *bytes.Buffer) (written int, err error) {
	if answer == nil {
		return 0, nil
	}
	var page struct{ Data []json.RawMessage }
	if json.Unmarshal(answer.Bytes(), &page) != nil {
		_ = json.Unmarshal(answer.Bytes(), &page.Data) // the client has decoded it: it is one of the two
	}
	for i, item := range page.Data {
		if _, err := fmt.Fprintf(w, "%s\n", oneLineJSON(item)); err != nil {
			return i, err
		}
	}
	return len(page.Data), nil
}

// oneLineJSON removes the space between tokens if a value is on several lines.
func oneLineJSON(value []byte) []byte {
	var b bytes.Buffer
	if !bytes.ContainsAny(value, "\r\n") || json.Compact(&b, value) != nil {
		return value
	}
	return b.Bytes()
}

// writeJSON writes a value that is not an answer as JSON, on one line.
func writeJSON(w io.Writer, value any) {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	_ = e.Encode(value) // cannot fail for the API's own types
}

// writeTable writes rows with aligned columns under their names.
func writeTable(w io.Writer, head []string, rows [][]string) {
	tw := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(tw, strings.Join(head, "\t"))
	for _, row := range rows {
		for i, cell := range row {
			row[i] = cmp.Or(clean(cell), "-")
		}
		fmt.Fprintln(tw, strings.Join(row, "\t"))
	}
	_ = tw.Flush() // like fmt.Fprintln's error
}

// writeRows writes a table of items.
func writeRows[T any](w io.Writer, t table[T], items []T) {
	rows := make([][]string, len(items))
	for i, item := range items {
		rows[i] = t.row(item)
	}
	writeTable(w, t.head, rows)
}

// writeFields writes alternating names and values, one pair per line.
func writeFields(w io.Writer, pairs ...string) {
	tw := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	for i := 0; i+1 < len(pairs); i += 2 {
		fmt.Fprintf(tw, "%s\t%s\n", pairs[i], cmp.Or(clean(pairs[i+1]), "-"))
	}
	_ = tw.Flush()
}
