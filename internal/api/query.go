package api

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"triggerd/internal/trigger"
)

// Limits of pages.
const (
	defaultPage = 20
	maxPage     = 100
)

// query is the query of a request.
type query struct {
	request *request
	values  url.Values
}

// parameters parses the query of a request. The error is Malformed if the query
// is not valid, or has an unknown or a repeated parameter.
func parameters(r *request, names ...string) (query, error) {
	values, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return query{}, wrongParameter("", "The query string cannot be parsed")
	}
	for name, given := range values {
		switch {
		case !slices.Contains(names, name):
			return query{}, wrongParameter(name, "unknown parameter %.64q", name)
		case len(given) > 1:
			return query{}, wrongParameter(name, "%s must appear only once", name)
		}
	}
	return query{r, values}, nil
}

func wrongParameter(name, format string, args ...any) error {
	e := trigger.Errorf(trigger.Malformed, format, args...)
	if e.Code = "invalid_parameter"; name != "" {
		e = e.Of(name)
	}
	return e
}

// limit returns the requested number of items of a list.
func (q *query) limit() (int, error) { return q.limitOr(defaultPage) }

func (q *query) limitOr(fallback int) (int, error) {
	if !q.values.Has("limit") {
		return fallback, nil
	}
	n, err := strconv.ParseUint(q.values.Get("limit"), 10, 31)
	if err != nil || n < 1 || n > maxPage {
		return 0, wrongParameter("limit", "limit must be an integer from 1 to %d; got %.60q", maxPage, q.values.Get("limit"))
	}
	return int(n), nil
}

// time returns a parameter in RFC 3339, or zero if it is absent.
func (q *query) time(name string) (time.Time, error) {
	if !q.values.Has(name) {
		return time.Time{}, nil
	}
	// An unescaped plus has become a space.
	t, ok := parseRFC3339(strings.ReplaceAll(q.values.Get(name), " ", "+"))
	if !ok || t.Before(time.Unix(0, 0)) {
		return t, wrongParameter(name, "%s must be an RFC 3339 time from 1970 on, for example 2026-01-02T03:04:05Z; got %.60q", name, q.values.Get(name))
	}
	return t, nil
}

// number returns a parameter that is an id. given reports whether it is present.
func (q *query) number(name string) (n int64, given bool, err error) {
	if !q.values.Has(name) {
		return 0, false, nil
	}
	text := q.values.Get(name)
	n, err = strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 || strconv.FormatInt(n, 10) != text {
		return 0, true, wrongParameter(name, "%s must be an integer, for example 42; got %.60q", name, text)
	}
	return n, true, nil
}

// oneOf returns a parameter that is one of the words, or "" if it is absent.
func (q *query) oneOf(name string, words ...string) (string, error) {
	value := q.values.Get(name)
	if q.values.Has(name) && !slices.Contains(words, value) {
		return "", wrongParameter(name, "%s must be one of %s; got %.60q", name, strings.Join(words, ", "), value)
	}
	return value, nil
}

// pattern returns a parameter that is a pattern of types, or no pattern if it is
// absent.
func (q *query) pattern(name string) ([]trigger.Pattern, error) {
	if q.values.Has(name) && q.values.Get(name) == "" {
		return nil, wrongParameter(name, "%s must not be empty", name)
	}
	f, err := trigger.ParseFilter([]string{q.values.Get(name)}, nil)
	if err != nil {
		return nil, wrongParameter(name, "%s", err.Error())
	}
	return f.Types, nil
}

// mark returns what binds a cursor to its organization, its route and its
// filters.
func (q *query) mark() [8]byte {
	h := sha256.New()
	fmt.Fprintf(h, "%s %d", q.request.URL.EscapedPath(), q.request.orgID())
	for _, name := range slices.Sorted(func(yield func(string) bool) {
		for name := range q.values {
			if name != "cursor" && name != "limit" && !yield(name) {
				return
			}
		}
	}) {
		fmt.Fprintf(h, " %q=%q", name, q.values.Get(name))
	}
	return [8]byte(h.Sum(nil)[:8])
}

// next returns the cursor for continuing a list after place.
func (q *query) next(place []byte) *string {
	mark := q.mark()
	text := base64.RawURLEncoding.EncodeToString(append(mark[:], place...))
	return &text
}

// place returns the position at which the list continues, or nil at its
// beginning. The error is Malformed if the cursor does not belong to this list
// of this organization. size is the size of a position in bytes, or 0 for any.
func (q *query) place(size int) ([]byte, error) {
	if !q.values.Has("cursor") {
		return nil, nil
	}
	raw, err := base64.RawURLEncoding.DecodeString(q.values.Get("cursor"))
	mark := q.mark()
	if err != nil || !bytes.HasPrefix(raw, mark[:]) || size > 0 && len(raw) != len(mark)+size {
		e := trigger.Errorf(trigger.Malformed, "The cursor does not belong to this list: start again without a cursor").Of("cursor")
		e.Code = "invalid_cursor"
		return nil, e
	}
	return raw[len(mark):], nil
}

// placeID is place for lists that are ordered by event id.
func (q *query) placeID() (id trigger.ID, err error) {
	raw, err := q.place(len(id))
	copy(id[:], raw)
	return id, err
}

// placeNumber is place for lists that are ordered by number.
func (q *query) placeNumber() (int64, error) {
	raw, err := q.place(8)
	if raw == nil {
		return 0, err
	}
	return int64(binary.BigEndian.Uint64(raw)), err
}

// numbered parses the query of a list that is ordered by number and has the
// given filters.
func numbered(r *request, filters ...string) (q query, limit int, after int64, err error) {
	if q, err = parameters(r, append(filters, "limit", "cursor")...); err != nil {
		return q, 0, 0, err
	}
	if limit, err = q.limit(); err != nil {
		return q, 0, 0, err
	}
	after, err = q.placeNumber()
	return q, limit, after, err
}

// pathNumber returns an id in the path of a request. The error is NotFound if it
// is not a positive integer.
func (r *request) pathNumber(name string) (int64, error) {
	text := r.PathValue(name)
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 1 || strconv.FormatInt(n, 10) != text {
		return 0, notFound()
	}
	return n, nil
}

// only is pathNumber for a request without a query.
func (r *request) only(name string) (int64, error) {
	if _, err := parameters(r); err != nil {
		return 0, err
	}
	return r.pathNumber(name)
}

// eventID returns the id of an event in the path of a request without a query.
// The error is NotFound if it is not an id.
func (r *request) eventID() (trigger.ID, error) {
	if _, err := parameters(r); err != nil {
		return trigger.ID{}, err
	}
	id, err := trigger.ParseID(r.PathValue("event_id"))
	if err != nil {
		return id, notFound()
	}
	return id, nil
}

func notFound() error { return trigger.Errorf(trigger.NotFound, "Not found") }

// list is a page of items.
type list[T any] struct {
	Data       []T     `json:"data"`
	NextCursor *string `json:"next_cursor"`
}

// newList returns a page of found items. found must have one more than limit if
// the list goes on. place returns the position of an item.
func newList[T, S any](q *query, found []S, limit int, show func(*S) T, place func(*S) []byte) list[T] {
	l := list[T]{Data: []T{}}
	for i := range found[:min(len(found), limit)] {
		l.Data = append(l.Data, show(&found[i]))
	}
	if len(found) > limit {
		l.NextCursor = q.next(place(&found[limit-1]))
	}
	return l
}

// placeOf returns the position of an item in a list that is ordered by number.
func placeOf(n int64) []byte { return binary.BigEndian.AppendUint64(nil, uint64(n)) }
